"""Byte-level BPE: what it learns, that nothing is ever lost in it, and that GPT-2's own ids are those of tiktoken."""

import json
import random
import re
from pathlib import Path
from random import Random

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer

from octavo.data import fetch
from octavo.errors import TokenizerError
from octavo.tokenizers import END_OF_TEXT, BPETokenizer, load_tokenizer
from octavo.tokenizers.bpe import BYTE_OF
from sweeps import sweep

LAW = settings(derandomize=True, deadline=None, database=None, max_examples=200)
TEXT = "the cat sat on the mat, the naïve 猫 sat on the other mat 🐈‍⬛; नमस्ते\n  and that was that.\n" * 20
LEARNED = BPETokenizer.train(TEXT, vocab_size=300)


@LAW
@given(st.text())
def test_decoding_what_was_encoded_gives_any_text_of_unicode_back(text: str) -> None:
    for tokenizer in (LEARNED, BPETokenizer.train("x", vocab_size=257)):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.encode_array([text])[0].tolist() == ids
        assert tokenizer.end_of_text not in ids


@LAW
@given(st.lists(st.integers(0, LEARNED.vocab_size - 1)))
def test_streamed_pieces_join_to_the_decoded_text_whatever_bytes_the_tokens_make(ids: list[int]) -> None:
    stream = LEARNED.stream()
    assert "".join([*map(stream.push, ids), stream.finish()]) == LEARNED.decode(ids)


def test_a_streamed_character_waits_for_its_last_byte() -> None:
    tokenizer = BPETokenizer.train("x", vocab_size=257)
    stream = tokenizer.stream()
    ids = tokenizer.encode("é🐈")
    assert [stream.push(token) for token in ids] == ["", "é", "", "", "", "🐈"]
    assert stream.finish() == ""
    ids.insert(3, tokenizer.end_of_text or 0)  # left out, so the bytes before and after it meet
    assert "".join([*map(stream.push, ids[:-1]), stream.finish()]) == tokenizer.decode(ids[:-1]) == "é\ufffd"


@pytest.mark.parametrize("times", sweep("byte strings"))
@pytest.mark.timeout(600)
def test_random_bytes_come_back_to_the_last_bit(times: int) -> None:
    """As bytes, through a token for each; and as text, each byte a character of its own, through the merges."""
    draw, ids_of = random.Random(0), {LEARNED.token_bytes(token): token for token in range(LEARNED.vocab_size)}
    for _ in range(times):
        raw = draw.randbytes(draw.choice([1, 2, 3, 10, 100, 1000]))
        ids = [ids_of[bytes([byte])] for byte in raw]
        assert b"".join(map(LEARNED.token_bytes, ids)) == raw
        assert LEARNED.decode(ids) == raw.decode("utf-8", "replace")
        text = raw.decode("latin-1")
        ids = LEARNED.encode(text)
        assert LEARNED.decode(ids) == text
        assert b"".join(map(LEARNED.token_bytes, ids)) == text.encode()


def test_the_bytes_of_tokens_are_the_bytes_of_the_text() -> None:
    assert b"".join(map(LEARNED.token_bytes, LEARNED.encode(TEXT))) == TEXT.encode()
    assert LEARNED.token_bytes(LEARNED.end_of_text or 0) == b""
    assert sorted(BYTE_OF) == sorted(pre_tokenizers.ByteLevel.alphabet())
    with pytest.raises(TokenizerError, match=r"^id 300 is no token; this vocabulary has ids from 0 to 299$"):
        LEARNED.token_bytes(300)


def test_frequent_words_become_one_token_and_the_vocabulary_its_size() -> None:
    assert LEARNED.vocab_size == 300
    assert len(LEARNED.encode(" the")) == 1
    assert len(LEARNED.encode(TEXT)) < len(TEXT) / 2
    assert BPETokenizer.train("ab", vocab_size=5000).vocab_size == 258  # a small text has few pairs to join


def test_learning_is_the_same_every_time_and_however_the_text_comes() -> None:
    expected = BPETokenizer.train(TEXT, vocab_size=300).backend.to_str()
    assert LEARNED.backend.to_str() == expected
    pieces = re.split("(?= sat)", TEXT)
    assert BPETokenizer.train(iter(pieces), vocab_size=300).backend.to_str() == expected


def test_learning_tells_how_many_bytes_it_has_read() -> None:
    told: list[int] = []
    BPETokenizer.train(["aé", "🐈"], vocab_size=257, progress=told.append)
    assert told == [3, 7]


def test_an_end_of_text_spelled_out_in_the_text_is_not_learned_as_one() -> None:
    tokenizer = BPETokenizer.train([f"{END_OF_TEXT}x{END_OF_TEXT}"] * 50, vocab_size=500)
    ids = tokenizer.encode(END_OF_TEXT)
    assert tokenizer.end_of_text not in ids and tokenizer.decode(ids) == END_OF_TEXT


def test_ids_never_depend_on_chance() -> None:
    backend = Backend.from_str(LEARNED.backend.to_str())
    backend.model.dropout = 0.9
    assert BPETokenizer(backend).encode(TEXT) == LEARNED.encode(TEXT)


def test_no_setting_of_somebody_else_shortens_or_pads_a_text() -> None:
    backend = Backend.from_str(LEARNED.backend.to_str())
    backend.enable_truncation(4)
    backend.enable_padding(length=9)
    assert BPETokenizer(backend).encode(TEXT) == LEARNED.encode(TEXT)


def test_bytes_that_a_foreign_vocabulary_lacks_are_counted_as_unknown() -> None:
    assert LEARNED.unknown_bytes(TEXT) == sentencepiece().unknown_bytes(TEXT) == 0
    rules = json.loads(LEARNED.backend.to_str())
    lacking = [character for character, byte in BYTE_OF.items() if byte in b"Q\x04"]
    rules["model"]["vocab"] = {word: i for word, i in rules["model"]["vocab"].items() if word not in lacking}
    tokenizer = BPETokenizer(Backend.from_str(json.dumps(rules)))
    assert tokenizer.decode(tokenizer.encode("Quiz \x04 Q")) == "uiz  "
    assert tokenizer.unknown_bytes("Quiz \x04 Q") == 3


def added() -> BPETokenizer:
    backend = Backend.from_str(LEARNED.backend.to_str())
    backend.add_tokens([AddedToken(word, normalized=False) for word in ("é x", "日本", "éé")])
    return BPETokenizer(backend)


def test_words_that_were_added_later_are_streamed_as_the_library_decodes_them() -> None:
    tokenizer = added()
    for ids in ([300], [301], [302], [70, 300, 71, 302, 301, 70]):
        stream = tokenizer.stream()
        assert "".join([*map(stream.push, ids), stream.finish()]) == tokenizer.decode(ids)


def sentencepiece() -> BPETokenizer:
    """A tokenizer with the rules of Llama's first versions."""
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *"▁abcé", "▁a", "bc"]
    model = models.BPE(
        {word: position for position, word in enumerate(words)},
        [("▁", "a"), ("b", "c")],
        unk_token="<unk>",
        byte_fallback=True,
    )
    backend = Backend(model)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    backend.decoder = decoders.Sequence(steps)
    backend.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in words[:3]])
    return BPETokenizer(backend, {"eos_token": "</s>"})


def test_the_rules_of_sentencepiece_are_read_and_streamed_too() -> None:
    tokenizer = sentencepiece()
    assert tokenizer.end_of_text == 2
    for text in ("abc cab  a", "é 🐈 a", "", "ßab"):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        stream = tokenizer.stream()
        assert "".join([*map(stream.push, ids), stream.finish()]) == text
    stream = tokenizer.stream()
    ids = tokenizer.encode("a🐈")[:-1]
    assert "".join([*map(stream.push, ids), stream.finish()]) == tokenizer.decode(ids)
    with pytest.raises(TokenizerError, match=r"^id 999 is no token"):
        stream.push(999)


def test_what_is_streamed_behind_other_tokens_goes_on_with_their_text() -> None:
    spaced, bytewise = sentencepiece(), BPETokenizer.train("x", vocab_size=257)
    for tokenizer, text in ((spaced, "abc cab  a é 🐈 a"), (bytewise, "é x🐈")):
        ids = tokenizer.encode(text)
        for cut in range(1, len(ids)):
            stream, before = tokenizer.stream(ids[:cut]), tokenizer.decode(ids[:cut]).rstrip("\ufffd")
            assert before + "".join([*map(stream.push, ids[cut:]), stream.finish()]) == text
    a = spaced.backend.token_to_id("▁a")
    assert spaced.stream().push(a) == "a" and spaced.stream([a]).push(a) == " a"


def test_bytes_of_sentencepiece_that_are_no_text_leave_what_was_streamed_before_them() -> None:
    tokenizer, random, kept = sentencepiece(), Random(0), 0
    for _ in range(300):
        ids = random.choices([*tokenizer.encode("é 🐈\n abc cab a") * 40, *range(tokenizer.vocab_size)], k=20)
        stream, whole = tokenizer.stream(), tokenizer.decode(ids)
        text = "".join([*map(stream.push, ids), stream.finish()])
        differing = [sign for sign, other in zip(text, whole, strict=True) if sign != other]
        assert all(other == "�" for sign, other in zip(text, whole, strict=True) if sign != other)
        kept += len(differing)
    assert kept


def test_the_bytes_of_sentencepieces_tokens_are_those_of_the_text() -> None:
    tokenizer = sentencepiece()
    for text in ("abc cab  a", "é 🐈\n a", "ßab"):
        assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == f" {text}".encode()
    assert tokenizer.token_bytes(0) == tokenizer.token_bytes(2) == b""


ENCODER = json.dumps({**BYTE_OF, "ab": 256, END_OF_TEXT: 257}).encode()


def test_a_vocabulary_in_the_form_of_gpt2_is_read_from_contents_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "encoder.json").write_bytes(ENCODER)
    (tmp_path / "vocab.bpe").write_bytes(b"#version: 0.2\na b\n")
    for sources in ((ENCODER, b"#version: 0.2\na b\n"), (tmp_path / "encoder.json", tmp_path / "vocab.bpe")):
        tokenizer = BPETokenizer.from_gpt2(*sources)
        assert tokenizer.encode("ab" + END_OF_TEXT, special=True) == [256, 257] == [256, tokenizer.end_of_text]
        assert tokenizer.encode("#a") == [ord("#"), ord("a")]


def test_a_learned_vocabulary_in_the_form_of_gpt2_gives_the_ids_that_tiktoken_gives() -> None:
    model = json.loads(LEARNED.backend.to_str())["model"]
    merges = "\n".join(["#version: 0.2", *map(" ".join, model["merges"])])
    tokenizer = BPETokenizer.from_gpt2(json.dumps(model["vocab"]).encode(), merges.encode())
    ranks = {LEARNED.token_bytes(token): token for token in model["vocab"].values() if token != LEARNED.end_of_text}
    oracle = tiktoken.Encoding("learned", pat_str=WORDS, mergeable_ranks=ranks, special_tokens={})
    for text in (*NOISE, *noise(100), TEXT):
        assert tokenizer.encode(text) == oracle.encode_ordinary(text)


@pytest.mark.parametrize(
    ("encoder", "bpe", "message"),
    [
        (b"\xff", b"", r"^the vocabulary is not UTF-8 at byte 0; fetch it again$"),
        (ENCODER, b"a\xff", r"^the vocabulary is not UTF-8 at byte 1; fetch it again$"),
        (b"{", b"", r"^encoder.json is not sound JSON .*; fetch or write it again$"),
        (b"[]", b"", r"^encoder.json is not sound JSON \(it is no JSON object\); fetch or write it again$"),
        (b'{"a": 0, "a": 1}', b"", r"^encoder.json is not sound JSON \(it has the key 'a' twice\)"),
        (b'{"a": "b"}', b"", r"^encoder.json and vocab.bpe do not fit together \(.*\); fetch both again$"),
        (b'{"a": -1}', b"", r"^encoder.json and vocab.bpe do not fit together"),
        (ENCODER, b"x y\n", r"^encoder.json and vocab.bpe do not fit together \(.*xy.*\); fetch both again$"),
        (ENCODER, b"nonsense\n", r"^encoder.json and vocab.bpe do not fit together"),
        (b'{"a": 0}', b"", r"^encoder.json has no <\|endoftext\|>; fetch GPT-2's own$"),
    ],
)
def test_what_is_no_vocabulary_of_gpt2_is_refused(encoder: bytes, bpe: bytes, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        BPETokenizer.from_gpt2(encoder, bpe)


@pytest.fixture(scope="module")
def gpt2_files() -> tuple[Path, Path]:
    from octavo.data.corpora import fetch_gpt2_vocabulary

    return fetch_gpt2_vocabulary()


NOISE = [
    "",
    " ",
    "\n\n  \t x",
    "it's we'll I'M they'Re d'",
    "1234567890 1,000.00 ٣٤ Ⅻ",
    f"a{END_OF_TEXT}b <|endoftext|",
    *("e\u0301 \u0301 नमस्ते নমস্কার", "👩‍👩‍👧‍👦🏳️‍🌈", "\u180e\u200b\u2028\x85\x1c\ufeff\x00", "\r\n\r\n  \xa0x\u3000y"),
]


WORDS = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""  # as GPT-2 cuts a text


def oracle_of(gpt2_files: tuple[Path, Path]) -> tiktoken.Encoding:
    return tiktoken.Encoding(
        "gpt2",
        pat_str=WORDS,
        mergeable_ranks=data_gym_to_mergeable_bpe_ranks(str(gpt2_files[1]), str(gpt2_files[0])),
        special_tokens={END_OF_TEXT: 50256},
    )


def noise(count: int) -> list[str]:
    """So many random strings, half of them ASCII and half of any plane below the surrogates."""
    draw = random.Random(0)
    return [
        "".join(chr(draw.choice([draw.randrange(128), draw.randrange(0xD800)])) for _ in range(draw.randrange(60)))
        for _ in range(count)
    ]


@pytest.mark.slow
@pytest.mark.network
def test_gpt2_ids_are_those_of_tiktoken_on_ten_megabytes_and_a_hundred_thousand_strings(
    gpt2_files: tuple[Path, Path],
) -> None:
    tokenizer, oracle = BPETokenizer.from_gpt2(*gpt2_files), oracle_of(gpt2_files)
    speeches = [json.loads(line)["text"] for line in fetch("sotu").read_text("utf-8").splitlines()]
    assert sum(len(text) for text in speeches) > 10_000_000
    for texts in (speeches, noise(100_000)):
        for text, ids in zip(texts, tokenizer.encode_array(texts), strict=True):
            assert ids.tolist() == oracle.encode_ordinary(text)


@pytest.mark.network
def test_gpt2_ids_are_those_of_tiktoken_on_text_and_on_noise(gpt2_files: tuple[Path, Path]) -> None:
    tokenizer, oracle = BPETokenizer.from_gpt2(*gpt2_files), oracle_of(gpt2_files)
    texts = [*NOISE, *noise(1500), Path(__file__).read_text(encoding="utf-8"), TEXT]
    for text, ids in zip(texts, tokenizer.encode_array(texts), strict=True):
        assert ids.tolist() == tokenizer.encode(text) == oracle.encode_ordinary(text)
        assert tokenizer.decode(ids) == text
    assert (tokenizer.vocab_size, tokenizer.end_of_text) == (50257, 50256)
    assert tokenizer.encode(f"hi{END_OF_TEXT}", special=True) == oracle.encode(
        f"hi{END_OF_TEXT}", allowed_special="all"
    )


@pytest.mark.network
def test_hugging_face_reads_gpt2_as_octavo_saves_it(gpt2_files: tuple[Path, Path], tmp_path: Path) -> None:
    tokenizer = BPETokenizer.from_gpt2(*gpt2_files)
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    again = load_tokenizer(tmp_path)
    for text in (*NOISE, TEXT):
        ids = tokenizer.encode(text)
        assert theirs(text)["input_ids"] == again.encode(text) == ids
        assert theirs.decode(ids) == again.decode(ids) == text
