"""Writing so that what was called saved is there, whatever happens: written beside its target, synced, then renamed."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from octavo.errors import DamagedError, SaveError

MANIFEST = "manifest.json"


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Whatever keeps a file from being written becomes one line with its path; a half-written one is left behind."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise SaveError(f"{path} could not be written: {reason}; what was saved before is untouched") from error


def sync(path: Path) -> None:
    """Have the operating system bring a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file as a whole or not at all."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)

    replace_file(path, write)


def replace_file(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file beside its target, then put it in the target's place."""
    temporary = path.with_name(path.name + ".tmp")
    with saving(path):
        write(temporary)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside its target, seal it with a manifest, then rename it into its place.

    Raises `SaveError` with the path and the reason; the target then is what it was before.
    """
    temporary = target.with_name(target.name + ".tmp")
    with saving(target):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write(temporary)
        seal(temporary)
        if target.exists():  # saved before, by a training that was stopped and came to this step again
            shutil.rmtree(target)
        temporary.replace(target)
        sync(target.parent)


def seal(folder: Path) -> None:
    """Write down the size and the sha256 of every file of a folder, everything synced first."""
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    for path in files:
        sync(path)
    facts = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files}
    (folder / MANIFEST).write_text(json.dumps({"files": facts}, indent=1) + "\n")
    sync(folder / MANIFEST)
    sync(folder)


def verify(folder: Path) -> None:
    """Raise `DamagedError` unless every file of a sealed folder is, byte for byte, what its manifest says."""
    for name, facts in _manifest(folder).items():
        path = folder / name
        if not path.is_file():
            raise DamagedError(f"{path} is missing; the manifest names it")
        if path.stat().st_size != facts["bytes"]:
            raise DamagedError(f"{path} has {path.stat().st_size} bytes; its manifest says {facts['bytes']}")
        if sha256(path) != facts["sha256"]:
            raise DamagedError(f"{path} is damaged: its sha256 is not the manifest's")


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        files = json.loads((folder / MANIFEST).read_bytes())["files"]
        wellformed = all(set(facts) == {"bytes", "sha256"} and Path(name).name == name for name, facts in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{folder} has no manifest that can be read: {error}") from error
    if not wellformed:
        raise DamagedError(f"the manifest of {folder} does not list sizes and hashes of files")
    return files


def sha256(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
