"""Packed texts: the same documents as if they were not, in little memory, and one line for what cannot be unpacked."""

import gzip
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from octavo.config import Asked, DataConfig
from octavo.cutting import FEWEST, pieces_for, read_texts
from octavo.data import find_texts, prepare
from octavo.data.jsonl import LONGEST
from octavo.errors import TextError
from octavo.places import new_run
from octavo.tokenizers import SimpleTokenizer
from texts import sentences

Pack = Callable[[bytes], bytes]
SKIPPED = b"\x50\x2a\x4d\x18\x04\x00\x00\x00\x00\x00\x00\x00"  # a frame that says nothing, as pzstd writes it first


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


PACKS: dict[str, Pack] = {"zst": zstd, "gz": gzip.compress}
ADVICE = {"zst": "pack it again, without --long", "gz": "fetch or pack it again"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(*names: str) -> list[str]:
    return ["".join(document.pieces) for document in find_texts(names).documents()]


@pytest.mark.parametrize("ending", PACKS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_packed_text_is_read_as_if_it_were_not(place: Path, ending: str, encoding: str) -> None:
    text = "Ὦ ξεῖν’ 👍\r\n" + sentences(30_000)
    (place / f"book.txt.{ending}").write_bytes(PACKS[ending](text.encode(encoding)))
    (place / f"BOOK.{ending.upper()}").write_bytes(PACKS[ending](text.encode(encoding)))
    assert read(f"book.txt.{ending}", f"BOOK.{ending.upper()}") == [text, text]


@pytest.mark.parametrize("ending", PACKS)
def test_packed_json_lines_are_documents(place: Path, ending: str) -> None:
    lines = "".join(json.dumps({"body": sentences(9, seed=number)}) + "\n" for number in range(500))
    (place / f"many.jsonl.{ending}").write_bytes(PACKS[ending](lines.encode()))
    found = find_texts([f"many.jsonl.{ending}"], field="body")
    assert ["".join(document.pieces) for document in found.documents()] == [sentences(9, seed=n) for n in range(500)]
    assert found.name == "many" and new_run(f"in/many.jsonl.{ending}") == Path("runs/many-1")


@pytest.mark.parametrize("ending", PACKS)
@pytest.mark.parametrize("size", [0, 1, 300, 5_000, 1_000_000])
def test_frames_one_after_the_other_are_one_text(place: Path, ending: str, size: int) -> None:
    parts = [(sentences(20_000)[:size] + str(number)).encode() for number in range(3)]
    packed = b"".join(PACKS[ending](part) for part in parts)
    (place / f"a.{ending}").write_bytes(SKIPPED + packed if ending == "zst" else packed)
    assert read(f"a.{ending}") == [b"".join(parts).decode()]


def test_a_folder_may_hold_all_forms_side_by_side(place: Path) -> None:
    (place / "in").mkdir()
    line = json.dumps({"text": "two"}).encode()
    contents = {"a.txt": b"one", "b.jsonl.zst": zstd(line), "c.txt.zst": zstd(b"three"), "d.jsonl": line}
    contents |= {"e.gz": gzip.compress(b"five"), "f.zst": zstd(b"\x89PNG\0"), "g.zst": zstd(b"")}
    for name, content in contents.items():
        (place / "in" / name).write_bytes(content)
    assert read("in") == ["one", "two", "three", "two", "five"]
    assert find_texts(["in"]).skipped == 2


@pytest.mark.parametrize("ending", PACKS)
def test_the_tokens_are_those_of_the_unpacked_text(place: Path, ending: str) -> None:
    text = sentences(5000)
    (place / "a.txt").write_text(text)
    (place / f"a.txt.{ending}").write_bytes(PACKS[ending](text.encode()))
    found = [
        prepare(DataConfig(texts=(name,)), SimpleTokenizer(text), cache=place / "cache")
        for name in ("a.txt", f"a.txt.{ending}")
    ]
    assert found[0].fingerprint == found[1].fingerprint


@pytest.mark.parametrize("ending", PACKS)
@pytest.mark.parametrize(("lines", "around"), [(20, 0), (2000, 60), (3000, 60), (40_000, 0), (20_000, 60)])
def test_a_text_is_cut_in_the_same_way_packed_or_not_and_lines_of_json_by_what_they_hold(
    place: Path, ending: str, lines: int, around: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_HOME", str(place / "home"))
    text = sentences(lines)
    content, name = text, "a.txt"
    if around:
        content = "".join(json.dumps({"around": "x" * around, "text": one}) + "\n" for one in text.splitlines())
        name = "a.jsonl"
    (place / name).write_text(content)
    (place / f"{name}.{ending}").write_bytes(PACKS[ending](content.encode()))
    plain, packed = (read_texts([text], Asked(), print)[0] for text in (name, f"{name}.{ending}"))
    assert (plain.tokenizer, plain.vocab_size) == (packed.tokenizer, packed.vocab_size)
    size = len(text) if len(text) < 1_000_000 else len(content)
    assert plain.vocab_size == (pieces_for(size) if pieces_for(size) >= FEWEST else None)


@pytest.mark.parametrize("ending", PACKS)
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.999])
def test_a_packed_file_that_was_cut_off_is_refused(place: Path, ending: str, kept: float) -> None:
    packed = PACKS[ending](sentences(50_000).encode())
    (place / "in").mkdir()
    (place / "in" / f"a.{ending}").write_bytes(packed[: int(kept * len(packed))])
    for name in (f"in/a.{ending}", "in"):  # in a folder too: it was meant to be read
        with pytest.raises(TextError, match=rf"a\.{ending} ends in the middle of what is packed in it; fetch or pack"):
            read(name)


@pytest.mark.parametrize("ending", PACKS)
def test_a_packed_file_that_is_damaged_is_refused(place: Path, ending: str) -> None:
    packed = bytearray(PACKS[ending](sentences(50_000).encode()))
    packed[-3] ^= 0xFF  # in the checksum
    (place / f"a.{ending}").write_bytes(packed)
    with pytest.raises(TextError, match=rf"a\.{ending} cannot be unpacked: .*; {ADVICE[ending]}$"):
        read(f"a.{ending}")
    (place / f"b.{ending}").write_bytes(b"no such thing")
    with pytest.raises(TextError, match=rf"b\.{ending} cannot be unpacked: "):
        read(f"b.{ending}")


def test_a_frame_that_wants_too_much_memory_is_refused(place: Path) -> None:
    settings = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    (place / "a.zst").write_bytes(packer.compress(b"words") + packer.flush())
    with pytest.raises(
        TextError, match=r"a\.zst cannot be unpacked: .*too much memory.*; pack it again, without --long"
    ):
        read("a.zst")


@pytest.mark.parametrize("ending", PACKS)
def test_a_small_file_that_unpacks_to_a_large_one_takes_little_memory(place: Path, ending: str) -> None:
    content = b"x" * 40_000_000
    (place / f"a.{ending}").write_bytes(PACKS[ending](content))
    (place / f"b.jsonl.{ending}").write_bytes(PACKS[ending](b'{"text": "' + content + b'"}'))
    del content
    tracemalloc.start()
    try:
        (document,) = find_texts([f"a.{ending}"]).documents()
        assert sum(map(len, document.pieces)) == 40_000_000
        with pytest.raises(TextError, match=rf"line 1 is longer than {LONGEST:,} characters; cut it into documents"):
            read(f"b.jsonl.{ending}")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 35_000_000


def test_where_zstandard_is_missing_one_line_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "a.txt.zst").write_bytes(zstd(b"words"))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(TextError, match=r"a\.txt\.zst needs zstandard to be unpacked; pip install -e '\.\[data\]', or"):
        read("a.txt.zst")
