"""The folder of a training before its first step: whether it may begin there, and what it clears away."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from octavo import toml
from octavo.checkpoint import room_needed
from octavo.claim import Claim, claimed
from octavo.config import RunConfig
from octavo.disk import write_file
from octavo.errors import RunError, SaveError
from octavo.places import check_name, find_model, is_run
from octavo.porting import SAVED
from octavo.run import GENERATION, TOKENIZER
from octavo.tokenizers import Tokenizer


def check_free(run: Path, *, force: bool) -> None:
    """Raise `RunError` unless a training may write into this folder."""
    check_name(run, "--out")
    if run.exists() and not run.is_dir():
        raise RunError(f"{run} is a file; give --out a folder")
    if is_run(run) and not force:
        raise RunError(f"{run} already holds a run; go on with --resume {run}, or overwrite it with --force")
    if run.is_dir() and not is_run(run) and any(run.iterdir()):
        raise RunError(f"{run} holds other files; give --out a new folder")


def check_unclaimed(run: Path) -> None:
    """Raise `RunError` where another training writes into this folder: before a text is read for nothing."""
    if claimed(run):
        Claim(run).release()


def check_room(run: Path, config: RunConfig, parameters: int) -> None:
    """Raise `SaveError` where the disk has no room for what this training will save."""
    needed, free = room_needed(parameters, adamw=config.train.optimizer == "adamw"), shutil.disk_usage(run).free
    if needed > free:
        raise SaveError(
            f"{run} will take up to {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free there; "
            "make room, or give --out on another disk"
        )


@contextmanager
def leaving_no_folder(run: Path) -> Iterator[None]:
    """A folder that was not there before is gone again where nothing comes of the training, and nothing is in it."""
    new = not run.exists()
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if new:
                run.rmdir()
        raise


def begin_anew(run: Path, config: RunConfig, tokenizer: Tokenizer) -> None:
    """Write down what a training is, and remove what an earlier one left in its folder.

    The model that it goes on from stays, if it is here: until the training has saved its weights, there are no others.
    """
    stays = goes_on_from(run, config)
    write_file(run / toml.NAME, toml.dump(config))  # first: whatever stands beside it from now on is known by it
    if not stays:  # what a new text would be read by, if this were ended now
        (run / TOKENIZER).unlink(missing_ok=True)
    for name in ("checkpoints", "snapshots", "tensorboard"):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in ("metrics.jsonl", "samples.jsonl", "loss.svg", *(() if stays else SAVED)):
        (run / name).unlink(missing_ok=True)
    tokenizer.save(run, context=config.model.context)
    if tokenizer.more_ends:
        write_file(run / GENERATION, json.dumps({"eos_token_id": tokenizer.ends}) + "\n")  # until there are weights


def goes_on_from(run: Path, config: RunConfig) -> bool:
    """Whether what a training begins with is what stands in this folder."""
    if config.train.start is None:
        return False
    with suppress(RunError):
        return find_model(config.train.start).resolve() == run.resolve()
    return False
