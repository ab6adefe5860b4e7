"""Watching a training in a browser: what its files say and no more, while they are written, and a brake that holds."""

import asyncio
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from math import log
from pathlib import Path
from queue import SimpleQueue
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import octavo
from octavo import repeating, toml, training
from octavo.claim import Claim
from octavo.cli import page as cli_page
from octavo.cli import run as command
from octavo.config import Asked
from octavo.disk import write_file
from octavo.events import Event, Preparing
from octavo.journal import Journal
from octavo.saved import checkpoint_folder, snapshots, steps_saved
from octavo.server.engine.engine import Engine
from octavo.server.gate import Rules
from octavo.server.models import Models, Served
from octavo.server.page import learning
from octavo.server.page.apart import create_page
from octavo.server.page.following import few
from octavo.server.page.logs import POINTS, Log, history, parsed
from octavo.server.page.training import Training
from octavo.server.service import listen, server_of, service
from texts import sentences

TINY = {"layers": 1, "heads": 1, "width": 16, "context": 16, "batch": 4}
WORDS = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
Said = dict[str, Any]


def log_lines(path: Path) -> list[Said]:
    return [json.loads(text) for text in path.read_text("utf-8").splitlines()]


class Stream:
    """What a browser's EventSource hears."""

    def __init__(self, port: int, path: str = "/page/learn/events", **headers: str) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=10)
        self.connection.request("GET", path, headers=headers)
        self.answer: HTTPResponse = self.connection.getresponse()
        assert self.answer.status == 200 and self.answer.headers["content-type"].startswith("text/event-stream")

    def line(self) -> str:
        return self.answer.readline().decode().rstrip("\n")

    def events(self) -> Iterator[tuple[str, Said]]:
        kind = ""
        while text := self.answer.readline().decode():
            if text.startswith("event: "):
                kind = text.removeprefix("event: ").strip()
            elif text.startswith("data: "):
                yield kind, json.loads(text.removeprefix("data: "))

    def close(self) -> None:
        self.answer.close()
        self.connection.close()


class Asking:
    """Asks a page."""

    port: int

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Said]:
        given = {"Content-Type": "application/json"} if body is not None else {}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=20)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), {**given, **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def refusal(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        status, said = self.ask(method, path, body, **headers)
        return status, said["error"]["message"]

    def await_step(self, step: int = 1) -> None:
        """Until the page is there and tells of a step."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(OSError, KeyError, IndexError):
                told = self.ask("GET", "/page/learn")[1]
                if told["metrics"][-1]["step"] >= step and told["running"]:
                    return
            time.sleep(0.02)
        raise AssertionError("the page did not come")


# A training that waits after each step, so that whoever looks on finds it at work, and not the processor.
GENTLY = """
import sys, time, octavo.cli, octavo.evaluation, octavo.repeating
octavo.evaluation.SAMPLE_TOKENS, step = 8, octavo.repeating.training_step
octavo.repeating.training_step = lambda *given, **words: (time.sleep(0.02), step(*given, **words))[1]
sys.exit(octavo.cli.run(sys.argv[1:]))
"""


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """Whatever goes wrong, nothing is left behind."""
    try:
        yield
    finally:
        process.kill()


class Room(Asking):
    """The page of a training, in a thread."""

    def __init__(self, run: Path | None) -> None:
        self.words: list[Said] = []
        self.training = Training(lambda words: self.words.append(dict(words)))
        if run is not None:
            self.training.hear({"run": str(run), "state": "running"})
        self.begin(server_of(create_page(self.training), Rules(), lambda line: None))

    def begin(self, server: Any) -> None:
        self.server, at = server, listen("127.0.0.1", 0)
        self.port = at.getsockname()[1]
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([at])))
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()


class House(Room):
    """`octavo serve`, in a thread."""

    def __init__(self, *served: Served) -> None:
        self.begin(service(Models(list(served)), Rules(), lambda line: None))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of a hundred steps."""
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("OCTAVO_HOME", str(place / "home"))
        patch.setattr("octavo.planner.ABOUT", 1e9)  # a loss is forecast of a model as small as this one, too
        Path("text.txt").write_text(sentences(200))
        octavo.train("text.txt", out="run", steps=100, eval_every=25, **TINY)
        yield place / "run"


@pytest.fixture(scope="module")
def room(trained: Path) -> Iterator[Room]:
    room = Room(trained)
    yield room
    room.stop()


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Iterator[Room]:
    """A run of one's own, to do things to."""
    shutil.copytree(trained, tmp_path / "run")
    room = Room(tmp_path / "run")
    yield room
    room.stop()


# what has been


def test_the_whole_history_is_what_the_files_say(room: Room, trained: Path) -> None:
    status, told = room.ask("GET", "/page/learn?model=run")
    assert status == 200
    assert told["metrics"] == log_lines(trained / "metrics.jsonl") and len(told["metrics"]) == 100
    assert told["samples"] == log_lines(trained / "samples.jsonl") and len(told["samples"]) == 4
    assert told["settings"] == toml.read(trained / "octavo.toml")
    train = told["settings"]["train"]
    assert told["forecast"] == {"loss": train["forecast"], "spread": train["forecast_within"]}
    assert (told["running"], told["steps"], told["unit"]) == (True, 100, "nats per token")
    assert set(told) == {*("metrics", "samples", "forecast", "baselines", "settings", "running", "steps", "unit")}


def test_baselines_are_counted_once_and_kept(room: Room, trained: Path) -> None:
    while (told := room.ask("GET", "/page/learn")[1]["baselines"]) is None:
        time.sleep(0.02)
    assert [one["name"] for one in told] == ["uniform", "1-gram", "2-gram", "3-gram", "4-gram", "5-gram"]
    vocabulary = octavo.load(trained)[1].vocab_size
    assert told[0]["loss"] == pytest.approx(log(vocabulary), abs=1e-4)
    assert told[0]["loss"] > told[1]["loss"] > told[2]["loss"] > told[3]["loss"] > 0
    (kept,) = (trained.parent / "home/cache/baselines").iterdir()
    assert json.loads(kept.read_text())["baselines"] == told


def test_a_text_that_is_not_in_the_cache_any_more_has_no_baselines(
    copied: Room, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "elsewhere"))
    assert copied.ask("GET", "/page/learn")[1]["baselines"] is None
    time.sleep(0.1)
    assert copied.ask("GET", "/page/learn")[1]["baselines"] is None


def test_the_state_of_the_page_tells_of_the_training(room: Room, trained: Path) -> None:
    status, told = room.ask("GET", "/page/state")
    assert status == 200 and told["training"] == {"model": "run", "running": True}
    (model,) = told["models"]
    assert model["steps"] == snapshots(trained) and model["steps"][0] == 1 and model["steps"][-1] == 100
    assert model["learned"] and model["name"] == "run" and model["width"] == 16 and not model["answers"]
    assert model["parameters"] == sum(weight.numel() for weight in octavo.load(trained)[0].parameters())
    assert learning.about(None) == {"steps": [], "written": None, "learned": False}
    assert room.ask("GET", "/health") == (200, {"status": "ok"})


def test_a_long_history_is_thinned_and_keeps_its_evaluations_and_its_end(tmp_path: Path) -> None:
    lines = [{"step": n, "train_loss": 2.0} | ({"val_loss": 2.5} if n % 97 == 0 else {}) for n in range(1, 9001)]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = history(path)
    assert len(told) == POINTS and told[-1] == lines[-1]
    assert [line for line in told if "val_loss" in line] == [line for line in lines if "val_loss" in line]
    assert [line["step"] for line in told] == sorted(line["step"] for line in told)
    path.write_text("".join(json.dumps({"step": n, "val_loss": 1.0}) + "\n" for n in range(5000)))
    assert len(history(path)) == POINTS and history(path)[-1]["step"] == 4999
    assert len(history(path, 3)) == 3


def test_what_is_no_line_is_left_out_and_what_is_no_number_is_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert history(path) == []
    path.write_bytes(
        b'{"step": 1, "train_loss": NaN}\n\xff\n[1]\n' + b"[" * 9999 + b'\n{"step": 2, "train_loss": 1e999}\n{"st'
    )
    assert history(path) == [{"step": 1, "train_loss": None}, {"step": 2, "train_loss": None}]
    assert parsed(b'{"a": -Infinity}') == {"a": None}


def test_a_run_with_damaged_files_is_shown_as_far_as_it_goes(copied: Room) -> None:
    run = copied.training.run
    assert run is not None
    (run / "octavo.toml").write_text("[")
    for step in steps_saved(run):
        (checkpoint_folder(run, step) / "training.json").write_text("{")
    (run / "samples.jsonl").unlink()
    (run / "model.safetensors").write_bytes(b"no")
    status, told = copied.ask("GET", "/page/learn")
    assert status == 200 and len(told["metrics"]) == 100 and told["samples"] == [] and told["settings"] == {}
    assert told["steps"] is None and told["forecast"] is None
    assert copied.ask("GET", "/page/state")[1]["models"][0]["parameters"] is None


# what comes


def test_a_stream_tells_a_line_that_comes_after_it_began_once_it_is_whole(copied: Room) -> None:
    run = copied.training.run
    assert run is not None
    with closing(Stream(copied.port)) as stream, (run / "metrics.jsonl").open("a", buffering=1) as file:
        events = stream.events()
        assert next(events) == ("state", {"running": True, "steps": 100})
        assert copied.words == [{"watchers": 1}]
        file.write('{"step": 101, "train')
        file.flush()
        time.sleep(0.3)
        file.write('_loss": 2.0}\n{"step": 102, "train_loss": NaN}\n')
        assert next(events) == ("metrics", {"step": 101, "train_loss": 2.0})
        assert next(events) == ("metrics", {"step": 102, "train_loss": None})
        with closing(Journal(run)) as journal:
            journal.sample({"step": 102, "text": "Ada\u2028\n"})
        assert next(events) == ("sample", {"step": 102, "text": "Ada\u2028\n"})
        copied.training.hear({"state": "waiting"})
        assert next(events) == ("state", {"running": False, "steps": 100})
    while copied.words[-1] != {"watchers": 0}:
        time.sleep(0.02)


def test_a_stream_tells_that_the_training_went_back(copied: Room) -> None:
    run = copied.training.run
    assert run is not None
    with closing(Stream(copied.port)) as stream:
        events = stream.events()
        assert next(events)[0] == "state"
        journal = Journal(run)
        journal.cut(50)
        assert next(events) == ("reset", {})
        assert len(copied.ask("GET", "/page/learn")[1]["metrics"]) == 50
        journal.metrics({"step": 51, "train_loss": 3.0})
        assert next(events) == ("metrics", {"step": 51, "train_loss": 3.0})
        journal.close()


def test_a_stream_that_was_cut_off_goes_on_where_it_was(room: Room, trained: Path) -> None:
    lines = log_lines(trained / "metrics.jsonl")[97:]
    for path, headers in (("/page/learn/events?after=97", {}), ("/page/learn/events", {"Last-Event-ID": "97"})):
        with closing(Stream(room.port, path, **headers)) as stream:
            events = stream.events()
            assert [next(events) for _ in range(4)][:3] == [("metrics", line) for line in lines]


def test_a_stream_without_news_says_that_it_is_there_and_ends_with_the_run(copied: Room, monkeypatch: Any) -> None:
    monkeypatch.setattr(learning, "KEEP_ALIVE", 0.01)
    run = copied.training.run
    assert run is not None
    with closing(Stream(copied.port)) as stream:
        assert next(stream.events())[0] == "state"
        assert {stream.line() for _ in range(3)} == {"", ": still here"}
        shutil.rmtree(run)
        list(stream.events())  # it ends
    status, message = copied.refusal("GET", "/page/learn")
    assert status == 404 and message.endswith("run is gone; serve another run")


def test_a_page_that_ends_tells_those_who_look_on_what_came_last_and_does_not_wait_for_them(copied: Room) -> None:
    run = copied.training.run
    assert run is not None
    with closing(Stream(copied.port)) as stream:
        events = stream.events()
        assert next(events) == ("state", {"running": True, "steps": 100})
        begin = time.monotonic()
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"step": 101, "train_loss": 2.0}\n')
        copied.training.hear({"state": "finished"})
        copied.stop()
        last = [("metrics", {"step": 101, "train_loss": 2.0}), ("state", {"running": False, "steps": 100})]
        assert list(events) == last and time.monotonic() - begin < 9


def test_many_lines_at_once_are_thinned_but_for_evaluations() -> None:
    lines = [{"step": n} | ({"val_loss": 1} if n % 100 == 0 else {}) for n in range(1000)]
    assert len(few(lines)) == 60 and few(lines)[-1] == lines[-1] and few(lines[:40]) == lines[:40]


@pytest.mark.parametrize("seed", range(6))
def test_whatever_becomes_of_a_log_who_follows_it_knows_its_lines(tmp_path: Path, seed: int) -> None:
    draw, path, written = Random(seed), tmp_path / "log.jsonl", 0
    path.write_text('{"step": -1}\n')
    follower, known = Log(path), history(path)
    for number in range(300):
        action = draw.random()
        if action < 0.75:
            with path.open("a") as file:
                file.write(json.dumps({"step": number, "seconds": draw.random()}) + "\n"[: draw.random() < 0.8])
        elif action < 0.9 and path.exists():
            lines = path.read_text().splitlines(keepends=True)
            write_file(path, "".join(lines[: draw.randrange(len(lines) + 1)]))
        elif action < 0.95:
            path.unlink(missing_ok=True)
        if draw.random() < 0.5:
            cut, news = follower.news()
            known = history(path) if cut else known + news
            assert known == history(path)
            written += len(news)
    assert written > 50


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("octavo.server.page.logs.LONGEST", 100)
    path = tmp_path / "log.jsonl"
    path.write_text("")
    follower = Log(path)
    path.write_text("x" * 1000)
    assert follower.news() == (False, []) and follower.place == 1000
    with path.open("a") as file:
        file.write('\n{"step": 1}\n')
    assert follower.news() == (False, [{"step": 1}]) and history(path) == [{"step": 1}]


# the brake


def test_what_cannot_be_wished_is_refused(room: Room, trained: Path) -> None:
    early = Room(None)
    assert early.refusal("GET", "/page/learn") == (404, "the training is not planned yet; wait a moment")
    told = early.refusal("POST", "/page/learn/stop", {})
    assert told == (409, "the training has not begun yet; wait until it takes steps")
    assert early.ask("GET", "/page/state")[1]["training"] is None
    early.training.hear({"run": str(trained), "state": "finished"})
    status, message = early.refusal("POST", "/page/learn/resume", {})
    assert (status, message[:38]) == (409, "the training has come to its end; go o")
    assert early.ask("POST", "/page/learn/stop", {}) == (200, {"running": False})
    assert early.words == []
    early.stop()
    assert room.refusal("GET", "/page/learn?model=other") == (404, "no model 'other'; there is run")
    assert room.refusal("POST", "/page/learn/stop", {"now": True})[0] == 400
    assert room.refusal("GET", "/page/learn/events?after=-1")[0] == 400


def test_a_wish_is_answered_when_it_is_so(copied: Room) -> None:
    def obey(words: Any) -> None:
        states = {"stop": "waiting", "resume": "running"}
        threading.Timer(0.1, copied.training.hear, [{"state": states[words["wish"]]}]).start()

    copied.training.say = obey
    assert copied.ask("POST", "/page/learn/stop", {}) == (200, {"running": False})
    assert copied.ask("POST", "/page/learn/resume", {}) == (200, {"running": True})


def test_pages_of_others_may_neither_look_nor_stop(room: Room) -> None:
    words = list(room.words)
    for path in ("/page/learn", "/page/learn/events", "/page/state"):
        assert room.refusal("GET", path, Host="evil.example")[0] == 403
        assert room.refusal("GET", path, Origin="http://evil.example")[0] == 403
    assert room.refusal("POST", "/page/learn/stop", {}, Origin="null")[0] == 403
    assert room.refusal("POST", "/page/learn/stop", {}, **{"Content-Type": "text/plain"})[0] == 415
    assert room.words == words


def test_a_served_run_is_shown_but_has_no_brake(trained: Path, tmp_path: Path) -> None:
    model, tokenizer = octavo.load(trained)
    house = House(Served("run", Engine(model, tokenizer), run=trained), Served("bare", Engine(model, tokenizer)))
    try:
        told = house.ask("GET", "/page/learn")[1]
        assert len(told["metrics"]) == 100 and not told["running"]
        with closing(Stream(house.port)) as stream:
            events = stream.events()
            assert next(events) == ("state", {"running": False, "steps": 100})
            claim = Claim(trained)  # as a training has it that began elsewhere
            assert next(events) == ("state", {"running": True, "steps": 100})
            claim.release()
            assert next(events)[1]["running"] is False
        assert house.refusal("POST", "/page/learn/stop", {}) == (
            409,
            "no training belongs to this page; begin one with octavo train --page",
        )
        told = house.refusal("GET", "/page/learn?model=bare")
        assert told == (404, "bare has no training to look at; serve a run")
    finally:
        house.stop()


# the report


class Slowly:
    """Makes reports, each of which takes until it is let go."""

    def __init__(self) -> None:
        self.begun: SimpleQueue[Path] = SimpleQueue()
        self.made: list[Path] = []
        self.let_go = threading.Semaphore(0)

    def __call__(self, run: Path, device: str, on_event: Callable[[Event], None]) -> Any:
        self.begun.put(run)
        assert self.let_go.acquire(timeout=20)
        on_event(Preparing("reading", 1, 1))
        self.made.append(run)
        told = {"number": len(self.made)}
        return SimpleNamespace(to_dict=lambda: told)


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> Slowly:
    making = Slowly()
    monkeypatch.setattr("octavo.report.report", making)
    return making


def test_a_report_is_made_to_its_end_although_better_weights_come_meanwhile(copied: Room, slowly: Slowly) -> None:
    run = copied.training.run
    assert run is not None

    def told() -> Said:
        return copied.ask("GET", "/page/report")[1]

    def made() -> Said:
        slowly.let_go.release()
        while not (found := told())["ready"]:
            time.sleep(0.01)
        return found

    assert not told()["ready"] and slowly.begun.get(timeout=20) == run
    for better in (1, 2):
        os.utime(run / "model.safetensors", ns=(better, better))
        assert not told()["ready"]
    first = made()
    assert first["report"] == {"number": 1} and first["earlier"] and slowly.begun.empty()
    assert not told()["ready"] and slowly.begun.get(timeout=20) == run  # who asks again has another one made
    second = made()
    assert second["report"] == {"number": 2} and not second["earlier"]
    assert told() == second and slowly.begun.empty()


def test_a_service_that_ends_begins_no_report_and_ends_the_one_that_it_makes(
    trained: Path, tmp_path: Path, slowly: Slowly
) -> None:
    before, opened = threading.enumerate(), octavo.load(trained)
    shutil.copytree(trained, tmp_path / "other")
    runs = {"run": trained, "other": tmp_path / "other"}
    house = House(*(Served(name, Engine(*opened), run=run) for name, run in runs.items()))
    try:
        for name in runs:
            assert not house.ask("GET", f"/page/report?model={name}")[1]["ready"]
        assert slowly.begun.get(timeout=20) == trained
    finally:
        house.stop()
        slowly.let_go.release(len(runs))
    for thread in threading.enumerate():
        if thread not in before and thread.name.startswith("octavo report"):
            thread.join(20)
    assert slowly.begun.empty() and slowly.made == []


# a training with its page


@pytest.fixture
def port(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    with listen("127.0.0.1", 0) as free:
        found: int = free.getsockname()[1]
    monkeypatch.setattr(cli_page, "PORT", found)
    step = repeating.training_step

    def gently(*given: Any, **words: Any) -> Any:
        """As `GENTLY` has it."""
        time.sleep(0.02)
        return step(*given, **words)

    monkeypatch.setattr(repeating, "training_step", gently)
    return found


class Browser(Asking):
    """Somebody who looks at the page of a training, in a thread beside it."""

    def __init__(self, port: int, do: "Callable[[Browser], None]") -> None:
        self.port, self.error = port, None
        self.thread = threading.Thread(target=self._go, args=[do])
        self.thread.start()

    error: BaseException | None

    def _go(self, do: "Callable[[Browser], None]") -> None:
        try:
            do(self)
        except BaseException as error:
            self.error = error
            os.kill(os.getpid(), signal.SIGTERM)

    def leave(self) -> None:
        self.thread.join()
        assert self.error is None, self.error


def processes_begun() -> list[int]:
    return [int(word) for task in Path("/proc/self/task").iterdir() for word in (task / "children").read_text().split()]


@pytest.fixture
def children() -> Callable[[], list[int]]:
    """The processes that were begun since, and are there."""
    before = processes_begun()
    return lambda: [one for one in processes_begun() if one not in before]


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are found under /proc")


def test_stopped_by_the_page_and_gone_on_equals_never_stopped_bitwise(workplace: Path) -> None:
    asked = {**TINY, "steps": 80, "eval_every": 80}
    done = training.begin(["text.txt"], Asked(**asked), out="whole")
    list(done.events())
    words = ["train", "text.txt", "--out", "run", "--page", "--steps", "80", "--eval-every", "80", *WORDS]
    process = subprocess.Popen(
        [sys.executable, "-c", GENTLY, *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    with process, ended(process):
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("the page is at"))
        page = Asking()
        page.port = int(re.findall(r":(\d+)/learn", line)[0])
        page.await_step()
        assert page.ask("POST", "/page/learn/stop", {}) == (200, {"running": False})
        step = page.ask("GET", "/page/learn")[1]["metrics"][-1]["step"]
        assert 0 < step < 80 and steps_saved(Path("run"))[0] == step
        assert "the page can go on with it; Ctrl-C ends it\n" in process.stderr
        assert process.poll() is None
        assert page.ask("POST", "/page/learn/resume", {}) == (200, {"running": True})
        said = process.stderr.read()
        assert process.wait(60) == 0
    assert f"run after step {step} of 80" in said and "finished after 80 steps" in said
    one, other = (load_file(checkpoint_folder(Path(run), 80) / "state.safetensors") for run in ("whole", "run"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(OSError):
        page.ask("GET", "/health")


@needs_proc
def test_a_page_that_is_killed_harms_nothing_and_ctrl_c_ends_the_training(
    port: int, capsys: pytest.CaptureFixture[str], children: Callable[[], list[int]]
) -> None:
    def kill(browser: Browser) -> None:
        browser.await_step()
        (page,) = children()
        os.kill(page, signal.SIGKILL)
        step = len(Path("run/metrics.jsonl").read_text().splitlines())
        while len(Path("run/metrics.jsonl").read_text().splitlines()) < step + 20:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    browser = Browser(port, kill)
    status = command(["train", "text.txt", "--out", "run", "--page", "--steps", "100000", *WORDS])
    browser.leave()
    said = capsys.readouterr().err
    assert status == 130 and "the page has ended; the training does without it" in said
    assert "stopped and saved after" in said and not children()


@needs_proc
@pytest.mark.parametrize("waiting", [False, True], ids=["running", "waiting"])
def test_a_signal_ends_both_processes_and_who_looks_on_is_told(
    port: int, capsys: pytest.CaptureFixture[str], children: Callable[[], list[int]], waiting: bool
) -> None:
    told: list[bool] = []

    def end(browser: Browser) -> None:
        browser.await_step()
        if waiting:
            assert browser.ask("POST", "/page/learn/stop", {}) == (200, {"running": False})
        with closing(Stream(port)) as stream:
            os.kill(os.getpid(), signal.SIGTERM)
            told.extend(said["running"] for kind, said in stream.events() if kind == "state")

    browser = Browser(port, end)
    status = command(["train", "text.txt", "--out", "run", "--page", "--steps", "100000", *WORDS])
    browser.leave()
    assert status == 143 and not children()
    assert steps_saved(Path("run")) and told[-1] is False


def test_what_is_finished_stays_while_somebody_looks_on_at_a_terminal(
    port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_page, "on_terminal", lambda: True)
    monkeypatch.setattr(cli_page, "on_screen", lambda: False)

    def look_on(browser: Browser) -> None:
        browser.await_step()
        with closing(Stream(port)) as stream:
            assert any(said == {"running": False, "steps": 80} for _, said in stream.events())
            assert browser.refusal("POST", "/page/learn/resume", {})[0] == 409
            os.kill(os.getpid(), signal.SIGINT)

    browser = Browser(port, look_on)
    status = command(["train", "text.txt", "--out", "run", "--page", "--steps", "80", "--eval-every", "80", *WORDS])
    browser.leave()
    assert status == 0 and "the page stays; Ctrl-C ends it" in capsys.readouterr().err


def test_what_is_finished_stays_for_whoever_is_between_two_rooms(
    port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_page, "on_terminal", lambda: True)
    monkeypatch.setattr(cli_page, "on_screen", lambda: False)
    monkeypatch.setattr(cli_page, "MOMENT", 20.0)

    def change_rooms(browser: Browser) -> None:
        browser.await_step()
        with closing(Stream(port)) as stream:
            assert any(said.get("step", 0) >= 70 for _, said in stream.events())
        while browser.ask("GET", "/page/state")[1]["training"]["running"]:
            time.sleep(0.01)
        with closing(Stream(port)) as stream:
            assert next(stream.events())[1]["running"] is False
            said = ""
            while "the page stays; Ctrl-C ends it" not in said:
                said += capsys.readouterr().err
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

    browser = Browser(port, change_rooms)
    status = command(["train", "text.txt", "--out", "run", "--page", "--steps", "80", "--eval-every", "80", *WORDS])
    browser.leave()
    assert status == 0


def test_a_port_that_is_taken_is_passed_over(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", port):
        lines: list[str] = []
        with cli_page.Page(lines.append, port):
            while not lines:
                time.sleep(0.01)
    (line,) = lines
    assert re.fullmatch(r"the page is at http://127.0.0.1:\d+/learn", line) and f":{port}/" not in line


def test_a_page_that_cannot_start_is_one_line(monkeypatch: Any) -> None:
    lines: list[str] = []
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with cli_page.Page(lines.append, 0) as page:
        assert not page.alive and not page.wait(finished=False)
    assert lines == ["the page could not be started: No such file or directory; the training does without it"]


def test_ctrl_c_on_windows_is_for_the_training_and_not_for_its_page(monkeypatch: Any) -> None:
    """There is no session there, but a group of processes, and only Python on Windows has a name for it."""
    given: dict[str, Any] = {}

    def start(words: list[str], **how: Any) -> None:
        given.update(how)
        raise OSError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    monkeypatch.setattr(subprocess, "Popen", start)
    with cli_page.Page([].append, 0):
        assert given["creationflags"] == 0x200


def test_the_page_of_a_training_needs_no_torch(trained: Path) -> None:
    """What is imported is told by Python itself, on standard error."""
    words = [sys.executable, "-X", "importtime", "-m", "octavo.server.page", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process, ended(process):
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        imported: list[str] = []
        reading = threading.Thread(target=lambda: imported.extend(process.stderr or []))
        reading.start()
        page = Asking()
        page.port = json.loads(process.stdout.readline())["port"]
        process.stdin.write(json.dumps({"run": str(trained), "state": "waiting"}) + "\n")
        process.stdin.flush()
        while page.ask("GET", "/page/state")[1]["training"] is None:
            time.sleep(0.01)
        assert len(page.ask("GET", "/page/learn")[1]["metrics"]) == 100
        with closing(Stream(page.port)) as stream:
            assert next(stream.events())[0] == "state"
            process.stdin.close()  # as when the training's process ends, however it does
            assert process.wait(20) == 0
        reading.join()
    names = {line.split("|")[-1].strip() for line in imported}
    assert "fastapi" in names and not any(name.split(".")[0] == "torch" for name in names)
