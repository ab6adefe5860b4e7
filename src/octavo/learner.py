"""A model, its optimizers, and the batches that it learns from, one step at a time."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from octavo.config import RunConfig
from octavo.cores import Threads
from octavo.data import Batches, Prepared
from octavo.data.batches import cuts
from octavo.errors import OctavoError
from octavo.making import recompute_from_now_on
from octavo.optim import let_decay, make_optimizers
from octavo.parts import Parts
from octavo.probing import Room
from octavo.processes import ALONE, Processes
from octavo.randomness import seed_for
from octavo.rehearsal import can_tell, fits
from octavo.repeating import Repeated
from octavo.spreading import Parallel, Team, spread_over
from octavo.step import Batch, StepResult

T = TypeVar("T")


class Learner:
    """What learns, in one process or as one of several. What it does is a function of the step and of the seed."""

    def __init__(
        self,
        config: RunConfig,
        prepared: Prepared,
        processes: Processes = ALONE,
        parallel: Parallel = "auto",
        start: Parts | None = None,
    ) -> None:
        train = config.train
        self.config, self.prepared, self.processes = config, prepared, processes
        boundary = None if train.pack is None else prepared.tokenizer.end_of_text
        self.spread = spread_over(processes, config, parallel, boundary, start)
        self.model, self.device = self.spread.model, self.spread.device
        self.optimizers = make_optimizers(self.model, train, self.spread.weights, self.spread.matrices)
        self.repeated = Repeated(self.spread, self.optimizers, train.clip)
        self.batches = Batches(prepared.train.tokens, config.window, train.batch, train.seed)
        self.recomputes = train.recompute
        self.threads = Threads()
        if self.spread.way == "fsdp":
            self.spread.gathered = True
            self.spread.gathered = self.fits(train.micro_batches, spare=2)

    def learn(self, step: int, micro_batches: int, rate: float) -> StepResult | None:
        """One step, after so many, from a batch in so many pieces, at this part of the peak rate.

        Nothing, and the weights as they were, where the memory of a GPU is too small for the way to the gradient.
        """
        train, rank = self.config.train, self.processes.rank
        pieces = [self._rows(step, *cut) for cut in self._cuts(micro_batches)[rank :: self.processes.size]]
        seeds = [seed_for("dropout", train.seed, step, piece, rank) for piece in range(len(pieces))]
        try:
            return self.repeated.step(pieces, rate=rate, seeds=seeds)
        except torch.OutOfMemoryError:
            if self.processes.size > 1:  # the others are in the middle of an exchange, and wait for this one
                raise OctavoError(
                    f"process {rank} ran out of memory within a step, where it cannot tell the others; the last "
                    "checkpoint is intact, go on with --resume, which begins by trying how much fits"
                ) from None
            return None

    def with_room(self, work: Callable[[], T]) -> T:
        """Work besides the steps. Where a GPU has no memory left for it, recorded steps give theirs back."""
        try:
            return work()
        except torch.OutOfMemoryError:
            if not self.repeated.recorded:
                raise OctavoError(
                    f"{self.device} has not enough memory to read and write beside what is learned; "
                    "the last checkpoint is intact, train with a smaller --context, --width or --layers"
                ) from None
        self.repeated.give_up()
        self._give_back()
        return self.with_room(work)

    def fits(self, micro_batches: int, *, spare: int = 1) -> bool:
        """Whether each of the processes has the memory for its pieces, where a batch is read in so many.

        A CPU is not tried: there it is whether what is whole for a step has its room, or so many times as much.
        """
        config = replace(self.config, train=replace(self.config.train, recompute=self.recomputes))
        if can_tell(self.device):
            found = fits(self.spread, config, self.optimizers, self.most_rows(micro_batches))
        else:
            found = not self.spread.gathered or self._room(spare).holds(self.config)
        self._give_back()
        return not self.processes.any(not found)

    def _room(self, gathered: int) -> Room:
        return replace(Team(self.processes, "fsdp").rooms(self.device.type)[0], gathered=gathered)

    def most_rows(self, micro_batches: int) -> int:
        """How many rows a process reads at once, at most, where a batch is read in so many pieces."""
        return max(stop - start for start, stop in self._cuts(micro_batches))

    def let_decay(self, weight_decay: float | None) -> None:
        """Let weights decay as was planned, or so."""
        let_decay(self.optimizers, self.config.train.weight_decay if weight_decay is None else weight_decay)

    def useful_threads(self) -> int:
        """How many threads are of use here beside other programs; of several processes each keeps what it has."""
        alone = self.device.type == "cpu" and self.processes.size == 1
        return self.threads.useful() if alone else self.threads.most

    def take_less(self, *, recompute: bool, gathered: bool) -> None:
        """Let go of what a step that did not fit has left, and do from now on as is said."""
        self.spread.gathered = gathered
        self.spread.forget_gradients()
        self.repeated.begin_anew()
        self._give_back()
        if recompute and not self.recomputes:
            recompute_from_now_on(self.model, self.config)
            self.recomputes = True

    def _give_back(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _cuts(self, micro_batches: int) -> list[tuple[int, int]]:
        """Where the pieces of a batch begin and end, those of all processes by turns."""
        batch, size = self.config.train.batch, self.processes.size
        return list(pairwise(cuts(batch, min(micro_batches, batch // size) * size)))

    def _rows(self, step: int, start: int, stop: int) -> Batch:
        tokens, targets = self.batches.rows(step, start, stop)
        return self._there(torch.from_numpy(tokens)), self._there(torch.from_numpy(targets))

    def _there(self, tokens: Tensor) -> Tensor:
        """On a GPU as soon as it comes to it: nobody waits for what it does before that."""
        if self.device.type != "cuda":
            return tokens.to(self.device)
        return tokens.pin_memory().to(self.device, non_blocking=True)
