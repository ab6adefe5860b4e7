"""Where a text may be cut so that no tokenizer can tell."""

import itertools
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from octavo.data.pieces import LIMIT, cut_pieces
from octavo.tokenizers import BPETokenizer, SimpleTokenizer, Tokenizer

LAW = settings(derandomize=True, deadline=None, database=None, max_examples=200)
SPACES = [chr(c) for c in (*range(9, 14), *range(0x1C, 0x21), 0x85, 0xA0, 0x1680, 0x180E, *range(0x2000, 0x200C))]
SPACES += [chr(c) for c in (0x2028, 0x2029, 0x202F, 0x205F, 0x2060, 0x3000, 0xFEFF)]
WORDS = [
    "a",
    "to",
    "don't",
    "'s",
    "'",
    "...",
    "42",
    "é",
    "e\u0301",
    "\u0301",
    "道",
    "হি",
    "😀",
    "<unk>",
    "½",
    "_x",
    "\u200d",
]
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
QWEN = pre_tokenizers.Split(
    Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "isolated",
)


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts in which these parts follow one another again and again."""
    return st.lists(st.tuples(*parts).map("".join), max_size=30).map("".join)


def runs(characters: Sequence[str], longest: int = 3) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(characters), min_size=1, max_size=longest).map("".join)


words = st.sampled_from(WORDS)
ordinary = joined(words, runs(" \n\t"))
odd = joined(words, runs(SPACES), words, st.just(" b"))
without_double_spaces = joined(
    words, st.sampled_from([" ", "\n", "\n\n", " \n", "\t", "\r\n", "\n ", "\u3000", "\xa0"])
)
with_single_spaces = joined(words, st.sampled_from(["\n", "\n\n", "\r\n", "  ", ".\n"]), words, st.just(" "))


def cut(pre: pre_tokenizers.PreTokenizer, text: str) -> list[str]:
    return [piece for piece, _ in pre.pre_tokenize_str(text)]


def cut_in_pieces(pre: pre_tokenizers.PreTokenizer, text: str) -> list[str]:
    return [word for piece in cut_pieces([text], limit=16) for word in cut(pre, piece)]


@pytest.mark.parametrize("texts", [ordinary, odd], ids=["ordinary", "odd"])
def test_gpt2_sees_the_same_words_in_pieces_as_in_the_whole(texts: st.SearchStrategy[str]) -> None:
    @LAW
    @given(texts)
    def law(text: str) -> None:
        assert cut_in_pieces(GPT2, text) == cut(GPT2, text)

    law()


@LAW
@given(with_single_spaces)
def test_where_there_are_single_spaces_qwen_sees_the_same_words_too(text: str) -> None:
    assert cut_in_pieces(QWEN, text) == cut(QWEN, text)


@LAW
@given(joined(words, st.sampled_from(["  ", "   "]), words, st.sampled_from(["\n", " \n", "\t"])))
def test_spaces_side_by_side_stay_together_for_a_word_tokenizer_where_that_can_be(text: str) -> None:
    tokenizer = SimpleTokenizer(" ".join(WORDS) + "   \n\t  ", unit="word")
    pieces = tokenizer.encode_array(list(cut_pieces([text], limit=24)))
    assert list(itertools.chain.from_iterable(ids.tolist() for ids in pieces)) == tokenizer.encode(text)


@pytest.fixture(scope="module")
def tokenizers() -> list[Tokenizer]:
    text = " ".join(WORDS) + "\n\n\n   \t\n "
    return [
        BPETokenizer.train([text] * 50, vocab_size=300),
        SimpleTokenizer(text),
        SimpleTokenizer(text, unit="word"),
    ]


def test_the_ids_of_the_pieces_joined_are_those_of_the_whole(tokenizers: list[Tokenizer]) -> None:
    @LAW
    @given(without_double_spaces)
    def law(text: str) -> None:
        for tokenizer in tokenizers:
            pieces = tokenizer.encode_array(list(cut_pieces([text], limit=16)))
            assert list(itertools.chain.from_iterable(ids.tolist() for ids in pieces)) == tokenizer.encode(text)

    law()


@LAW
@given(st.lists(st.text(st.sampled_from("ab \n。")), max_size=20), st.integers(2, 12))
def test_pieces_keep_every_character_and_do_not_depend_on_how_the_text_came(chunks: list[str], limit: int) -> None:
    pieces = list(cut_pieces(chunks, limit))
    assert "".join(pieces) == "".join(chunks)
    assert all(0 < len(piece) <= limit for piece in pieces)
    assert pieces == list(cut_pieces(["".join(chunks)], limit))


def test_a_text_without_spaces_is_cut_before_its_punctuation() -> None:
    assert list(cut_pieces(["天地玄黃。宇宙洪荒。日月盈昃"], limit=8)) == ["天地玄黃", "。宇宙洪荒", "。日月盈昃"]


@pytest.mark.parametrize("text", ["x" * 50_000, "\n" * 50_000, "y" + " " * 40_000])
def test_where_there_is_no_place_to_cut_a_piece_ends_at_the_limit(text: str) -> None:
    pieces = list(cut_pieces([text]))
    assert "".join(pieces) == text
    assert [len(piece) for piece in pieces[:-1]] == [LIMIT] * (len(text) // LIMIT)


def test_a_long_text_of_one_line_is_never_in_memory_as_a_whole() -> None:
    tracemalloc.start()
    try:
        count = sum(len(piece) for piece in cut_pieces("word" * 4096 for _ in range(500)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 500 * 4 * 4096
    assert peak < 500_000
