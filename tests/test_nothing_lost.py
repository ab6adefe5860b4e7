"""Nothing lost: whatever ends a training, what was called saved is there, and going on comes to the same bits."""

import errno
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from select import select
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from octavo import checkpoint, toml, training
from octavo import run as run_module
from octavo.checkpoint import newest_valid, save_checkpoint
from octavo.config import Asked
from octavo.disk import seal
from octavo.errors import DamagedError, RunError, SaveError
from octavo.events import Evaluated, Event, Finished, Note, Saved, Stepped
from octavo.run import load_model
from octavo.saved import checkpoint_folder, read_facts, steps_saved
from octavo.standing import Standing
from octavo.trainer import Trainer
from power import Disk, lay_out, recorded
from sweeps import SWEEPS, sweep
from texts import sentences
from warm import Warm

CLOCK = ("seconds", "tokens_per_second")
CHANGES = (  # the calls by which a save changes the disk
    (os, "fsync"),
    (Path, "replace"),
    (Path, "mkdir"),
    (Path, "write_text"),
    (Path, "write_bytes"),
    (checkpoint, "save_file"),
    (run_module, "write_tensors"),
    (Path, "unlink"),
    (shutil, "rmtree"),
)
TINY = {"layers": 2, "heads": 2, "width": 32, "context": 16, "batch": 4, "eval_every": 4, "dropout": 0.1}


pytestmark = pytest.mark.usefixtures("workplace", "unchecked")


def begin(out: str = "run", *, force: bool = False, **asked: Any) -> Trainer:
    return training.begin(["text.txt"], Asked(**{**TINY, **asked}), out=out, force=force)


def resume(run: str = "run", **words: Any) -> tuple[Trainer, list[str]]:
    told: list[Event] = []
    trainer = training.resume(Path(run), Asked(), on_event=told.append, **words)
    return trainer, [event.text for event in told if isinstance(event, Note)]


def left(run: Path | str, step: int) -> dict[str, Any]:
    """All that a training leaves, but for the clock."""
    run = Path(run)
    logs = {
        name: [
            {key: value for key, value in json.loads(line).items() if key not in CLOCK}
            for line in (run / f"{name}.jsonl").read_text().splitlines()
        ]
        for name in ("metrics", "samples")
    }
    return {
        **logs,
        "state": load_file(checkpoint_folder(run, step) / "state.safetensors"),
        "best": load_file(run / "model.safetensors"),
        "snapshots": {path.name: load_file(path) for path in (run / "snapshots").iterdir()},
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)


def interrupted(trainer: Trainer, place: str, number: int, monkeypatch: pytest.MonkeyPatch) -> Event:
    """Train, and ask for a stop in the middle of an evaluation, while it reads or while it writes; the last event."""
    calls = [0]
    module, name = {"reading": ("octavo.trainer", "examine"), "writing": ("octavo.evaluation", "generate")}[place]
    real: Callable[..., Any] = getattr(sys.modules[module], name)

    def stopping(*args: Any, **words: Any) -> Any:
        calls[0] += 1
        if calls[0] == number + (place == "reading"):  # it reads before the first step too
            trainer.stop()
        return real(*args, **words)

    with monkeypatch.context() as patched:
        patched.setattr(f"{module}.{name}", stopping)
        return list(trainer.events())[-1]


@pytest.mark.parametrize(
    ("place", "steps", "number"), [("reading", 16, 2), ("writing", 16, 2), ("reading", 8, 1), ("writing", 8, 2)]
)
def test_a_stop_in_the_middle_of_an_evaluation_is_gone_on_from_to_the_same_bits(
    place: str, steps: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"steps": steps, "eval_every": 8 // number}
    list(begin("whole", **asked).events())
    stopped = interrupted(begin(**asked), place, number, monkeypatch)
    assert isinstance(stopped, Finished) and stopped.reason == "stopped"
    assert steps_saved(Path("run"))[0] == 8
    assert [line["step"] for line in map(json.loads, Path("run/metrics.jsonl").read_text().splitlines())][-1] == 7
    trainer, _ = resume()
    first = next(event for event in trainer.events() if isinstance(event, (Stepped, Evaluated)))
    assert isinstance(first, Evaluated) and first.step == 8
    trainer.journal.close()
    trainer, _ = resume()
    finished = list(trainer.events())[-1]
    assert isinstance(finished, Finished) and finished.reason == "done"
    assert same(left("run", steps), left("whole", steps))
    with pytest.raises(RunError, match="run is finished"):
        resume()


def test_two_trainings_never_write_into_one_folder() -> None:
    first = begin(steps=8)
    events = first.events()
    next(events)
    for again in (lambda: training.begin(["text.txt"], Asked(**TINY, steps=8), out="run", force=True), resume):
        with pytest.raises(RunError, match="another training is writing into run; wait for its end"):
            again()
    list(events)
    training.begin(["text.txt"], Asked(**TINY, steps=8), out="run", force=True)


def test_without_room_for_what_will_be_saved_no_training_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.beginning.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(SaveError, match=r"run will take up to \d+ MB and 0 MB are free there; make room, or give"):
        begin(steps=8)


def test_a_setting_that_was_changed_is_named_and_may_be_allowed() -> None:
    trainer = begin(steps=8)
    for event in trainer.events():
        if isinstance(event, Stepped) and event.step == 5:
            trainer.stop()
    edited = Path("run", toml.NAME)
    edited.write_text(edited.read_text().replace("lr = 0.02", "lr = 0.01"))
    with pytest.raises(RunError, match=r"train\.lr is 0\.01 and was 0\.02, in run; bring that back, or go on"):
        resume()
    trainer, notes = resume(allow_mismatch=True)
    assert "train.lr is 0.01 and was 0.02: going on all the same" in notes
    list(trainer.events())


def test_another_text_is_refused_unless_it_is_allowed() -> None:
    trainer = begin(steps=8)
    for event in trainer.events():
        if isinstance(event, Stepped) and event.step == 5:
            trainer.stop()
    Path("text.txt").write_text(sentences(200, seed=1))
    with pytest.raises(RunError, match="the text is not the one that was learned from, in run"):
        resume()
    trainer, notes = resume(allow_mismatch=True)
    assert "the text is not the one that was learned from: going on all the same" in notes
    assert list(trainer.events())


def test_facts_that_are_none_are_refused() -> None:
    with pytest.raises(DamagedError, match="the checkpoint does not say where the training stands: "):
        Standing.of({"step": 3, "minutes": None})


def test_other_numerics_are_announced() -> None:
    trainer = begin(steps=8)
    for event in trainer.events():
        if isinstance(event, Stepped) and event.step == 5:
            trainer.stop()
    folder = checkpoint_folder(Path("run"), 5)
    facts = json.loads((folder / "training.json").read_text())
    facts["numerics"]["threads"] = 64
    (folder / "training.json").write_text(json.dumps(facts))
    seal(folder)
    _, notes = resume()
    assert any(re.fullmatch(r"same data, not the same bits: threads was 64 and is \d+", note) for note in notes)


@pytest.mark.parametrize("number", ["inf", "-inf", "nan"])
def test_no_checkpoint_ever_holds_a_number_that_is_none(tmp_path: Path, number: str) -> None:
    trainer = begin(steps=8)
    with torch.no_grad():
        trainer.model.embed.weight[3, 3] = float(number)
    with pytest.raises(SaveError, match=r"model.embed.weight is not finite after step 1, and is not saved"):
        save_checkpoint(tmp_path / "x", 1, trainer.model, trainer.optimizers, {})
    assert not steps_saved(tmp_path / "x")


def test_failures_are_counted_across_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = begin(steps=8, lr=1e35)
    for event in trainer.events():
        if isinstance(event, Stepped) and event.step == 3:
            trainer.stop()
    assert read_facts(checkpoint_folder(Path("run"), 3))["failures"] == trainer.at.failures > 0


TRAINING = """
import json, os, shutil, signal, sys
from pathlib import Path
from select import select
import octavo.evaluation
from octavo import checkpoint, run, training
from octavo.config import Asked
from octavo.errors import SaveError
from octavo.events import Saved, Stepped
octavo.evaluation.SAMPLE_TOKENS = 8
CALLS = (
    (os, "fsync"), (Path, "replace mkdir write_text write_bytes unlink"), (shutil, "rmtree"),
    (checkpoint, "save_file"), (run, "write_tensors"),
)

def die_at(call):
    calls = 0
    def dying(real):
        def made(*args, **words):
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **words)
        return made
    for owner, names in CALLS:
        for name in names.split():
            setattr(owner, name, dying(getattr(owner, name)))

def train(asked, what, *numbers):
    told = os.open("told", os.O_WRONLY)
    if what == "begin":
        trainer = training.begin(["text.txt"], Asked(**asked), out="run")
    else:
        trainer = training.resume(Path("run"), Asked())
    if what == "wait":
        while not Path("go").exists():
            pass
    if numbers:
        die_at(int(numbers[0]))
    try:
        begun = False
        for event in trainer.events():
            if isinstance(event, Stepped) and not begun:
                begun = True
                os.write(told, b"0\\n")
            if isinstance(event, Saved):
                os.write(told, b"%d\\n" % event.step)
    except SaveError as error:
        Path("said").write_text(str(error))
        os.write(told, b"refused\\n")
    else:
        os.write(told, b"done\\n")

train(json.loads(sys.argv[1]), *sys.argv[2:])
"""


class Trainings:
    """Trainings, each in a process of its own that can be killed."""

    def __init__(self, warm: Warm, asked: dict[str, Any]) -> None:
        self.warm, self.asked = warm, json.dumps(asked)

    def start(self, what: str) -> int:
        Path("told").write_text("")
        self.child = self.warm.start(TRAINING, self.asked, *what.split())
        return self.child.pid

    def wait(self) -> list[int]:
        """The steps that it called saved, with a -1 behind where it came to its end, -2 where the disk refused."""
        self.child.wait()
        said = [line for line in Path("told").read_text().split() if line != "0"]  # which is its first step
        return [{"done": -1, "refused": -2}.get(line) or int(line) for line in said]


def in_a_save() -> bool:
    folder = Path("run/checkpoints")
    return folder.is_dir() and any(path.suffix == ".tmp" for path in folder.iterdir())


def alive(child: int) -> bool:
    return Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]


def killed_again_and_again(trainings: Trainings, kills: int, seed: int) -> int:
    """Train, and kill at random moments, every other time inside a save. Gives how many were inside one.

    However slow the machine is, the training comes further: before some kills it has saved once more.
    """
    draw, inside, acknowledged = random.Random(seed), 0, 0
    for kill in range(kills):
        saved = steps_saved(Path("run"))
        if not saved:
            shutil.rmtree("run", ignore_errors=True)
        child = trainings.start("resume" if saved else "begin")
        if kill % 2:
            while alive(child) and not in_a_save():
                time.sleep(0.0002)
        else:
            lines = draw.choice([1, 2])  # its first step, and a save
            while alive(child) and Path("told").read_text().count("\n") < lines:
                time.sleep(0.0002)
            time.sleep(draw.random() * 0.05)
        inside += in_a_save()
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        told = trainings.wait()
        assert -1 not in told, "it was done before it was killed often enough"
        acknowledged = max([acknowledged, *told])
        assert max(steps_saved(Path("run")), default=0) >= acknowledged
    return inside


@pytest.mark.parametrize("kills", sweep("kills"))
@pytest.mark.timeout(7200)
def test_a_training_that_is_killed_again_and_again_comes_to_the_same_bits(kills: int, warm: Warm) -> None:
    steps = 40 * kills
    asked = {**TINY, "steps": steps, "eval_every": 20}
    trainings = Trainings(warm, asked)
    trainings.start("begin")
    assert trainings.wait()[-1:] == [-1], trainings.child.errors
    Path("run").rename("whole")
    inside = killed_again_and_again(trainings, kills, seed=0)
    trainings.start("resume")
    assert trainings.wait()[-1:] == [-1], trainings.child.errors
    assert inside >= kills // 5
    assert same(left("run", steps), left("whole", steps))


@pytest.fixture
def half_way(workplace: Path, unchecked: None, warm: Warm) -> Trainings:
    """A training of eight steps that was stopped after four, as `run` and as `spare`, one never stopped as `whole`."""
    asked = {**TINY, "steps": 8}
    list(begin("whole", **asked).events())
    trainer = begin("run", **asked)
    for event in trainer.events():
        if isinstance(event, Saved) and event.step == 4:
            trainer.stop()
    shutil.copytree("run", "spare")
    return Trainings(warm, asked)


def whole_again(told: list[int]) -> None:
    """What was called saved is there, and going on comes to the same bits."""
    step, _ = newest_valid(Path("run"), on_damage=lambda line: None)
    assert step >= max([4, *told])
    load_model(Path("run"))
    if step < 8:
        assert [event.step for event in resume()[0].events() if isinstance(event, Saved)] == [8]
    assert same(left("run", 8), left("whole", 8))
    shutil.rmtree("run")
    shutil.copytree("spare", "run")


Files = dict[str, bytes | None]


def files_of(run: Path) -> Files:
    """All that lies in a folder: the bytes of each file, and of each folder none."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted([run, *run.rglob("*")])}


def what_kills_leave(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], Files]]:
    """Go on with the training, and note before each call that changes the disk what a kill there would leave.

    That is what was called saved by then, and what lies in the run's folder, in as far as it differs from what a kill
    at the call before leaves.
    """
    trainer, told, found = resume()[0], list[int](), list[tuple[list[int], Files]]()

    def noted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **words: Any) -> Any:
            left = list(told), files_of(Path("run"))
            if not found or found[-1] != left:
                found.append(left)
            return real(*args, **words)

        return call

    with monkeypatch.context() as patched:
        for owner, name in CHANGES:
            patched.setattr(owner, name, noted(getattr(owner, name)))
        for event in trainer.events():
            if isinstance(event, Saved):
                told.append(event.step)
    return found


@pytest.mark.usefixtures("half_way")
def test_a_kill_before_any_call_of_a_save_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kills = what_kills_leave(monkeypatch)
    assert len(kills) > 25
    for told, files in kills:
        shutil.rmtree("run")
        for name, content in files.items():
            Path(name).mkdir() if content is None else Path(name).write_bytes(content)
        whole_again(told)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_kill_at_every_call_of_a_save_loses_nothing(half_way: Trainings) -> None:
    for call in count(1):
        half_way.start(f"resume {call}")
        told = half_way.wait()
        whole_again(told)
        if told[-1:] == [-1]:
            break
    assert call > 25


FAULTS = {"SIGKILL": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO"}
SYSTEM_CALLS = "write,pwrite64,fsync,fdatasync,rename,renameat,mkdir,mkdirat,unlink,unlinkat,rmdir,ftruncate,fallocate"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.timeout(7200)
def test_a_fault_in_every_system_call_of_a_save_loses_nothing(fault: str, half_way: Trainings) -> None:
    for call in count(1):
        Path("go").unlink(missing_ok=True)
        child = half_way.start("wait")
        inject = f"inject={SYSTEM_CALLS}:{FAULTS[fault]}:when={call}"
        words = ["strace", "-f", "-qq", "-p", str(child), "-e", f"trace={SYSTEM_CALLS}", "-e", inject, "-o", "traced"]
        with subprocess.Popen(words) as tracer:
            while "TracerPid:\t0" in Path(f"/proc/{child}/status").read_text():
                time.sleep(0.001)
            Path("go").touch()
            told = half_way.wait()
            tracer.wait()
        if told[-1:] == [-2]:
            assert os.strerror(getattr(errno, fault)) in Path("said").read_text()
        reached = "INJECTED" in Path("traced").read_text() or "KILL" in Path("traced").read_text()
        whole_again([step for step in told if step > 0])
        if not reached:
            break
    assert call > 25


LITTLE = ["--layers", "1", "--width", "16", "--context", "16", "--eval-every", "50"]


def heeds(process: int, number: int) -> bool:
    """Whether a process has said what it does when this signal comes."""
    status = Path(f"/proc/{process}/status").read_text()
    return bool(int(re.findall(r"SigCgt:\s*(\w+)", status)[0], 16) >> number - 1 & 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_step_ends_it_with_its_status(number: signal.Signals) -> None:
    Path("long.txt").write_text(sentences(2000) * 100)
    process = subprocess.Popen(
        [sys.executable, "-m", "octavo", "train", "long.txt", "--steps", "5", "--out", "long"],
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not heeds(process.pid, signal.SIGTERM):
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert b"Traceback" not in said


@pytest.mark.parametrize("signals", sweep("signals"))
@pytest.mark.timeout(7200)
def test_a_signal_at_a_random_moment_ends_a_training_saved_and_soon(signals: int, warm: Warm) -> None:
    draw = random.Random(1)
    begun = ["train", "text.txt", "--steps", "100000", *LITTLE, "--out", "run", "--quiet"]
    gone_on = ["train", "--resume", "run", "--quiet"]
    for _ in range(signals):
        begun_at, log = time.time(), Path("run/metrics.jsonl")
        training = warm.octavo(*(gone_on if steps_saved(Path("run")) else begun))
        while training.poll() is None and not (log.exists() and log.stat().st_mtime > begun_at):
            time.sleep(0.01)
        time.sleep(0.3 * draw.random())  # in which it is evaluated and saved a few times
        number = draw.choice([signal.SIGINT, signal.SIGTERM])
        training.kill(number)
        assert training.wait() == 128 + number, training.errors  # it does not hang
        assert "Traceback" not in training.errors
    assert steps_saved(Path("run"))


def test_a_terminal_that_is_closed_ends_a_training_saved() -> None:
    ours, theirs = os.openpty()
    words = ["train", "text.txt", "--steps", "100000", *LITTLE, "--out", "run"]
    at_terminal = f'exec "$@" <{os.ttyname(theirs)} >&0 2>&0'  # which makes it the terminal of a new session
    command = ["sh", "-c", at_terminal.replace("<", "<>"), "sh", sys.executable, "-m", "octavo", *words]
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    training = subprocess.Popen(command, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    signal.signal(signal.SIGHUP, before)
    while training.poll() is None and not Path("run/metrics.jsonl").exists():
        if select([ours], [], [], 0.1)[0]:
            os.read(ours, 100_000)
    os.close(theirs)  # a terminal that nobody has open gives an error, not an end
    os.close(ours)
    try:
        assert training.wait(timeout=60) == 128 + signal.SIGHUP
    finally:
        training.kill()
        training.wait()
    saved = max(steps_saved(Path("run")))
    assert saved == max(line["step"] for line in map(json.loads, Path("run/metrics.jsonl").read_text().splitlines()))


def steps_logged(run: Path, name: str) -> list[int]:
    """The steps that a log holds, without a last line that is broken off."""
    return [json.loads(line)["step"] for line in (run / f"{name}.jsonl").read_text().split("\n")[:-1]]


@pytest.mark.parametrize("images", sweep("power failures"))
@pytest.mark.timeout(3600)
def test_whenever_the_power_fails_what_was_called_saved_is_there(
    images: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    with recorded(root, monkeypatch) as recorder:
        trainer = training.begin(["text.txt"], Asked(**TINY, steps=16), out=root / "run")
        for event in trainer.events():
            if isinstance(event, Saved):
                recorder.say(event.step)
            if isinstance(event, Evaluated) and event.step == 8:
                trainer.stop()  # before its sample: step 8 is saved now, and again when its evaluation is done
        for event in training.resume(root / "run", Asked()).events():
            if isinstance(event, Saved):
                recorder.say(event.step)
    draw, disk, promised, looked_at, opened = random.Random(0), Disk(root), 0, 0, set[frozenset[tuple[str, bytes]]]()
    first = next(index for index, event in enumerate(recorder.events) if event.kind == "word")
    per_event = -(-images // (len(recorder.events) - first))
    for event in recorder.events:
        disk.happen(event)
        promised = event.word if event.kind == "word" else promised
        for _ in range(per_event if promised else 0):
            where = tmp_path / "image"
            lay_out(disk.image(draw), root, where, draw)
            step, facts = newest_valid(where / "run", on_damage=lambda line: None)
            assert step >= promised and facts["step"] == step
            logged = range(1, step + (facts["due"] is None))  # what an evaluation found that is due is not known yet
            assert steps_logged(where / "run", "metrics")[: len(logged)] == list(logged)
            looked = [at for at in logged if at % TINY["eval_every"] == 0]
            assert steps_logged(where / "run", "samples")[: len(looked)] == looked
            files = [path for path in (where / "run").iterdir() if path.suffix in (".json", ".safetensors")]
            model = frozenset((path.name, path.read_bytes()) for path in files)
            if model not in opened:  # the same bytes once
                load_model(where / "run")
                opened.add(model)
            shutil.rmtree(where)
            looked_at += 1
    assert looked_at >= images


class FileLayer:
    """Fails at the n-th call that changes the disk, as often as it is called from then on."""

    def __init__(self, at: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.at, self.number = 0, at, number
        for owner, name in CHANGES[:-2]:  # what is removed may stay
            monkeypatch.setattr(owner, name, self.failing(getattr(owner, name)))

    def failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **words: Any) -> Any:
            self.calls += 1
            if self.calls >= self.at:
                raise OSError(self.number, os.strerror(self.number))
            return real(*args, **words)

        return call


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_every_call_of_a_save_may_fail_and_the_earlier_one_is_whole(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = begin(steps=100)
    events = trainer.events()
    for event in events:
        if isinstance(event, Saved):
            break
    saved, failed, at = event.step, 0, 0
    while True:
        at += 1
        with monkeypatch.context() as patched:
            layer = FileLayer(at, number, patched)
            try:
                for event in events if at == 1 else trainer.events():
                    if isinstance(event, Saved):
                        break
            except SaveError as error:
                assert str(Path("run")) in str(error) and os.strerror(number) in str(error)
                failed += 1
            else:
                break  # it did not come to the n-th call
        assert layer.calls >= at
        step, _ = newest_valid(Path("run"), on_damage=lambda line: None)
        assert step >= saved
        load_model(Path("run"))
        trainer, _ = resume()
    assert failed > 10


DISK_SIZES = (100, 2000, 30_000, 60_000)
assert len(DISK_SIZES) == SWEEPS["full disks"][0]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Whatever is written beyond so many bytes of a file is refused, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", DISK_SIZES)
def test_a_full_disk_is_named_with_the_bytes_that_it_takes_and_what_was_saved_stays(size: int) -> None:
    list(begin("whole", steps=16).events())
    trainer = begin(steps=16)
    events = trainer.events()
    saved = next(event.step for event in events if isinstance(event, Saved))
    with (
        files_of_at_most(size),
        pytest.raises(SaveError, match=r"run/.* could not be written: File too large; it take"),
    ):
        list(events)
    assert newest_valid(Path("run"), on_damage=lambda line: None)[0] >= saved
    load_model(Path("run"))
    trainer, _ = resume()
    list(trainer.events())
    assert same(left("run", 16), left("whole", 16))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can make a disk so small")
@pytest.mark.parametrize("pages", range(SWEEPS["full disks"][1]))
def test_on_a_disk_that_is_too_small_what_was_called_saved_stays(pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.beginning.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 0, 10**9))
    list(begin("whole", steps=16).events())
    Path("disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={16 + 12 * pages}k", "tmpfs", "disk"]
    subprocess.run(mount, check=True)
    try:
        saved, said = 0, ""
        try:
            trainer = begin("disk/run", steps=16)
            for event in trainer.events():
                saved = event.step if isinstance(event, Saved) else saved
        except SaveError as error:
            said = str(error)
            assert re.search(r"disk/run.* could not be written: No space left on device", said)
        if saved:
            assert newest_valid(Path("disk/run"), on_damage=lambda line: None)[0] >= saved
            load_model(Path("disk/run"))
        subprocess.run(["mount", "-o", "remount,size=64m", "disk"], check=True)
        if said:
            again = resume("disk/run")[0] if steps_saved(Path("disk/run")) else begin("disk/run", steps=16, force=True)
            list(again.events())
        assert same(left("disk/run", 16), left("whole", 16))
    finally:
        subprocess.run(["umount", "--lazy", "disk"], check=True)
