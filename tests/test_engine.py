"""Many texts at once: each is what it would have been alone, and nothing is left over when they are gone."""

import os
import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from octavo.completion import completions
from octavo.config import ModelConfig
from octavo.errors import ConfigError
from octavo.model import GPT
from octavo.sampling import Sampling
from octavo.server.engine.engine import BusyError, CrowdError, Engine
from octavo.server.engine.memory import Memory, common
from octavo.server.engine.sequence import Request, Said, Sequence
from octavo.side_by_side import Part, SideBySide
from octavo.slots import BLOCK, Shelf, Slot
from octavo.tokenizers import SimpleTokenizer
from texts import sentences

Models = Callable[..., GPT]
TEXT = sentences(40)
TOKENIZER = SimpleTokenizer(TEXT)
MODERN = ModelConfig(
    dialect="modern", vocab_size=TOKENIZER.vocab_size + 3, context=64, layers=2, heads=4, kv_heads=2, width=32
)
CONFIGS = {"modern": MODERN, "gpt2": ModelConfig(vocab_size=MODERN.vocab_size, context=64, layers=2, heads=2, width=32)}
FAR = replace(MODERN, context=512)  # sees several blocks
PROMPTS = ("Ada", "Grace finds the number seven", "E", TEXT[:150], "Sofia proves", TEXT[40:103])


@dataclass
class Heard:
    """What was said of one text."""

    said: list[Said] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(one.text for one in self.said)

    @property
    def tokens(self) -> list[int]:
        return [token for one in self.said if not one.about_prompt for token in one.tokens]

    @property
    def logprobs(self) -> list[float]:
        return [logprob for one in self.said if not one.about_prompt for logprob in one.logprobs]

    @property
    def last(self) -> Said:
        return self.said[-1]


class Listener:
    """Hears of several texts, and waits until all have ended."""

    def __init__(self, count: int) -> None:
        self.heard = [Heard() for _ in range(count)]
        self.left = count
        self.ended = threading.Event()

    def __call__(self, number: int, said: Said) -> None:
        self.heard[number].said.append(said)
        self.left -= said.last
        if not self.left:
            self.ended.set()

    def wait(self) -> list[Heard]:
        assert self.ended.wait(60)
        return self.heard


Make = Callable[..., Engine]


@pytest.fixture
def make() -> Iterator[Make]:
    """Engines that are stopped in the end."""
    engines: list[Engine] = []

    def made(model: GPT, **words: object) -> Engine:
        engines.append(Engine(model, TOKENIZER, **words).start())  # type: ignore[arg-type]
        return engines[-1]

    yield made
    for engine in engines:
        engine.stop()


def wanted(prompt: str, **words: object) -> Request:
    sampling = Sampling(
        temperature=words.pop("temperature", 0.8),  # type: ignore[arg-type]
        seed=words.pop("seed", 0),  # type: ignore[arg-type]
        forbidden=(*TOKENIZER.forbidden, *range(TOKENIZER.vocab_size, MODERN.vocab_size)),
    )
    given = {"max_new_tokens": 20, **words}
    return Request(prompt=tuple(TOKENIZER.encode(prompt)), sampling=sampling, **given)  # type: ignore[arg-type]


def endless(request: Request) -> Request:
    """The same, which may not end by itself."""
    sampling = request.sampling
    return replace(request, sampling=replace(sampling, forbidden=(*sampling.forbidden, TOKENIZER.end_of_text)))


def write(engine: Engine, *requests: Request) -> list[Heard]:
    listener = Listener(len(requests))
    engine.submit(list(requests), listener)
    return listener.wait()


@pytest.mark.parametrize("bitwise", [False, True])
@pytest.mark.parametrize("kind", CONFIGS)
def test_texts_written_together_are_those_written_alone(
    kind: str, bitwise: bool, make: Make, random_model: Models
) -> None:
    model = random_model(CONFIGS[kind])
    engine = make(model, bitwise=bitwise)
    lengths = [10 + 30 * number for number in range(len(PROMPTS))]  # some outgrow the context
    heard = write(
        engine,
        *(wanted(prompt, seed=n, max_new_tokens=lengths[n], stop=("es",)) for n, prompt in enumerate(PROMPTS)),
    )
    for number, prompt in enumerate(PROMPTS):
        alone = completions(
            model, TOKENIZER, prompt, max_new_tokens=lengths[number], temperature=0.8, seed=number, stop="es"
        )[0]
        assert (heard[number].text, tuple(heard[number].tokens)) == (alone.text, alone.tokens)
        assert heard[number].last.finish_reason == alone.finish_reason
        assert heard[number].logprobs == pytest.approx(alone.logprobs, abs=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_the_bitwise_mode_nothing_depends_on_the_neighbours(
    dtype: torch.dtype, make: Make, random_model: Models
) -> None:
    model = random_model(FAR, dtype=dtype)
    requests = [wanted(TEXT[: 30 + 97 * n], seed=n, max_new_tokens=30 + n) for n in range(5)]
    alone = [write(make(model, bitwise=True), request)[0] for request in requests]
    together = write(make(model, bitwise=True), *requests, *(wanted(f"Ada {n}", seed=n) for n in range(20)))
    poor = write(make(model, bitwise=True, blocks=6), *requests)  # some have to wait, and to be read again
    engine = make(model, bitwise=True)
    write(engine, requests[2])
    reused = write(engine, *requests)
    assert engine.load().reused > 100
    for others in (together, poor, reused):
        for one, other in zip(alone, others, strict=False):
            assert other.last.error is None
            assert (one.tokens, one.logprobs) == (other.tokens, other.logprobs)


def test_an_engine_that_could_not_tell_what_it_wrote_says_so_and_writes_for_who_comes_next(
    make: Make, random_model: Models, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = make(random_model(MODERN))
    usual, news = engine.deliver, threading.Event()

    def lost(_: object) -> None:
        engine.deliver = usual
        news.set()
        raise RuntimeError("nobody is there")

    engine.deliver = lost
    engine.submit([wanted("Ada")], lambda number, said: None)
    assert news.wait(60)
    (heard,) = write(engine, wanted("Ada"))
    assert heard.last.error is None and len(heard.tokens) == 20
    assert "nobody is there" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nor_in_a_model_as_wide_as_real_ones_on_all_cores(dtype: torch.dtype, make: Make, random_model: Models) -> None:
    shape = {"layers": 2, "heads": 9, "kv_heads": 3, "width": 576, "feed_forward": 1536, "context": 1024}
    model = random_model(ModelConfig(dialect="modern", vocab_size=MODERN.vocab_size, **shape), dtype=dtype)
    requests = [wanted(TEXT[: 20 + 61 * n], seed=n, max_new_tokens=25) for n in range(12)]
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        alone = [write(make(model, bitwise=True), request)[0] for request in requests]
        together = write(make(model, bitwise=True), *requests, *(wanted(f"Ada {n}", seed=n) for n in range(90)))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(alone, together, strict=False):
        assert (one.tokens, one.logprobs) == (other.tokens, other.logprobs)


def test_what_a_text_is_told_of_its_prompt_and_of_other_tokens_is_what_the_model_says(
    make: Make, random_model: Models
) -> None:
    model = random_model(MODERN)
    (heard,) = write(make(model), wanted(TEXT[:50], alternatives=3, about_prompt=True, temperature=0, max_new_tokens=4))
    ids = [*TOKENIZER.encode(TEXT[:50]), *heard.tokens]
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids]))[0].log_softmax(-1)
    about = [one for one in heard.said if one.about_prompt]
    told = [logprob for one in about for logprob in one.logprobs] + heard.logprobs
    assert told == pytest.approx([float(logprobs[place, token]) for place, token in enumerate(ids[1:])], abs=1e-5)
    others = [row for one in heard.said for row in one.alternatives]
    assert len(others) == len(ids) - 1
    for place, row in enumerate(others):
        best = logprobs[place].topk(3)
        assert [token for token, _ in row] == best.indices.tolist()
        assert [logprob for _, logprob in row] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_a_second_turn_reads_only_what_is_new(make: Make, random_model: Models) -> None:
    engine = make(random_model(FAR))
    first = write(engine, wanted(TEXT[:300], max_new_tokens=40))[0]
    before = engine.load()
    write(engine, wanted(TEXT[:300] + first.text + " Ada", max_new_tokens=2))
    after = engine.load()
    assert after.read - before.read < 10 and after.reused - before.reused > 300
    write(engine, wanted(TEXT[:200] + "Emmy", max_new_tokens=2))  # a beginning alone
    assert engine.load().reused - after.reused == 200


def test_copies_of_a_prompt_read_it_once(make: Make, random_model: Models) -> None:
    engine = make(random_model(FAR))
    one = wanted(TEXT[:300])
    requests = [replace(one, sampling=replace(one.sampling, seed=seed)) for seed in range(4)]
    heard = write(engine, *requests)
    assert engine.load().read == 300 + 3
    assert len({text.text for text in heard}) > 1


def test_memory_is_bounded_and_given_back(make: Make, random_model: Models) -> None:
    engine = make(random_model(FAR), blocks=7)
    most = 0

    def watch(number: int, said: Said) -> None:
        nonlocal most
        most = max(most, engine.load().blocks_taken)
        listener(number, said)

    listener = Listener(8)
    engine.submit([wanted(TEXT[: 60 * n + 20], seed=n, max_new_tokens=90) for n in range(8)], watch)
    listener.wait()
    assert 0 < most <= 7
    engine.scheduler.memory.forget()
    assert engine.load().blocks_taken == 0


def test_a_text_that_no_memory_is_enough_for_is_told_so(make: Make, random_model: Models) -> None:
    (heard,) = write(make(random_model(FAR), blocks=1), endless(wanted(TEXT[:100], max_new_tokens=60)))
    assert heard.last.error == "the model's memory is too small for this text; ask for fewer tokens"
    assert len(heard.tokens) == BLOCK - 100 + 1  # the newest one is not remembered yet


def test_copies_that_had_to_wait_go_on_with_their_own_text(make: Make, random_model: Models) -> None:
    model = random_model(FAR, dtype=torch.float32)
    one = endless(wanted(TEXT[:120], max_new_tokens=60))
    requests = [replace(one, sampling=replace(one.sampling, seed=seed)) for seed in range(4)]
    alone = [write(make(model, bitwise=True), request)[0] for request in requests]
    poor = write(make(model, bitwise=True, blocks=5), *requests)
    assert [text.tokens for text in poor] == [text.tokens for text in alone]


def test_less_memory_than_there_seemed_to_be_ends_texts_and_not_the_service(
    make: Make, random_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(random_model(FAR))
    with monkeypatch.context() as patched:
        patched.setattr(engine.scheduler.memory, "grow", lambda slot, tokens: 1 / 0)
        (heard,) = write(engine, wanted("Ada"))
    assert heard.last.error == "division by zero" and engine.load().blocks_taken == 0
    assert write(engine, wanted("Ada"))[0].last.finish_reason in ("stop", "length")


@pytest.mark.parametrize("largest", [0, 1])  # the first block cannot be had, or the second
def test_memory_that_cannot_be_had_is_not_taken_and_nobody_waits_for_it(
    largest: int, make: Make, random_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(random_model(FAR), blocks=4)

    def scarce(config: ModelConfig, blocks: int, *rest: Any) -> Slot:
        if blocks > largest:
            raise torch.OutOfMemoryError("there is none")
        return Slot(config, blocks, *rest)

    with monkeypatch.context() as patched:
        patched.setattr("octavo.server.engine.memory.Slot", scarce)
        for _ in range(3):
            (heard,) = write(engine, endless(wanted(TEXT[:100], max_new_tokens=60)))
            assert heard.last.error == "there is none"
            assert (engine.load().blocks_taken, engine.load().waiting) == (0, 0)
    assert write(engine, wanted("Ada"))[0].last.finish_reason in ("stop", "length")


def test_a_step_that_fails_is_told_and_the_next_request_is_answered(
    make: Make, random_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(random_model(MODERN))
    with monkeypatch.context() as patched:
        patched.setattr("octavo.server.engine.runner.choose", lambda *words: 1 / 0)
        (heard,) = write(engine, wanted("Ada"))
    assert heard.last.error == "division by zero"
    assert write(engine, wanted("Ada"))[0].last.finish_reason in ("stop", "length")


def test_more_than_may_wait_are_refused_all_or_none(random_model: Models) -> None:
    engine = Engine(random_model(MODERN), TOKENIZER, most=1, queue=2)  # which does not run
    engine.submit([wanted("Ada")] * 2, Listener(2))
    with pytest.raises(BusyError, match="of 2 texts there is room for 1 now; try again in a moment"):
        engine.submit([wanted("Ada")] * 2, Listener(2))
    with pytest.raises(CrowdError, match="4 texts are asked for at once; ask for 3 or fewer"):
        engine.submit([wanted("Ada")] * 4, Listener(4))
    assert engine.load().waiting == 2


def test_copies_of_a_prompt_hold_it_once(random_model: Models) -> None:
    engine = Engine(random_model(MODERN), TOKENIZER)  # which does not run
    one = replace(wanted("Ada"), prompt=tuple(range(100_000)))
    tracemalloc.start()
    try:
        sequences = engine.submit([one] * 64, Listener(64))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 8 * len(one.prompt)
    text = sequences[0].text
    text.added += [7, 8]
    assert (len(text), text[-1], text[99_999], text[99_999:100_001]) == (100_002, 8, 99_999, [99_999, 7])
    assert list(text) == [*one.prompt, 7, 8] and list(sequences[1].text) == list(one.prompt)


def test_nobody_who_comes_or_goes_waits_while_a_step_is_planned(
    make: Make, random_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, planning, free = make(random_model(MODERN)), threading.Event(), threading.Event()
    plan = engine.scheduler.plan

    def slowly() -> list[tuple[Sequence, int]]:
        planning.set()
        assert free.wait(60)
        return plan()

    monkeypatch.setattr(engine.scheduler, "plan", slowly)
    listener = Listener(1)
    engine.submit([wanted("Ada")], listener)
    assert planning.wait(60)
    late, gone = Listener(1), Listener(1)
    engine.submit([wanted("Grace")], late)
    engine.cancel(engine.submit([wanted("Ada")], gone))
    assert (engine.load().active, engine.load().waiting) == (0, 3)
    free.set()
    assert listener.wait()[0].tokens and late.wait()[0].tokens and not gone.heard[0].said
    assert not engine.load().waiting


def test_what_is_cancelled_is_gone_within_two_steps(make: Make, random_model: Models) -> None:
    engine = make(random_model(replace(MODERN, context=4096)), most=2)
    listener, steps = Listener(4), dict[int, int]()
    started = threading.Event()

    def hear(number: int, said: Said) -> None:
        """Called between two steps: what is cancelled here is seen at the next."""
        assert started.wait(10)
        steps.setdefault(number, engine.load().steps)
        listener(number, said)
        if number == 1 and len(listener.heard[1].said) == 5:
            steps[-1] = engine.load().steps
            engine.cancel([sequences[0], sequences[3]])  # one that is written, and one that waits

    sequences = engine.submit([endless(wanted("Ada", max_new_tokens=4000, seed=n)) for n in range(4)], hear)
    started.set()
    while 2 not in steps:
        time.sleep(0.001)
    assert steps[2] - steps[-1] <= 2  # it took the place of the first
    engine.cancel(sequences)
    while engine.load().active:
        time.sleep(0.001)
    assert 4 <= len(listener.heard[0].said) <= 6 and not listener.heard[3].said and not engine.load().waiting
    assert (
        engine.load().written == sum(sequence.written for sequence in sequences) > 10
    )  # of what nobody waits for, too


def test_a_slot_knows_what_it_took_and_no_more() -> None:
    config = ModelConfig(dialect="modern", vocab_size=9, context=512, layers=1, heads=1, width=4)
    one, other = (Slot(config, 1, torch.float32, "cpu") for _ in range(2))
    with pytest.raises(ConfigError, match="5 tokens are not all known there, or do not fit here; take fewer"):
        one.take_from(other, 5)
    cache = SideBySide([Part(one, 3)], bitwise=False)
    with pytest.raises(ConfigError, match="texts side by side look back each on its own; ask for look_back"):
        cache.layer(0).append(torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3, 4))
    cache.advance(3)
    other.take_from(one, 2)
    assert (one.known, other.known) == (3, 2)
    one.memory[:, :, :, :3] = torch.inf
    one.forget()
    assert one.known == 0 and not one.memory.any()


def test_what_was_left_behind_is_found_by_its_beginning_and_let_go_the_oldest_first() -> None:
    config = ModelConfig(dialect="modern", vocab_size=9, context=4096, layers=1, heads=1, width=4)
    memory = Memory(config, 4, torch.float32, "cpu")
    texts = [[n, *range(1, 200)] for n in range(3)]
    for text in texts[:2]:
        slot = memory.take(len(text))
        assert slot is not None
        slot.known = len(text)
        memory.leave(slot, text)
    assert memory.take(BLOCK * 5) is None and not memory.left  # it asked for more than there is
    for text in texts[:2]:
        slot = memory.take(len(text))
        assert slot is not None
        slot.known = len(text)
        memory.leave(slot, text)
    assert memory.find(texts[2]) is None
    whole = memory.find([*texts[1], 7])
    assert whole is not None and whole.known == 200 and len(memory.left) == 1
    memory.give(whole)
    part = memory.find([*texts[0][:150], 8, 8, 8])
    assert part is not None and part.known == 150 and part is not memory.left[2].slot
    short = memory.find(texts[0][:20])  # whose room is that of the text left behind, which is let go for it
    assert short is not None and short.known == 19 and not memory.left
    assert common((1, 2), [1, 2, 3]) == 2


def test_texts_that_write_look_back_at_once_and_each_on_its_own(
    make: Make, random_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    company, together = SideBySide._company, list[int]()

    def counted(self: SideBySide, shelf: Shelf, tokens: dict[int, int]) -> Any:
        together.append(len(tokens))
        return company(self, shelf, tokens)

    monkeypatch.setattr(SideBySide, "_company", counted)
    model = random_model(FAR, dtype=torch.float64)
    requests = [wanted(TEXT[: 5 + 13 * n], seed=n, max_new_tokens=60 - 3 * n) for n in range(12)]
    together_they = write(make(model), *requests)
    assert max(together) >= 8  # of texts with room for as many blocks
    together.clear()
    for request, heard in zip(requests, together_they, strict=True):
        (alone,) = write(make(model), request)
        assert heard.tokens == alone.tokens and heard.logprobs == pytest.approx(alone.logprobs, abs=1e-10)
    assert not together


@pytest.mark.parametrize("blocks", [64, 260])
def test_whoever_comes_grows_and_goes_each_slot_holds_its_own_and_what_is_taken_is_known(blocks: int) -> None:
    config = ModelConfig(dialect="modern", vocab_size=9, context=1024, layers=1, heads=1, width=4)
    memory, draw, number = Memory(config, blocks, torch.float64, "cpu"), random.Random(blocks), 0
    held: list[tuple[Slot, list[int]]] = []  # each with the numbers that it has to know
    shelves = 0

    def write(slot: Slot, numbers: list[int]) -> None:
        slot.memory[:, :, :, slot.known : len(numbers)] = torch.tensor(numbers[slot.known :])[:, None]
        slot.known = len(numbers)

    for turn in range(600):
        act = draw.random()
        if act < 0.3 and (slot := memory.take(length := draw.randint(1, 200))) is not None:
            number += 1000
            held.append((slot, list(range(number, number + length))))
            write(*held[-1])
        elif act < 0.35 and memory.left:  # a text that begins as one that has ended
            known = draw.choice(list(memory.left.values())).tokens
            if (slot := memory.find([*known, -1])) is not None:
                held.append((slot, list(known[: slot.known])))
        elif act < 0.75 and held:
            index = draw.randrange(len(held))
            slot, numbers = held[index]
            longer = numbers + [numbers[-1] + n for n in range(1, draw.randint(2, 90)) if len(numbers) + n <= 1024]
            if (grown := memory.grow(slot, len(longer))) is not None:
                held[index] = grown, longer
                write(grown, longer)
        elif act < 0.9 and held:
            slot, numbers = held.pop(draw.randrange(len(held)))
            memory.leave(slot, numbers) if draw.random() < 0.5 else memory.give(slot)
        memory.gather([slot for slot, _ in held])
        shelves = max(shelves, len(memory.shelves))
        everybody = held + [(one.slot, list(one.tokens)) for one in memory.left.values()]
        for slot, numbers in everybody if turn % 4 == 0 else []:
            assert slot.known == len(numbers)
            assert slot.memory[0, 0, 0, : slot.known, 0].tolist() == numbers
            assert not slot.memory[:, :, :, slot.known :].any()  # not even a number that is none would be hidden
        loose = sum(slot.blocks for slot, _ in everybody if slot.shelf is None)
        assert memory.taken == loose + sum(shelf.places * shelf.blocks for shelf in memory.shelves) <= blocks
    assert shelves > 1
    for slot, _ in held:
        memory.give(slot)
    memory.forget()
    assert (memory.taken, memory.shelves) == (0, [])


def test_a_shelf_that_there_is_no_memory_for_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(dialect="modern", vocab_size=9, context=1024, layers=1, heads=1, width=4)
    memory, asked = Memory(config, 100, torch.float32, "cpu"), list[int]()

    def none(config: ModelConfig, places: int, *rest: Any) -> Shelf:
        asked.append(places)
        raise torch.OutOfMemoryError("there is none")

    monkeypatch.setattr("octavo.server.engine.memory.Shelf", none)
    slots = [slot for _ in range(6) if (slot := memory.take(1)) is not None]
    for _ in range(3):
        memory.gather(slots)
    assert asked == [12] and memory.taken == 6 and not any(slot.shelf for slot in slots)
    monkeypatch.undo()
    memory = Memory(config, 100, torch.float32, "cpu")
    slots = [slot for _ in range(6) if (slot := memory.take(1)) is not None]
    memory.gather(slots)
    slots[0].known = 20
    monkeypatch.setattr("octavo.server.engine.memory.Slot", none)
    memory.leave(slots[0], list(range(20)))  # nor is a text left behind that could not be
    assert memory.taken == 12 and not memory.left
