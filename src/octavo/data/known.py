"""What texts were found to be, remembered: what has not changed since is not read again to find it out.

A file is what it was where its place, its size and its times are what they were. The time of its last change (ctime) is
the system's own: whoever changes a file and sets its other time back has changed this one. It fails in two cases, and
in both nothing is remembered. Changes that follow each other closely may have the same one (for some milliseconds, and
for half a minute where a program writes by way of memory), so a file must have been at rest before it was read. And not
every file system keeps it, so only those are believed that do.
"""

import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from octavo.chat import OWN
from octavo.data.sources import Sources
from octavo.data.survey import Survey
from octavo.data.vocabulary import fingerprint
from octavo.disk import make_folder, read_json, write_file
from octavo.errors import ConfigError, DamagedError, SaveError
from octavo.plain import from_dict

FORMAT = 3  # of what is remembered, and of how texts are read: what was found otherwise is not believed
REST = 60.0  # seconds; after 30 Linux has brought to the disk, and sees anew, what a program wrote to mapped memory
BELIEVED = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "xfs", "zfs"})
MOUNTS = Path("/proc/self/mountinfo")
Surveys = tuple[Survey, Survey]


class Known:
    """What is known of these texts, in a file of a cache."""

    def __init__(self, cache: Path, texts: Sequence[Sources]) -> None:
        self.texts = texts
        named = [[[str(file.path.absolute()), file.field] for file in sources.files] for sources in texts]
        errors = [fact for sources in texts for fact in (sources.errors, *_spelling(sources))]
        self.file = cache / "surveys" / f"{fingerprint(FORMAT, named, errors)}.json"
        self.marks = _marks(texts)
        self.at_rest = self.marks is not None and _at_rest(self.marks) and _believed(texts)

    def recall(self) -> Surveys | None:
        """What was found when these very files were read before."""
        with suppress(DamagedError, ConfigError):
            kept = read_json(self.file)
            if self.marks is not None and kept.pop("sha256", None) == fingerprint(self.marks, kept):
                return from_dict(Survey, kept["first"]), from_dict(Survey, kept["all"])
        return None

    def remember(self, found: Surveys) -> Surveys:
        """Keep what was found, unless that might be of other files than the next time would be seen here."""
        if self.at_rest and _marks(self.texts) == self.marks:
            kept = {"first": asdict(found[0]), "all": asdict(found[1])}
            with suppress(OSError, SaveError):
                make_folder(self.file.parent)
                write_file(self.file, json.dumps({**kept, "sha256": fingerprint(self.marks, kept)}, indent=1) + "\n")
        return found

    def forget(self) -> None:
        """What is known has turned out not to be so."""
        with suppress(OSError):
            self.file.unlink(missing_ok=True)


def _spelling(sources: Sources) -> list[Any]:
    """How conversations are written, where there may be any and it is not as they usually are."""
    usual = sources.spelling is not None and sources.spelling.template == OWN.template
    return [] if usual or all(file.field is None for file in sources.files) else [repr(sources.spelling)]


def _marks(texts: Sequence[Sources]) -> list[list[Any]] | None:
    """By what each file is known again; nothing where one cannot be looked at."""
    try:
        found = [file.path.stat() for sources in texts for file in sources.files]
    except OSError:
        return None
    return [[one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns] for one in found]


def _at_rest(marks: list[list[Any]]) -> bool:
    return max(changed for *_, changed in marks) < (time.time() - REST) * 1e9


def _believed(texts: Sequence[Sources]) -> bool:
    mounts = _mounts()
    paths = [file.path.resolve() for sources in texts for file in sources.files]
    return all(_file_system(path, mounts) in BELIEVED for path in paths)


def _file_system(path: Path, mounts: dict[str, str]) -> str | None:
    return next((mounts[str(place)] for place in (path, *path.parents) if str(place) in mounts), None)


def _mounts() -> dict[str, str]:
    """Each place where a file system begins, and its kind; nothing but on Linux, where alone the system tells."""
    found = {}
    with suppress(OSError):
        for line in MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
            before, _, after = line.partition(" - ")
            place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), before.split(" ")[4])
            found[place] = after.split(" ")[0]  # a later one lies over an earlier one
    return found
