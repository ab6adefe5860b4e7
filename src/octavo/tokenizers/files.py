"""A tokenizer's files, read with suspicion and written whole or not at all."""

import json
import os
from pathlib import Path
from stat import S_ISREG
from typing import Any

from octavo.errors import SaveError, TokenizerError

LARGEST = 256 * 2**20  # bytes; the largest published vocabularies take 35 MB


def read_text(path: Path) -> str:
    """The text of a regular file of a reasonable size; anything else is a `TokenizerError`."""
    try:
        found = path.stat()
        if not S_ISREG(found.st_mode):
            raise TokenizerError(f"{path} is not a regular file; name the folder of a tokenizer")
        if found.st_size > LARGEST:
            raise TokenizerError(f"{path} has {found.st_size:,} bytes; no vocabulary needs more than {LARGEST:,}")
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read ({error.strerror}); name the folder of a tokenizer") from None
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is not UTF-8 at byte {error.start}; fetch or write it again") from None


def read_object(text: str, path: Path | str) -> dict[str, Any]:
    """The JSON object in the text of this file; a name that stands twice in one object is refused, for who is right?"""
    try:
        value = json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is not sound JSON ({error}); fetch or write it again") from None
    if not isinstance(value, dict):
        raise TokenizerError(f"{path} holds no JSON object; fetch or write it again")
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} stands twice in one object")
        found[name] = value
    return found


def write_text(path: Path, text: str) -> None:
    """Put this text in the file's place in one move, so that nobody ever meets half of it; else a `SaveError`."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise SaveError(f"{path} cannot be written ({error.strerror}); choose another folder or make room") from None
