"""What an answer tells of its tokens: how each is spelled, where it stands, how likely it was."""

import json
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import Any

import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing

from octavo.server.engine.engine import Engine
from octavo.server.gate import Rules
from octavo.server.models import Served
from octavo.tokenizers import BPETokenizer
from test_server import CHATTY, MODELS, PLAIN, Running, model_for
from test_tokenizers_bpe import sentencepiece

Json = dict[str, Any]
SNAIL = "é🐌abc"


def opening() -> BPETokenizer:
    """One that puts a token before every text, as Llama 3's does."""
    backend = Backend.from_str(CHATTY.backend.to_str())
    backend.add_special_tokens([AddedToken("<|begin|>", special=True, normalized=False)])
    begin = ("<|begin|>", backend.token_to_id("<|begin|>"))
    backend.post_processor = TemplateProcessing("<|begin|> $A", special_tokens=[begin])
    return BPETokenizer(backend)


OPENING, SPACED, SPEAKING = opening(), sentencepiece(), sentencepiece()
SPEAKING.settings["chat_template"] = "{{ messages[0].content }}"


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    more = {"opening": OPENING, "spaced": SPACED, "speaking": SPEAKING}
    models = MODELS | {name: (model_for(one.vocab_size), one) for name, one in more.items()}
    models["wide"] = (model_for(PLAIN.vocab_size + 20), PLAIN)
    service = Running(Rules(), served=[Served(name, Engine(*both)) for name, both in models.items()])
    yield service
    service.stop()


def told(running: Running, model: str, prompt: Any, **words: Any) -> tuple[str, Json]:
    """A text and what is told of it; a stream's pieces are joined."""
    asked = {"model": model, "prompt": prompt, "max_tokens": 30, "seed": 2, "logprobs": 3, "return_token_ids": True}
    status, content = running.call("POST", "/v1/completions", asked | words)
    assert status == 200, content
    if not words.get("stream"):
        (choice,) = json.loads(content)["choices"]
        return choice["text"], choice["logprobs"] | {"ids": choice["token_ids"]}
    lines = [line[6:] for line in content.decode().split("\n\n") if line.startswith("data: {")]
    pieces = [json.loads(line)["choices"][0] for line in lines]
    tables = [piece["logprobs"] for piece in pieces if piece["logprobs"]]
    joined = {name: [one for table in tables for one in table[name]] for name in tables[0]}
    ids = [token for piece in pieces for token in piece["token_ids"]]
    return "".join(piece["text"] for piece in pieces), joined | {"ids": ids}


def test_a_token_stands_where_its_text_does(running: Running) -> None:
    text, table = told(running, "chatty", SNAIL, echo=True, max_tokens=1)
    count = len(CHATTY.encode(SNAIL))
    assert table["text_offset"][:count] == [0] * 2 + [1] * 4 + [2, 3, 4] and count == 9
    assert table["text_offset"][count] == len(SNAIL) and text.startswith(SNAIL)
    assert table["tokens"][:count] == ["�"] * 6 + ["a", "b", "c"]


@pytest.mark.parametrize("stop", [[], ["qq", "\n\n", "é"]])
def test_a_stream_tells_the_same_places_as_the_whole(stop: list[str], running: Running) -> None:
    for seed in range(4):
        words: Json = {"max_tokens": 60, "seed": seed, "stop": stop, "ignore_eos": True, "temperature": 2}
        whole = told(running, "chatty", "Ada", **words)
        assert told(running, "chatty", "Ada", **words, stream=True) == whole
        ids = whole[1]["ids"]
        decoder, place = getincrementaldecoder("utf-8")("replace"), 0
        for token, offset in zip(ids, whole[1]["text_offset"], strict=True):
            assert offset == place
            place += len(decoder.decode(CHATTY.token_bytes(token)))


def test_what_opens_a_text_takes_no_room_in_it_unless_it_was_written_out(running: Running) -> None:
    count = len(OPENING.encode("Ada"))
    _, table = told(running, "opening", "Ada", echo=True)
    assert table["tokens"][0] == "<|begin|>" and table["text_offset"][:2] == [0, 0]
    assert table["text_offset"][count + 1] == len("Ada")
    text, table = told(running, "opening", [*OPENING.opening, *OPENING.encode("Ada")], echo=True)
    assert text.startswith("<|begin|>Ada") and table["text_offset"][:2] == [0, len("<|begin|>")]
    text, table = told(running, "chatty", "", echo=True)
    assert table["tokens"][0] == "<|endoftext|>" and table["text_offset"][:2] == [0, 0]


def test_what_a_vocabulary_lacks_has_its_room_in_the_text(running: Running) -> None:
    for prompt in ("Ada 漢字 finds", [*PLAIN.encode("Ada 漢字 finds")]):
        text, table = told(running, "plain", prompt, echo=True, max_tokens=1)
        for token, place in zip(table["tokens"], table["text_offset"], strict=True):
            assert text.startswith(token, place) or text[place] in "漢字"
    text, table = told(running, "plain", "Ada <unk> finds", echo=True, max_tokens=1)  # spelled, and no token
    for token, place in zip(table["tokens"], table["text_offset"], strict=True):
        assert text.startswith(token, place) or text[place] in "<k>"


def test_a_token_of_sentencepiece_is_spelled_with_its_space_and_a_byte_as_itself(running: Running) -> None:
    prompt = "bc abc a\né"
    text, table = told(running, "spaced", prompt, echo=True, max_tokens=1)
    words = [" ", "bc", " a", "bc", " a", "\n", "é"]
    assert table["tokens"][: len(words)] == words and text.startswith(prompt)
    assert table["text_offset"][: len(words)] == [0, 0, 2, 4, 6, 8, 9]
    for word, said in (("▁a", b" a"), ("<0x0A>", b"\n")):
        biased = {"max_tokens": 2, "logit_bias": {str(SPACED.backend.token_to_id(word)): 100}}
        body = {"model": "spaced", "messages": [{"role": "user", "content": "a"}], "logprobs": True, **biased}
        chat = json.loads(running.call("POST", "/v1/chat/completions", body)[1])["choices"][0]
        assert [bytes(row["bytes"]) for row in chat["logprobs"]["content"]] == [said] * 2


def test_a_text_goes_on_where_its_prompt_ends_and_an_answer_begins_anew(running: Running) -> None:
    biased: Json = {"logit_bias": {str(SPACED.backend.token_to_id("▁a")): 100}, "max_tokens": 2}
    assert (
        told(running, "spaced", "bc", **biased)[0] == told(running, "spaced", "bc", stream=True, **biased)[0] == " a a"
    )
    for model, said in (("spaced", " a a"), ("speaking", "a a")):
        body = {"model": model, "messages": [{"role": "user", "content": "bc"}], **biased}
        chat = json.loads(running.call("POST", "/v1/chat/completions", body)[1])["choices"][0]
        assert chat["message"]["content"] == said
    *ids, last = CHATTY.encode("é")
    assert told(running, "chatty", ids, logit_bias={str(last): 100}, max_tokens=1)[0] == "é"


def test_a_token_that_only_the_model_knows_of_is_told_by_its_number(running: Running) -> None:
    _, table = told(running, "wide", "Ada", logprobs=20)
    names = {f"[{token}]" for token in range(PLAIN.vocab_size, PLAIN.vocab_size + 20)}
    assert names & {name for best in table["top_logprobs"] for name in best} and not names & set(table["tokens"])
    body = {"model": "wide", "messages": [{"role": "user", "content": "Ada"}], "logprobs": True, "top_logprobs": 20}
    rows = json.loads(running.call("POST", "/v1/chat/completions", body)[1])["choices"][0]["logprobs"]["content"]
    assert any(one["token"] in names and one["bytes"] == [] for row in rows for one in row["top_logprobs"])


@pytest.mark.parametrize("logprobs", [0, 1, 20])
def test_the_chosen_token_is_among_the_likeliest_and_of_those_spelled_alike_the_likeliest_is_told(
    logprobs: int, running: Running
) -> None:
    _, table = told(running, "chatty", "Ada", logprobs=logprobs, temperature=2)
    rows = zip(table["tokens"], table["token_logprobs"], table["top_logprobs"], table["top_tokens"], strict=True)
    alike = 0
    for word, logprob, best, others in rows:
        assert len(others) == logprobs and best[word] >= logprob - 1e-6
        for name in {one["token"] for one in others}:
            spelled = [one["logprob"] for one in others if one["token"] == name]
            alike += len(spelled) > 1
            assert best[name] == max(spelled)
    assert bool(alike) == (logprobs == 20)
