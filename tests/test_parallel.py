"""Several processes learn what one learns: connected by gloo, on this machine."""

import inspect
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import octavo
from octavo import toml, training
from octavo.checkpoint import newest_valid
from octavo.config import Asked, RunConfig
from octavo.data import Batches
from octavo.disk import sha256
from octavo.errors import ConfigError, DamagedError, OctavoError, PeerError, RunError
from octavo.events import Saved
from octavo.making import make_model
from octavo.numerics import difference
from octavo.parallel import Spread, buffers_stay
from octavo.plain import as_dict
from octavo.probing import SHARE, Room, step_memory
from octavo.processes import ALONE, Processes, joined, naming_the_lost, started_by
from octavo.resumption import way_before
from octavo.saved import checkpoint_folder, read_facts, steps_saved
from octavo.shards import Shards, shard_name, state_files
from octavo.spreading import Team, check_gpus, way_for
from several import SAMPLE_TOKENS, Nursery, go_on, learned
from texts import sentences

TINY = {"layers": 2, "heads": 2, "width": 32, "context": 16, "batch": 7, "eval_every": 4, "device": "cpu"}
SETTINGS = list(product(("gpt2", "modern"), ("adamw", "muon"), (1, 4)))  # dialect, optimizer, pieces of a batch
QUICK = [SETTINGS[0], SETTINGS[3], SETTINGS[5], SETTINGS[6]]  # every pair of them


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Starts the processes of all tests here."""
    found = Nursery()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("octavo.evaluation.SAMPLE_TOKENS", SAMPLE_TOKENS)
    (tmp_path / "text.txt").write_text(sentences(200))


@pytest.mark.parametrize("settings", [QUICK, pytest.param(SETTINGS, marks=pytest.mark.slow)])
def test_two_processes_learn_what_one_learns(settings: list[Any], nursery: Nursery) -> None:
    ways = {1: ("ddp", "fsdp"), 4: ("ddp", "fsdp", "gathered")}  # by pieces
    cases = [[dialect, optimizer, pieces, 50] for dialect, optimizer, pieces in settings]
    found = nursery.start(2, "learn", cases=[[*case, way] for case in cases for way in ways[case[2]]])
    alone = [one for case in cases for one in [learned(*case)] * len(ways[case[2]])]
    for one, several in zip(alone, found, strict=True):
        for name in ("losses", "norms"):
            assert np.allclose(one[name], several[name], rtol=1e-12, atol=0), name
        for name, weight in one["weights"].items():
            # a key's bias changes no attention: its gradient is rounding alone, and AdamW makes that as long as any
            near = 1e-8 if name.endswith("key.bias") else 1e-11
            assert torch.allclose(torch.tensor(weight), torch.tensor(several["weights"][name]), rtol=0, atol=near), name
        assert several["losses"][-1] < several["losses"][0]


def heard(name: str) -> dict[int, dict[int, list[Any]]]:
    """The rows that were learned from, by step and by row, from what each process wrote down."""
    rows: dict[int, dict[int, list[Any]]] = {}
    for path in Path().glob(f"{name}-*"):
        for line in path.read_text().splitlines():
            step, begin, end, (tokens, targets) = json.loads(line)
            for row in range(begin, end):
                assert row not in rows.setdefault(step, {}), "a row was learned from twice"
                rows[step][row] = [tokens[row - begin], targets[row - begin]]
    return rows


def last_loss(run: str) -> float:
    return float(json.loads(Path(run, "metrics.jsonl").read_text().splitlines()[-1])["val_loss"])


def test_saved_by_two_in_parts_and_gone_on_with_by_one_and_by_three(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {**TINY, "steps": 12}
    whole = training.begin(["text.txt"], Asked(**asked), out="whole")
    for _ in whole.events():
        pass
    nursery.start(2, "go_on", run="two", asked=asked, parallel="fsdp", stop=6, heard="two")
    assert steps_saved(Path("two")) == [6, 4]  # both stopped after the step in which the second one was asked to
    assert len(state_files(checkpoint_folder(Path("two"), 6))) == 2
    for count in (1, 3):
        run = f"again-{count}"
        subprocess.run(["cp", "-r", "two", run], check=True)
        words = {"run": run, "asked": {}, "parallel": "fsdp", "stop": None, "heard": run}
        with monkeypatch.context() as patch:
            patch.setattr(Batches, "rows", Batches.rows)  # put back what is replaced there
            go_on(ALONE, **words) if count == 1 else nursery.start(count, "go_on", **words)
        rows = heard("two") | heard(run)
        assert sorted(rows) == list(range(12))
        for step, found in rows.items():
            tokens, targets = whole.batches.rows(step, 0, TINY["batch"])
            assert [found[row] for row in range(TINY["batch"])] == [
                [tokens[row].tolist(), targets[row].tolist()] for row in range(TINY["batch"])
            ]
        assert last_loss(run) == pytest.approx(last_loss("whole"), rel=1e-3)
        lines = [json.loads(line)["step"] for line in Path(run, "metrics.jsonl").read_text().splitlines()]
        assert lines == list(range(1, 13))  # one process writes
        gathered = [read_facts(checkpoint_folder(Path(run), step))["gathered"] for step in (6, 12)]
        assert gathered == [True, count > 1]  # a process that is alone has nothing to put together


def torchrun(*words: str, count: int = 2) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.Popen(
        [*command, "-m", "octavo", "train", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


FLAGS = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def ranks(run: str) -> list[int]:
    """The processes that train `run`, the first one first."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and run.encode() in _read(place / "cmdline"):
            words = dict(word.split(b"=", 1) for word in _read(place / "environ").split(b"\0") if b"=" in word)
            if b"RANK" in words:
                found[int(words[b"RANK"])] = int(place.name)
    return [found[rank] for rank in sorted(found)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def when_under_way(run: str, step: int = 4) -> list[int]:
    """The processes of a training, once it has saved a step."""
    for _ in range(1200):
        if step in steps_saved(Path(run)):
            return ranks(run)
        time.sleep(0.05)
    raise AssertionError("the training did not begin")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc")
def test_a_killed_process_ends_the_other_with_one_line() -> None:
    job = torchrun("text.txt", *FLAGS, "--steps", "100000", "--out", "run-killed")
    _, second = when_under_way("run-killed")
    os.kill(second, signal.SIGKILL)
    said = job.communicate(timeout=60)[1]
    lines = [line for line in said.splitlines() if line.startswith("octavo: ")]
    assert len(lines) == 1 and "another process of this training is gone" in lines[0]
    assert job.returncode == 1
    newest_valid(Path("run-killed"), on_damage=pytest.fail)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc")
def test_where_one_says_why_it_ends_the_other_does_not_say_that_it_is_gone() -> None:
    job = torchrun("text.txt", *FLAGS, "--steps", "100000", "--out", "run-full")
    first, _ = when_under_way("run-full")
    resource.prlimit(first, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # it can write to no file any more
    said = job.communicate(timeout=60)[1]
    (line,) = [line for line in said.splitlines() if line.startswith("octavo: ")]
    assert "could not be written" in line and job.returncode == 1
    newest_valid(Path("run-full"), on_damage=pytest.fail)


@pytest.mark.parametrize("last", [["--steps", "8"], ["--steps", "9", "--parallel", "fsdp"]])
def test_processes_that_were_started_with_other_words_do_not_wait_for_each_other(
    last: list[str], nursery: Nursery
) -> None:
    octavo.train("text.txt", out="run", **TINY, steps=5)
    first, other = (["train", "--resume", "run", *words] for words in (["--steps", "9"], last))
    statuses, said, _ = nursery.outcome(2, "command", fails=True, words=first, last=other)
    assert statuses == [1, 1] and not said[0].strip()
    assert (
        said[1]
        == "octavo: process 1: it was started with other words than the first process; start all with the same\n"
    )


def test_a_stop_in_one_process_stops_both_after_the_same_step(nursery: Nursery) -> None:
    words = ["train", "text.txt", *FLAGS, "--steps", "100000", "--out", "run-stopped", "--parallel", "fsdp"]
    statuses, said, _ = nursery.outcome(2, "command", fails=True, words=words, stop=6)
    step, _ = newest_valid(Path("run-stopped"), on_damage=pytest.fail)
    assert statuses == [0, 143] and step == 7  # the step in which the second one was asked is done
    assert f"stopped and saved after {step} steps" in said[0]
    lines = [json.loads(line)["step"] for line in Path("run-stopped", "metrics.jsonl").read_text().splitlines()]
    assert lines == list(range(1, step + 1))


def test_a_mistake_is_told_once(nursery: Nursery) -> None:
    words = ["train", "nowhere.txt", *FLAGS, "--steps", "5"]
    statuses, said, _ = nursery.outcome(2, "command", fails=True, words=words)
    assert all(statuses)
    assert sum("nowhere.txt" in line for line in "".join(said).splitlines() if line.startswith("octavo: ")) == 1


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_where_one_has_too_little_memory_all_take_less(parallel: str, nursery: Nursery) -> None:
    asked = {**TINY, "batch": 6, "steps": 5}
    for _ in training.begin(["text.txt"], Asked(**asked), out="whole").events():
        pass
    whole = ["cpu ran out of memory: from step 0 on weights are put together for each piece"]
    assert nursery.start(2, "cramped", run="cramped", asked=asked, parallel=parallel) == [
        *(whole if parallel == "fsdp" else []),
        "cpu ran out of memory: from step 0 on a batch is read in 2 pieces by each process",
        "cpu ran out of memory: from step 0 on a batch is read in 3 pieces by each process",
        "cpu ran out of memory: from step 0 on each block is computed again on the way back",
    ]
    facts = read_facts(checkpoint_folder(Path("cramped"), 5))
    assert (facts["micro_batches"], facts["recompute"], facts["gathered"]) == (3, True, False)
    assert last_loss("cramped") == pytest.approx(last_loss("whole"), rel=1e-3)


@pytest.mark.slow
def test_parts_take_less_memory_than_the_whole(nursery: Nursery) -> None:
    alone = nursery.start(1, "memory", way=None)
    assert nursery.start(2, "memory", way="fsdp") < 0.65 * alone


def test_a_model_in_parts_begins_with_the_bits_of_the_whole_one(nursery: Nursery) -> None:
    assert nursery.start(2, "making_it") == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the height is told in /proc")
def test_a_model_in_parts_is_made_without_being_held(nursery: Nursery) -> None:
    for start in (False, True):
        found = nursery.start(2, "made", start=start)
        assert found["taken"] < found["part"] + 1.5 * found["largest"] < 0.7 * found["whole"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the height is told in /proc")
def test_a_model_in_parts_is_written_without_being_held(nursery: Nursery) -> None:
    found = nursery.start(2, "writing")
    first, other = found["taken"]
    assert first < 1.2 * found["largest"] and first < 1.2 * found["part"]
    assert other < 0.1 * found["part"]


def test_a_model_in_parts_writes_what_a_whole_one_writes(nursery: Nursery) -> None:
    asked, cases = {**TINY, "steps": 8}, [("ddp", 2**40), ("fsdp", 2**40), ("fsdp", 2**10)]
    whole, roomy, narrow = nursery.start(2, "speaking", cases=cases, asked=asked)
    assert whole["written"] == roomy["written"] == narrow["written"] != ["", ""]
    assert len(narrow["reads"]) == 3 and min(narrow["reads"]) > 2
    again = [count - 1 for count in (*narrow["reads"], SAMPLE_TOKENS, SAMPLE_TOKENS)]
    assert narrow["gathers"] - roomy["gathers"] == TINY["layers"] * sum(again)
    for parallel, free in cases:
        run = Path(f"{parallel}-{free}")
        samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
        assert [sample["step"] for sample in samples] == [4, 8] and steps_saved(run) == [8, 4]
        assert [sample["text"] for sample in samples] == whole["written"]
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "val_loss" in line] == [4, 8]
    weights = [octavo.load(f"fsdp-{free}")[0].state_dict() for free in (2**40, 2**10)]
    assert all(torch.equal(weights[0][name], weight) for name, weight in weights[1].items())
    assert nursery.start(2, "hushed", asked=asked) == whole["written"]  # a stop comes between two tokens


def test_a_process_that_fails_in_a_sample_ends_the_others(nursery: Nursery) -> None:
    statuses, said, _ = nursery.outcome(2, "choking", fails=True, asked={**TINY, "steps": 8})
    assert statuses == [1, 1] and "choked" in said[1] and "is gone" not in said[0]
    assert "PeerError: another process of this training has said why it ends" in said[0]


def test_what_stays_whole_for_a_step_is_exchanged_once(nursery: Nursery) -> None:
    parts, layers = 4, 3  # three blocks, and what stands around them
    found = nursery.start(2, "exchanges")
    for pieces in (1, 4):
        assert found[f"fsdp, {pieces}"] == [pieces * (parts + layers), pieces * parts]
        assert found[f"gathered, {pieces}"] == [parts, parts]


def test_those_that_write_nothing_copy_nothing_and_look_at_their_numbers_all_the_same(nursery: Nursery) -> None:
    found = nursery.start(2, "saving")
    assert found["copied"][0] > 5 and found["copied"][1] == 0
    assert found["failed"] == 2 and "another process of this training failed" in found["said"]
    assert steps_saved(Path("run")) == [1] and not list(Path("run/checkpoints").glob("*.tmp"))


def shards(*parts: dict[str, Any]) -> Path:
    for rank, part in enumerate(parts):
        save_file({name: torch.tensor(value) for name, value in part.items()}, shard_name(rank, len(parts)))
    return Path()


def test_rows_are_put_together_from_the_files_that_have_them() -> None:
    with Shards(
        shards({"a": [[1.0], [2.0]], "n": 5.0}, {"a": [[3.0], [4.0]], "n": 5.0}, {"a": [[6.0]], "n": 5.0})
    ) as found:
        assert found.shapes == {"a": (5, 1), "n": ()}
        for start in range(6):
            for stop in range(start, 6):
                assert found.rows("a", start, stop).flatten().tolist() == [1.0, 2.0, 3.0, 4.0, 6.0][start:stop]
        assert found.rows("n", 0, 1) == 5.0


def test_files_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(DamagedError, match="holds b in some of its files alone; they do not belong together"):
        Shards(shards({"a": [1.0]}, {"a": [1.0], "b": [1.0]}))
    with pytest.raises(DamagedError, match="holds a in rows of different lengths"):
        Shards(shards({"a": [[1.0]]}, {"a": [[1.0, 2.0]]}))
    Path(shard_name(0, 2)).unlink()
    with pytest.raises(DamagedError, match="does not hold one state alone and whole; copy the whole folder again"):
        Shards(Path())
    Path(shard_name(1, 2)).write_bytes(b"nothing")
    Path(shard_name(0, 2)).write_bytes(b"nothing")
    with pytest.raises(DamagedError, match="cannot be read"):
        Shards(Path())


def test_a_batch_must_go_round() -> None:
    with pytest.raises(
        ConfigError, match="a batch of 7 rows does not go round 8 processes; start fewer, or give --batch 8"
    ):
        training.begin(["nowhere.txt"], Asked(**TINY, steps=5), out="run", processes=Silent(0, 8))
    assert not Path("run").exists()


def test_each_process_has_a_gpu_of_its_own_or_none_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="there is no GPU on this machine; start on machines that have one, or give"):
        check_gpus("cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    check_gpus("cpu")
    with pytest.raises(ConfigError, match="3 processes are too many for 2 GPUs; start 2 here, or give --device cpu"):
        check_gpus("auto")
    with pytest.raises(ConfigError, match="a Mac's GPU is for one process; give --device cpu, or train without"):
        check_gpus("mps")


def test_copies_exchange_no_buffers_in_any_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = buffers_stay()
    assert name in inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters
    new = inspect.Parameter("forward_sync_buffers", inspect.Parameter.KEYWORD_ONLY)
    for known, word in (((), "broadcast_buffers"), ((new,), "forward_sync_buffers")):
        monkeypatch.setattr("octavo.parallel.signature", lambda kind, known=known: inspect.Signature(known))
        assert buffers_stay() == {word: False}


class Silent(Processes):
    """One of several that nobody is connected with."""

    def any(self, wish: bool) -> bool:
        return wish

    def told(self, text: str = "") -> str:
        return text


def second(*said: Any) -> Processes:
    """The second of two, which hears this from the first."""
    told = iter(said)

    class Second(Silent):
        def told(self, text: str = "") -> str:
            return next(told)

    return Second(1, 2)


def test_a_mistake_that_another_process_alone_meets_is_told_by_it(nursery: Nursery) -> None:
    run = octavo.train("text.txt", out="run", **TINY, steps=5)
    statuses, said, _ = nursery.outcome(
        2, "command", fails=True, words=["train", "--resume", "run", "--steps", "9"], apart=True
    )
    assert statuses == [1, 1] and "process 1: no run run; make one with" in said[1] and not said[0].strip()
    with pytest.raises(OctavoError, match="process 1: gone holds a model but no training"):
        training.resume(Path("gone"), Asked(), processes=second())
    settings = as_dict(toml.load(run))
    with pytest.raises(OctavoError, match="process 1: /gone is not there; give --out a folder on a disk that all"):
        training.begin(["text.txt"], Asked(), processes=second(json.dumps(["/gone", "0" * 64, settings])))
    with pytest.raises(OctavoError, match="process 1: the text here is not the one that the first process reads; let"):
        training.begin(["text.txt"], Asked(), processes=second(json.dumps([str(run), "0" * 64, settings])))
    Path("text.txt").unlink()
    with pytest.raises(OctavoError, match=r"process 1: the text of run cannot be read again: no such file: text\.txt"):
        training.resume(run, Asked(steps=9), processes=second("0" * 64))
    with pytest.raises(RunError, match="the text of run cannot be read again"), ALONE.by_itself():
        training.resume(run, Asked(steps=9))


def test_as_many_go_on_in_the_way_that_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for then, parallel in (
        ({"processes": 2, "way": "fsdp"}, "fsdp"),
        ({"processes": 3, "way": "fsdp"}, "auto"),
        ({"processes": 2, "way": None}, "auto"),
        (None, "auto"),
    ):
        assert way_before(Path("run"), second(json.dumps(then)), "auto") == parallel
        assert way_before(Path("run"), second(), "ddp") == "ddp"
        assert way_before(Path("run"), ALONE, "auto") == "auto"
    found = difference({"processes": 2, "way": "fsdp", "threads": 1}, {"threads": 1})
    assert found == "processes was 2 and is 1; way was fsdp and is alone"
    assert started_by() == "octavo"
    monkeypatch.setenv("WORLD_SIZE", "4")
    for here, words in (("4", "--nproc-per-node 4"), ("2", "--nnodes 2 … --nproc-per-node 2")):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
        assert started_by() == f"torchrun {words} -m octavo"


class Threaded(Processes):
    """One of two that are threads of this process, and wait for each other as processes do."""

    gate = threading.Barrier(2, timeout=20)
    said: list[Any] = [None, None]

    def _all(self, word: Any) -> list[Any]:
        self.said[self.rank] = word
        self.gate.wait()
        found = list(self.said)
        self.gate.wait()
        return found

    def any(self, wish: bool) -> bool:
        return any(self._all(wish))

    def told(self, text: str = "") -> str:
        return str(self._all(text)[0])


@pytest.fixture
def in_two(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Any]]]:
    """Has two threads do something as two processes would, and gives what each came to."""

    def spread(processes: Processes, config: RunConfig, *given: Any) -> Spread:
        return Spread(make_model(config, given[-1]), processes=processes)

    monkeypatch.setattr("octavo.learner.spread_over", spread)
    with ThreadPoolExecutor(2) as pool:
        yield lambda work: list(pool.map(work, [Threaded(0, 2), Threaded(1, 2)]))


def test_all_open_what_a_training_begins_with_before_it_is_written_over(in_two: Callable[..., list[Any]]) -> None:
    run = octavo.train("text.txt", out="run", **TINY, steps=5)
    before = octavo.load(run)[0].embed.weight
    asked = Asked(start="run", device="cpu", batch=4, steps=5)
    trainers = in_two(lambda processes: training.begin(["text.txt"], asked, out="run", force=True, processes=processes))
    assert all(torch.equal(trainer.model.embed.weight, before) for trainer in trainers)
    assert steps_saved(run) == [0] and torch.equal(octavo.load(run)[0].embed.weight, before)  # until there are others


def test_what_one_process_has_read_to_its_last_byte_the_others_open_as_it_is(
    in_two: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = training.begin(["text.txt"], Asked(**TINY, steps=9), out="run")
    for event in trainer.events():
        if isinstance(event, Saved):
            trainer.stop()
    hashed: list[Path] = []
    monkeypatch.setattr("octavo.disk.sha256", lambda path: hashed.append(path) or sha256(path))
    one, other = in_two(lambda processes: training.resume(Path("run"), Asked(), processes=processes))
    assert sum(path.name in ("train.bin", "state.safetensors") for path in hashed) == 2
    assert one.prepared.fingerprint == other.prepared.fingerprint
    assert np.array_equal(one.prepared.train.tokens, other.prepared.train.tokens)
    assert one.at == other.at and torch.equal(one.model.embed.weight, other.model.embed.weight)
    heard = other.prepared.fingerprint, "yes", "null", json.dumps([4, {}, "0" * 64])
    with pytest.raises(OctavoError, match=r"process 1: .*step-4 is not the state that the first process goes on from;"):
        training.resume(Path("run"), Asked(), processes=second(*heard))
    (checkpoint_folder(Path("run"), 4) / "training.json").write_text("{}")
    with pytest.raises(DamagedError, match=r"training\.json has 2 bytes; its manifest says"):
        training.resume(Path("run"), Asked(), processes=second(*heard))


def test_running_out_of_memory_ends_a_training_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("octavo.learner.spread_over", lambda _, config, *__: Spread(make_model(config)))
    monkeypatch.setattr("octavo.repeating.training_step", no_room)
    trainer = training.begin(["text.txt"], Asked(**TINY, steps=5), out="run", processes=Silent(0, 2))
    with pytest.raises(OctavoError, match="process 0 ran out of memory within a step, where it cannot tell the others"):
        list(trainer.events())


COME = "not all processes of this training have come; start as many as that, with the same words"


def test_what_is_not_there_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with joined() as alone:
        assert alone == ALONE
    for connected, line in ((True, "another process of this training is gone; the last checkpoint"), (False, COME)):
        monkeypatch.setattr("torch.distributed.is_initialized", lambda connected=connected: connected)
        for error in (RuntimeError("Connection closed by peer"), torch.distributed.DistStoreError("wait timeout")):
            with pytest.raises(OctavoError, match=f"process 1 of 2: {line}"), naming_the_lost(Processes(1, 2)):
                raise error
    with (
        pytest.raises(OctavoError, match="process 1 of 2 has no memory left for what it"),
        naming_the_lost(Processes(1, 2)),
    ):
        raise torch.distributed.DistBackendError("NCCL error: CUDA failure 2 'out of memory'")
    with pytest.raises(RuntimeError, match="something else"), naming_the_lost(Processes(1, 2)):
        raise RuntimeError("something else")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.is_available", lambda: False)
    told = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match="this PyTorch cannot connect processes; train with one"), joined():
        pass


def test_a_failure_is_everybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Silent):
        def any(self, wish: bool) -> bool:
            return True

    line = "^another process of this training failed; what was saved before is untouched$"
    with pytest.raises(PeerError, match=line), Failing(0, 2).together():
        pass
    with pytest.raises(ConfigError, match="mine"), Failing(0, 2).together():
        raise ConfigError("mine")


WIDE = Asked(layers=2, heads=2, width=256, context=8, batch=8, steps=5, device="cpu")


def test_a_model_that_fits_in_parts_alone_is_planned_so(monkeypatch: pytest.MonkeyPatch) -> None:
    config = training.plan_training(["text.txt"], WIDE)[0].config
    whole, part = (step_memory(config, Room(None, 4, in_parts)) for in_parts in (False, True))
    assert part < 0.5 * whole
    monkeypatch.setattr("octavo.spreading.free_memory", lambda: int((whole + part) / 2 / SHARE))
    monkeypatch.setattr("octavo.probing._measure", lambda *_: pytest.fail("nobody has the whole model"))
    four = Silent(0, 4)
    for parallel in ("auto", "fsdp"):
        for asked in (WIDE, replace(WIDE, steps=None, minutes=1)):
            plan, _ = training.plan_training(["text.txt"], asked, team=Team(four, parallel))  # type: ignore[arg-type]
            assert plan.config.model.width == 256
            assert "in each of 4 processes" in "\n".join(plan.lines)
    assert way_for("auto", config, four) == "fsdp"
    with pytest.raises(ConfigError, match="to learn from a row takes about"):
        training.plan_training(["text.txt"], WIDE, team=Team(four, "ddp"))
    monkeypatch.setattr("octavo.spreading.free_memory", lambda: None)
    assert way_for("auto", config, four) == "ddp"
