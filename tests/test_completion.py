"""Laws of completed text: pieces join to the whole, stop texts end it wherever tokens are cut, seeds are counted up."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from octavo.completion import Completion, StopWatch, complete, completions
from octavo.config import ModelConfig
from octavo.errors import SamplingError, TextError
from octavo.generation import generate
from octavo.model import GPT
from octavo.tokenizers import BPETokenizer, SimpleTokenizer, Tokenizer

Models = Callable[..., GPT]
SOURCE = "Ωmega, naïve café: 日本語 and 🙂🙃 – to be or not to be.\n\nThe end."
KINDS = ["character", "word", "bpe"]


def built(kind: str) -> Tokenizer:
    if kind == "bpe":
        return BPETokenizer.train([SOURCE * 3], vocab_size=280)
    return SimpleTokenizer(SOURCE, unit="word" if kind == "word" else "character")


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return built(request.param)


@pytest.fixture
def model(random_model: Models, tokenizer: Tokenizer) -> GPT:
    """In float64, and far too small to know a language: it writes any token after any other."""
    return random_model(
        ModelConfig(vocab_size=tokenizer.vocab_size, context=16, layers=1, heads=2, width=16), deviation=0.1
    )


def whole(model: GPT, tokenizer: Tokenizer, prompts: str | Sequence[str], **words: Any) -> list[Completion]:
    return completions(model, tokenizer, prompts, **{"max_new_tokens": 60, **words})


def test_streamed_pieces_join_to_the_unstreamed_text(model: GPT, tokenizer: Tokenizer) -> None:
    for seed in range(8):
        pieces = list(complete(model, tokenizer, "to be", max_new_tokens=60, seed=seed))
        tokens = [token for piece in pieces for token in piece.tokens]
        assert "".join(piece.text for piece in pieces) == tokenizer.decode(tokens)
        assert all(piece.text or piece.finish_reason for piece in pieces)
        assert [piece.finish_reason is None for piece in pieces] == [True] * (len(pieces) - 1) + [False]


def test_a_character_of_several_tokens_is_given_at_once(random_model: Models) -> None:
    tokenizer = built("bpe")
    letter = tokenizer.encode("語")
    assert len(letter) > 1
    watch, stream = StopWatch([]), tokenizer.stream()
    assert [watch.push(stream.push(token)) for token in letter] == [""] * (len(letter) - 1) + ["語"]


def test_the_tokens_are_those_of_generate(model: GPT, tokenizer: Tokenizer) -> None:
    [done] = whole(model, tokenizer, "to be", seed=3, top_k=9, repetition_penalty=1.2)
    steps = list(
        generate(
            model,
            tokenizer.encode("to be"),
            max_new_tokens=60,
            seed=3,
            top_k=9,
            repetition_penalty=1.2,
            stop=[tokenizer.end_of_text],
            forbidden=tokenizer.forbidden,
        )
    )
    assert [*done.tokens] == [step.tokens[0] for step in steps]
    assert [*done.logprobs] == [step.logprobs[0] for step in steps]


def test_prompts_of_different_lengths_are_completed_as_each_alone(model: GPT, tokenizer: Tokenizer) -> None:
    prompts = ["to", "", SOURCE, "or not to be"]
    together = whole(model, tokenizer, prompts, seed=5)
    assert [done.prompt for done in together] == prompts
    for done in together:
        [alone] = whole(model, tokenizer, done.prompt, seed=5)
        assert (done.text, done.tokens, done.finish_reason) == (alone.text, alone.tokens, alone.finish_reason)
        assert done.logprobs == pytest.approx(alone.logprobs, abs=1e-10)


def test_several_completions_count_the_seed_up(model: GPT, tokenizer: Tokenizer) -> None:
    several = whole(model, tokenizer, ["to", "be"], n=3, seed=7)
    alone = [whole(model, tokenizer, prompt, seed=seed)[0] for prompt in ("to", "be") for seed in (7, 8, 9)]
    assert [(done.prompt, done.tokens) for done in several] == [(done.prompt, done.tokens) for done in alone]
    assert len({done.text for done in several}) >= 3
    assert len(whole(model, tokenizer, "to", n=2, seed=2**63 - 1)) == 2


def test_a_stop_text_ends_the_text_wherever_its_tokens_are_cut(model: GPT, tokenizer: Tokenizer) -> None:
    [free] = whole(model, tokenizer, "to be", seed=2)
    for start in range(0, len(free.text) - 4, 3):
        for length in (1, 2, 4):
            stop = free.text[start : start + length]
            [done] = whole(model, tokenizer, "to be", seed=2, stop=[stop, "never written"])
            assert done.text == free.text[: free.text.index(stop)]
            assert done.finish_reason == "stop"
            assert done.tokens == free.tokens[: len(done.tokens)]
            assert stop in tokenizer.decode(done.tokens)
            assert "\ufffd" in stop or stop not in tokenizer.decode(done.tokens[:-1])


def test_what_began_like_a_stop_text_is_given_at_the_end(model: GPT, tokenizer: Tokenizer) -> None:
    for seed in range(8):
        [free] = whole(model, tokenizer, "to be", seed=seed)
        [done] = whole(model, tokenizer, "to be", seed=seed, stop=f"{free.text[-2:]} and what never comes")
        assert (done.text, done.finish_reason) == (free.text, free.finish_reason)


def test_a_stop_text_ends_its_own_row_alone(model: GPT, tokenizer: Tokenizer) -> None:
    free = whole(model, tokenizer, "to be", seed=2, n=4)
    stop = free[1].text[3:5]
    for before, done in zip(free, whole(model, tokenizer, "to be", seed=2, n=4, stop=stop), strict=True):
        assert done.text == before.text.partition(stop)[0]


def ends_first(text: str, stops: Sequence[str]) -> str:
    """The text up to the stop text that is complete first, looked for letter by letter."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


LETTERS = st.text("abc", max_size=12)


@given(st.lists(LETTERS), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_any_cut_of_a_text_stops_at_the_same_place(pieces: list[str], stops: list[str]) -> None:
    watch, given_out = StopWatch(stops), ""
    for piece in pieces:
        given_out += watch.push(piece)
        assert "".join(pieces).startswith(given_out)
        if watch.stopped:
            break
    given_out += watch.finish()
    assert given_out == ends_first("".join(pieces), stops)
    assert watch.stopped == (given_out != "".join(pieces))


@given(LETTERS, st.text("abc", min_size=1, max_size=4))
def test_only_what_may_begin_a_stop_text_is_held_back(text: str, stop: str) -> None:
    watch = StopWatch([stop])
    out = watch.push(text)
    assert watch.stopped or (out + watch.held == text and stop.startswith(watch.held) and watch.held != stop)
    assert watch.stopped or not any(stop.startswith(text[cut:]) for cut in range(len(out)))


def test_the_end_of_text_token_ends_a_text_and_is_no_part_of_it(model: GPT, tokenizer: Tokenizer) -> None:
    ended = [done for done in whole(model, tokenizer, "to", n=40, max_new_tokens=200) if done.finish_reason == "stop"]
    assert ended
    for done in ended:
        assert done.tokens.index(tokenizer.end_of_text) == len(done.tokens) - 1
        assert "endoftext" not in done.text


def test_a_text_that_does_not_end_by_itself_has_the_length_asked_for(model: GPT, tokenizer: Tokenizer) -> None:
    texts = whole(model, tokenizer, "to", n=10, max_new_tokens=5)
    lengths = [len(done.tokens) for done in texts if done.finish_reason == "length"]
    assert lengths and set(lengths) == {5}
    [short] = whole(model, tokenizer, "to", slide=False, temperature=0)
    assert short.finish_reason == "length"
    assert len(short.tokens) + len(tokenizer.encode("to")) == model.config.context


@pytest.mark.parametrize("kind", ["character", "word"])
def test_the_unknown_token_is_never_written(random_model: Models, kind: str) -> None:
    tokenizer = built(kind)
    model = random_model(ModelConfig(vocab_size=tokenizer.vocab_size, context=8, layers=1, heads=1, width=4))
    model.unembed.weight.data[tokenizer.forbidden[0]] *= 20
    for temperature in (0, 3.0):
        for done in whole(model, tokenizer, "to Ж be", n=4, temperature=temperature):
            assert not set(done.tokens) & set(tokenizer.forbidden)


def test_rows_of_a_model_that_no_token_has_are_never_written(random_model: Models) -> None:
    tokenizer = built("character")
    size = tokenizer.vocab_size
    model = random_model(ModelConfig(vocab_size=size + 50, context=8, layers=1, heads=1, width=4))
    assert all(max(done.tokens) < size for done in whole(model, tokenizer, "to", n=4))


def test_an_empty_prompt_begins_after_the_end_of_another_text(model: GPT, tokenizer: Tokenizer) -> None:
    [done] = whole(model, tokenizer, "", temperature=0)
    first = next(
        generate(model, [tokenizer.end_of_text], max_new_tokens=1, temperature=0, forbidden=tokenizer.forbidden)
    )
    assert (done.prompt, done.tokens[0]) == ("", first.tokens[0])


def test_log_probabilities_come_one_for_each_token(model: GPT, tokenizer: Tokenizer) -> None:
    [done] = whole(model, tokenizer, "to be", seed=1, stop="\n\n")
    assert len(done.logprobs) == len(done.tokens)
    assert all(logprob < 0 for logprob in done.logprobs)


@pytest.mark.parametrize("tokenizer", ["bpe"], indirect=True)
@pytest.mark.usefixtures("unchecked")
def test_a_prompt_may_be_ids_in_whatever_they_come(model: GPT, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("to be")
    [expected] = whole(model, tokenizer, [ids], seed=3)
    for prompts in (ids, tuple(ids), np.array(ids), torch.tensor(ids), [np.array(ids)], torch.tensor([ids])):
        assert whole(model, tokenizer, prompts, seed=np.int64(3), n=np.int64(1)) == [expected]
    for prompts in (5, None, b"to be", [None], ["to be", 5]):
        with pytest.raises(TextError, match=r"a prompt is .*; give a text, or the ids of its tokens$"):
            whole(model, tokenizer, prompts)


def test_what_is_wrong_is_said_at_the_call(model: GPT, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"stop": ["a", ""]}, "a stop text is empty; give at least one character"),
        ({"stop": ["a", 3]}, "a stop text is 3; give a string"),
        ({"stop": 3}, "a stop text is 3; give a string"),
        ({"n": 0}, "n is 0; give a whole number from 1"),
        ({"n": 1.5}, r"n is 1\.5; give a whole number from 1"),
        ({"n": True}, "n is True; give a whole number from 1"),
        ({"temperature": -1}, "temperature is -1; give 0 for the likeliest token"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; give a whole number from 1"),
    ]
    for words, line in wrong:
        with pytest.raises(SamplingError, match=line):
            complete(model, tokenizer, "to", **{"max_new_tokens": 3, **words})
        with pytest.raises(SamplingError, match=line):
            completions(model, tokenizer, "to", **{"max_new_tokens": 3, **words})
    with pytest.raises(TextError, match="there is no prompt; give at least one, an empty one begins a text"):
        complete(model, tokenizer, [], max_new_tokens=3)
    monkeypatch.setattr(tokenizer, "end_of_text", None)
    with pytest.raises(TextError, match="empty and this tokenizer has no token to begin a text with; give a prompt"):
        complete(model, tokenizer, "", max_new_tokens=3)
    assert whole(model, tokenizer, "to")[0].finish_reason == "length"
