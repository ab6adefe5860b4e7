"""A training from Python, begun or gone on with, to its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from octavo import training
from octavo.config import Asked
from octavo.cutting import Listener, ignore
from octavo.errors import UserError
from octavo.places import find_run
from octavo.plain import from_dict
from octavo.trainer import Trainer


def train(
    *texts: str | Path, out: str | Path | None = None, force: bool = False, on_event: Listener = ignore, **asked: Any
) -> Path:
    """Train a GPT on files, folders or a named corpus, and return the folder of the run.

    Takes the words of the command line that say what is learned, `--from` as `start`: `octavo.train("book.txt",
    minutes=10)`. `on_event` is called with all that happens, each a value of `octavo.events`: a `Stepped` with its
    loss, an `Evaluated`, a `Saved`; `print` shows them. PyTorch's random numbers go on afterwards as if nothing had
    been; meanwhile no other thread may draw any, nor train, for all threads share them. Raises what `training.begin`
    raises.
    """
    if not texts:
        raise UserError("there is no text to learn from; name one: octavo.train('book.txt')")
    with _by_itself(everywhere=asked.get("device") != "cpu"):
        trainer = training.begin([*map(str, texts)], from_dict(Asked, asked), out=out, force=force, on_event=on_event)
        return _to_its_end(trainer, on_event)


def resume(
    run: str | Path | None = None, *, allow_mismatch: bool = False, on_event: Listener = ignore, **asked: Any
) -> Path:
    """Go on with a run, given by its folder or its name, exactly where it stopped; return its folder.

    Takes `minutes`, that many more, or `steps`, so many in all, for one that is finished or is to end elsewhere:
    `octavo.resume("runs/book-1", minutes=10)`. Without a run it is the newest here. `on_event` is that of `train`.
    Raises what `training.resume` raises.
    """
    with _by_itself(everywhere=True):
        trainer = training.resume(
            find_run(None if run is None else str(run)),
            from_dict(Asked, asked),
            allow_mismatch=allow_mismatch,
            on_event=on_event,
        )
        return _to_its_end(trainer, on_event)


def _to_its_end(trainer: Trainer, on_event: Listener) -> Path:
    for event in trainer.events():
        on_event(event)
    return trainer.run


@contextmanager
def _by_itself(*, everywhere: bool) -> Iterator[None]:
    """Learn whatever PyTorch was told to take numbers for and to leave out, and give all of that back as it was.

    So its random numbers are, of a CPU or also of the GPU that is used.
    """
    gpus = [torch.cuda.current_device()] if everywhere and torch.cuda.is_available() else []
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.random.fork_rng(gpus), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(usual)
