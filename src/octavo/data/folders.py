"""A folder is read as its text files, sorted by name, folders within folders too; what begins as none is counted."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from octavo.data.decoding import Errors, is_text, reading, shown
from octavo.errors import TextError


def text_files(folder: Path, errors: Errors, skipped: Counter[str]) -> list[Path]:
    """The text files below a folder in a fixed order; why others were passed over is counted in `skipped`.

    Raises `TextError` where there is none.
    """
    here: Counter[str] = Counter()
    files = [path for path in _walk(folder, here) if _wanted(path, errors, here)]
    skipped += here
    if not files:
        raise TextError(f"{shown(folder)} holds no text{describe(here)}; give a folder with text files in it")
    return files


def describe(skipped: Counter[str]) -> str:
    """What was passed over, in words.

    >>> describe(Counter({"hidden": 2, "binary or not UTF-8": 1})), describe(Counter({"hidden": 0}))
    (' (1 binary or not UTF-8, 2 hidden)', '')
    """
    parts = ", ".join(f"{count:,} {why}" for why, count in sorted(skipped.items()) if count)
    return f" ({parts})" if parts else ""


def _walk(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    seen = set()
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        if not path.is_dir():
            yield path
            continue
        try:
            with reading(shown(path)):
                status = path.stat()
                names = sorted((found.name for found in path.iterdir()), reverse=True)
        except TextError:
            if path == folder:
                raise
            skipped["unreadable"] += 1
            continue
        if (status.st_dev, status.st_ino) in seen:  # a link led back to a folder that was read already
            skipped["linked again"] += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        visible = [name for name in names if not name.startswith(".")]
        skipped["hidden"] += len(names) - len(visible)
        waiting.extend(path / name for name in visible)


def _wanted(path: Path, errors: Errors, skipped: Counter[str]) -> bool:
    why = _unwanted(path, errors)
    skipped.update([why] if why else [])
    return not why


def _unwanted(path: Path, errors: Errors) -> str | None:
    if not path.exists():
        return "broken links"
    if not path.is_file():
        return "special files"
    if not os.access(path, os.R_OK):
        return "unreadable"
    if not path.stat().st_size:
        return "empty"
    return None if is_text(path, errors) else "binary or not UTF-8"
