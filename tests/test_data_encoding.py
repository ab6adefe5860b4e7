"""A large text on its way to tokens: the same bytes on any number of cores, after any interruption, in bounds."""

import json
import re
import signal
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.config import DataConfig
from octavo.data import Part, Prepared, encoding, prepare
from octavo.data.batches import permuted, put_back
from octavo.data.lots import Lots
from octavo.data.pipeline import ahead, in_order
from octavo.errors import TextError
from octavo.tokenizers import BPETokenizer, SimpleTokenizer
from texts import sentences
from warm import Warm

LAW = settings(derandomize=True, deadline=None, database=None, max_examples=100)
END = "<|endoftext|>"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_documents(path: Path, count: int, seed: int = 0) -> list[str]:
    """So many documents as JSON lines, some short, some longer than what is encoded at once."""
    draw = Random(seed)
    texts = [f"{number}: {sentences(draw.choice([1, 3, 200]), seed=number)}" for number in range(count)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return texts


def files_of(folder: Path) -> dict[str, bytes]:
    (made,) = (path for path in (folder / "tokens").iterdir() if path.is_dir())
    return {path.name: path.read_bytes() for path in made.iterdir()}


def documents_of(prepared: Prepared, part: Part) -> list[str]:
    return prepared.tokenizer.decode(part.tokens.tolist(), special=True).split(END)[:-1]


def test_what_is_read_ahead_comes_in_order_and_only_so_far() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    items = ahead(make(), room=3)
    assert [next(items), next(items)] == [0, 1]
    threading.Event().wait(0.2)
    assert len(made) <= 2 + 3 + 1
    items.close()  # type: ignore[attr-defined]
    assert len(made) < 10
    assert list(ahead(range(100), room=3)) == list(range(100))


def test_what_goes_wrong_ahead_is_raised_behind_what_came_before_it() -> None:
    def make() -> Iterator[int]:
        yield 1
        raise TextError("gone")

    items = ahead(make(), room=3)
    assert next(items) == 1
    with pytest.raises(TextError, match="gone"):
        next(items)
    results = in_order(lambda number: 1 // number, [1, 0, 1], workers=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("shuffle", [None, "documents"])
def test_the_files_do_not_depend_on_how_many_cores_there_are(
    place: Path, monkeypatch: pytest.MonkeyPatch, shuffle: Any
) -> None:
    write_documents(place / "many.jsonl", 60)
    tokenizer = BPETokenizer.train([sentences(50)], vocab_size=300)
    data = DataConfig(texts=("many.jsonl",), shuffle=shuffle)
    monkeypatch.setattr(encoding, "GROUP", 3000)
    found = []
    for workers, cores in ((1, "false"), (2, "true"), (5, "true")):
        monkeypatch.setattr(encoding, "WORKERS", workers)
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", cores)
        prepare(data, tokenizer, cache=place / f"cache-{workers}")
        found.append(files_of(place / f"cache-{workers}"))
    assert found[0] == found[1] == found[2]


KILLED = """
import os, signal, sys
from pathlib import Path
from octavo.config import DataConfig
from octavo.data import encoding, lots, parts, prepare
from octavo.tokenizers import SimpleTokenizer

encoding.GROUP, parts.SAFE, parts.SPACING, left = 500, 300, 100, int(sys.argv[1])
write = parts.PartWriter.write

def dying(self, *values, **more):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, *values, **more)

parts.PartWriter.write = dying
data = DataConfig(texts=("many.jsonl",), shuffle=sys.argv[3] if len(sys.argv) > 3 else None)
prepare(data, SimpleTokenizer(Path("many.jsonl").read_text()), cache=Path(sys.argv[2]))
"""


@pytest.mark.parametrize("shuffle", [None, "documents"])
def test_a_preparation_that_is_killed_again_and_again_comes_to_the_same_bytes(
    place: Path, shuffle: Any, warm: Warm
) -> None:
    write_documents(place / "many.jsonl", 40)
    how = [shuffle] if shuffle else []
    kills = (30, 30) if shuffle else (30,)  # while the documents are encoded, and while they are put into their order
    for left in kills:
        preparation = warm.start(KILLED, str(left), "killed", *how)
        assert preparation.wait() == -signal.SIGKILL, preparation.errors
    for cache in ("killed", "whole"):
        preparation = warm.start(KILLED, "10000", cache, *how)
        assert preparation.wait() == 0, preparation.errors
    assert files_of(place / "killed") == files_of(place / "whole")
    assert [path.suffix for path in (place / "killed" / "tokens").iterdir()].count("") == 1
    assert not [path for path in (place / "killed" / "tokens").iterdir() if ".tmp" in path.name]


def test_shuffled_documents_are_all_there_whole_and_in_another_order(place: Path) -> None:
    texts = write_documents(place / "many.jsonl", 100)
    found = prepare(DataConfig(texts=("many.jsonl",), shuffle="documents"), None, cache=place / "cache")
    drawn = [documents_of(found, part) for part in (found.train, found.val, found.test)]
    assert [len(part) for part in drawn] == [90, 5, 5]
    numbers = [int(text.split(":")[0]) for part in drawn for text in part]
    assert sorted(numbers) == list(range(100)) and numbers != list(range(100))
    known = set("".join(drawn[0]))  # the vocabulary is of the training documents alone
    for number, text in zip(numbers, (text for part in drawn for text in part), strict=True):
        assert text == "".join(sign for sign in texts[number] if sign in known or text == texts[number])
    assert found.documents == 100
    for part, mine in zip((found.train, found.val, found.test), drawn, strict=True):
        assert part.characters >= sum(map(len, mine)) and part.bytes >= part.characters


def test_the_order_does_not_change_with_the_files_that_hold_the_documents(place: Path) -> None:
    texts = write_documents(place / "many.jsonl", 30)
    (place / "folder").mkdir()
    for number, text in enumerate(texts):
        (place / "folder" / f"{number:03}.txt").write_text(text)
    tokenizer = SimpleTokenizer("".join(texts))
    found = [
        prepare(DataConfig(texts=(name,), shuffle="documents"), tokenizer, cache=place / "cache")
        for name in ("many.jsonl", "folder")
    ]
    assert found[0].fingerprint == found[1].fingerprint
    contiguous = prepare(DataConfig(texts=("folder",)), tokenizer, cache=place / "cache")
    assert contiguous.text_sha256 == found[0].text_sha256 and contiguous.fingerprint != found[0].fingerprint


def test_a_split_and_an_own_validation_text_are_kept(place: Path) -> None:
    texts = write_documents(place / "many.jsonl", 20)
    (place / "val.txt").write_text("Ada draws.")
    found = prepare(DataConfig(texts=("many.jsonl",), shuffle="documents", split=0.8), None, cache=place / "cache")
    assert [len(documents_of(found, part)) for part in (found.train, found.val)] == [16, 4]
    assert len(found.test.tokens) == 0
    data = DataConfig(texts=("many.jsonl",), shuffle="documents", val="val.txt")
    found = prepare(data, None, cache=place / "cache")
    assert sorted(documents_of(found, found.train)) == sorted(texts)
    assert documents_of(found, found.val) == ["Ada draws."]


@pytest.mark.parametrize(("count", "split"), [(1, None), (2, None), (1, 0.9)])
def test_too_few_documents_are_not_drawn_from(place: Path, count: int, split: float | None) -> None:
    write_documents(place / "few.jsonl", count)
    data = DataConfig(texts=("few.jsonl",), shuffle="documents", split=split)
    least = 3 if split is None else 2
    line = (
        f"parts cannot be drawn from so few documents ({count}, it takes {least}); leave --shuffle or --config out, "
        "or put each document in a file or a line of JSON of its own"
    )
    with pytest.raises(TextError, match=f"^{re.escape(line)}$"):
        prepare(data, None, cache=place / "cache")


@LAW
@given(st.integers(2, 500), st.data())
def test_every_document_has_a_place_of_its_own_in_a_part_that_is_never_empty(count: int, data: st.DataObject) -> None:
    split = data.draw(st.none() | st.floats(0.01, 0.99)) if count > 2 else 0.5
    lots = Lots.of(count, count, split)
    numbers = np.arange(count)
    places = lots.places(numbers)
    assert sorted(places.tolist()) == numbers.tolist()
    assert (lots.numbers(places) == numbers).all()
    sizes = np.bincount(lots.parts(places), minlength=3)
    assert sizes[0] and sizes[1] and bool(sizes[2]) == (split is None)


@LAW
@given(st.integers(1, 500), st.integers(0, 2**62))
def test_a_permutation_is_put_back(size: int, key: int) -> None:
    assert (put_back(permuted(np.arange(size), size, key), size, key) == np.arange(size)).all()


def test_a_long_document_is_never_in_memory_as_a_whole(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "GROUP", 1 << 16)
    line = sentences(2000)
    for number, times in enumerate((1, 200, 1, 1)):
        with (place / f"{number}.txt").open("w") as file:
            file.writelines(line for _ in range(times))
    size = sum(path.stat().st_size for path in place.glob("*.txt"))
    data = DataConfig(texts=tuple(f"{number}.txt" for number in range(4)), shuffle="documents")
    tokenizer = SimpleTokenizer(line)
    tracemalloc.start()
    try:
        prepare(data, tokenizer, cache=place / "cache")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 10_000_000 and peak < 0.6 * size
