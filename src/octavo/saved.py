"""What a run has saved, and what each checkpoint says of itself: read without torch, by whoever asks."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from octavo.disk import OLD, aside, read_json, verify
from octavo.errors import DamagedError

FACTS = "training.json"


def steps_saved(run: Path) -> list[int]:
    """The steps whose state stands in this run, newest first."""
    folder = run / "checkpoints"
    names = [path.name.removesuffix(OLD) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted({int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d+)", name))}, reverse=True)


def snapshots(run: Path) -> list[int]:
    """The steps whose weights were kept for the lenses, in their order."""
    names = [path.name for path in (run / "snapshots").glob("step-*.safetensors")]
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r"step-(\d+)\.safetensors", name)))


def snapshot_file(run: Path, step: int) -> Path:
    """Where the weights of this step are kept for the lenses, if they are."""
    return run / "snapshots" / f"step-{step}.safetensors"


def target_folder(run: Path, step: int) -> Path:
    """Where the state after this step is to stand."""
    return run / "checkpoints" / f"step-{step}"


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the state after this step stands; where its replacement was interrupted, that is the one put aside."""
    folder = target_folder(run, step)
    return aside(folder) if aside(folder).exists() and not folder.exists() else folder


def read_facts(folder: Path, *, hashed: bool = True) -> dict[str, Any]:
    """What a checkpoint says of itself, its files verified first, or their sizes. Raises `DamagedError`."""
    verify(folder, hashed=hashed)
    return read_json(folder / FACTS)


def newest_facts(run: Path, *, hashed: bool = True) -> dict[str, Any] | None:
    """What the newest checkpoint that is whole says of itself; `None` where none is."""
    for step in steps_saved(run):
        with suppress(DamagedError):
            return read_facts(checkpoint_folder(run, step), hashed=hashed)
    return None


def written_at(place: Path) -> int:
    """When the weights of a run, or of a file, were written last: a training writes better ones now and then.

    Before the first it is how many were kept to look back at.
    """
    try:
        return (place / "model.safetensors" if place.is_dir() else place).stat().st_mtime_ns
    except OSError:
        return len(snapshots(place))
