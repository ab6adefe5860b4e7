"""A text prepared: which part each character is in, what stands on the disk, and what happens the second time."""

import io
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.config import DataConfig
from octavo.data import Part, Prepared, encoding, find_texts, parts, prepare, reopen, store, survey, vocabulary
from octavo.data.sources import Document
from octavo.errors import DamagedError, SaveError, TextError, TokenizerError
from octavo.events import Event, Note, Preparing
from octavo.tokenizers import BPETokenizer, SimpleTokenizer, Tokenizer, load_tokenizer

TEXT = "".join(f"Line {number} says that {number * 7} geese fly.\n" for number in range(400))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where prepared texts go; one stands beside it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is done every so often is done often."""
    monkeypatch.setattr(encoding, "GROUP", 500)
    monkeypatch.setattr(parts, "SAFE", 300)
    monkeypatch.setattr(parts, "SPACING", 100)
    monkeypatch.setattr(survey, "TICK", 0.0)
    original = store.Sources.documents

    def in_small_pieces(sources: store.Sources) -> Iterator[Any]:
        for document in original(sources):
            yield type(document)(document.name, _small(document.pieces))

    monkeypatch.setattr(store.Sources, "documents", in_small_pieces)


def _small(pieces: Iterator[str]) -> Iterator[str]:
    for piece in pieces:
        yield from piece.splitlines(keepends=True)


def prepared(
    cache: Path, text: str | Sequence[str], on_event: Callable[[Event], None] = print, **asked: Any
) -> Prepared:
    texts = [text] if isinstance(text, str) else text
    names = tuple(f"text-{number}.txt" for number, _ in enumerate(texts))
    for name, content in zip(names, texts, strict=True):
        Path(name).write_bytes(content.encode())
    tokenizer = asked.pop("with_tokenizer", None)
    return prepare(DataConfig(texts=names, **asked), tokenizer, cache=cache, on_event=on_event)


def text_of(prepared: Prepared, part: Part) -> str:
    return prepared.tokenizer.decode(part.tokens.tolist(), special=True)


def parts_of(prepared: Prepared) -> list[str]:
    return [text_of(prepared, part) for part in (prepared.train, prepared.val, prepared.test)]


@pytest.mark.parametrize("tokenizer", ["character", "word", "bpe"])
def test_by_default_90_5_and_5_percent_of_the_characters_are_contiguous_blocks(cache: Path, tokenizer: str) -> None:
    text = TEXT.replace("geese", "γῆ😀")
    found = prepared(cache, text, tokenizer=tokenizer, vocab_size=300 if tokenizer == "bpe" else None)
    first, second = int(0.9 * len(text)), int(0.95 * len(text))
    blocks = [text[:first], text[first:second], text[second:]]
    expected = [*blocks[:2], blocks[2] + "<|endoftext|>"]
    if tokenizer == "word":  # words with numbers of the held-out text were never seen in training
        assert found.val.unknown_bytes > 0 and found.train.unknown_bytes == 0
        assert parts_of(found)[0] == blocks[0]
    else:
        assert parts_of(found) == expected
    for part, block in zip((found.train, found.val, found.test), blocks, strict=True):
        assert (part.characters, part.bytes) == (len(block), len(block.encode()))
        assert part.unknown_bytes == found.tokenizer.unknown_bytes(block)
        assert part.tokens[: len(part.tokens) - (block is blocks[2])].tolist() == found.tokenizer.encode(block)
    assert (found.characters, found.bytes, found.documents) == (len(text), len(text.encode()), 1)
    assert found.held_out


def test_split_gives_the_classic_first_and_last_part(cache: Path) -> None:
    found = prepared(cache, TEXT, split=0.9)
    cut = int(0.9 * len(TEXT))
    assert parts_of(found) == [TEXT[:cut], TEXT[cut:] + "<|endoftext|>", ""]
    assert (len(found.test.tokens), found.test.characters) == (0, 0)


def test_an_own_validation_file_leaves_all_of_the_text_for_training(cache: Path) -> None:
    Path("val.txt").write_text("geese say 7")
    found = prepared(cache, [TEXT, "7 geese"], val="val.txt")
    assert parts_of(found) == [TEXT + "<|endoftext|>7 geese<|endoftext|>", "geese say 7<|endoftext|>", ""]
    assert (found.train.characters, found.val.characters) == (len(TEXT) + 7, 11)
    other = prepared(cache, [TEXT, "7 geese"])
    assert other.text_sha256 != found.text_sha256


def test_the_vocabulary_is_built_from_the_training_part_alone(cache: Path) -> None:
    found = prepared(cache, "a" * 90 + "b" * 5 + "c" * 5)
    assert found.tokenizer.decode(range(found.tokenizer.vocab_size)) == "a"
    assert (found.val.unknown_bytes, found.test.unknown_bytes) == (5, 5)


def test_documents_end_with_the_end_of_text_but_not_where_a_split_cuts_them(cache: Path) -> None:
    end = "<|endoftext|>"
    assert parts_of(prepared(cache, ["a" * 50, "a" * 50], split=0.75)) == [
        "a" * 50 + end + "a" * 25,
        "a" * 25 + end,
        "",
    ]
    assert parts_of(prepared(cache, ["a" * 50, "a" * 50], split=0.5)) == ["a" * 50 + end, "a" * 50 + end, ""]


def test_a_tokenizer_that_is_given_is_used(cache: Path) -> None:
    tokenizer = BPETokenizer.train([TEXT], vocab_size=280)
    found = prepared(cache, TEXT, with_tokenizer=tokenizer)
    assert found.tokenizer is tokenizer
    assert found.train.tokens.tolist() == tokenizer.encode(TEXT[: int(0.9 * len(TEXT))])
    tokenizer.save(cache / "saved")
    again = prepared(cache, TEXT, with_tokenizer=load_tokenizer(cache / "saved"))
    assert again.fingerprint == found.fingerprint


def test_large_vocabularies_take_four_bytes_per_token(cache: Path) -> None:
    characters = "".join(map(chr, range(0x4E00, 0x4E00 + 20_000))) + "".join(map(chr, range(0x20000, 0x20000 + 50_000)))
    found = prepared(cache, characters, with_tokenizer=SimpleTokenizer(characters))
    assert found.train.tokens.dtype == np.dtype("<u4")
    assert text_of(found, found.val) == characters[63_000:66_500]
    assert prepared(cache, "abc" * 50).train.tokens.dtype == np.dtype("<u2")


@pytest.mark.parametrize("tokenizer", ["character", "word", "bpe"])
@pytest.mark.parametrize("text", ["x", "\n", "xx", "x" * 1000, "\n" * 500, "to be or not to be, ", "é", "one word"])
def test_the_smallest_texts_can_be_learned_from(cache: Path, text: str, tokenizer: str) -> None:
    found = prepared(cache, text, tokenizer=tokenizer)
    assert len(found.train.tokens) >= 2 and len(found.val.tokens) >= 2


def test_a_text_too_short_to_hold_out_validates_on_itself_and_says_so(cache: Path) -> None:
    events: list[Event] = []
    found = prepared(cache, "to be or not to be", events.append)
    assert not found.held_out and found.val is found.train and len(found.test.tokens) == 0
    assert text_of(found, found.train) == "to be or not to be<|endoftext|>"
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes == [
        "the text is too short to hold any of it out: validation is on the training text itself",
        "training text: 18 characters, 19 tokens",
    ]
    found = prepared(cache, "word" * 200, tokenizer="word")  # one word, which a cut would have cut
    assert not found.held_out and text_of(found, found.train) == "word" * 200 + "<|endoftext|>"


@pytest.mark.parametrize(("text", "split"), [("x", 0.5), ("xyz", 0.1), ("xyz", 0.5)])
def test_a_split_that_leaves_too_little_is_refused(cache: Path, text: str, split: float) -> None:
    count = int(split * len(text))
    with pytest.raises(TextError, match=f"a training text of {count} characters is too little to learn from; give a"):
        prepared(cache, text, split=split)


def test_lines_without_a_word_are_no_text(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text('{"text": ""}\n\n{"text": ""}\n')
    with pytest.raises(TextError, match="a training text of 0 characters is too little to learn from; give a longer"):
        prepare(DataConfig(texts=(str(tmp_path / "empty.jsonl"),)), None, cache=cache)


def test_a_line_for_each_part_says_how_much_it_has(cache: Path) -> None:
    events: list[Event] = []
    prepared(cache, "ab" * 1000, events.append)
    assert [event.text for event in events if isinstance(event, Note)] == [
        "training text: 1,800 characters, 1,800 tokens",
        "validation text: 100 characters, 100 tokens",
        "test text: 100 characters, 101 tokens",
    ]


def test_a_held_out_text_that_the_vocabulary_has_no_words_for_is_told_of(cache: Path) -> None:
    events: list[Event] = []
    sentences = "".join(f"{chr(0x4E00 + number)}年春天在那裡。" for number in range(400))  # without spaces
    prepared(cache, sentences, events.append, tokenizer="word")
    notes = [event.text for event in events if isinstance(event, Note)]
    assert [note.partition("% of the ")[2].split(" ")[0] for note in notes[3:]] == ["validation", "test"]
    assert all(note.endswith(" is in characters or words that the vocabulary does not have") for note in notes[3:])


def test_progress_is_told_and_comes_to_its_end(cache: Path, small_steps: None) -> None:
    events: list[Event] = []
    prepared(cache, TEXT, events.append)
    told = [event for event in events if isinstance(event, Preparing)]
    assert list(dict.fromkeys(event.what for event in told)) == ["reading", "learning the vocabulary", "encoding"]
    for what, group in itertools.groupby(told, lambda event: event.what):
        done = [event.done for event in group]
        assert done == sorted(done) and len(done) > 5, what
        assert all(event.done <= event.total for event in told)
    assert [event for event in told if event.what == "encoding"][-1].done == len(TEXT)


def test_the_second_time_nothing_is_encoded(cache: Path) -> None:
    first = prepared(cache, TEXT, tokenizer="bpe", vocab_size=300)
    events: list[Event] = []
    again = prepared(cache, TEXT, events.append, tokenizer="bpe", vocab_size=300)
    assert {event.what for event in events if isinstance(event, Preparing)} == {"reading"}
    assert again.fingerprint == first.fingerprint
    assert again.tokenizer.encode(TEXT) == first.tokenizer.encode(TEXT)
    assert isinstance(again.train.tokens, np.memmap) and not again.train.tokens.flags.writeable
    assert (again.train.tokens == first.train.tokens).all()


def test_a_fingerprint_names_text_parts_and_tokenizer(cache: Path) -> None:
    base = prepared(cache, TEXT)
    shorter = prepared(cache, TEXT[:-1])
    assert shorter.text_sha256 != base.text_sha256 and shorter.fingerprint != base.fingerprint
    split = prepared(cache, TEXT, split=0.9)
    assert split.text_sha256 == base.text_sha256 and split.fingerprint != base.fingerprint
    words = prepared(cache, TEXT, tokenizer="word")
    assert words.text_sha256 == base.text_sha256 and words.tokenizer_sha256 != base.tokenizer_sha256
    assert words.fingerprint != base.fingerprint
    two = prepared(cache, [TEXT[:99], TEXT[99:]])
    assert two.text_sha256 != base.text_sha256 and two.documents == 2


def test_what_was_prepared_can_be_opened_again_without_its_text(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    sources = find_texts(["-"])
    first = prepare(DataConfig(texts=("-",)), None, cache=cache, sources=sources)
    again = reopen(cache, first.fingerprint)
    assert again is not None
    assert parts_of(again) == parts_of(first)
    for name in ("fingerprint", "text_sha256", "tokenizer_sha256", "characters", "bytes", "documents"):
        assert getattr(again, name) == getattr(first, name)
    assert reopen(cache, "0" * 64) is None


@pytest.mark.parametrize("harm", ["flip", "shorten", "remove"])
def test_a_damaged_store_is_noticed_and_made_again(cache: Path, harm: str) -> None:
    first = prepared(cache, TEXT)
    content = np.array(first.train.tokens)
    path = cache / "tokens" / first.fingerprint / "train.bin"
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-2] + (b"\xff\xff" if harm == "flip" else b""))
    with pytest.raises(DamagedError, match=r"train\.bin"):
        reopen(cache, first.fingerprint)
    assert (prepared(cache, TEXT).train.tokens == content).all()
    assert reopen(cache, first.fingerprint) is not None


def test_tokens_and_rows_that_do_not_fit_are_damage(tmp_path: Path) -> None:
    with parts.PartWriter(tmp_path, "train", np.dtype("<u2")) as writer:
        writer.write(np.arange(5, dtype=np.uint16), 5, 5, 0)
    assert parts.open_part(tmp_path, "train", np.dtype("<u2")).tokens.tolist() == [0, 1, 2, 3, 4]
    (tmp_path / "train.bin").write_bytes(b"1234")
    with pytest.raises(DamagedError, match=r"train\.bin does not have as many tokens as its rows say; prepare"):
        parts.open_part(tmp_path, "train", np.dtype("<u2"))


class Interrupted(SimpleTokenizer):
    """A tokenizer during which somebody presses Ctrl-C after so many pieces."""

    left = 0
    seen = 0

    def encode_array(self, pieces: Sequence[str]) -> Any:
        self.seen += len(pieces)
        if self.seen > self.left:
            raise KeyboardInterrupt
        return super().encode_array(pieces)


@pytest.mark.parametrize("after", [1, 40, 150, 330, 380])
def test_an_interrupted_preparation_goes_on_where_it_was(cache: Path, small_steps: None, after: int) -> None:
    tokenizer = Interrupted(TEXT)
    whole = prepared(cache, TEXT, with_tokenizer=SimpleTokenizer(TEXT))
    other = cache.with_name("other")
    tokenizer.left = after
    with pytest.raises(KeyboardInterrupt):
        prepared(other, TEXT, with_tokenizer=tokenizer)
    (temporary,) = (other / "tokens").glob("*.tmp")
    if after == 150:  # and some of what was written came to the disk in part
        with (temporary / "train.bin").open("ab") as tokens, (temporary / "train.rows").open("ab") as rows:
            tokens.write(b"\x01\x02\x03")
            rows.write(b"\x01\x02\x03")
    tokenizer.left, tokenizer.seen = 10**6, 0
    again = prepared(other, TEXT, with_tokenizer=tokenizer)
    assert tokenizer.seen <= 410 - after * (after > 1) + 20
    assert again.fingerprint == whole.fingerprint and not list((other / "tokens").glob("*.tmp"))
    for name in ("train", "val", "test"):
        for end in ("bin", "rows"):
            one, two = (folder / "tokens" / whole.fingerprint / f"{name}.{end}" for folder in (cache, other))
            assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("shuffle", [None, "documents"])
@pytest.mark.parametrize(
    ("other", "after"), [(TEXT.replace("geese", "ducks"), 150), ("x" + TEXT, 330), (TEXT + TEXT, 700)]
)
def test_what_was_interrupted_while_another_text_stood_there_is_not_gone_on_with(
    cache: Path, small_steps: None, other: str, after: int, shuffle: Any
) -> None:
    class Swapping(Interrupted):
        swaps = True

        @property
        def dtype(self) -> Any:
            if self.swaps:
                Path("text-2.txt").write_text(other)  # asked for between the first reading and the second
            return np.uint16

    texts = ["one", "two", TEXT]
    whole = prepared(cache, texts, with_tokenizer=SimpleTokenizer(TEXT + other), shuffle=shuffle)
    beside, tokenizer = cache.with_name("other"), Swapping(TEXT + other)
    tokenizer.left = after
    with pytest.raises(KeyboardInterrupt):
        prepared(beside, texts, with_tokenizer=tokenizer, shuffle=shuffle)
    assert list((beside / "tokens").glob("*.tmp"))
    tokenizer.left, tokenizer.swaps = 10**6, False
    again = prepared(beside, texts, with_tokenizer=tokenizer, shuffle=shuffle)  # when the first is there again
    assert again.fingerprint == whole.fingerprint and parts_of(again) == parts_of(whole)
    assert len(list((beside / "tokens").iterdir())) == 2  # what was made, and its lock


def test_tokens_of_another_text_are_not_gone_on_with(tmp_path: Path) -> None:
    tokenizer = SimpleTokenizer("ab")
    for text in ("aa", "ab"):
        reader = survey.Reader([Document("one", iter([text]))])
        with (
            pytest.raises(DamagedError, match="what was encoded before is of another text; it is encoded anew")
            if text == "ab"
            else nullcontext(),
            parts.PartWriter(tmp_path, "train", np.dtype("<u2")) as writer,
        ):
            encoding.encode(reader, tokenizer, [writer], survey.Progress("encoding", 2, print))


def test_rows_that_promise_more_than_there_is_are_not_believed(tmp_path: Path) -> None:
    dtype = np.dtype("<u2")
    with parts.PartWriter(tmp_path, "train", dtype) as writer:
        writer.write(np.arange(50, dtype=np.uint16), 50, 50, 0)
    (tmp_path / "train.bin").write_bytes(b"1234")
    with parts.PartWriter(tmp_path, "train", dtype) as writer:
        assert writer.characters == 0
        writer.write(np.arange(5, dtype=np.uint16), 5, 5, 0)
    assert parts.open_part(tmp_path, "train", dtype).tokens.tolist() == [0, 1, 2, 3, 4]


def test_a_text_that_changes_while_it_is_read_is_refused(cache: Path) -> None:
    class Changing(SimpleTokenizer):
        def encode_array(self, pieces: Sequence[str]) -> Any:
            return super().encode_array(pieces)

        @property
        def dtype(self) -> Any:
            Path("text-0.txt").write_text(TEXT + "more")  # asked for between the first reading and the second
            return np.uint16

    with pytest.raises(TextError, match="text-0 changed while it was read; begin again when it is at rest"):
        prepared(cache, TEXT, with_tokenizer=Changing(TEXT))
    assert not list((cache / "tokens").glob("*.tmp"))


@pytest.mark.parametrize("shuffle", [None, "documents"])
@pytest.mark.parametrize("tokenizer", ["character", "word", "bpe"])
def test_no_vocabulary_is_kept_of_a_text_that_changed_while_it_was_learned(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Any, shuffle: Any
) -> None:
    texts = [TEXT[:5000], TEXT[5000:12000], TEXT[12000:]]
    asked = {"tokenizer": tokenizer, "vocab_size": 300, "shuffle": shuffle}
    whole = prepared(cache.with_name("other"), texts, **asked)
    learn, swapped = store.vocabulary, [text.replace("geese", "ducks").encode() for text in texts]

    def learned(*settings: Any) -> Tokenizer:
        for number, other in enumerate(swapped):  # a sync tool brings another version
            Path(f"text-{number}.txt").write_bytes(other)
        return learn(*settings)

    monkeypatch.setattr(store, "vocabulary", learned)
    with pytest.raises(TextError, match="text-0 changed while it was read; begin again when it is at rest"):
        prepared(cache, texts, **asked)
    monkeypatch.setattr(store, "vocabulary", learn)
    again = prepared(cache, texts, **asked)  # and puts the first one back
    assert again.fingerprint == whole.fingerprint and parts_of(again) == parts_of(whole)


def test_a_full_disk_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts.PartWriter, "write", full)
    with pytest.raises(SaveError, match="could not be written: No space left on device"):
        prepared(cache, TEXT)


def test_two_that_prepare_the_same_text_at_once_both_have_it(cache: Path) -> None:
    Path("a.txt").write_text(TEXT)
    data = DataConfig(texts=("a.txt",), tokenizer="bpe", vocab_size=280)
    results: list[Prepared] = []
    threads = [
        threading.Thread(target=lambda: results.append(prepare(data, None, cache=cache, on_event=print)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({result.fingerprint for result in results}) == 1 and len(results) == 3


def test_the_head_of_a_part_is_whole_pieces_with_their_own_counts(cache: Path) -> None:
    text = "".join(f"{number} γῆ gänse\n" for number in range(30_000))
    found = prepared(cache, text, split=0.1, tokenizer="word")
    part = found.val
    for tokens in (20_000, 35_000, len(part.tokens) - 1):
        head = part.head(tokens)
        assert 0 < len(head.tokens) <= tokens < len(head.tokens) + 20_000
        start = int(0.1 * len(text))
        expected = text[start : start + head.characters]
        assert head.bytes == len(expected.encode())
        assert head.tokens.tolist() == found.tokenizer.encode(expected)
        assert head.unknown_bytes == found.tokenizer.unknown_bytes(expected) > 0
    assert part.head(len(part.tokens)) is part
    assert part.head(1).characters == part.head(9000).characters > 0
    assert len(found.test.head(5).tokens) == 0


def test_byte_pairs_of_a_large_text_are_learned_from_a_sample(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    train = BPETokenizer.train

    def spy(texts: Iterator[str], **settings: Any) -> Tokenizer:
        taken.extend(texts)
        return train(taken, **settings)

    monkeypatch.setattr(BPETokenizer, "train", spy)
    text = "".join(f"number {number} of many\n" for number in range(100_000))
    monkeypatch.setattr(vocabulary, "SAMPLE", 300_000)
    prepared(cache, text, tokenizer="bpe", vocab_size=300)
    size = sum(map(len, taken))
    assert 100_000 < size <= 300_000
    places = sorted(text.index(piece[:40]) for piece in taken)
    assert places[0] < 0.3 * len(text) and places[-1] > 0.6 * len(text)
    first, taken[:] = list(taken), []
    prepared(cache.with_name("other"), text, tokenizer="bpe", vocab_size=300)
    assert taken == first


def test_words_of_a_large_text_are_learned_from_a_sample(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"the {number} of many " for number in range(20_000))
    whole = prepared(cache, text, tokenizer="word")
    monkeypatch.setattr(vocabulary, "SAMPLE", 100_000)
    some = prepared(cache.with_name("other"), text, tokenizer="word")
    assert whole.train.unknown_bytes == 0 and whole.tokenizer.vocab_size > 18_000
    assert 3_000 < some.tokenizer.vocab_size < 6_000 and some.train.unknown_bytes > 0
    monkeypatch.setattr(vocabulary, "SAMPLE", len(text))
    monkeypatch.setattr(vocabulary, "DIFFERENT", 0)
    again = prepared(cache.with_name("again"), text, tokenizer="word")
    assert again.fingerprint == whole.fingerprint


def test_words_that_are_never_the_same_are_soon_enough(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    train = BPETokenizer.train

    def spy(texts: Iterator[str], **settings: Any) -> Tokenizer:
        taken.extend(texts)
        return train(taken, **settings)

    monkeypatch.setattr(BPETokenizer, "train", spy)
    monkeypatch.setattr(vocabulary, "DIFFERENT", 40_000)
    digits = np.random.default_rng(0).integers(0, 4, 300_000)
    prepared(cache, "".join("ACGT"[digit] for digit in digits), tokenizer="bpe", vocab_size=260)
    assert 40_000 <= sum(map(len, taken)) <= 40_000 + 16_384
    taken.clear()
    prepared(cache, TEXT * 20, tokenizer="bpe", vocab_size=260)  # the same words again and again are no burden
    assert sum(map(len, taken)) == int(0.9 * len(TEXT) * 20)


def test_a_vocabulary_of_a_size_is_taken_from_the_config(cache: Path) -> None:
    assert prepared(cache, TEXT, tokenizer="bpe", vocab_size=270).tokenizer.vocab_size == 270
    assert prepared(cache, TEXT, tokenizer="bpe", vocab_size=290).tokenizer.vocab_size == 290
    assert prepared(cache, TEXT, tokenizer="word", vocab_size=20).train.unknown_bytes > 0
    with pytest.raises(TokenizerError, match="vocab_size"):
        prepared(cache, TEXT, tokenizer="bpe", vocab_size=3)


LAW = settings(derandomize=True, deadline=None, database=None, max_examples=30)


def test_the_parts_of_any_texts_joined_are_the_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a hundred times in vain
    tokenizer = SimpleTokenizer("ab \n")

    @LAW
    @given(st.lists(st.text("ab \n", min_size=1, max_size=80), min_size=1, max_size=4), st.floats(0.3, 0.99))
    def law(texts: list[str], split: float) -> None:
        if int(split * len("".join(texts))) >= 2:
            found = prepared(tmp_path / "cache", texts, lambda event: None, split=split, with_tokenizer=tokenizer)
            joined = "".join(text + "<|endoftext|>" for text in texts)
            train, val, test = parts_of(found)
            assert train + val + test == joined
            assert found.train.characters == int(split * len("".join(texts)))

    law()
