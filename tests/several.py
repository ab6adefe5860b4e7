"""What one of several processes does in a test, and how they are started.

A task is a function here that gets the processes and the task's own words, and returns plain values; the first process
writes them down.
"""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from octavo import cli, evaluation, learner, making, training
from octavo import parallel as parallel_
from octavo.checkpoint import save_checkpoint
from octavo.cli import run
from octavo.config import Asked, ModelConfig, RunConfig, TrainConfig
from octavo.data import Batches
from octavo.data.batches import cuts
from octavo.errors import OctavoError
from octavo.events import Note, Sampled, Stepped
from octavo.imagined import imagine
from octavo.learner import Learner
from octavo.making import make_model
from octavo.memory import give_back_memory
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.parallel import Replicated, Sharded, Spread
from octavo.parts import Parts, parts_of
from octavo.processes import ALONE, Processes, joined
from octavo.run import open_model, save_model
from octavo.spreading import spread_over
from octavo.step import training_step

SAMPLE_TOKENS = 8
BATCH, CONTEXT, VOCABULARY = 10, 8, 13  # ten rows are cut unevenly: 3, 2, 3, 2 for two processes and two pieces
SHAPES = {
    "gpt2": ModelConfig(vocab_size=VOCABULARY, context=CONTEXT, layers=1, heads=3, width=15),  # odd on purpose
    "modern": ModelConfig(
        dialect="modern", vocab_size=VOCABULARY, context=CONTEXT, layers=1, heads=2, kv_heads=1, width=20, tied=False
    ),
}


def model_of(dialect: str) -> GPT:
    torch.manual_seed(0)
    model = GPT(SHAPES[dialect]).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return model


def spread(model: GPT, way: str | None, processes: Processes) -> Spread:
    if way is None:
        return Spread(model, torch.float64)
    if way == "ddp":
        return Replicated(model, torch.float64, processes)
    over = Sharded(model, torch.float64, processes, model.embed.weight.device)
    over.gathered = way == "gathered"
    return over


def learned(
    dialect: str,
    optimizer: Any,
    pieces: int,
    steps: int,
    way: str | None = None,
    device: str = "cpu",
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Losses, gradients' lengths and the weights after so many steps, in float64."""
    train = TrainConfig(steps=steps, batch=BATCH, optimizer=optimizer, lr=0.01)
    over = spread(model_of(dialect).to(device), way, processes)
    optimizers = make_optimizers(over.model, train, over.weights, over.matrices)
    text = np.random.default_rng(0).integers(VOCABULARY, size=203)  # the last window of an epoch ignores some targets
    batches = Batches(text, CONTEXT, BATCH, seed=1)
    losses, norms = [], []
    for step in range(steps):
        own = cuts(BATCH, pieces * processes.size)
        mine = list(pairwise(own))[processes.rank :: processes.size]
        rows = [tuple(torch.from_numpy(part).to(device) for part in batches.rows(step, *cut)) for cut in mine]
        result = training_step(over.model, optimizers, rows, rate=1.0, clip=0.5, spread=over)
        losses.append(result.loss)
        norms.append(result.grad_norm)
    weights: dict[str, Any] = {}
    over.lend(lambda whole: weights.update({name: value.tolist() for name, value in parts_of(whole).weights.items()}))
    return {"losses": losses, "norms": norms, "weights": weights}


def learn(processes: Processes, cases: list[list[Any]]) -> list[dict[str, Any]]:
    """Several settings after one another."""
    return [learned(*case, processes=processes) for case in cases]


def heard_rows(real: Callable[..., Any], place: Path) -> Callable[..., Any]:
    """`Batches.rows`, which writes down what it gave."""

    def rows(self: Batches, step: int, start: int, stop: int) -> Any:
        found = real(self, step, start, stop)
        with place.open("a") as file:
            file.write(json.dumps([step, start, stop, [part.tolist() for part in found]]) + "\n")
        return found

    return rows


def go_on(
    processes: Processes, run: str, asked: dict[str, Any], parallel: Any, stop: int | None, heard: str
) -> list[float]:
    """Begin a training, or go on with it, and stop it after a step that one of the processes is asked in alone."""
    Batches.rows = heard_rows(Batches.rows, Path(f"{heard}-{processes.rank}"))  # type: ignore[method-assign]
    words: dict[str, Any] = {"processes": processes, "parallel": parallel}
    if asked:
        trainer = training.begin(["text.txt"], Asked(**asked), out=run, **words)
    else:
        trainer = training.resume(Path(run), Asked(), **words)
    losses = []
    for event in trainer.events():
        if isinstance(event, Stepped):
            losses.append(event.train_loss)
            if event.step == stop and processes.rank == processes.size - 1:
                trainer.stop()
    return losses


def memory(processes: Processes, way: str | None) -> float:
    """The most memory that this process took for three steps of AdamW, beside what a small model takes, in bytes."""
    heights = []
    for width in (64, 768):
        model = GPT(ModelConfig(vocab_size=64, context=8, layers=8, heads=4, width=width))
        over = Sharded(model, torch.float32, processes, torch.device("cpu")) if way else Spread(model)
        del model
        train = TrainConfig(steps=3, batch=2, optimizer="adamw")
        optimizers = make_optimizers(over.model, train, over.weights, over.matrices)
        tokens = torch.arange(8)[None] + processes.rank
        for _ in range(3):
            training_step(over.model, optimizers, [(tokens, tokens)], rate=1.0, clip=1.0, spread=over)
        heights.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0)
    return heights[1] - heights[0]


def begun(config: ModelConfig, processes: Processes) -> Parts:
    """A model to go on from, which the first process writes and all of them open."""
    if processes.first:
        torch.manual_seed(1)
        save_model(GPT(config), Path("begun"))
    processes.told()
    return open_model(Path("begun"), dtype=torch.float32)


def making_it(processes: Processes) -> list[str]:
    """The weights of models spread over processes that are not, to the bit, those of the same models in one."""
    odd = []
    shapes = (*SHAPES.values(), replace(SHAPES["modern"], tied=True))
    for shape, parallel, large in product(shapes, ("ddp", "fsdp"), (1, making.LARGE)):
        making.LARGE = large
        config = RunConfig(model=shape, train=TrainConfig(steps=3, batch=2))
        for start in (None, begun(shape, processes)):
            over, whole = spread_over(processes, config, parallel, start=start), make_model(config, start)
            written: dict[str, torch.Tensor] = {}
            over.lend(lambda parts, into=written: into.update(parts_of(parts).weights))  # type: ignore[misc]
            for name, weight in written.items():
                same = torch.equal(weight, whole.state_dict()[name])
                odd += [] if same else [f"{shape.dialect}: {name}"]
            x = torch.arange(CONTEXT)[None]
            found, expected = over.surprise(x, x, last=False).item(), Spread(whole).surprise(x, x, last=False).item()
            odd += [] if abs(found - expected) < 1e-5 * expected else [f"{shape.dialect}: {found} for {expected}"]
    return odd


def made(processes: Processes, start: bool) -> dict[str, int]:
    """The most bytes that a process takes while its part of a large model is made, and what it holds of it then."""
    train = TrainConfig(steps=3, batch=2)
    for width in (16, 640):  # the first one for what is loaded and kept for later
        shape = ModelConfig(dialect="modern", vocab_size=16 * width, context=8, layers=16, heads=8, width=width)
        config = RunConfig(model=shape, train=train)
        opened = begun(shape, processes) if start else None
        give_back_memory()
        before = _now("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the height is measured anew
        over = spread_over(processes, config, "fsdp", start=opened)
        taken = _now("VmHWM") - before
    sizes = [weight.nbytes for weight in imagine(shape).parameters()]
    part = sum(weight.nbytes for weight in over.weights.values())
    return {"taken": taken, "part": part, "largest": max(sizes), "whole": sum(sizes)}


def cramped(processes: Processes, run: str, asked: dict[str, Any], parallel: Any) -> list[str]:
    """What is told of a training whose last process has the memory for one row, and where blocks are computed again."""
    real, tried = learner.fits, []

    def fits(spread: Spread, config: RunConfig, optimizers: Any, rows: int) -> bool:
        tried.append(rows)
        if len(tried) == 1 and spread.gathered:  # when it is decided whether weights stay whole for a step
            return real(spread, config, optimizers, rows)
        return rows == 1 and config.train.recompute and real(spread, config, optimizers, rows)

    if processes.rank == processes.size - 1:
        learner.can_tell = lambda device: True  # type: ignore[attr-defined]
        learner.fits = fits  # type: ignore[attr-defined]
    trainer = training.begin(["text.txt"], Asked(**asked), out=run, processes=processes, parallel=parallel)
    return [event.text for event in trainer.events() if isinstance(event, Note)]


def writing(processes: Processes) -> dict[str, Any]:
    """What each process takes beside what it holds while a model in parts is written, and how much it holds of it."""
    for width in (16, 512):  # the first one for what is loaded and kept for later
        config = ModelConfig(dialect="modern", vocab_size=80 * width, context=8, layers=16, heads=8, width=width)
        model = GPT(config)
        sizes = [weight.nbytes for weight in model.state_dict().values()]
        over = Sharded(model, torch.float32, processes, torch.device("cpu"))
        del model
        before = _now("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the height is measured anew
        over.lend(lambda whole: save_model(whole, Path("written")))
        taken = _now("VmHWM") - before
    ranks = range(processes.size)
    each = [processes.summed(taken if rank == processes.rank else 0.0) for rank in ranks]
    return {"taken": each, "part": sum(weight.nbytes for weight in over.weights.values()), "largest": max(sizes)}


class Counted:
    """How often weights are put together, and gradients shared out, from now on."""

    def __init__(self) -> None:
        self.gathers = self.reductions = 0
        self._count("gathers", "all_gather_single", "all_gather_into_tensor")
        self._count("reductions", "reduce_scatter_single", "reduce_scatter_tensor")

    def _count(self, what: str, *names: str) -> None:
        name = next(name for name in names if hasattr(torch.distributed, name))  # PyTorch 2.13 has new ones
        real = getattr(torch.distributed, name)

        def exchange(*given: Any, **named: Any) -> Any:
            setattr(self, what, getattr(self, what) + 1)
            return real(*given, **named)

        setattr(torch.distributed, name, exchange)


def exchanges(processes: Processes) -> dict[str, list[int]]:
    """How often weights and gradients are exchanged in a step, not the first one, of one or several pieces."""
    found, counted = {}, Counted()
    for way, pieces in product(("fsdp", "gathered"), (1, 4)):
        over = spread(GPT(replace(SHAPES["modern"], layers=3)), way, processes)
        optimizers = make_optimizers(over.model, TrainConfig(steps=3, batch=2), over.weights, over.matrices)
        tokens = torch.arange(CONTEXT)[None]
        for _ in range(2):
            counted.gathers = counted.reductions = 0
            training_step(over.model, optimizers, [(tokens, tokens)] * pieces, rate=1.0, clip=1.0, spread=over)
        found[f"{way}, {pieces}"] = [counted.gathers, counted.reductions]
    return found


def speaking(processes: Processes, cases: list[tuple[Any, int]], asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What trainings write of which the last process has so much memory, and how often weights are put together.

    They read the held-out text row by row; it is told how many rows each time.
    """
    counted, found, real = Counted(), [], evaluation.evaluate
    reads: list[int] = []

    def evaluate(model: GPT, batches: Any, **given: Any) -> Any:
        rows = list(batches)
        reads.append(len(rows))
        return real(model, rows, **given)

    evaluation.rows_at_once, evaluation.evaluate = lambda *sizes: 1, evaluate  # type: ignore[assignment]
    for parallel, free in cases:
        memory = 2**50 if processes.rank < processes.size - 1 else free
        parallel_.free_on = lambda device, memory=memory: memory  # type: ignore[attr-defined,misc]
        trainer = training.begin(
            ["text.txt"], Asked(**asked), out=f"{parallel}-{free}", processes=processes, parallel=parallel
        )
        counted.gathers = 0
        reads.clear()
        written = [event.text for event in trainer.events() if isinstance(event, Sampled)]
        found.append({"written": written, "gathers": counted.gathers, "reads": [*reads]})
    return found


def hushed(processes: Processes, asked: dict[str, Any]) -> list[str]:
    """What a training in parts writes of which the last process is asked to stop in the middle of a sample."""
    words: dict[str, Any] = {"processes": processes, "parallel": "fsdp"}
    trainer, real = training.begin(["text.txt"], Asked(**asked), out="hushed", **words), evaluation.generate

    def generate(*given: Any, **named: Any) -> Any:
        for number, step in enumerate(real(*given, **named)):
            if number == 3 and processes.rank == processes.size - 1:
                trainer.stop()
            yield step

    evaluation.generate = generate  # type: ignore[assignment]
    before = [event for event in trainer.events() if isinstance(event, Sampled)]
    evaluation.generate = real
    assert not before and trainer.at.due is not None
    trainer = training.resume(Path("hushed"), Asked(), processes=processes)
    assert trainer.spread.way == "fsdp"  # as before, without being asked
    return [event.text for event in trainer.events() if isinstance(event, Sampled)]


def choking(processes: Processes, asked: dict[str, Any]) -> None:
    """A training in parts whose last process fails in the middle of a sample, while others wait for its weights."""
    parallel_.free_on = lambda device: 0  # type: ignore[attr-defined]
    trainer = training.begin(["text.txt"], Asked(**asked), out="choked", processes=processes, parallel="fsdp")
    real = evaluation.generate

    def generate(*given: Any, **named: Any) -> Any:
        for number, step in enumerate(real(*given, **named)):
            if number == 3 and processes.rank == processes.size - 1:
                raise OctavoError("choked")
            yield step

    evaluation.generate = generate  # type: ignore[assignment]
    list(trainer.events())


def saving(processes: Processes) -> dict[str, Any]:
    """How much each process copies for a checkpoint of what all have; what each says where the last one's is broken."""
    over, copied, real = spread(model_of("modern"), "ddp", processes), [], torch.Tensor.cpu
    torch.Tensor.cpu = lambda tensor: copied.append(tensor) or real(tensor)  # type: ignore[assignment,func-returns-value]
    save_checkpoint(Path("run"), 1, over.model, [], {}, over)
    if processes.rank == processes.size - 1:
        with torch.no_grad():
            over.model.embed.weight[2, 3] = float("nan")
    said = ""
    try:
        save_checkpoint(Path("run"), 2, over.model, [], {}, over)
    except OctavoError as error:
        said = str(error)
    ranks = range(processes.size)
    each = [processes.summed(len(copied) if rank == processes.rank else 0.0) for rank in ranks]
    failed = processes.summed(float(bool(said)))
    return {"copied": each, "said": said, "failed": failed}


def _now(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def command(words: list[str], stop: int | None = None, *, apart: bool = False, last: list[str] | None = None) -> int:
    """The command line, in each process; after a step the last one alone is asked to end, or it sees other files.

    It may be started with other words, too.
    """
    real = Learner.learn
    if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
        words = last or words
        if apart:
            Path("apart").mkdir()
            os.chdir("apart")

    def learn(self: Learner, step: int, *given: Any) -> Any:
        if step == stop and self.processes.rank == self.processes.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, step, *given)

    Learner.learn = learn  # type: ignore[method-assign]
    return run(words)


class Nursery:
    """Starts processes that have all they need in memory already, where loading it would take longer than their task.

    A program that has loaded it is forked for each of them. They are told what torchrun would tell them.
    """

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.program = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(self, count: int, task: str, **words: Any) -> Any:
        """Have so many processes do a task here, and give what the first one found."""
        *_, found = self.outcome(count, task, **words)
        return found

    def outcome(self, count: int, task: str, *, fails: bool = False, **words: Any) -> tuple[list[int], list[str], Any]:
        """The same with the exit status of each, and what each said."""
        assert self.program.stdin is not None and self.program.stdout is not None
        asked = {"count": count, "task": task, "words": words, "home": os.environ["OCTAVO_HOME"]}
        self.program.stdin.write(json.dumps({**asked, "where": str(Path.cwd())}) + "\n")
        self.program.stdin.flush()
        statuses = json.loads(self.program.stdout.readline())
        said = [_log(rank).read_text() for rank in range(count)]
        assert fails or not any(statuses), "\n".join(said)[-5000:]
        return statuses, said, None if fails else json.loads(Path("found.json").read_text())

    def close(self) -> None:
        """No more are needed."""
        self.program.communicate(timeout=60)


def _log(rank: int) -> Path:
    return Path(f"said-{rank}")


def _forked(asked: dict[str, Any]) -> list[int]:
    """The exit status of each process, once all have ended; where one fails, the others have a while to do so too."""
    os.chdir(asked["where"])
    with socket.socket() as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # it is kept for whoever says the same
        port.bind(("127.0.0.1", 0))
        left = {_fork(rank, port.getsockname()[1], **asked): rank for rank in range(asked["count"])}
        statuses, end = [0] * len(left), float("inf")
        while left:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child:
                statuses[left.pop(child)] = os.waitstatus_to_exitcode(status)
                end = time.monotonic() + 20 if any(statuses) else end
            elif time.monotonic() > end:
                for child in left:
                    os.kill(child, signal.SIGKILL)
            else:
                time.sleep(0.01)
    return statuses


def _fork(rank: int, port: int, count: int, task: str, words: dict[str, Any], home: str, where: str) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        log = os.open(_log(rank), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
        os.environ |= {**{name: str(value) for name, value in told.items()}, "MASTER_ADDR": "localhost"}
        os.environ["OCTAVO_HOME"] = home
        status = _work(rank, task, words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _work(rank: int, task: str, words: dict[str, Any]) -> int:
    if task == "command":
        return command(**words)
    with joined() as these:
        found = globals()[task](these, **words)
    if rank == 0:
        Path("found.json").write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    import torch.distributed.fsdp

    torch.set_num_threads(1)
    evaluation.SAMPLE_TOKENS = SAMPLE_TOKENS
    cli.TURN = 0.0  # nobody ends them as soon as one has ended
    for line in sys.stdin:
        print(json.dumps(_forked(json.loads(line))), flush=True)
