"""A thread that writes: requests come in from anywhere, what they gain goes out where they listen."""

import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from traceback import print_exception

import torch

from octavo.completion import Writer
from octavo.devices import free_on
from octavo.errors import OctavoError
from octavo.fused import memory_dtype
from octavo.model import GPT
from octavo.server.engine.memory import Memory, blocks_for, bytes_per_block
from octavo.server.engine.runner import Runner
from octavo.server.engine.scheduler import Scheduler
from octavo.server.engine.sequence import Request, Said, Sequence
from octavo.server.worker import Worker
from octavo.tokenizers import Tokenizer

SHARE = 0.4  # of the free memory that texts may take to be remembered in
USUAL = 2 << 30  # bytes, where it is not known how much is free
MOST = 1024  # texts on their way at once
QUEUE = 512  # texts that may wait to be
FULL = "the model's memory is too small for this text; ask for fewer tokens"
STEPS, AT_ONCE = 2, 16  # steps that an event loop has not told of yet, and texts that it tells of before it does others
PATIENCE = 5.0  # seconds
News = list[tuple[Sequence, Said]]  # what a step came to


class BusyError(OctavoError):
    """So many wait already that one more would wait too long."""


class CrowdError(OctavoError):
    """So many texts in one request that there will never be room for them."""


@dataclass(frozen=True)
class Load:
    """What an engine is doing, and what it has done."""

    active: int
    waiting: int
    blocks_taken: int
    blocks: int
    steps: int
    read: int  # tokens of prompts
    reused: int  # tokens of prompts that another text had read
    written: int


def tell(news: News) -> None:
    """Tell each text's listener what became of it."""
    for sequence, said in news:
        if not sequence.cancelled:
            sequence.hear(said)


class Post:
    """The way from an engine into an event loop: news of a few steps at most, told a few at a time.

    So the loop answers others in between, and an engine that is quicker than the loop waits for it.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop, self.room = loop, threading.Semaphore(STEPS)

    def __call__(self, news: News) -> None:
        self.room.acquire(timeout=PATIENCE)
        self.loop.call_soon_threadsafe(self._tell, news)

    def _tell(self, news: News) -> None:
        tell(news[:AT_ONCE])
        if len(news) > AT_ONCE:
            self.loop.call_soon(self._tell, news[AT_ONCE:])
        else:
            self.room.release()


class Engine:
    """A model that writes many texts at once, in a thread of its own."""

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        *,
        bitwise: bool = False,
        most: int = MOST,
        queue: int = QUEUE,
        blocks: int | None = None,
    ) -> None:
        """`blocks` of 128 tokens are remembered at most, of all texts; as many as fit where nothing is said."""
        self.tokenizer, self.queue = tokenizer, queue
        self.deliver: Callable[[News], object] = tell
        self.runner = Runner(model, bitwise=bitwise)
        self.config = model.config
        dtype, device = memory_dtype(self.runner.model), model.embed.weight.device
        size, longest = bytes_per_block(self.config, dtype), blocks_for(self.config.context)
        blocks = blocks or _affordable(size, longest, free_on(device))
        self.scheduler = Scheduler(Memory(self.config, blocks, dtype, device), most)
        self.steps = self.read = self.reused = self.written = 0
        self._arrived: list[Sequence] = []  # since the last step: who comes does not wait while one is planned
        self._lock = threading.Lock()
        self._worker = Worker(cores=torch.get_num_threads())
        self._started = self._stopped = False
        self._writing: Future[None] | None = None

    def deliver_in(self, loop: AbstractEventLoop) -> None:
        """Let listeners be called in an event loop, and not in the engine's thread."""
        self.deliver = Post(loop)

    def start(self) -> "Engine":
        """Begin to write."""
        with self._lock:
            self._started = True
            self._write()
        return self

    def stop(self) -> None:
        """Stop after the step that is being taken; what is not written to its end is left where it is."""
        with self._lock:
            self._stopped, writing = True, self._writing
        if writing is not None:
            wait([writing])

    def submit(self, requests: list[Request], hear: Callable[[int, Said], None]) -> list[Sequence]:
        """Have texts written; `hear` is told the number of one and what became of it.

        Raises `BusyError` where they would be too many to wait, `CrowdError` where they always will: then none does.
        """
        self.check_room(len(requests))
        sequences = [
            Sequence(
                request,
                Writer(number, self.tokenizer, request.stop, request.prompt if request.goes_on else ()),
                partial(hear, number),
                self.config.context,
                self.tokenizer.ends,
            )
            for number, request in enumerate(requests)
        ]
        with self._lock:
            if self._stopped:
                raise BusyError("newer weights have come meanwhile; try again")
            self.check_room(len(sequences))  # others may have come meanwhile
            self._arrived += sequences
            self._write()
        return sequences

    @property
    def waiting(self) -> int:
        """How many texts wait."""
        return len(self._arrived) + len(self.scheduler.waiting)

    @property
    def room(self) -> int:
        """How many more texts may come."""
        return self.queue + self.scheduler.most - len(self.scheduler.active) - self.waiting

    @property
    def full(self) -> bool:
        """Whether none may."""
        return self.room < 1

    def check_room(self, texts: int = 1) -> None:
        """Raise `BusyError` where so many more would be too many to wait, `CrowdError` where they always will be."""
        most = self.queue + self.scheduler.most
        if texts > most:
            raise CrowdError(f"{texts} texts are asked for at once; ask for {most} or fewer")
        if texts > self.room:
            raise BusyError(f"of {texts} texts there is room for {self.room} now; try again in a moment")

    def cancel(self, sequences: list[Sequence]) -> None:
        """Let these texts go before the next step, wherever they are; nothing more is said of them."""
        for sequence in sequences:
            sequence.cancelled, sequence.hear = True, unheard

    def load(self) -> Load:
        """What it is doing."""
        scheduler, memory = self.scheduler, self.scheduler.memory
        return Load(
            len(scheduler.active),
            self.waiting,
            memory.taken,
            memory.blocks,
            self.steps,
            self.read,
            self.reused,
            self.written,
        )

    def _write(self) -> None:
        """Have the texts that are there written, unless it is being done."""
        if self._started and not self._stopped and self._writing is None and self.waiting:
            self._writing = self._worker.begin(self._run)
            self._writing.add_done_callback(self._ended)

    def _ended(self, writing: "Future[None]") -> None:
        """Begin anew with those that came meanwhile; an error nobody else would hear of."""
        with self._lock:
            self._writing = None
            self._write()
        if (error := writing.exception()) is not None:
            print_exception(error)

    def _run(self) -> None:
        while self._taken_in():
            planned, news = self._plan()
            if news:
                self.deliver(news)
            if planned:
                self._step(planned)

    def _taken_in(self) -> bool:
        """Take in the texts that came; tells whether there is more to be done."""
        with self._lock:
            self.scheduler.waiting.extend(self._arrived)
            self._arrived.clear()
            return not self._stopped and bool(self.scheduler.active or self.scheduler.waiting)

    def _plan(self) -> tuple[list[tuple[Sequence, int]], News]:
        """Who reads what next, and what is to be told to those for whom there is no memory."""
        try:
            planned = self.scheduler.plan()
        except Exception as error:  # the system has less memory than it said: the service must not end
            lost = list(self.scheduler.active)
            for sequence in lost:
                self.scheduler.end(sequence)
            self.scheduler.memory.forget()
            return [], [(sequence, failed(error)) for sequence in lost]
        refused, self.scheduler.refused = self.scheduler.refused, []
        return planned, [(sequence, Said(error=FULL)) for sequence in refused]

    def _step(self, planned: list[tuple[Sequence, int]]) -> None:
        beginning = [(sequence, count) for sequence, count in planned if not sequence.written]
        self.read += sum(count for _, count in beginning)
        before = sum(sequence.written for sequence, _ in planned)
        try:
            said = self.runner.step(planned)
        except Exception as error:  # a step that fails must not end the service
            said = [(sequence, failed(error)) for sequence, _ in planned]
        self.steps += 1
        self.written += sum(sequence.written for sequence, _ in planned) - before
        self.reused += sum(sequence.reused for sequence, _ in beginning if sequence.written)
        news = [(sequence, new) for sequence, new in said if new is not None]
        for sequence, new in news:
            if new.last:
                self.scheduler.end(sequence)
        for sequence, _ in planned:
            if sequence.slot is not None and sequence.slide():
                sequence.slot.forget()
        if news:
            self.deliver(news)


def unheard(said: Said) -> None:
    """Nobody listens any more."""


def failed(error: Exception) -> Said:
    """What a text is told that could not go on."""
    return Said(error=str(error) or type(error).__name__)


def _affordable(size: int, longest: int, free: int | None) -> int:
    """How many blocks of so many bytes there may be: at least enough for one text as long as the context."""
    return max(longest + 1, int(USUAL if free is None else free * SHARE) // size)
