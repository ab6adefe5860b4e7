"""Where runs and caches live, and how a run is found by its name."""

import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from errno import ENAMETOOLONG
from pathlib import Path

from octavo.errors import RunError
from octavo.names import few, nearest

RUNS = Path("runs")
FETCHED = ("smollm2",)  # the models of octavo.data.weights
LONGEST, SHOWN = 100, 40  # bytes of a text's name in its run's, and signs that are shown of one that is too long


def home() -> Path:
    """octavo's own folder: `$OCTAVO_HOME`, else `~/.octavo`. Raises `RunError` for a user that has no home."""
    try:
        return Path(os.environ.get("OCTAVO_HOME") or Path.home() / ".octavo")
    except RuntimeError:  # a number without a name, as in containers
        raise RunError("this user has no home to keep things in; set OCTAVO_HOME to a folder") from None


def cache() -> Path:
    """What can be made or fetched again: corpora and encoded texts."""
    return home() / "cache"


def is_run(folder: Path) -> bool:
    """Whether there is a model in this folder, or a training that has not come to one yet."""
    return any((folder / name).is_file() for name in ("config.json", "octavo.toml"))


def is_there(path: Path) -> bool:
    """Whether there is something at this path; a text that is longer than any name is nowhere."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno != ENAMETOOLONG:
            raise
        return False


def check_name(place: Path, flag: str) -> None:
    """Raise `RunError` for a place whose name is longer than any can be, which a flag gave."""
    try:
        place.exists()
    except OSError as error:
        if error.errno != ENAMETOOLONG:
            raise
        raise RunError(f"{flag} {str(place)[:SHOWN]}… is a name too long for a disk; give a shorter one") from None


def is_path(name: str) -> bool:
    """Whether this can only be meant as a place on the disk, be anything there or not.

    >>> is_path("runs/book-1"), is_path("~/book-1"), is_path("and/or"), is_path("/ 2"), is_path("Once")
    (True, True, False, False, False)
    """
    if name.split() != [name]:
        return False
    spelled = name.replace(os.sep, "/")  # on Windows another sign
    begins = spelled.startswith((f"{RUNS.name}/", "./", "../", "/", "~"))
    return begins or name.lower().endswith(".gguf") or ("/" in spelled and is_there(Path(name).parent))


def find_run(name: str | None) -> Path:
    """A run by its path, else by its name under `runs/`, else under octavo's home; without a name, the newest here.

    Raises `RunError` where there is none.
    """
    if name is None:
        return newest_run()
    for folder in (place / name for place in _places()):
        if is_there(folder) and is_run(folder):
            return folder
    if is_there(Path(name)):
        raise RunError(f"{name} is not a run: it holds no config.json; give the folder that a training wrote")
    raise RunError(f"no run {name}; {_what_else(name)}")


def _places() -> Iterator[Path]:
    yield from (Path(), RUNS)
    with suppress(RunError):
        yield home()


def _what_else(name: str) -> str:
    """What to do about a name that no run has."""
    if name.lower() in FETCHED:
        return f"octavo import {name.lower()} fetches it"
    known = [run.name for run in runs()]
    if near := nearest(Path(name).name, known):
        return f"did you mean {near}?"
    return f"runs/ has {few(known)}" if known else "make one with octavo train TEXT"


def find_model(name: str | None) -> Path:
    """A GGUF file by its path, or a run as `find_run` finds it."""
    file = name is not None and name.lower().endswith(".gguf") and is_there(Path(name)) and Path(name).is_file()
    return Path(str(name)) if file else find_run(name)


def name_of(place: Path) -> str:
    """What a model is called that was found there."""
    return place.stem if place.is_file() else place.resolve().name


def runs() -> list[Path]:
    """The runs under `runs/`, newest first."""
    folders = [folder for folder in RUNS.iterdir() if is_run(folder)] if RUNS.is_dir() else []
    return sorted(folders, key=lambda folder: folder.stat().st_mtime_ns, reverse=True)


def newest_run() -> Path:
    """The run that was written to last."""
    found = runs()
    if not found:
        raise RunError("there is no run under runs/ yet; make one with octavo train TEXT, or name one")
    return found[0]


def new_run(text: str) -> Path:
    """A folder that does not exist yet, for a training on this text: `runs/<text>-<n>`.

    On a Mac and on Windows one that is written in capitals is the same; a Mac may tell letters and their dots apart.
    """
    name = re.sub(r"\.(zst|gz)$", "", Path(text).name, flags=re.IGNORECASE)
    stem = _spelled(re.sub(" +", "-", _letters(Path(name).stem)).strip("-")) or "text"
    stem = stem.encode()[:LONGEST].decode(errors="ignore")  # a file system takes names of 255 bytes
    taken = {_spelled(folder.name) for folder in RUNS.iterdir()} if RUNS.is_dir() else set()
    return RUNS / next(name for n in range(1, len(taken) + 2) if (name := f"{stem}-{n}") not in taken)


def _spelled(name: str) -> str:
    """A name in small letters, each with its marks in one sign where there is one, which a capital may not have."""
    return unicodedata.normalize("NFC", name.lower())


def _letters(name: str) -> str:
    """A name in letters, with the marks that belong to them, and in digits; what else there is becomes spaces.

    >>> _letters("हिन्दी (1)"), _letters("Gro\u0308ße") == "Größe", _letters("❤\ufe0f")
    ('हिन्दी  1 ', True, '  ')
    """
    kept = ""
    for sign in unicodedata.normalize("NFC", name):  # as macOS does not write it
        marks = unicodedata.category(sign) in ("Mn", "Mc") and kept[-1:] not in ("", " ")
        kept += sign if marks or re.match(r"[\w-]", sign) else " "
    return kept
