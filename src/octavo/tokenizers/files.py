"""A tokenizer's files, read with suspicion."""

from pathlib import Path
from stat import S_ISREG
from typing import Any

from octavo.disk import json_object
from octavo.errors import TokenizerError

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
        return json_object(text)
    except ValueError as error:
        raise TokenizerError(f"{path} is not sound JSON ({error}); fetch or write it again") from None
