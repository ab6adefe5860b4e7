"""A text that has not changed is not read again to know what it is; one that might have changed is."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from octavo import training
from octavo.config import Asked, DataConfig
from octavo.data import Prepared, find_texts, known, prepare, survey
from octavo.data.known import Known
from octavo.errors import RunError, TextError
from octavo.events import Event, Preparing, Stepped

TEXT = "".join(f"Line {number} says that {number * 7} geese fly.\n" for number in range(400))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that counts as being at rest, on a file system that keeps the times of changes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(known, "REST", -3600.0)
    monkeypatch.setattr(known, "_mounts", lambda: {"/": "ext4"})
    Path("text.txt").write_text(TEXT)


def started(text: str = "text.txt", **asked: object) -> tuple[Prepared, bool]:
    """What was prepared, and whether the text was read to know what it is."""
    events: list[Event] = []
    data = DataConfig(texts=(text,), **asked)  # type: ignore[arg-type]
    found = prepare(data, None, cache=Path("cache"), on_event=events.append)
    return found, any(isinstance(event, Preparing) and event.what == "reading" for event in events)


def change_unseen(path: Path) -> None:
    """Change a file such that it has its size, its place and the time of its last writing still."""
    before, content = path.stat(), path.read_text()
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the system's clock has come on
        with path.open("r+") as file:
            file.write(content.replace("geese", "ducks"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)


def test_what_has_not_changed_is_read_once() -> None:
    first, read = started()
    again, read_again = started()
    assert read and not read_again
    assert (again.fingerprint, again.text_sha256) == (first.fingerprint, first.text_sha256)
    assert started(split=0.5)[1] is False  # another way of dividing the same


def test_a_text_with_its_own_validation_text_is_known_as_both() -> None:
    Path("val.txt").write_text("geese say 7 to geese")
    first = started(val="val.txt")[0]
    again, read = started(val="val.txt")
    assert not read and again.fingerprint == first.fingerprint
    assert (again.train.characters, again.val.characters) == (len(TEXT), 20)
    Path("val.txt").write_text("ducks say 7 to ducks")
    os.utime("val.txt", ns=(0, 0))
    assert started(val="val.txt")[1]


def test_where_the_validation_text_begins_belongs_to_what_is_known() -> None:
    Path("d").mkdir()
    for name in "bc":
        Path(f"d/{name}.txt").write_text(f"{name} says 7 to geese. " * 40)
    found = []
    for texts, val in ((("text.txt", "d/b.txt"), "d/c.txt"), (("text.txt",), "d")):
        data = DataConfig(texts=texts, val=val)
        prepared = prepare(data, None, cache=Path("cache"))
        found.append((prepared.train.characters, prepared.val.characters))
    size = Path("d/b.txt").stat().st_size
    assert found == [(len(TEXT) + size, size), (len(TEXT), 2 * size)]


def test_a_change_is_seen_although_its_time_was_set_back() -> None:
    first = started()[0]
    change_unseen(Path("text.txt"))
    changed, read = started()
    assert read and changed.text_sha256 != first.text_sha256
    assert "ducks" in changed.tokenizer.decode(changed.train.tokens.tolist())


def test_a_training_that_goes_on_refuses_a_text_whose_time_was_set_back(workplace: Path) -> None:
    Path("text.txt").write_text(TEXT)
    trainer = training.begin(["text.txt"], Asked(layers=1, heads=1, width=16, context=16, steps=4), out="run")
    for event in trainer.events():
        if isinstance(event, Stepped) and event.step == 2:
            trainer.stop()
    trainer = training.resume(Path("run"), Asked())
    assert trainer.claim is not None
    trainer.claim.release()
    change_unseen(Path("text.txt"))
    with pytest.raises(RunError, match="the text is not the one that was learned from"):
        training.resume(Path("run"), Asked())


def young(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(known, "REST", 60.0)


def dated_ahead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(known.time, "time", lambda: 0.0)


def elsewhere(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(known, "_mounts", lambda: {"/": "ext4", str(Path.cwd().resolve()): "fuse.sshfs"})


def untold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(known, "_mounts", dict)


def changed_meanwhile(patch: pytest.MonkeyPatch) -> None:
    real = survey.Reader.survey

    def changing(reader: survey.Reader) -> survey.Survey:
        found = real(reader)
        change_unseen(Path("text.txt"))
        Path("text.txt").write_text(TEXT)
        return found

    patch.setattr(survey.Reader, "survey", changing)


@pytest.mark.parametrize("why", [young, dated_ahead, elsewhere, untold, changed_meanwhile])
def test_what_might_be_wrong_later_is_not_remembered(
    why: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        why(patch)
        started()
    assert not list(Path("cache").glob("surveys/*"))
    assert started()[1]
    assert len(list(Path("cache").glob("surveys/*"))) == 1


def test_the_same_file_read_in_another_way_is_another_text() -> None:
    started()
    assert started(errors="replace")[1]
    Path("text.jsonl").write_text(json.dumps({"text": TEXT, "title": TEXT[:900]}))
    assert started("text.jsonl")[1]
    assert started("text.jsonl", field="title")[1]
    assert not started("text.jsonl")[1]


def test_a_damaged_memory_is_no_memory() -> None:
    first = started()[0]
    (file,) = Path("cache").glob("surveys/*")
    whole = file.read_bytes()
    for place in range(0, len(whole), 11):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert started()[0].fingerprint == first.fingerprint
    file.write_bytes(b"")
    assert started()[1] and not started()[1]


def test_what_is_remembered_wrongly_does_no_harm_twice() -> None:
    found = find_texts(["text.txt"])
    wrong = survey.Survey("0" * 64, len(TEXT), len(TEXT), 1)
    Known(Path("cache"), [found]).remember((wrong, wrong))
    with pytest.raises(TextError, match="changed while it was read"):
        started()
    assert started()[1]


def test_a_cache_that_takes_nothing_is_read_past(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("cache").mkdir()
    Path("cache/surveys").write_text("in the way")
    assert started()[1] and started()[1]


def test_file_systems_are_found_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (tmp_path / "mounts").write_text(
        "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "28 27 0:25 / /mnt/my\\040disk rw shared:5 - fuse.sshfs me@there rw\n"
        "29 27 0:26 / /home rw - ext4 /dev/vdb rw\n"
        "30 29 0:27 / /home rw - tmpfs none rw\n"
    )
    monkeypatch.setattr(known, "MOUNTS", tmp_path / "mounts")
    mounts = known._mounts()
    for path, kind in {"/a/b": "ext4", "/mnt/my disk/b": "fuse.sshfs", "/home/b": "tmpfs", "/homely": "ext4"}.items():
        assert known._file_system(Path(path), mounts) == kind
    monkeypatch.setattr(known, "MOUNTS", tmp_path / "none")
    assert known._mounts() == {}
