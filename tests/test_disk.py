"""Saving: what was called saved is there, and what is damaged is noticed."""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from octavo.disk import (
    MANIFEST,
    json_object,
    make_folder,
    replace_file,
    saving,
    sha256,
    verify,
    write_file,
    write_folder,
)
from octavo.errors import DamagedError, SaveError


def two_files(folder: Path) -> None:
    (folder / "a.bin").write_bytes(bytes(range(256)))
    (folder / "b.txt").write_text("hello")


def test_a_written_folder_verifies_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "step-1", two_files)
    verify(tmp_path / "step-1")
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    facts = json.loads((tmp_path / "step-1" / MANIFEST).read_text())["files"]
    assert facts["b.txt"] == {"bytes": 5, "sha256": sha256(tmp_path / "step-1" / "b.txt")}


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_folder(tmp_path / "x", two_files)
    write_folder(tmp_path / "x", lambda folder: (folder / "c").write_text("new") and None)
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["c", MANIFEST]


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens no folder, and syncs only what was opened to be written."""
    opened, synced = os.open, os.fsync

    def open_file(path: Any, flags: int, *more: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *more)

    def sync_written(descriptor: int) -> None:
        os.write(descriptor, b"")  # which fails where it was opened to be read
        synced(descriptor)

    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(os, "fsync", sync_written)
    monkeypatch.setattr(sys, "platform", "win32")


@pytest.mark.usefixtures("windows")
def test_on_windows_files_and_folders_are_written_too(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    for text in ("old", "new"):
        write_file(tmp_path / "a" / "b" / "f", text)
    write_folder(tmp_path / "x", two_files)
    verify(tmp_path / "x")
    assert (tmp_path / "a" / "b" / "f").read_text() == "new"
    assert {path.name for path in tmp_path.rglob("*")} == {"a", "b", "f", "x", "a.bin", "b.txt", MANIFEST}


@pytest.mark.usefixtures("windows")
def test_on_windows_a_file_that_is_being_read_is_replaced_when_it_has_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "f", "old")
    replaced, reading = os.replace, [1, 1, 1]

    def replace(*places: Any) -> None:
        if reading:
            raise PermissionError(errno.EACCES, "it is being used by another process")
        replaced(*places)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr("time.sleep", lambda seconds: reading.pop())
    write_file(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "new" and not reading


def test_a_key_that_stands_twice_is_found_among_many() -> None:
    many = ",".join(f'"{number}": 1' for number in [*range(300_000), 299_999])
    with pytest.raises(ValueError, match="it has the key '299999' twice"):
        json_object(f"{{{many}}}")


def test_a_failed_save_leaves_the_old_folder_and_names_path_and_reason(tmp_path: Path) -> None:
    write_folder(tmp_path / "x", two_files)

    def fail(folder: Path) -> None:
        two_files(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SaveError, match=r"x could not be written: No space left on device; what was saved before is"):
        write_folder(tmp_path / "x", fail)
    verify(tmp_path / "x")


def test_a_failed_file_leaves_the_old_one(tmp_path: Path) -> None:
    write_file(tmp_path / "f", "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(SaveError, match="f could not be written: Input/output error"):
        replace_file(tmp_path / "f", fail)
    assert (tmp_path / "f").read_text() == "old"


def test_saving_lets_other_errors_through(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), saving(tmp_path):
        raise ValueError("mine")


@pytest.mark.parametrize("bit", range(0, 8 * 256, 97))
def test_a_single_flipped_bit_is_detected(tmp_path: Path, bit: int) -> None:
    write_folder(tmp_path / "x", two_files)
    content = bytearray((tmp_path / "x" / "a.bin").read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    (tmp_path / "x" / "a.bin").write_bytes(content)
    with pytest.raises(DamagedError, match=r"a\.bin is damaged: its sha256 is not the manifest's"):
        verify(tmp_path / "x")


def test_a_missing_a_shortened_or_a_foreign_file_is_detected(tmp_path: Path) -> None:
    write_folder(tmp_path / "x", two_files)
    (tmp_path / "x" / "a.bin").write_bytes(b"short")
    with pytest.raises(DamagedError, match=r"a\.bin has 5 bytes; its manifest says 256"):
        verify(tmp_path / "x")
    (tmp_path / "x" / "a.bin").unlink()
    with pytest.raises(DamagedError, match=r"a\.bin is missing; the manifest names it"):
        verify(tmp_path / "x")
    two_files(tmp_path / "x")
    (tmp_path / "x" / "c.bin").write_bytes(b"")
    with pytest.raises(DamagedError, match=r"c\.bin is not in the manifest; it was not saved with the rest$"):
        verify(tmp_path / "x")


@pytest.mark.parametrize("hashed", [True, False])
def test_a_file_that_was_not_saved_with_the_rest_is_detected(tmp_path: Path, hashed: bool) -> None:
    write_folder(tmp_path / "x", two_files)
    (tmp_path / "x" / "c").touch()
    with pytest.raises(DamagedError, match="c is not in the manifest; it was not saved with the rest"):
        verify(tmp_path / "x", hashed=hashed)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}', '{"files": {"a": 3}}', "\udcff"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DamagedError, match="has no manifest that can be read"):
        verify(tmp_path)


@pytest.mark.parametrize("entry", ['{"../x": {"bytes": 1, "sha256": ""}}', '{"a": {"bytes": 1}}'])
def test_a_manifest_that_points_elsewhere_is_refused(tmp_path: Path, entry: str) -> None:
    (tmp_path / MANIFEST).write_text(f'{{"files": {entry}}}')
    with pytest.raises(DamagedError, match="does not list sizes and hashes of files"):
        verify(tmp_path)
