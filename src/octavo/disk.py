"""Writing so that what was called saved is there, whatever happens: written beside its target, synced, then renamed."""

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from octavo.errors import DamagedError, SaveError

MANIFEST, OLD = "manifest.json", ".old"
TRIES, MOMENT = 100, 0.05  # how often a reader is waited for, and for how many seconds each time
JSON_BYTES = 64_000_000  # more than any index; a config has a thousand


@contextmanager
def saving(path: Path, size: int | None = None) -> Iterator[None]:
    """Whatever keeps a file from being written becomes one line with its path, and with its size where that is known.

    safetensors has an error of its own, which names the operating system's by its number.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        reason = os.strerror(int(number[1])) if number else getattr(error, "strerror", None) or str(error)
        takes = "" if size is None else f"it takes {size:,} bytes; "
        raise SaveError(f"{path} could not be written: {reason}; {takes}what was saved before is untouched") from error


def sync(path: Path) -> None:
    """Have the operating system bring a file's bytes, or a folder's names, to the disk.

    Windows opens no folder, and brings there only what was opened to be written.
    """
    windows = sys.platform == "win32"
    if windows and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing; when this returns, all their names are on the disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


@contextmanager
def made_folder(target: Path) -> Iterator[None]:
    """The folder that something is to stand in; where that comes to nothing, those made for it go again.

    Raises `SaveError` with the path and the reason.
    """
    missing = [path for path in target.parents if not path.exists()]
    try:
        with saving(target):
            make_folder(target.parent)
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):  # somebody else has put something there
                path.rmdir()
        raise


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file as a whole or not at all."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)

    replace_file(path, write, size=len(content.encode() if isinstance(content, str) else content))


def replace_file(path: Path, write: Callable[[Path], None], *, size: int | None = None) -> None:
    """Let `write` make a file beside its target, then put it in the target's place.

    Raises `SaveError` with the path and the reason; the target then is what it was before, and nothing is beside it.
    """
    with saving(path, size), drafted(path, size) as temporary:
        write(temporary)
        temporary.chmod(_usual_mode())
        sync(temporary)


def write_folder(target: Path, write: Callable[[Path], None], *, size: int | None = None) -> None:
    """Let `write` fill a folder beside its target, seal it with a manifest, then rename it into its place.

    Raises `SaveError` with the path and the reason; the target then is what it was before, and nothing is beside it.
    """
    with saving(target, size):
        make_folder(target.parent)
        with drafted(target, size) as temporary:
            temporary.mkdir()
            write(temporary)
            seal(temporary)


@contextmanager
def drafted(target: Path, size: int | None = None) -> Iterator[Path]:
    """A place beside the target to write a file or a folder to, which takes the target's place when all went well.

    Else it is removed, and the target is what it was. A folder that is replaced is put aside until the new one stands.
    Raises `SaveError` where the target cannot be replaced.
    """
    draft = drafted_at(target)
    _remove(draft)
    try:
        yield draft
        with saving(target, size):
            if draft.is_dir() and target.is_dir():  # a file never takes a folder's place
                _remove(aside(target))
                put(target, aside(target))
                sync(target.parent)
            put(draft, target)
            sync(target.parent)
        _remove(aside(target))
    finally:
        if aside(target).exists() and not target.exists():
            put(aside(target), target)
        _remove(draft)


def put(place: Path, target: Path) -> None:
    """Rename a file or a folder, over what a file finds there.

    Windows refuses that while somebody has one of them open: who only reads is waited for, as a page or a scanner.
    """
    for left in reversed(range(TRIES if sys.platform == "win32" else 1)):
        try:
            place.replace(target)
            return
        except PermissionError:
            if not left:
                raise
            time.sleep(MOMENT)


def drafted_at(target: Path) -> Path:
    """Where a file or a folder is written before it takes its place."""
    return target.with_name(target.name + ".tmp")


@lru_cache
def _usual_mode() -> int:
    """Who may read a new file here: safetensors asks nobody, and lets none but its owner."""
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask


def aside(target: Path) -> Path:
    """Where a folder stands that is about to be replaced: it counts until the new one is in its place."""
    return target.with_name(target.name + OLD)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # a disk that takes no changes says so when it is written to
            path.unlink()


def seal(folder: Path) -> None:
    """Write down the size and the sha256 of every file of a folder, everything synced first."""
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    for path in files:
        path.chmod(_usual_mode())
        sync(path)
    facts = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files}
    (folder / MANIFEST).write_text(json.dumps({"files": facts}, indent=1))  # without its last sign it is no JSON
    sync(folder / MANIFEST)
    sync(folder)


def verify(folder: Path, *, hashed: bool = True) -> None:
    """Raise `DamagedError` unless every file of a sealed folder is, byte for byte, what its manifest says.

    Where that was seen a moment ago, names and sizes may be enough: it need not be `hashed` again.
    """
    listed = _manifest(folder)
    for path in folder.iterdir():
        if path.name not in listed and path.name != MANIFEST:
            raise DamagedError(f"{path} is not in the manifest; it was not saved with the rest")
    for name, facts in listed.items():
        path = folder / name
        if not path.is_file():
            raise DamagedError(f"{path} is missing; the manifest names it")
        if path.stat().st_size != facts["bytes"]:
            raise DamagedError(f"{path} has {path.stat().st_size} bytes; its manifest says {facts['bytes']}")
        if hashed and sha256(path) != facts["sha256"]:
            raise DamagedError(f"{path} is damaged: its sha256 is not the manifest's")


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        files = read_json(folder / MANIFEST).get("files")
    except DamagedError as error:
        raise DamagedError(f"{folder} has no manifest that can be read: {error}") from error
    if not isinstance(files, dict) or not all(_listed(name, facts) for name, facts in files.items()):
        raise DamagedError(
            f"{folder} has no manifest that can be read: it does not list sizes and hashes of files of its folder"
        )
    return files


def _listed(name: str, facts: Any) -> bool:
    """Whether an entry names a file of this very folder, with its size and hash."""
    named = name == Path(name).name and "\x00" not in name
    return named and isinstance(facts, dict) and set(facts) == {"bytes", "sha256"}


def sha256(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object.

    Raises `DamagedError` for anything doubtful: a key that stands twice, NaN, great size or depth.
    """
    try:
        if path.stat().st_size > JSON_BYTES:
            raise DamagedError(f"{path} is larger than {JSON_BYTES} bytes; it is not what its name says")
        return json_object(path.read_bytes().decode())
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} cannot be read: {error}; copy it again") from error


def json_object(text: str) -> dict[str, Any]:
    """The one object that a text holds as JSON; raises `ValueError` for anything doubtful."""
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        times = Counter(key for key, _ in pairs)
        raise ValueError(f"it has the key {next(key for key in times if times[key] > 1)!r} twice")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which JSON does not have")
