"""Text to ids and back: what every tokenizer promises, and what the simple ones do with what they never saw."""

import pickle
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import TokenizerError, UnknownTextError
from octavo.tokenizers import END_OF_TEXT, UNKNOWN, BPETokenizer, SimpleTokenizer, Tokenizer

LAW = settings(derandomize=True, deadline=None, database=None, max_examples=150)
SCRIPTS = (
    "To be, or not to be: that's the question.\nWhether 'tis nobler\r\n\tin the mind   to suffer;\n\n\n_slings_ 42 ",
    "Ὦ ξεῖν’, ἀγγέλλειν Λακεδαιμονίοις",  # Greek, with its accents in the letters
    "e\u0301 n\u0303 o\u0302\u0323 \u0301 stray",  # combining marks, one of them on nothing
    "নমস্কার, কেমন আছেন? हिन्दी में क्ष त्र ज्ञ",  # Bengali and Hindi: marks that Python's own \w leaves out
    "العَرَبِيَّة\u200f می\u200cخواهم",  # Arabic with vowels, Persian with a joiner that is no letter
    "שָׁלוֹם ‏(עולם)",
    "天地玄黃,宇宙洪荒。 日本語のテキスト 한국어 ㄱㅏ 각",
    "ภาษาไทยไม่มีช่องว่าง မြန်မာ",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ❤️abc 🇬🇷 😀",
    "a\u00a0b\u2003c\u2028d\u0085e\x00f\ufefff\x1c",
    "<unk> <|endoftext|> <|endoftext |><unk><unk>[UNK]</s> <|im_start|>",
    "Ġhello Ċ âĢĻ ▁low ##ing",  # what other tokenizers write in place of bytes and spaces
    "ﬁ Ⅳ ½ ǆ İ ß ẞ \ufffd \uffff \U0010ffff",
)
TEXT = "\n".join(SCRIPTS)


@pytest.fixture(scope="module", params=["character", "word", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "bpe":
        return BPETokenizer.train(SCRIPTS, vocab_size=400)
    return SimpleTokenizer.train(SCRIPTS, unit=request.param)


CHARACTERS = SimpleTokenizer(TEXT)
WORDS = SimpleTokenizer(TEXT, unit="word")
seen = st.text(st.sampled_from(sorted(set(TEXT))))
half_seen = st.text(st.one_of(st.sampled_from(sorted(set(TEXT))), st.characters(codec="utf-8")))


@pytest.mark.parametrize("text", ["", *SCRIPTS, TEXT])
def test_decoding_what_was_encoded_gives_the_text_back_in_every_script(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@LAW
@given(seen)
def test_any_text_of_characters_seen_comes_back(text: str) -> None:
    assert CHARACTERS.decode(CHARACTERS.encode(text)) == text


@LAW
@given(st.lists(st.sampled_from([*TEXT.split(), " ", "  ", "\n", "\r\n", "\u0301", "<unk>"])).map("".join))
def test_any_text_comes_back_from_the_words_that_it_taught(text: str) -> None:
    tokenizer = SimpleTokenizer([text, "x"], unit="word")
    assert tokenizer.decode(tokenizer.encode(text)) == text


@LAW
@given(st.lists(half_seen, max_size=4))
def test_the_fast_road_gives_the_ids_of_the_library(pieces: list[str]) -> None:
    for tokenizer in (CHARACTERS, WORDS):
        expected = [tokenizer.backend.encode(piece, add_special_tokens=False).ids for piece in pieces]
        assert [ids.tolist() for ids in tokenizer.encode_array(pieces)] == expected
        assert [tokenizer.encode(piece) for piece in pieces] == expected


def test_the_fast_road_gives_the_same_ids_in_the_smallest_numbers_that_hold_them(tokenizer: Tokenizer) -> None:
    arrays = tokenizer.encode_array([*SCRIPTS, ""])
    assert [ids.tolist() for ids in arrays] == [tokenizer.encode(text) for text in [*SCRIPTS, ""]]
    assert {ids.dtype for ids in arrays} == {np.dtype(np.uint16)} == {np.dtype(tokenizer.dtype)}
    many = SimpleTokenizer("".join(map(chr, range(0x10000, 0x20000))))
    assert many.vocab_size == 2**16 + 2 and many.encode_array(["\U0001ffff"])[0].tolist() == [2**16 + 1]
    assert many.dtype is np.uint32


def test_texts_beyond_a_group_are_encoded_like_the_rest(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tokenizer.encode_array(SCRIPTS)
    monkeypatch.setattr("octavo.tokenizers.base.GROUP", 50)
    assert all(map(np.array_equal, tokenizer.encode_array(SCRIPTS), whole))


@pytest.mark.parametrize("word", [UNKNOWN, END_OF_TEXT])
def test_ordinary_text_never_becomes_a_special_token(word: str) -> None:
    text = f"a{word} {word}{word}\n{word}b"
    for tokenizer in (
        SimpleTokenizer(text),
        SimpleTokenizer(text, unit="word"),
        BPETokenizer.train([text * 99], vocab_size=300),
    ):
        ids = tokenizer.encode(text)
        assert not {tokenizer.unknown, tokenizer.end_of_text} & set(ids)
        assert not {tokenizer.unknown, tokenizer.end_of_text} & set(tokenizer.encode_array([text])[0].tolist())
        assert tokenizer.decode(ids) == tokenizer.decode(ids, special=True) == text


def test_special_tokens_are_read_and_written_when_asked_for(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(f"to{END_OF_TEXT}be", special=True)
    assert ids.count(tokenizer.end_of_text) == 1
    assert tokenizer.decode(ids) == "tobe"
    assert tokenizer.decode(ids, special=True) == f"to{END_OF_TEXT}be"
    assert tokenizer.end_of_text not in tokenizer.encode(f"to{END_OF_TEXT}be")  # asking once changes nothing later


def test_a_copy_in_another_process_reads_special_tokens_as_text_too(tokenizer: Tokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode(TEXT) == tokenizer.encode(TEXT)


def test_what_a_tokenizer_says_of_itself(tokenizer: Tokenizer) -> None:
    assert repr(tokenizer) == f"{type(tokenizer).__name__}(kind='{tokenizer.kind}', vocab_size={tokenizer.vocab_size})"
    assert tokenizer.vocab_size == len(tokenizer.backend.get_vocab())
    assert tokenizer.opening == ()
    assert tokenizer.forbidden == (() if tokenizer.kind == "bpe" else (0,))


def test_only_the_unknown_token_is_forbidden_and_the_end_of_text_is_not() -> None:
    assert CHARACTERS.forbidden == (CHARACTERS.unknown,)
    assert BPETokenizer.train(["abc"], vocab_size=257).forbidden == ()


def test_the_vocabulary_is_sorted_whatever_the_order_of_the_text() -> None:
    for unit in ("character", "word"):
        vocabulary = SimpleTokenizer(["b a", "c b b b\n"], unit=unit).backend.get_vocab()
        assert sorted(vocabulary, key=vocabulary.__getitem__) == [UNKNOWN, END_OF_TEXT, "\n", " ", "a", "b", "c"]
        assert SimpleTokenizer(["c b b b\n", "b a"], unit=unit).backend.get_vocab() == vocabulary


def test_a_smaller_vocabulary_keeps_the_most_frequent_and_of_equals_the_first() -> None:
    for unit in ("character", "word"):
        vocabulary = SimpleTokenizer.train("d d c c b b a a ", unit=unit, vocab_size=5).backend.get_vocab()
        assert vocabulary == {UNKNOWN: 0, END_OF_TEXT: 1, " ": 2, "a": 3, "b": 4}


def test_words_carry_their_marks_and_everything_else_stands_alone() -> None:
    text = "क्षत्रिय don't snake_case  e\u0301t❤️abc\r\n\n42x"
    pieces = [piece for piece, _ in WORDS.backend.pre_tokenizer.pre_tokenize_str(text)]
    assert pieces == [
        *("क्षत्रिय", " ", "don", "'", "t", " ", "snake_case", "  "),
        *("e\u0301t", "❤", "\ufe0f", "abc", "\r", "\n", "\n", "42x"),
    ]


def test_what_was_never_seen_is_unknown_and_is_named_with_its_place() -> None:
    tokenizer = SimpleTokenizer("to be")
    assert tokenizer.encode("tßbe🐌") == [tokenizer.encode("t")[0], 0, *tokenizer.encode("be"), 0]
    assert tokenizer.unknowns("tßbe🐌e") == [("ß", 1), ("🐌", 4)]
    assert tokenizer.decode(tokenizer.encode("tßo")) == "to"
    assert tokenizer.decode(tokenizer.encode("tßo"), special=True) == "t<unk>o"
    words = SimpleTokenizer("to be or", unit="word")
    assert words.unknowns("🐌 to bee or not") == [("🐌", 0), ("bee", 5), ("not", 12)]
    assert words.unknowns("or to") == []


def test_a_strict_encoder_names_the_first_unknown_piece_and_its_place() -> None:
    message = (
        r"^'ß' \(U\+00DF\) at position 13 is not in the vocabulary; "
        "train on a text that has it, or leave strict out to read it as <unk>$"
    )
    with pytest.raises(UnknownTextError, match=message):
        SimpleTokenizer("to be, or not").encode("not to be rooß", strict=True)
    with pytest.raises(UnknownTextError, match=r"^'bee' at position 3 is not in the vocabulary"):
        SimpleTokenizer("to be", unit="word").encode("to bee", strict=True)
    assert SimpleTokenizer("to be").encode("be", strict=True) == SimpleTokenizer("to be").encode("be")


def test_an_unknown_token_that_was_asked_for_is_no_surprise_to_a_strict_encoder() -> None:
    tokenizer = SimpleTokenizer("to be")
    assert tokenizer.encode("to<unk>", special=True, strict=True)[-1] == tokenizer.unknown
    with pytest.raises(UnknownTextError, match=r"'x' .* at position 7"):
        tokenizer.encode("to<unk>x", special=True, strict=True)


@LAW
@given(half_seen)
def test_the_bytes_hidden_by_unknown_tokens_are_those_of_the_pieces_never_seen(text: str) -> None:
    for tokenizer in (CHARACTERS, WORDS):
        unknowns = tokenizer.unknowns(text)
        assert tokenizer.unknown_bytes(text) == sum(len(piece.encode()) for piece, _ in unknowns)
        assert all(text.startswith(piece, position) for piece, position in unknowns)
        assert len(unknowns) == tokenizer.encode(text).count(tokenizer.unknown)


def test_bytes_are_never_unknown() -> None:
    assert BPETokenizer.train(["abc"], vocab_size=257).unknown_bytes("ß🐌") == 0


@LAW
@given(st.lists(st.integers(0, WORDS.vocab_size - 1)))
def test_streamed_words_and_characters_join_to_the_decoded_text(ids: list[int]) -> None:
    for tokenizer in (CHARACTERS, WORDS):
        known = [position for position in ids if position < tokenizer.vocab_size]
        stream = tokenizer.stream()
        assert "".join([*map(stream.push, known), stream.finish()]) == tokenizer.decode(known)


def broken() -> Iterator[str]:
    yield "sound"
    yield "half \ud800"


def test_half_a_surrogate_pair_is_refused_with_its_place(tokenizer: Tokenizer) -> None:
    message = r"^U\+D800 at position 5 is half of a surrogate pair, no character; replace it first$"
    for encode in (tokenizer.encode, tokenizer.unknown_bytes, lambda text: tokenizer.encode_array(["", text])):
        with pytest.raises(TokenizerError, match=message):
            encode("half \ud800")
    with pytest.raises(TokenizerError, match=message):
        tokenizer.encode("half \ud800", special=True)
    with pytest.raises(TokenizerError, match=message):
        BPETokenizer.train(broken(), vocab_size=300)
    for unit in ("character", "word"):
        with pytest.raises(TokenizerError, match=message):
            SimpleTokenizer("half ", unit=unit).unknowns("half \ud800")


@pytest.mark.parametrize("text", [b"bytes", None, 7])
def test_what_is_no_text_is_refused(tokenizer: Tokenizer, text: object) -> None:
    for encode in (tokenizer.encode, lambda text: tokenizer.encode_array([text])):
        with pytest.raises(TokenizerError, match=r"is not a text; give a str$"):
            encode(text)  # type: ignore[arg-type]


def test_ids_may_come_in_any_row_of_whole_numbers(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("to be")
    for row in (tuple(ids), iter(ids), np.array(ids), np.array(ids, np.uint16), list(np.array(ids))):
        assert tokenizer.decode(row) == "to be"


@pytest.mark.parametrize("ids", [[0.5], ["a"], 7, [[1, 2]], [None]])
def test_what_is_no_row_of_ids_is_refused(tokenizer: Tokenizer, ids: object) -> None:
    with pytest.raises(TokenizerError, match=r"is no row of token ids; give whole numbers$"):
        tokenizer.decode(ids)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [-1, 10**4, 2**70])
def test_an_id_that_no_token_has_is_refused_at_once_and_in_a_stream(tokenizer: Tokenizer, wrong: int) -> None:
    message = rf"^id {wrong} is no token; this vocabulary has ids from 0 to {tokenizer.vocab_size - 1}$"
    with pytest.raises(TokenizerError, match=message):
        tokenizer.decode([2, wrong])
    with pytest.raises(TokenizerError, match=message):
        tokenizer.stream().push(wrong)


@pytest.mark.parametrize("texts", ["", [], ["", ""], iter([])])
def test_a_text_with_nothing_in_it_teaches_no_vocabulary(texts: str | list[str]) -> None:
    for unit in ("character", "word"):
        with pytest.raises(
            TokenizerError, match=r"^the text is empty, so there is no vocabulary in it; give at least one"
        ):
            SimpleTokenizer(texts, unit=unit)
    with pytest.raises(
        TokenizerError, match=r"^the text is empty, so nothing can be learned from it; give at least one"
    ):
        BPETokenizer.train(texts, vocab_size=300)


def test_impossible_sizes_and_units_are_refused() -> None:
    with pytest.raises(TokenizerError, match=r"^unit is 'line'; a text is cut by character or by word$"):
        SimpleTokenizer("abc", unit="line")  # type: ignore[arg-type]
    with pytest.raises(
        TokenizerError, match=r"^vocab_size 2 is too small for one word beside <unk> and .*; give at least 3$"
    ):
        SimpleTokenizer("abc", unit="word", vocab_size=2)
    with pytest.raises(
        TokenizerError, match=r"^vocab_size 256 is too small for the 256 bytes beside .*; give at least 257$"
    ):
        BPETokenizer.train("abc", vocab_size=256)
    with pytest.raises(TokenizerError, match=rf"^vocab_size {10**30} is too large; give at most 16777216$"):
        BPETokenizer.train("abc", vocab_size=10**30)
    for value in (True, 300.0, "300"):
        with pytest.raises(TokenizerError, match=rf"^vocab_size is {value!r}; give a whole number$"):
            BPETokenizer.train("abc", vocab_size=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", ["character", "word"])
@pytest.mark.parametrize("bad", [[b"bytes"], [None], ["half \ud800"], 7])
def test_what_cannot_be_read_teaches_no_vocabulary(unit: str, bad: object) -> None:
    with pytest.raises(TokenizerError, match=r"; give a str$|; replace it first$"):
        SimpleTokenizer(bad, unit=unit)  # type: ignore[arg-type]


def test_importing_tokenizers_does_not_import_torch() -> None:
    code = "import sys; from octavo.tokenizers import SimpleTokenizer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
