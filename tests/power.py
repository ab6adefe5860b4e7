"""A disk that loses power: what a program did to a folder is recorded, and what may be left of it is laid out again.

Bytes of a file are safe once it was synced, the names in a folder once the folder was. Of everything else any part may
have reached the disk: old or new bytes, or half of them, and any of the changes of names. What was only written on to
keeps the bytes that are safe.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest


@dataclass
class File:
    """One file, whatever it is called: the bytes that are safe, and those written since."""

    safe: bytes | None = None
    written: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Name:
    """A change in a folder: this name stands for that file or folder now, or for nothing; `gone` goes with it."""

    folder: Path
    name: str
    what: "File | str | None"
    gone: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened: a change of a name, bytes written, a sync, or a word of the program's own."""

    kind: str
    name: Name | None = None
    file: File | None = None
    content: bytes = b""
    folder: Path | None = None
    word: Any = None


class Recorder:
    """Watches a folder: what changed is looked for whenever a program syncs, renames or removes."""

    def __init__(self, root: Path) -> None:
        self.root, self.events = root, list[Event]()
        self.files: dict[Path, File] = {}
        self.folders: set[Path] = set()
        self.contents: dict[Path, bytes] = {}

    def say(self, word: Any) -> None:
        """Note what the program promised by now."""
        self.look()
        self.events.append(Event("word", word=word))

    def look(self) -> None:
        """Find out what was made, written and removed since."""
        found = sorted(self.root.rglob("*"))
        for path in found:
            if path.is_dir():
                if path not in self.folders:
                    self.folders.add(path)
                    self._name(path, "folder")
                continue
            content = path.read_bytes()
            if path not in self.files:
                self.files[path] = File()
                self._name(path, self.files[path])
            elif self.contents[path] == content:
                continue
            self.contents[path] = content
            self.events.append(Event("write", file=self.files[path], content=content))
        for path in [path for path in (*self.files, *self.folders) if path not in set(found)]:
            self._forget(path)
            self._name(path, None)

    def _forget(self, path: Path) -> None:
        self.files.pop(path, None)
        self.contents.pop(path, None)
        self.folders.discard(path)

    def _name(self, path: Path, what: "File | str | None", gone: str | None = None) -> None:
        self.events.append(Event("name", name=Name(path.parent, path.name, what, gone)))

    def synced(self, path: Path) -> None:
        if path == self.root or path in self.folders:
            self.events.append(Event("sync folder", folder=path))
        elif path in self.files:
            self.events.append(Event("sync file", file=self.files[path]))

    def renamed(self, source: Path, target: Path) -> None:
        """Names below a folder move with it, for they stand in it."""
        if not source.is_relative_to(self.root):
            return
        if source in self.folders:
            self._name(target, f"folder:{source}", gone=source.name)
        else:
            self._name(target, self.files[source], gone=source.name)
        for path in [path for path in (*self.files, *self.folders) if path == source or path.is_relative_to(source)]:
            moved = target / path.relative_to(source)
            if path in self.folders:
                self.folders.discard(path)
                self.folders.add(moved)
                continue
            self.files[moved], self.contents[moved] = self.files.pop(path), self.contents.pop(path)


@contextmanager
def recorded(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Record what happens to the files under `root`."""
    recorder = Recorder(root)
    real_sync, real_replace, real_remove = os.fsync, Path.replace, shutil.rmtree

    def fsync(descriptor: int) -> None:
        recorder.look()
        real_sync(descriptor)
        recorder.synced(Path(f"/proc/self/fd/{descriptor}").readlink())

    def replace(self: Path, target: Path) -> Path:
        recorder.look()
        result = real_replace(self, target)
        recorder.renamed(self.absolute(), Path(target).absolute())
        return result

    def rmtree(path: Path, *args: Any, **words: Any) -> None:
        recorder.look()
        real_remove(path, *args, **words)
        recorder.look()

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        patched.setattr(Path, "replace", replace)
        patched.setattr(shutil, "rmtree", rmtree)
        yield recorder
    recorder.look()


class Disk:
    """What is on the disk for sure, and what may be."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.safe: dict[Path, dict[str, Any]] = {root: {}}
        self.pending: list[Name] = []
        self.where: dict[str, Path] = {}

    def happen(self, event: Event) -> None:
        if event.kind == "name" and event.name is not None:
            self.pending.append(event.name)
        elif event.kind == "write" and event.file is not None:
            event.file.written.append(event.content)
        elif event.kind == "sync file" and event.file is not None and event.file.written:
            event.file.safe, event.file.written = event.file.written[-1], []
        elif event.kind == "sync folder" and event.folder is not None:
            for name in [name for name in self.pending if name.folder == event.folder]:
                apply(self.safe, name)
                self.pending.remove(name)

    def image(self, draw: Random) -> dict[Path, dict[str, Any]]:
        """The names that may be left: those that are safe, and any of the others, in their order."""
        names = {folder: dict(entries) for folder, entries in self.safe.items()}
        for name in self.pending:
            if draw.random() < draw.choice([0.1, 0.5, 0.9]):
                apply(names, name)
        return names


def apply(names: dict[Path, dict[str, Any]], change: Name) -> None:
    """A change of a name; a folder that was renamed brings what stands in it."""
    entries = names.setdefault(change.folder, {})
    if change.gone is not None:
        entries.pop(change.gone, None)
    if isinstance(change.what, str) and change.what.startswith("folder:"):
        source, target = Path(change.what.removeprefix("folder:")), change.folder / change.name
        for folder in [folder for folder in names if folder == source or folder.is_relative_to(source)]:
            names[target / folder.relative_to(source)] = names.pop(folder)
        names.setdefault(target, {})
        entries[change.name] = "folder"
    elif change.what is None:
        entries.pop(change.name, None)
    else:
        entries[change.name] = change.what


def lay_out(names: dict[Path, dict[str, Any]], root: Path, where: Path, draw: Random) -> None:
    """Write an image to a folder, with what may be left of the bytes of each file."""
    where.mkdir(parents=True)

    def fill(folder: Path, target: Path) -> None:
        for name, what in names.get(folder, {}).items():
            if isinstance(what, File):
                left = [content for content in (what.safe, *what.written) if content is not None] or [b""]
                content = draw.choice(left)
                stays = len(what.safe) if what.safe is not None and content.startswith(what.safe) else 0
                if what.written and draw.random() < 0.3:
                    content = content[: draw.randrange(stays, len(content) + 1)]
                (target / name).write_bytes(content)
            elif folder / name in names or what == "folder":
                (target / name).mkdir(exist_ok=True)
                fill(folder / name, target / name)

    fill(root, where)
