"""Beside other programs: how busy they are, how many threads are of use, and bits that follow from what is recorded."""

import os
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch

from octavo import cores, products, training
from octavo.config import Asked, ModelConfig
from octavo.cores import Neighbours, Threads, giving_way
from octavo.events import Event, Note, Stepped
from octavo.fused import fused, memory_dtype
from octavo.generation import generate
from octavo.model import GPT
from octavo.reading import BitwiseReader, Reader, logits_at, read_side_by_side, readable_side_by_side
from octavo.saved import checkpoint_folder, read_facts
from octavo.slots import BLOCK, Slot
from octavo.trainer import Trainer
from test_trainer import TINY, assert_same_state, metrics, state

TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
SECONDS = [10.0, 5.0, 10.0, 1000.0, 500.0, 0.0, 5.0, 99.0, 7.0, 7.0]  # idle, waiting, stolen and guests are large


class Clock:
    """The clocks of a system, put by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stat: Path) -> None:
        self.wall = self.own = 0.0
        self.stat = stat
        monkeypatch.setattr(cores, "STAT", stat)
        monkeypatch.setattr("octavo.cores.time.monotonic", lambda: self.wall)
        monkeypatch.setattr("octavo.cores.time.process_time", lambda: self.own)
        monkeypatch.setattr("octavo.cores.time.sleep", self.sleep)
        monkeypatch.setattr("octavo.cores.os.sched_getaffinity", lambda process: {0, 2}, raising=False)
        self.busy = {0: 0.0, 1: 0.0, 2: 0.0}
        self.go()

    def sleep(self, seconds: float) -> None:
        self.wall += seconds

    def go(self, wall: float = 0.0, own: float = 0.0, busy: dict[int, float] | None = None) -> None:
        self.wall, self.own = self.wall + wall, self.own + own
        lines = ["cpu  1 2 3"]
        for core, seconds in (busy or {}).items():
            self.busy[core] += seconds
        for core, seconds in self.busy.items():
            row = [SECONDS[0] + seconds, *SECONDS[1:3], SECONDS[3] + self.wall, *SECONDS[4:]]
            lines.append(f"cpu{core} " + " ".join(str(round(value * TICK)) for value in row))
        self.stat.write_text("\n".join([*lines, "intr 5 0 0", "ctxt 7", ""]))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    return Clock(monkeypatch, tmp_path / "stat")


def test_others_are_what_the_cores_did_beside_this_process(clock: Clock) -> None:
    others = Neighbours()
    clock.go(10.0, own=8.0, busy={0: 10.0, 1: 10.0, 2: 5.0})  # core 1 is none of this process
    assert others.busy() == pytest.approx(0.7)
    clock.go(10.0, own=20.0, busy={0: 10.0, 2: 10.0})
    assert others.busy() == 0.0
    clock.go(2.0, own=2.5, busy={0: 1.0, 2: 1.0})  # the two clocks are not read at one moment
    assert others.busy() == 0.0


def test_within_a_moment_it_is_what_was_seen_last(clock: Clock) -> None:
    others = Neighbours()
    assert others.busy() is None
    clock.go(1.0, busy={0: 1.0})
    assert others.busy() == pytest.approx(1.0)
    clock.go(cores.MOMENT / 2)
    assert others.busy() == pytest.approx(1.0)
    clock.go(cores.MOMENT)
    assert others.busy() == 0.0


@pytest.mark.parametrize("content", [None, "", "cpu0 a b c d e f g", "nothing of the kind\n\n"])
def test_where_nothing_tells_there_are_no_others(
    content: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stat = tmp_path / "stat"
    if content is not None:
        stat.write_text(content)
    monkeypatch.setattr(cores, "STAT", stat)
    monkeypatch.setattr(cores, "MOMENT", 0.0)
    assert Neighbours().busy() == 0.0


def test_it_waits_for_what_can_be_seen_and_not_at_all_with_one_thread(clock: Clock) -> None:
    torch.set_num_threads(1)
    assert Threads().useful(wait=True) == 1 and clock.wall == 0.0
    with threads_of_two():
        threads = Threads()
        clock.go(busy={0: 1.0})
        assert threads.useful() == 2  # as there are, for nothing is seen yet
        torch.set_num_threads(1)
        assert threads.useful() == 1
        torch.set_num_threads(2)
        assert threads.useful(wait=True) == 1 and clock.wall == pytest.approx(cores.MOMENT + cores.TICK)
        clock.go(wall=1.0, busy={0: 0.2})
        assert threads.useful(wait=True) == 2 and clock.wall == pytest.approx(1 + cores.MOMENT + cores.TICK)


class threads_of_two:
    """Two threads in here, whatever the machine has, and one behind it, as the tests have it."""

    def __enter__(self) -> None:
        torch.set_num_threads(2)

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(1)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cores, "cores", lambda: 2)
    monkeypatch.setattr(cores, "MOMENT", 0.0)
    monkeypatch.setattr(cores.NEIGHBOURS, "busy", lambda: 0.0)  # the samples of a training have their own
    with threads_of_two():
        yield


def timed(out: str, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """A training whose end is a time, and that comes to the steps that were planned."""
    monkeypatch.setattr("octavo.trainer.Pace.fitting", lambda self, *given: 20)
    trainer = training.begin(["text.txt"], Asked(**{**TINY, "steps": 20, "eval_every": 5}), out=out)
    trainer.at.minutes = 60.0
    return trainer


def followed(trainer: Trainer, until: int = 0) -> tuple[list[int], list[str]]:
    """How many threads each step had, and what was told of it."""
    had, told = [], []
    for event in trainer.events():
        if isinstance(event, Stepped):
            had.append(torch.get_num_threads())
            if event.step == until:
                trainer.stop()
        if isinstance(event, Note) and "threads learn" in event.text:
            told.append(event.text)
    return had, told


@pytest.mark.usefixtures("workplace", "two_threads")
def test_a_training_gives_way_to_others_and_takes_the_cores_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([1.0, 0.9, 0.1])
    monkeypatch.setattr(Neighbours, "busy", lambda self: next(seen))
    had, told = followed(timed("run", monkeypatch))
    assert had == [2] * 5 + [1] * 10 + [2] * 5 and torch.get_num_threads() == 2
    assert told == [
        "other programs want cores: from step 5 on 1 of 2 threads learn",
        "cores are free again: from step 15 on 2 of 2 threads learn",
    ]
    assert [read_facts(checkpoint_folder(Path("run"), step))["threads"] for step in (15, 20)] == [None, None]


@pytest.mark.usefixtures("workplace", "two_threads")
def test_gone_on_with_it_has_the_threads_that_were_recorded_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Neighbours, "busy", lambda self: 1.0)
    followed(timed("whole", monkeypatch))
    followed(timed("run", monkeypatch), until=8)
    facts = read_facts(checkpoint_folder(Path("run"), 8))
    assert facts["threads"] == 1 and facts["numerics"]["threads"] == 2
    events: list[Event] = []
    trainer = training.resume(Path("run"), Asked(), on_event=events.append)
    assert not [event for event in events if isinstance(event, Note) and "bits" in event.text]
    had, told = followed(trainer)
    assert had == [1] * 12 and not told
    assert_same_state(state("run", 20), state("whole", 20))
    assert metrics("run") == metrics("whole")


@pytest.mark.usefixtures("workplace", "two_threads")
@pytest.mark.parametrize("asked", [{"minutes": 0.05}, {"steps": 4}], ids=["time", "steps"])
def test_a_plan_is_measured_with_the_threads_that_will_learn(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Neighbours, "busy", lambda self: 1.0)
    had, told = [], []

    def hear(event: Event) -> None:
        if isinstance(event, Note) and "threads learn" in event.text:
            told.append(event.text)

    real = training.plan
    monkeypatch.setattr(training, "plan", lambda *given: had.append(torch.get_num_threads()) or real(*given))
    trainer = training.begin(["text.txt"], Asked(**{**TINY, "eval_every": None, **asked}), out="run", on_event=hear)
    assert torch.get_num_threads() == 2
    if "steps" in asked:  # the same steps are the same bits, whatever goes on beside them
        assert had == [2] and trainer.at.threads is None and not told
        assert set(followed(trainer)[0]) == {2}
        return
    assert had == [1] and told == ["other programs want cores: 1 of 2 threads learn"]
    assert read_facts(checkpoint_folder(Path("run"), 0))["threads"] == 1
    assert followed(trainer, until=1)[0] == [1]
    longer = training.resume(Path("run"), Asked(steps=trainer.at.step + 2))
    assert longer.at.threads is None and followed(longer)[0] == [2, 2]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("even", [True, False])
def test_what_writes_gives_way_within_a_step_and_no_further(even: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor at all where threads would change a bit."""
    model, had, busy = tiny(), [], [0.0]
    monkeypatch.setattr("octavo.reading.evenly", lambda: even)
    monkeypatch.setattr(cores.NEIGHBOURS, "busy", lambda: busy[0])
    real = GPT.read
    monkeypatch.setattr(GPT, "read", wraps(real)(lambda *given: had.append(torch.get_num_threads()) or real(*given)))
    steps = generate(model, [1], max_new_tokens=4)
    for others in (0.0, 1.0, 1.0, 0.2):
        busy[0] = others
        next(steps)
        assert torch.get_num_threads() == 2
    assert had == ([2, 1, 1, 2] if even else [2] * 4)
    busy[0] = 1.0
    with pytest.raises(ZeroDivisionError), giving_way():
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2


class Service:
    """Reads texts as a service does that is not bitwise: side by side, and the newest token of each alone."""

    def __init__(self, model: GPT, capacity: int, rows: int) -> None:
        self.model = readable_side_by_side(model, bitwise=False)
        blocks, dtype = -(-capacity // BLOCK), memory_dtype(self.model)
        self.slots = [Slot(model.config, blocks, dtype, torch.device("cpu")) for _ in range(rows)]

    def read(self, texts: list[list[int]]) -> torch.Tensor:
        for cut in (slice(None, -1), slice(-1, None)):
            new = [(slot, text[cut]) for slot, text in zip(self.slots, texts, strict=True)]
            x = read_side_by_side(self.model, new, bitwise=False)
        return logits_at(self.model, x, list(range(len(texts))), bitwise=False)


KINDS: list[tuple[Any, Any]] = [(Reader, None), (Reader, "int8"), (BitwiseReader, None), (Service, None)]


@pytest.mark.parametrize("dialect", ["modern", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kind", "quantize"), KINDS)
def test_giving_way_changes_no_bit_of_what_is_written(
    kind: Any, quantize: Any, dtype: torch.dtype, dialect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "PACKED_FROM", 1)
    monkeypatch.setattr(cores, "cores", lambda: 4)
    busy, had = [0.0], set()
    monkeypatch.setattr(cores.NEIGHBOURS, "busy", lambda: busy[0])
    real = GPT.read
    monkeypatch.setattr(GPT, "read", wraps(real)(lambda *given: had.add(torch.get_num_threads()) or real(*given)))
    for width, heads in ((64, 2), (192, 3), (384, 6)):
        model = tiny(layers=2, heads=heads, width=width, context=400, dialect=dialect, tied=dialect == "gpt2")
        model = fused(model.to(dtype).eval(), quantize=quantize)
        for rows, length in ((1, 3), (3, 40), (1, 300), (4, 300))[: 2 if dtype == torch.bfloat16 else 4]:
            texts = [[(3 * row + place) % 900 for place in range(length)] for row in range(rows)]
            found = []
            torch.set_num_threads(4)
            for busy[0] in (0.0, 1.0, 3.0):
                reader = BitwiseReader(model, 400) if kind is BitwiseReader else kind(model, 400, rows)
                with torch.inference_mode():
                    found.append(reader.read(texts))
            torch.set_num_threads(1)
            assert all(torch.equal(found[0], others) for others in found[1:])
    assert had == ({4, 3, 1} if products.evenly() else {4})


def tiny(**shape: Any) -> GPT:
    torch.manual_seed(0)
    return GPT(ModelConfig(**{"vocab_size": 1000, "context": 16, "layers": 1, "heads": 1, "width": 16, **shape}))
