"""Models from elsewhere, opened wherever they lie, and octavo's own written for others: read back, then called good."""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from octavo import toml
from octavo.data.weights import WEIGHTS, fetch_weights
from octavo.disk import drafted
from octavo.errors import RunError
from octavo.events import Event, Preparing
from octavo.hub import fetch_from_hub, is_hub_name
from octavo.places import RUNS, check_name, find_run, is_run, is_there
from octavo.run import open_folder, save
from octavo.tensors_file import check_float

if TYPE_CHECKING:
    from octavo.model import GPT
    from octavo.parts import Parts
    from octavo.tokenizers import Tokenizer

Listener = Callable[[Event], None]
KNOWN = f"a model of the hub (Qwen/Qwen3-0.6B) or {' or '.join(WEIGHTS)}"
SAVED = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def ignore(event: Event) -> None:
    """Listen to nothing."""


def load(where: Path | str, *, dtype: torch.dtype | None = None, step: int | None = None) -> "tuple[GPT, Tokenizer]":
    """Open a run by its place or its name, a folder that Hugging Face wrote, a GGUF file, or a model of the hub.

    The weights keep the dtype that they are stored in, and rounded ones of a GGUF file become bfloat16, unless another
    is given. With `step` a run's model is as it was after that one, of the steps whose weights a training keeps.
    Raises `RunError` where it is nothing that octavo opens or kept no such weights, `DamagedError` where a file is not
    what it says, `DownloadError` where the hub does not answer.
    """
    if step is not None:
        from octavo.checkpoint import open_kept  # which loads what a training takes

        check_float(dtype)
        model, tokenizer = open_kept(_by_name(Path(where)), step)
        return model.to(dtype or torch.float32), tokenizer
    parts, tokenizer = open_parts(where, dtype=dtype)
    return parts.whole(), tokenizer


def open_parts(
    where: Path | str, *, dtype: torch.dtype | None = None, exact: bool = False
) -> "tuple[Parts, Tokenizer]":
    """The same with all weights still where they are stored; `exact` has each read as what holds it without loss."""
    check_float(dtype)
    path = Path(where)
    if path.is_file():
        from octavo.gguf_reading import open_gguf  # which loads gguf, for a tenth of a second

        return open_gguf(path, dtype=dtype, exact=exact)
    folder = fetch_from_hub(str(where)) if _is_of_hub(str(where)) else _by_name(path)
    return open_folder(folder, dtype=dtype, exact=exact)


def _by_name(path: Path) -> Path:
    """A folder by its place; where it is none, and a name alone, the run of that name."""
    return find_run(path.name) if str(path) == path.name and not is_there(path) else path


def bring(
    where: str,
    *,
    to: Path | None = None,
    dtype: torch.dtype | None = None,
    force: bool = False,
    on_event: Listener = ignore,
) -> Path:
    """Make a run of a model from elsewhere: a folder, a GGUF file, a name of the hub or of octavo's own table.

    Raises `RunError` where the run is there already and `force` is not given, and where the folder holds what no import
    wrote; and what `load` raises.
    """
    if not is_name(where) and not is_there(Path(where)):
        near = get_close_matches(where, WEIGHTS, n=1)
        if near:
            raise RunError(f"{where} is nothing here; the name nearest to it is {near[0]}")
        raise RunError(f"{where} does not exist; name a folder that Hugging Face wrote, a .gguf file, {KNOWN}")
    run = to or RUNS / stem(where)
    _check_target(run, force)
    source = fetch_weights(where, on_event=on_event) if where in WEIGHTS and not Path(where).exists() else where
    on_event(Preparing(f"reading {source}", 0, 0))
    parts, tokenizer = open_parts(source, dtype=dtype)
    with drafted(run.resolve()) as draft:  # where a link leads to, which stays
        origin = where if is_name(where) else Path(where).name
        save(parts, tokenizer, draft, origin=origin, on_progress=told(f"writing {run}", on_event))
    return run


def _check_target(run: Path, force: bool) -> None:
    check_replaceable(run, "--to")
    if run.exists() and not run.is_dir():
        raise RunError(f"{run} is a file; give --to a folder")
    if is_run(run) and not force:
        raise RunError(f"{run} is there already; use it as it is, or overwrite it with --force")
    if (run / toml.NAME).is_file():
        raise RunError(f"{run} is a training, which an import does not overwrite; give --to another folder")
    held = {path.name for path in run.iterdir()} if run.is_dir() else set()
    if held and (not is_run(run) or not held <= SAVED):
        raise RunError(f"{run} holds other files; give --to a new folder")


def check_replaceable(target: Path, flag: str) -> None:
    """Raise `RunError` for a place that nothing can replace: a name too long, the root of a disk, where one stands."""
    check_name(target, flag)
    place = target.resolve()  # for "." says of itself that it is its own parent, as only a root is
    if place.is_mount() or Path.cwd().is_relative_to(place):
        what = "the root of a disk" if place.is_mount() else "the folder that you are in"
        raise RunError(f"{target} is {what}, which nothing can replace; give {flag} a folder in it")


def told(what: str, on_event: Listener) -> Callable[[int, int], None]:
    """Have a listener know how far something is."""
    return lambda done, total: on_event(Preparing(what, done, total))


def is_name(where: str) -> bool:
    """Whether this is a name that others know too, and no place on this disk."""
    return where in WEIGHTS or _is_of_hub(where)


def _is_of_hub(where: str) -> bool:
    """A run that is not there is a slip of the finger, for which nobody waits for the hub."""
    return is_hub_name(where) and not where.startswith(f"{RUNS.name}/")


def stem(where: str) -> str:
    """What a model is called here, by where it comes from.

    >>> stem("Qwen/Qwen3-0.6B"), stem("models/my.model.Q8_0.gguf"), stem("smollm2")
    ('Qwen3-0.6B', 'my.model.Q8_0', 'smollm2')
    """
    path = Path(where)
    return (path.stem if path.suffix.lower() == ".gguf" else path.name) or "model"
