"""Files, folders, standard input: what is read, what is passed over, and what is refused in one line."""

import codecs
import io
import json
import os
import socket
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from octavo.data import Sources, decoding, find_texts
from octavo.data.jsonl import LONGEST
from octavo.data.packed import CHUNK
from octavo.errors import SaveError, TextError
from octavo.events import Event, Note


def texts_of(sources: Sources) -> list[str]:
    return ["".join(document.pieces) for document in sources.documents()]


def read(*names: str | Path, **settings: str) -> list[str]:
    return texts_of(find_texts([str(name) for name in names], **settings))  # type: ignore[arg-type]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to write texts into, which is also where one stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def give(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_files_are_read_in_the_order_they_are_named(write: Path) -> None:
    (write / "b.txt").write_text("second")
    (write / "a.md").write_text("# first")
    sources = find_texts(["b.txt", "a.md"])
    assert texts_of(sources) == ["second", "# first"]
    assert texts_of(sources) == ["second", "# first"]
    assert (sources.name, sources.bytes, sources.skipped) == ("b", 13, 0)
    assert [document.name for document in sources.documents()] == ["b.txt", "a.md"]


@pytest.mark.parametrize("text", ["one\r\ntwo\rthree\n\n", "\ufeffx", "tab\tform\ffeed\x85next\u2028line"])
def test_line_ends_and_every_other_character_are_kept(write: Path, text: str) -> None:
    (write / "a.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read("a.txt") == [text]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_byte_order_mark_tells_the_encoding(write: Path, encoding: str) -> None:
    mark = getattr(codecs, "BOM_" + encoding.upper().replace("-", "_").replace("UTF_", "UTF"), b"")
    (write / "a.txt").write_bytes(mark + "Ὦ ξεῖν’ 👍\r\n".encode(encoding))
    assert read("a.txt") == ["Ὦ ξεῖν’ 👍\r\n"]


def test_characters_are_whole_wherever_a_chunk_ends(write: Path) -> None:
    text = "a" + "€👍" * (CHUNK // 3)
    (write / "a.txt").write_text(text)
    assert read("a.txt") == [text]


@pytest.mark.parametrize(
    ("content", "offset"),
    [
        (b"good \xff bad", 5),
        (b"x" * (CHUNK - 1) + "é".encode() + b"\xc3(", CHUNK + 1),
        (b"x" * (CHUNK - 1) + b"\xe2\x82", CHUNK - 1),
        (b"\xef\xbb\xbfabc\xfe", 6),
    ],
)
def test_bytes_that_are_no_utf8_are_named_with_their_place(write: Path, content: bytes, offset: int) -> None:
    (write / "a.txt").write_bytes(content)
    with pytest.raises(TextError, match=rf"a.txt is not valid UTF-8 at byte {offset}; .* use --errors replace"):
        read("a.txt")
    (replaced,) = read("a.txt", errors="replace")
    assert "\ufffd" in replaced
    assert replaced == content.decode("utf-8-sig", "replace")


def test_half_a_character_of_utf16_is_named_with_its_place(write: Path) -> None:
    (write / "a.txt").write_bytes(b"\xff\xfea\x00\x00\xd8b\x00")
    with pytest.raises(TextError, match=r"a\.txt is not valid UTF-16 at byte 4"):
        read("a.txt")


def test_a_binary_file_is_refused_when_it_is_named(write: Path) -> None:
    (write / "a.png").write_bytes(b"\x89PNG\r\n\x00\x00")
    (write / "b.txt").write_bytes(codecs.BOM_UTF16_LE + "a\0".encode("utf-16-le"))
    for name in ("a.png", "b.txt"):
        for errors in ("strict", "replace"):
            with pytest.raises(TextError, match=rf"{name} is a binary file \(it holds zero bytes\); give a text"):
                read(name, errors=errors)


def test_a_folder_is_read_sorted_and_what_is_no_text_is_counted(write: Path) -> None:
    for name in ("b/z.txt", "b/a.txt", "a.txt", "c.py", ".hidden", ".git/config", "B.txt"):
        (write / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (write / "in" / name).write_text(name)
    (write / "in" / "picture.png").write_bytes(b"\x89PNG\0")
    (write / "in" / "latin1.txt").write_bytes("é".encode("latin-1"))
    (write / "in" / "empty.txt").touch()
    (write / "in" / "lost").symlink_to("nowhere")
    os.mkfifo(write / "in" / "pipe")
    events: list[Event] = []
    sources = find_texts(["in"], on_event=events.append)
    assert texts_of(sources) == ["B.txt", "a.txt", "b/a.txt", "b/z.txt", "c.py"]
    why = "1 broken links, 1 empty, 2 hidden, 1 special files, 2 binary or not UTF-8"
    assert sources.skipped == 7
    (event,) = events
    assert isinstance(event, Note)
    assert event.text.startswith("7 files passed over (") and all(part in event.text for part in why.split(", "))
    assert read("in", errors="replace") == ["B.txt", "a.txt", "b/a.txt", "b/z.txt", "c.py", "\ufffd"]


@pytest.mark.parametrize(("end", "why"), [("é".encode("latin-1"), "not valid UTF-8 at byte"), (b"\0", "a binary file")])
def test_of_a_file_in_a_folder_the_beginning_is_looked_at_and_what_is_wrong_later_is_named(
    write: Path, monkeypatch: pytest.MonkeyPatch, end: bytes, why: str
) -> None:
    (write / "in").mkdir()
    (write / "in" / "a.txt").write_bytes(b"x" * 3 * CHUNK + end)
    chunks: list[bytes] = []
    real = decoding.read_bytes

    def counted(path: Path, name: str) -> Iterator[bytes]:
        for chunk in real(path, name):
            chunks.append(chunk)
            yield chunk

    monkeypatch.setattr(decoding, "read_bytes", counted)
    sources = find_texts(["in"])
    assert len(chunks) == 1
    with pytest.raises(TextError, match=f"in/a.txt is {why}"):
        texts_of(sources)


def test_a_link_that_leads_back_is_not_followed_twice(write: Path) -> None:
    (write / "in" / "deep").mkdir(parents=True)
    (write / "in" / "deep" / "a.txt").write_text("once")
    (write / "in" / "deep" / "up").symlink_to(write / "in")
    (write / "in" / "again").symlink_to("again")
    sources = find_texts(["in"])
    assert texts_of(sources) == ["once"]
    assert sources.skipped == 2
    (write / "loop").symlink_to("loop")
    with pytest.raises(TextError, match="loop cannot be read: too many levels of symbolic links"):
        read("loop")


def test_a_folder_with_no_text_in_it_is_refused(write: Path) -> None:
    (write / "in").mkdir()
    (write / "in" / ".secret").write_text("x")
    with pytest.raises(TextError, match=r"in holds no text \(1 hidden\); give a folder with text files in it"):
        read("in")


@pytest.mark.parametrize("name", ["nothing.txt", "no/such/place", "x" * 5000, "a\0b", "", "two\nlines"])
def test_a_file_that_is_not_there_is_named_in_one_line(write: Path, name: str) -> None:
    with pytest.raises(
        TextError, match=r"no such file: .*; give a file, a folder, - or a corpus: shakespeare"
    ) as caught:
        read(name) if name else read(write / "no")
    assert "\n" not in str(caught.value)


def test_a_corpus_that_was_misspelt_is_suggested(write: Path) -> None:
    with pytest.raises(TextError, match="no such file: shakespear; did you mean shakespeare"):
        read("shakespear")


def test_a_file_that_has_the_name_of_a_corpus_is_read_as_a_file(write: Path) -> None:
    (write / "shakespeare").write_text("mine")
    assert read("shakespeare") == ["mine"]


def test_what_was_there_and_is_gone_is_an_error_too(write: Path) -> None:
    (write / "a.txt").write_text("x")
    sources = find_texts(["a.txt"])
    (write / "a.txt").unlink()
    with pytest.raises(TextError, match=r"no such file: a.txt; check the spelling"):
        texts_of(sources)


def test_an_empty_file_is_refused(write: Path) -> None:
    (write / "a.txt").touch()
    with pytest.raises(TextError, match=r"a.txt is empty; give a text to learn from"):
        read("a.txt")
    (write / "b.txt").write_bytes(codecs.BOM_UTF8)
    with pytest.raises(TextError, match=r"b.txt is empty but for a byte order mark"):
        read("b.txt")


def test_pipes_sockets_and_devices_are_refused(write: Path) -> None:
    os.mkfifo(write / "pipe")
    with pytest.raises(TextError, match="pipe is a named pipe; pipe its text in and name it -"):
        read("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(TextError, match="socket is a socket; pipe its text in"):
            read("socket")
    with pytest.raises(TextError, match="null is a device; pipe its text in"):
        read(os.devnull)


def test_a_file_that_may_not_be_read_is_refused(write: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (write / "a.txt").write_text("secret")
    (write / "in").mkdir()

    def refuse(*arguments: object, **settings: object) -> None:
        raise PermissionError(13, "Permission denied")  # in a way that holds for root too

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse)
    for name in ("a.txt", "in"):
        with pytest.raises(TextError, match=f"{name} cannot be read: permission denied; choose a file you may read"):
            read(name)


def test_what_may_not_be_read_in_a_folder_is_counted(write: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.txt", "b.txt", "in/c.txt"):
        (write / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (write / "all" / name).write_text(name)
    access, names = os.access, Path.iterdir

    def closed(folder: Path) -> Iterator[Path]:
        if folder.name == "in":
            raise PermissionError(13, "Permission denied")  # in a way that holds for root too
        return names(folder)

    monkeypatch.setattr(Path, "iterdir", closed)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "a.txt" and access(path, mode))
    told: list[Event] = []
    sources = find_texts(["all"], on_event=told.append)
    assert texts_of(sources) == ["b.txt"]
    assert sources.skipped == 2 and told == [Note("2 files passed over (2 unreadable)")]


def test_nothing_named_is_refused() -> None:
    with pytest.raises(TextError, match="no text was named; give a file, a folder, - or a corpus: shakespeare"):
        find_texts([])


def test_standard_input_can_be_read_more_than_once_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, b"from\r\nelsewhere")
    sources = find_texts(["-"])
    assert texts_of(sources) == texts_of(sources) == ["from\r\nelsewhere"]
    assert (sources.name, sources.bytes) == ("stdin", 15)
    where = sources.files[0].path
    del sources
    assert not where.exists()


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(
        TextError, match=r"the name \?a is not UTF-8; rename the file, or pipe its text in and name it -"
    ):
        find_texts(["\udcffa"])


def test_standard_input_that_gives_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TextError, match="standard input was named twice; it can be read once"):
        find_texts(["-", "-"])
    give(monkeypatch, b"")
    with pytest.raises(TextError, match="standard input is empty; pipe a text into it"):
        find_texts(["-"])
    unwritten = pytest.raises(SaveError, match="a copy of standard input could not be written: ")
    with monkeypatch.context() as patch, unwritten:
        patch.setattr("tempfile.tempdir", "/nowhere")
        find_texts(["-"])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(TextError, match="standard input is closed; pipe a text into it"):
        find_texts(["-"])


def test_each_line_of_json_lines_is_a_document(write: Path) -> None:
    lines = [{"text": "one\ntwo"}, {"text": ""}, {"id": 1, "text": "three\u2028"}]
    (write / "a.jsonl").write_text("\r\n".join(json.dumps(line) for line in lines) + "\n\n")
    assert read("a.jsonl") == ["one\ntwo", "three\u2028"]


def test_the_field_of_json_lines_can_be_named(write: Path) -> None:
    (write / "A.JSONL").write_text('{"body": "b", "text": "t"}', encoding="utf-16")
    assert read("A.JSONL", field="body") == ["b"]
    with pytest.raises(
        TextError, match=r"A\.JSONL, line 1 has no field 'title'; it has body, text: choose with --field"
    ):
        read("A.JSONL", field="title")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'text': 1}", " is not JSON: Expecting property name .*; put one object on each line"),
        ('{"n": ' + "[" * 100_000, " is not JSON: it nests too deep or holds too large a number"),
        ('{"n": ' + "1" * 5000 + "}", " is not JSON: it nests too deep or holds too large a number"),
        ('"text"', " holds no object; put one object with a text field on each line"),
        ("{}", " has no field 'text' or 'messages'; it has nothing: choose with --field"),
        ('{"text": 3}', ": the field 'text' holds no text; choose another with --field"),
        ('{"text": "ab\\ud800"}', " holds half a surrogate pair at character 2; mend it, or use --errors replace"),
    ],
)
def test_a_line_that_holds_no_text_is_named_with_its_number(write: Path, line: str, message: str) -> None:
    (write / "a.jsonl").write_text('{"text": "fine"}\n\n' + line + "\n")
    with pytest.raises(TextError, match=f"a.jsonl, line 3{message}"):
        read("a.jsonl")


def test_half_a_surrogate_pair_can_be_replaced(write: Path) -> None:
    (write / "a.jsonl").write_text('{"text": "ab\\ud800c \\ud83d\\udc4d"}')
    assert read("a.jsonl", errors="replace") == ["ab\ufffdc 👍"]


def test_a_line_too_long_for_memory_is_refused(write: Path) -> None:
    (write / "a.jsonl").write_text('{"text": "fine"}\n' + "x" * (LONGEST + CHUNK))
    with pytest.raises(
        TextError, match=r"a\.jsonl, line 2 is longer than 16,777,216 characters; cut it into documents"
    ):
        read("a.jsonl")


@pytest.mark.parametrize("letter", ["\n", "x", "é"])
def test_a_large_file_of_one_letter_takes_little_memory(write: Path, letter: str) -> None:
    (write / "a.txt").write_text(letter * 8_000_000)
    tracemalloc.start()
    try:
        (document,) = find_texts(["a.txt"]).documents()
        assert sum(map(len, document.pieces)) == 8_000_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
