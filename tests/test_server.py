"""The service, asked over a real socket by the client that the world uses, and by those who mean it ill."""

import asyncio
import json
import random
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, ValidationError

import octavo
from octavo.chat import read_conversation
from octavo.cli.generate import Knobs
from octavo.cli.speakers import Local, Remote, messages
from octavo.completion import completions
from octavo.config import ANSWERING, BASE_STOP, USUAL, ModelConfig
from octavo.errors import ConfigError, DownloadError, UserError
from octavo.generation import generate
from octavo.model import GPT
from octavo.sampling import Sampling
from octavo.server.engine.engine import MOST, QUEUE, SHARE, Engine
from octavo.server.engine.scheduler import ROWS
from octavo.server.gate import BEGUN, BODY, PATIENCE, Gate, Rules
from octavo.server.metrics import Counts
from octavo.server.models import Models, Served
from octavo.server.response_schema import ResponseRequest
from octavo.server.schema import ChatRequest, CompletionRequest, DetokenizeRequest
from octavo.server.service import GRACE, TAKEN, listen, read_key, rules_for, service
from octavo.slots import BLOCK
from octavo.tokenizers import SimpleTokenizer
from test_chat import CHATML, tokenizer_with
from texts import sentences

TEXT = sentences(60)
KEY = "a-key-that-nobody-guesses"
PLAIN, CHATTY = SimpleTokenizer(TEXT), tokenizer_with(CHATML)
GOOD = {"model": "plain", "prompt": "Ada", "max_tokens": 2}
TALK = [{"role": "user", "content": "Ada"}]
Call = Callable[..., tuple[int, dict[str, str], bytes]]


def model_for(size: int) -> GPT:
    """A model that writes nonsense, but not the same nonsense all the time."""
    torch.manual_seed(0)
    shape = {"context": 256, "layers": 2, "heads": 2, "width": 32}
    model = GPT(ModelConfig(dialect="modern", vocab_size=size, **shape)).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(1.0 if weight.dim() == 1 else 0.0, 0.2)
    return model


MODELS = {"plain": (model_for(PLAIN.vocab_size), PLAIN), "chatty": (model_for(CHATTY.vocab_size), CHATTY)}


class Running:
    """A service in a thread of its own, at a port of its own."""

    def __init__(self, rules: Rules, *, bitwise: bool = True, served: list[Served] | None = None, **words: Any) -> None:
        usual = [Served(name, Engine(*both, bitwise=bitwise, **words)) for name, both in MODELS.items()]
        self.lines: list[str] = []
        self.models = Models(served or usual, self.lines.append)
        self.server, at = service(self.models, rules, self.lines.append), listen("127.0.0.1", 0)
        self.port = at.getsockname()[1]
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve([at])))
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()

    def call(
        self, method: str, path: str, body: bytes | dict[str, Any] | None = None, **headers: str
    ) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        given = {"Content-Type": "application/json"} if body is not None else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, json.dumps(body) if isinstance(body, dict) else body, given)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def refusal(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        status, content = self.call(method, path, body, **headers)
        error = json.loads(content)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return status, error


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key="none", max_retries=0) as client:
        yield client


# what clients ask


def test_the_models_are_told(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["plain", "chatty"]
    assert client.models.retrieve("chatty").id == "chatty"
    with pytest.raises(openai.NotFoundError, match="no model 'other'; there is plain, chatty"):
        client.models.retrieve("other")


def test_a_completion_is_what_the_library_writes(client: OpenAI) -> None:
    answer = client.completions.create(model="plain", prompt=["Ada", "Grace finds"], max_tokens=30, seed=5, n=2)
    alone = [
        completions(MODELS["plain"][0], PLAIN, prompt, max_new_tokens=30, temperature=0.8, seed=5, n=2, bitwise=True)
        for prompt in ("Ada", "Grace finds")
    ]
    assert [choice.text for choice in answer.choices] == [one.text for two in alone for one in two]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len("Ada") + len("Grace finds")
    assert answer.usage.completion_tokens == sum(len(one.tokens) for two in alone for one in two)


KNOBS: dict[str, float] = {
    "temperature": 1.5,
    "top_p": 0.5,
    "top_k": 2,
    "min_p": 0.4,
    "frequency_penalty": 1.0,
    "presence_penalty": -2.0,
    "repetition_penalty": 3.0,
}


def test_each_knob_of_a_request_is_the_librarys(running: Running) -> None:
    model = MODELS["plain"][0]

    def asked(**knobs: float) -> str:
        body = {"model": "plain", "prompt": "Ada", "max_tokens": 30, "seed": 5, **knobs}
        return json.loads(running.call("POST", "/v1/completions", body)[1])["choices"][0]["text"]

    def alone(**knobs: Any) -> str:
        forbidden = PLAIN.unsayable(model.config.vocab_size)
        samplings = [Sampling(**{"temperature": USUAL, "seed": 5, "forbidden": forbidden, **knobs})]
        words: dict[str, Any] = {"max_new_tokens": 30, "stop": PLAIN.ends, "bitwise": True}
        steps = generate(model, PLAIN.encode("Ada"), samplings=samplings, **words)
        return PLAIN.decode([token for step in steps for token in step.tokens if token is not None])

    texts = [asked(**{knob: value}) for knob, value in KNOBS.items()]
    assert texts == [alone(**{knob: value}) for knob, value in KNOBS.items()]
    assert asked() == alone() and len({*texts, asked()}) == len(KNOBS) + 1


def test_the_same_prompt_several_times_is_gone_on_with_in_several_ways(
    client: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "randbits", random.Random(0).getrandbits)
    answer = client.completions.create(model="plain", prompt=["Ada"] * 3, max_tokens=20, n=2)
    assert len({choice.text for choice in answer.choices}) == 6


@pytest.mark.parametrize(
    ("path", "nothing"),
    [("/v1/completions", {"prompt": None}), ("/v1/chat/completions", {"messages": TALK, "top_logprobs": 0})],
)
def test_a_field_that_asks_for_nothing_is_as_if_it_was_left_out(
    path: str, nothing: dict[str, Any], running: Running
) -> None:
    usual = {"model": "plain", "max_tokens": 3, "seed": 1}
    absent = {name: value for name, value in nothing.items() if value}
    given, left = (json.loads(running.call("POST", path, usual | body)[1]) for body in (nothing, absent))
    assert given["choices"] == left["choices"]


def test_what_copies_of_a_prompt_share_was_read_by_none_before(client: OpenAI) -> None:
    prompt = sentences(61)[-2 * BLOCK :][::-1]
    for read_before in (False, True):
        answer = client.completions.create(model="plain", prompt=prompt, max_tokens=1, n=3)
        assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
        assert answer.usage.prompt_tokens == len(prompt)
        assert bool(answer.usage.prompt_tokens_details.cached_tokens) == read_before


def test_a_prompt_may_be_ids_and_is_repeated_with_what_is_told_of_it(client: OpenAI) -> None:
    ids = PLAIN.encode("Ada finds")
    answer = client.completions.create(model="plain", prompt=ids, max_tokens=5, echo=True, logprobs=2, temperature=0)
    (choice,) = answer.choices
    told = choice.logprobs
    assert (
        told is not None and told.tokens is not None and told.token_logprobs and told.text_offset and told.top_logprobs
    )
    assert choice.text.startswith("Ada finds")
    assert "".join(word for word in told.tokens if word != "<|endoftext|>") == choice.text
    assert told.token_logprobs[0] is None and all(value <= 0 for value in told.token_logprobs[1:])
    assert told.text_offset[:9] == list(range(9))
    for word, logprob, best in list(zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True))[9:]:
        assert best[word] == max(best.values()) == pytest.approx(logprob, abs=1e-5)


def test_a_prompt_is_told_of_where_nothing_is_to_be_written(client: OpenAI) -> None:
    words: dict[str, Any] = {"model": "plain", "prompt": ["Ada finds", "Grace"], "echo": True, "logprobs": 2}
    told, written = (client.completions.create(**words, max_tokens=most) for most in (0, 1))
    for one, other in zip(told.choices, written.choices, strict=True):
        assert one.logprobs is not None and other.logprobs is not None and other.logprobs.token_logprobs is not None
        assert one.text == other.text[: len(one.text)] and one.finish_reason == "length"
        assert one.logprobs.token_logprobs == other.logprobs.token_logprobs[: len(one.text)]
    assert told.usage is not None and (told.usage.prompt_tokens, told.usage.completion_tokens) == (14, 0)
    (chunk,) = client.completions.create(model="plain", prompt="Ada", max_tokens=0, stream=True)
    assert (chunk.choices[0].text, chunk.choices[0].finish_reason) == ("", "length")


def test_a_stream_joins_to_the_whole(client: OpenAI) -> None:
    words: dict[str, Any] = {"model": "plain", "prompt": "Ada", "max_tokens": 40, "seed": 3, "stop": ["qq"]}
    whole = client.completions.create(**words)
    chunks = list(client.completions.create(**words, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage is not None and whole.usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert {chunk.id for chunk in chunks} == {chunks[0].id} and all(chunk.usage is None for chunk in chunks[:-1])


def test_a_conversation_is_answered_whole_and_as_a_stream(client: OpenAI) -> None:
    messages: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Who finds "}, {"type": "text", "text": "a circle?"}]},
    ]
    words: dict[str, Any] = {"model": "chatty", "messages": messages, "max_completion_tokens": 12, "seed": 1, "n": 2}
    whole = client.chat.completions.create(**words, logprobs=True, top_logprobs=2)
    texts = ["", ""]
    roles = []
    for chunk in client.chat.completions.create(**words, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            roles += [choice.delta.role] if choice.delta.role else []
    assert texts == [choice.message.content for choice in whole.choices] and roles == ["assistant", "assistant"]
    assert texts[0] != texts[1]
    rows = whole.choices[0].logprobs
    assert rows is not None and rows.content is not None
    said = b"".join(bytes(row.bytes or []) for row in rows.content)
    assert said.decode(errors="replace").startswith((whole.choices[0].message.content or "")[:5])
    assert all(len(row.top_logprobs) == 2 for row in rows.content)


@pytest.mark.parametrize(
    ("path", "given", "usual"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "Ada"}]}, 0.3),
        ("completions", {"prompt": "Ada"}, 0.8),
    ],
)
def test_an_answer_is_colder_than_a_text_that_goes_on_unless_another_temperature_is_asked_for(
    running: Running, path: str, given: dict[str, Any], usual: float
) -> None:
    body = {"model": "chatty", "max_tokens": 12, "seed": 1, **given}
    asked = [body, body | {"temperature": usual}, body | {"temperature": 0.5}]
    choices = [json.loads(running.call("POST", f"/v1/{path}", one)[1])["choices"] for one in asked]
    assert choices[0] == choices[1] != choices[2]


def test_a_model_that_was_taught_no_conversation_goes_on_until_a_blank_line(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="plain", messages=[{"role": "user", "content": "Ada"}], max_tokens=20, seed=2
    )
    alone = completions(
        MODELS["plain"][0], PLAIN, "Ada", max_new_tokens=20, temperature=0.8, seed=2, stop=BASE_STOP, bitwise=True
    )
    assert answer.choices[0].message.content == alone[0].text


def test_many_clients_at_once_are_each_answered_as_if_alone(running: Running, client: OpenAI) -> None:
    alone = [
        client.completions.create(model="plain", prompt=f"{TEXT[:n]}Ada", seed=n, max_tokens=25).choices[0].text
        for n in range(12)
    ]

    async def ask() -> list[str]:
        async with AsyncOpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key="none") as many:

            async def one(n: int) -> str:
                words: dict[str, Any] = {"model": "plain", "prompt": f"{TEXT[:n]}Ada", "seed": n, "max_tokens": 25}
                if n % 2:
                    return (await many.completions.create(**words)).choices[0].text
                return "".join(
                    [chunk.choices[0].text async for chunk in await many.completions.create(**words, stream=True)]
                )

            return await asyncio.gather(*(one(n) for n in range(12)))

    assert asyncio.run(ask()) == alone


def test_texts_become_ids_and_ids_texts(running: Running) -> None:
    status, content = running.call("POST", "/tokenize", {"model": "chatty", "content": "Ada finds <|im_end|>"})
    ids = json.loads(content)["tokens"]
    assert (status, ids) == (200, CHATTY.encode("Ada finds <|im_end|>"))
    status, content = running.call("POST", "/detokenize", {"model": "chatty", "tokens": ids})
    assert (status, json.loads(content)) == (200, {"content": "Ada finds <|im_end|>"})


def counts(running: Running) -> dict[str, float]:
    """What /metrics tells of requests for texts, and of the model that is not taught to answer."""
    told = re.findall(r"^octavo_(\w+)\{(.*)\} (\S+)$", running.call("GET", "/metrics")[1].decode(), re.MULTILINE)
    known = ('model="plain"', 'route="/v1/completions"', 'route="/v1/completions",status="200"')
    return {name: float(value) for name, labels, value in told if labels in known}


def test_health_and_counts(running: Running) -> None:
    assert running.call("GET", "/health") == (200, b'{"status":"ok"}')
    prompt = f"Ada counts {TEXT[: BLOCK + 20]}"
    body = {"model": "plain", "prompt": prompt, "max_tokens": 4, "ignore_eos": True}
    assert running.call("POST", "/v1/completions", body)[0] == 200  # the first of all has nothing to be compared with
    before = counts(running)
    for known in (0, len(prompt) - 1):
        begin = time.monotonic()
        body["prompt"] = prompt[::-1]
        assert running.call("POST", "/v1/completions", body)[0] == 200
        wall, after = time.monotonic() - begin, counts(running)
        more = {name: after[name] - before[name] for name in after}
        assert (more["requests_total"], more["written_total"], more["steps_total"]) == (1, 4, 4)
        assert (more["read_total"], more["reused_total"]) == (len(prompt) - known, known)
        assert 0 < more["request_seconds_total"] < wall
        assert (after["active"], after["waiting"]) == (0, 0) and 1 <= after["blocks_taken"] <= after["blocks"]
        before = after
    assert not any("Ada" in line for line in running.lines)  # nothing of what is said is logged
    assert any(line.startswith("POST /v1/completions 200 in ") and line.endswith("tokens") for line in running.lines)


def test_a_path_is_logged_as_it_was_sent_and_invents_no_line(running: Running) -> None:
    assert running.call("GET", "/x%0aPOST%20/v1/completions%20200%1b[31m")[0] == 404
    assert running.call("GET", "/health")[0] == 200  # by now the other one is logged
    (line,) = [line for line in running.lines if line.startswith("GET /x")]
    assert line.startswith("GET /x%0aPOST%20/v1/completions%20200%1b[31m 404 in ") and line.isprintable()


# what is refused

PICTURE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}
NO_BLANK_LINE = {str(token): -100 for token in PLAIN.encode("\n")}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/completions", {"temperature": 3}, "temperature: Input should be less than or equal to 2"),
        ("/v1/completions", {"temperature": "hot"}, "temperature: Input should be a valid number"),
        ("/v1/completions", {"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
        ("/v1/completions", {"n": 10**6}, "n: Input should be less than or equal to 128"),
        ("/v1/completions", {"seed": 2**64}, "seed: Input should be less than"),
        ("/v1/completions", {"suffix": "x"}, "octavo does not do suffix; leave it out"),
        ("/v1/completions", {"best_of": 2}, "octavo does not do best_of; leave it out"),
        ("/v1/completions", {"logit_bias": {"9999": 1}}, "logit_bias names token 9999; the vocabulary has 0 to"),
        ("/v1/completions", {"logit_bias": {"x": 1}}, "logit_bias.x"),
        (
            "/v1/completions",
            {"logit_bias": {f"x{n}": 1 for n in range(1025)}},
            "it names 1025 tokens; name at most 1024",
        ),
        ("/v1/completions", {"stop": [""]}, "stop.0: String should have at least 1 character"),
        ("/v1/completions", {"stop": ["x"] * 17}, "stop: List should have at most 16 items"),
        ("/v1/completions", {"prompt": []}, "there is no prompt; give at least one"),
        ("/v1/completions", {"prompt": [[]]}, "a prompt has no tokens; give at least one"),
        ("/v1/completions", {"prompt": [99999]}, "id 99999 is no token; this vocabulary has ids from 0 to"),
        ("/v1/completions", {"prompt": [-1]}, "prompt.0: Input should be greater than or equal to 0"),
        ("/v1/completions", {"prompt": ["a\x00"]}, "prompt.0: it holds U+0000; leave it out"),
        ("/v1/completions", {"prompt": "a\ud800"}, "it holds half of a surrogate pair, which is no character; replace"),
        ("/v1/completions", {"prompt": "a\x00"}, "it holds U+0000; leave it out"),
        ("/v1/completions", {"model": "../plain"}, "no model '../plain'; there is plain, chatty"),
        ("/v1/completions", {"echo": True, "logprobs": 1, "stream": True}, "echo with logprobs is not streamed; leave"),
        (
            "/v1/completions",
            {"echo": True, "logprobs": 1, "prompt": TEXT},
            "echo with logprobs takes a prompt within the context of 256 tokens; shorten it",
        ),
        ("/v1/chat/completions", {"tools": [{}]}, "octavo does not do tools; leave it out"),
        ("/v1/chat/completions", {"response_format": {"type": "json_object"}}, "octavo does not do response_format; l"),
        ("/v1/chat/completions", {"guided_json": {}}, "octavo does not do guided_json; leave it out"),
        ("/v1/chat/completions", {"messages": []}, "messages: List should have at least 1 item"),
        ("/v1/chat/completions", {"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: Input should be"),
        ("/v1/chat/completions", {"messages": [PICTURE]}, "messages.0.content.0.type: Input should be 'text'"),
        ("/v1/chat/completions", {"top_logprobs": 2}, "top_logprobs takes logprobs; set that to true"),
        ("/v1/chat/completions", {"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens and max_completion_tokens"),
        ("/v1/chat/completions", {"model": "chatty", "messages": [{"role": "user", "content": TEXT}]}, "the conversat"),
    ],
)
def test_what_is_out_of_range_or_not_octavos_is_refused_by_name(
    path: str, body: dict[str, Any], message: str, running: Running
) -> None:
    usual = {**GOOD} if path == "/v1/completions" else {"model": "plain", "messages": TALK, "max_tokens": 2}
    if "max_completion_tokens" not in body and path != "/v1/completions":
        usual.pop("max_tokens")
    status, error = running.refusal("POST", path, {**usual, **body})
    assert status == (404 if "no model" in message else 400)
    assert message in error["message"]
    assert running.call("POST", "/v1/completions", GOOD)[0] == 200  # and nobody is disturbed


def leaving(room: int) -> str:
    """What may be said to the model that answers so that it has room for so many tokens more."""
    empty = len(read_conversation(CHATTY, messages([], "")))
    said = "~" * (256 - room - empty)  # a token each, for no text that its vocabulary was made of has any
    assert len(read_conversation(CHATTY, messages([], said))) == 256 - room
    return said


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(
    ("room", "asked", "status"),
    [
        *((12, 12, 200), (12, 13, 400), (6, 200, 400), (1, 1, 200), (0, 1, 400)),
        *((128, 128, 200), (128, 4000, 200), (127, 127, 200), (127, 128, 400), (127, 4000, 400)),
    ],
)
def test_a_conversation_that_leaves_less_room_than_is_asked_for_is_refused_unless_half_the_context_is_left(
    room: int, asked: int, status: int, name: str, running: Running
) -> None:
    body = {"model": "chatty", "messages": messages([], leaving(room)), "seed": 1, name: asked}
    if status == 200:
        assert running.call("POST", "/v1/chat/completions", body)[0] == 200
        return
    got, error = running.refusal("POST", "/v1/chat/completions", body)
    assert (got, error["param"], error["code"]) == (400, "messages", "context_length_exceeded")
    fewer = f" or ask for {room} at most" if room else ""
    assert error["message"] == (
        f"the conversation takes {256 - room} tokens, {asked} more are asked for and this model's maximum "
        f"context length is 256; leave out its oldest turns{fewer}"
    )


def test_a_conversation_is_answered_for_as_long_as_there_is_room_where_no_length_is_asked_for(running: Running) -> None:
    body = {"model": "chatty", "messages": messages([], leaving(3)), "ignore_eos": True}
    status, content = running.call("POST", "/v1/chat/completions", body)
    told = json.loads(content)
    assert status == 200 and told["choices"][0]["finish_reason"] == "length"
    assert told["usage"]["completion_tokens"] == 3
    status, error = running.refusal("POST", "/v1/chat/completions", {**body, "messages": messages([], leaving(0))})
    assert (status, error["code"]) == (400, "context_length_exceeded")
    too_long = "the conversation takes 256 tokens and this model's maximum context length is 256"
    assert error["message"] == f"{too_long}; leave out its oldest turns"


def test_what_goes_on_past_the_context_is_as_long_as_is_asked_for(running: Running) -> None:
    beginning = {"model": "plain", "max_tokens": 40, "ignore_eos": True}
    for path, body in (
        ("/v1/completions", {"prompt": TEXT[:250]}),
        ("/v1/completions", {"prompt": TEXT[:300]}),
        ("/v1/chat/completions", {"messages": messages([], TEXT[:250]), "logit_bias": NO_BLANK_LINE}),
    ):
        status, content = running.call("POST", path, beginning | body)
        assert (status, json.loads(content)["usage"]["completion_tokens"]) == (200, 40)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Field required"),
        (b"{", "line 1 column 2 (char 1); send one JSON object"),
        (b"[]", "it is no JSON object"),
        (b'{"prompt": "a", "prompt": "b"}', "it has the key 'prompt' twice"),
        (b'{"prompt": "a", "temperature": NaN}', "it holds NaN, which JSON does not have"),
        (b'{"prompt": "a", "temperature": 1e999}', "temperature: Input should be a finite number"),
        (b"[" * 100_000, "the body is not what it should be"),
        (b'{"prompt": "\xff"}', "the body is not what it should be"),
        (b'{"prompt": "a", "unheard_of": 1, "max_tokens": 1}', None),  # which the API ignores
    ],
)
def test_a_body_is_one_json_object_with_nothing_doubtful_in_it(
    body: bytes, message: str | None, running: Running
) -> None:
    if message is None:
        assert running.call("POST", "/v1/completions", body)[0] == 200
        return
    status, error = running.refusal("POST", "/v1/completions", body)
    assert status == 400 and message in error["message"]


# who may come in

ROUTES = [
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/plain", None),
    ("POST", "/v1/completions", GOOD),
    ("POST", "/v1/chat/completions", {"messages": TALK, "max_tokens": 1}),
    ("POST", "/v1/responses", {"input": "Ada", "max_output_tokens": 1}),
    ("POST", "/tokenize", {"content": "Ada"}),
    ("POST", "/detokenize", {"tokens": [1]}),
    ("GET", "/health", None),
    ("GET", "/metrics", None),
    ("GET", "/page/learn", None),
    ("GET", "/page/learn/events", None),
    ("POST", "/page/learn/stop", {}),
    ("POST", "/page/learn/resume", {}),
    ("POST", "/page/look", {"text": "Ada"}),
    ("POST", "/page/heads", {"text": "Ada", "layer": 0}),
    ("POST", "/page/layers", {"text": "Ada"}),
    ("POST", "/page/attention", {"text": "Ada", "layer": 0}),
    ("POST", "/page/parts", {"text": "Ada", "position": 0, "token": 1}),
    ("POST", "/page/regenerate", {"text": "Ada", "max_new_tokens": 2}),
    ("POST", "/page/map", {}),
    ("POST", "/page/weights", {}),
    ("GET", "/page/report", None),
    ("GET", "/openapi.json", None),
]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    service = Running(Rules(key=KEY))
    yield service
    service.stop()


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_nobody_comes_in_who_may_not(method: str, path: str, body: Any, guarded: Running) -> None:
    bearer = f"Bearer {KEY}"

    def status(path: str = path, body: Any = body, **headers: str) -> int:
        return guarded.refusal(method, path, body, **headers)[0]

    within = guarded.call(method, path, body, Authorization=bearer)[0]
    assert within == 200 or (path.startswith("/page/") and within in (404, 409))  # no run, nothing to look into
    assert status() == 401
    assert status(Authorization="Bearer wrong") == status(Authorization=KEY) == status(Authorization="Bearer ") == 401
    assert status(f"{path}?api_key={KEY}&key={KEY}") == 401
    assert status(Authorization=bearer, Host="evil.example") == status(Authorization=bearer, Host="") == 403
    assert (
        status(Authorization=bearer, Origin="http://evil.example") == status(Authorization=bearer, Origin="null") == 403
    )
    for odd in (f"/{path}", path.replace("/", "//"), f"/x/..{path}", f"/%2e%2e{path}", f"/.{path}", path + "/%2F"):
        assert status(odd) == 401 and status(odd, Authorization=bearer) in (400, 404)
    if method == "POST":
        assert status(body=b"{}", Authorization=bearer, Content_Type="text/plain") == 415
        assert status(body=b"{}", Authorization=bearer, Content_Type="application/x-www-form-urlencoded") == 415
    assert status("/nowhere") == 401 and status("/nowhere", Authorization=bearer) == 404


PUBLIC = "https://octavo.example"
CALLED = ("octavo.example", "Octavo.EXAMPLE", "octavo.example:443")
MISCALLED = (
    *("octavo.example.evil", "evil.octavo.example", "xoctavo.example", "octavo.example."),
    *("octavo.example:80", "octavo.example:8443", "octavo.example:443:443", "https://octavo.example"),
    *("octavo.example@evil.example", ""),
)
FORGED = (
    *("http://octavo.example", "http://octavo.example:443", "https://octavo.example:80"),
    *("https://octavo.example:8443", "https://octavo.example.evil", "https://evil.octavo.example"),
    *("https://xoctavo.example", "https://octavo.example.", "https://octavo.example@evil.example"),
    *("https://evil.example/https://octavo.example", "octavo.example", "null", ""),
)


@pytest.fixture(scope="module")
def behind() -> Iterator[Running]:
    service = Running(rules_for("127.0.0.1", KEY, PUBLIC))
    yield service
    service.stop()


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_behind_a_proxy_its_address_comes_in_and_none_that_looks_like_it(
    method: str, path: str, body: Any, behind: Running
) -> None:
    def status(key: str = KEY, **headers: str) -> int:
        return behind.call(method, path, body, Authorization=f"Bearer {key}", **headers)[0]

    within = status()
    assert within == 200 or (path.startswith("/page/") and within in (404, 409))
    here = f"127.0.0.1:{behind.port}"
    assert status(Host=here, Origin=f"http://{here}") == status(Host=here, Origin=PUBLIC) == within
    for host in CALLED:
        assert status(Host=host) == status(Host=host, Origin=PUBLIC) == within
        assert status(Host=host, Origin="HTTPS://Octavo.example:443") == within
        assert status(Host=host, Origin=f"http://{here}") == 403
    assert status("wrong", Host=CALLED[0], Origin=PUBLIC) == behind.call(method, path, body, Host=CALLED[0])[0] == 401
    assert {status(Host=host, **more) for host in MISCALLED for more in ({}, {"Origin": PUBLIC})} == {403}
    assert {status(Host=host, Origin=origin) for host in (CALLED[0], here) for origin in FORGED} == {403}


def test_a_proxys_client_is_sent_on_to_the_proxys_scheme(behind: Running) -> None:
    for host, scheme in ((CALLED[0], "https"), (f"127.0.0.1:{behind.port}", "http")):
        connection = HTTPConnection("127.0.0.1", behind.port, timeout=20)
        connection.request("GET", "/v1/models/", headers={"Authorization": f"Bearer {KEY}", "Host": host})
        assert connection.getresponse().getheader("Location") == f"{scheme}://{host}/v1/models"
        connection.close()


def test_who_does_not_come_in_is_told_why(running: Running) -> None:
    for headers, message in (
        ({"Host": "evil.example"}, "'evil.example' is no name of this service; call it as it says itself"),
        ({"Origin": "http://evil.example"}, "pages of 'http://evil.example' may not ask here"),
    ):
        assert running.refusal("GET", "/health", **headers)[1]["message"] == message
    assert running.refusal("GET", "//health")[1]["message"] == "the path is spelled in an odd way; write it plainly"
    for kind, message in (
        ({"Content_Type": "text/plain; charset=utf-8"}, "the body is 'text/plain'; send application/json"),
        ({}, "the body is of no kind; send application/json"),
        (
            {"Content_Type": "application/json", "Content_Encoding": "gzip"},
            "the body is packed as 'gzip'; send it as it is",
        ),
    ):
        assert running.refusal("POST", "/tokenize", **kind)[1]["message"] == message


def test_what_is_not_there_is_named_with_what_is(running: Running, client: OpenAI) -> None:
    there = "ask /v1/chat/completions, /v1/responses, /v1/completions or /v1/models"
    with pytest.raises(openai.NotFoundError, match=f"there is no '/v1/embeddings' here; {there}"):
        client.embeddings.create(model="plain", input="Ada")
    status, error = running.refusal("POST", "/chat/completions", {"messages": TALK})  # an address without /v1
    assert (status, error["message"]) == (404, f"there is no '/chat/completions' here; {there}")
    status, error = running.refusal("GET", "/v1/completions")
    assert (status, error["message"]) == (405, "'/v1/completions' takes no GET; send POST")


def test_who_asks_for_the_head_of_an_answer_gets_that_alone(running: Running) -> None:
    connection, seen = HTTPConnection("127.0.0.1", running.port, timeout=20), []
    for method in ("HEAD", "GET", "HEAD"):  # over one connection, where a body would be taken for the next answer
        connection.request(method, "/v1/models")
        answer = connection.getresponse()
        seen.append((answer.status, answer.getheader("Content-Type"), answer.getheader("Content-Length")))
        assert bool(answer.read()) == (method == "GET")
    connection.close()
    assert seen == [seen[1]] * 3 and seen[1][0] == 200


WITHIN, JSON = {"Authorization": f"Bearer {KEY}"}, {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("status", "method", "path", "given"),
    [
        (200, "GET", "/health", WITHIN),
        (400, "GET", "//health", WITHIN),
        (400, "POST", "/tokenize", WITHIN | JSON),
        (401, "GET", "/health", {}),
        (403, "GET", "/health", WITHIN | {"Host": "evil.example"}),
        (404, "GET", "/nowhere", WITHIN),
        (405, "GET", "/tokenize", WITHIN),
        (413, "POST", "/tokenize", WITHIN | JSON | {"Content-Length": str(BODY + 1)}),
        (415, "POST", "/tokenize", WITHIN),
    ],
)
def test_pages_of_the_service_itself_may_ask_and_every_answer_says_what_is_safe(
    status: int, method: str, path: str, given: dict[str, str], guarded: Running
) -> None:
    connection = HTTPConnection("127.0.0.1", guarded.port, timeout=20)
    host = given.get("Host", f"127.0.0.1:{guarded.port}")
    connection.request(method, path, headers={"Origin": f"http://{host}", **given})
    answer = connection.getresponse()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    assert answer.status == status and "access-control-allow-origin" not in headers
    assert headers["content-security-policy"].startswith("default-src 'none'; frame-ancestors 'none'")
    assert headers["x-content-type-options"] == "nosniff" and "server" not in headers
    assert headers["referrer-policy"] == "no-referrer" and headers["cross-origin-resource-policy"] == "same-origin"


def raw(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """What comes back for bytes that no well-meaning client sends."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        found = b""
        while more := connection.recv(65536):
            found += more
            if b"\r\n\r\n" in found and b"Connection: close" not in found and pause == 0:
                break
        return found


def test_what_is_too_large_or_too_slow_is_dropped() -> None:
    running = Running(Rules(body=1000, patience=0.5))
    try:
        status, error = running.refusal("POST", "/tokenize", b'{"content": "' + b"a" * 2000 + b'"}')
        assert (status, error["message"]) == (413, "the body has more than 1000 bytes; send less at once")
        head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        chunk = b"3E8\r\n" + b"a" * 1000 + b"\r\n"
        large = raw(running.port, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3, pause=0.01)
        assert b" 413 " in large and b"the body has more than 1000 bytes; send less at once" in large
        late = raw(running.port, head + b"Content-Length: 100\r\n\r\n", b"{", b'"', pause=0.4)
        assert b" 408 " in late and b"the body took too long; send it at once" in late
        assert b" 400 " in raw(running.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 70_000)
        twice = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: a\r\nOrigin: b\r\n\r\n"
        refused = raw(running.port, twice, pause=0.01)
        assert b" 400 " in refused and b"the header origin comes twice; send it once" in refused
        assert running.call("GET", "/health")[0] == 200
    finally:
        running.stop()


def test_more_than_may_wait_are_told_to_come_again_and_more_than_ever_may_to_be_fewer() -> None:
    running = Running(Rules(), most=1, queue=2)
    try:
        with OpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key="none", max_retries=0) as client:
            ask = partial(client.completions.create, model="plain", prompt="Ada")
            with ask(max_tokens=100_000, stream=True, extra_body={"ignore_eos": True}) as stream:
                next(iter(stream))
                with pytest.raises(
                    openai.RateLimitError, match="of 3 texts there is room for 2 now; try again"
                ) as refused:
                    ask(n=3)
                assert refused.value.response.headers["retry-after"] == "1"
                with pytest.raises(openai.BadRequestError, match="4 texts are asked for at once; ask for 3 or fewer"):
                    ask(n=4)
            assert ask(n=2, max_tokens=2).choices
            with ask(max_tokens=100_000, stream=True, extra_body={"ignore_eos": True}) as stream:
                next(iter(stream))
                with ask(max_tokens=2, stream=True):
                    told = counts(running)
                    assert (told["active"], told["waiting"]) == (1, 1)
    finally:
        running.stop()


@pytest.mark.parametrize(("words", "n"), [("prompt", 4), ("prompt", 1), ("messages", 4)])
def test_they_are_told_before_what_they_sent_is_looked_at(words: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(Rules(), most=1, queue=2)
    path, one = ("/v1/completions", "Ada") if words == "prompt" else ("/v1/chat/completions", TALK[0])
    try:
        with monkeypatch.context() as patched:
            patched.setattr("octavo.server.models.opened", lambda *words: pytest.fail("it was read"))
            status, error = running.refusal("POST", path, {words: [one] * (1 if n == 4 else 4), "n": n})
        assert status == 400 and error["message"].endswith("texts are asked for at once; ask for 3 or fewer")
        assert running.call("POST", path, {words: [one], "n": 3, "max_tokens": 2})[0] == 200
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CompletionRequest, {"prompt": ["a"] * 99 + [1] * 99}),
        (CompletionRequest, {"prompt": [1] * 99 + [-1] * 99}),
        (CompletionRequest, {"prompt": [[1]] * 99 + [["a"] * 99] * 99}),
        (ChatRequest, {"messages": [{"role": "user", "content": [1] * 99}]}),
        (ChatRequest, {"messages": [1] * 99}),
        (ResponseRequest, {"input": [1] * 99}),
        (ResponseRequest, {"input": [{"role": "user", "content": [1] * 99}] * 99}),
        (ResponseRequest, {"input": "Ada", "include": [1] * 99}),
        (ResponseRequest, {"input": "Ada", "metadata": {f"{n}": 1 for n in range(99)}}),
        (DetokenizeRequest, {"tokens": ["a"] * 99}),
    ],
)
def test_one_mistake_is_complained_of_however_many_there_are(kind: type[BaseModel], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as found:
        kind.model_validate(body)
    assert found.value.error_count() <= 4  # one for each form that the value might have


def test_they_are_told_before_their_body_is_read_where_no_model_has_room() -> None:
    running = Running(Rules(), most=1, queue=0)
    engines = [running.models.find(name).engine for name in MODELS]
    endless = {"prompt": "Ada", "max_tokens": 100_000, "stream": True, "ignore_eos": True}
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    taken = []
    try:
        for engine, name in zip(engines, MODELS, strict=True):
            assert running.call("POST", "/v1/completions", b"no JSON")[0] == 400  # it was read: a model has room
            body = json.dumps({**endless, "model": name})
            taken.append(socket.create_connection(("127.0.0.1", running.port)))
            taken[-1].sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            while not engine.full:
                time.sleep(0.001)
        status, error = running.refusal("POST", "/v1/completions", b"no JSON")
        assert (status, error["code"]) == (429, "queue_full")
        assert running.call("GET", "/health")[0] == 200 and running.call("GET", "/v1/models")[0] == 200
    finally:
        for connection in taken:
            connection.close()
        running.stop()


def test_who_asks_for_little_does_not_wait_for_a_crowd_that_asks_for_much() -> None:
    begun: list[str] = []
    given = {
        "type": "http",
        "scheme": "http",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.append(scope["method"])

    async def nothing(*_: Any) -> Any: ...

    async def crowd() -> None:
        gate = Gate(app, Rules(), Counts(), lambda line: None)
        methods = ["POST"] * (3 * BEGUN) + ["GET"]
        asked = [gate({**given, "method": method, "path": "/"}, nothing, nothing) for method in methods]
        await asyncio.gather(*asked)

    asyncio.run(crowd())
    assert begun == ["POST"] * BEGUN + ["GET"] + ["POST"] * (2 * BEGUN)


def test_a_crowd_that_comes_at_once_is_answered_to_the_last(running: Running) -> None:
    crowd = [socket.create_connection(("127.0.0.1", running.port), timeout=20) for _ in range(10 * TAKEN)]
    try:
        for connection in crowd:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert all(connection.recv(65536).startswith(b"HTTP/1.1 200 ") for connection in crowd)
    finally:
        for connection in crowd:
            connection.close()


def test_no_part_of_an_answer_waits_until_the_client_has_thanked_for_another(running: Running) -> None:
    connection = HTTPConnection("127.0.0.1", running.port, timeout=20)
    connection.request("GET", "/health")
    connection.getresponse().read()
    taken = [one.transport.get_extra_info("socket") for one in running.server.server_state.connections]
    assert taken and all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in taken)
    connection.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_is_not_written_for_any_longer(stream: bool, running: Running) -> None:
    body = json.dumps({**GOOD, "max_tokens": 100_000, "stream": stream, "logit_bias": {str(PLAIN.end_of_text): -100}})
    engine = running.models.find("plain").engine
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        while not engine.load().active:
            time.sleep(0.001)
    begin = time.monotonic()
    while engine.load().active:
        assert time.monotonic() - begin < 10
        time.sleep(0.001)
    assert running.call("GET", "/health")[0] == 200


@pytest.mark.parametrize("hurried", [False, True])
def test_a_service_that_ends_tells_those_it_waits_for_no_longer(
    hurried: bool, caplog: pytest.LogCaptureFixture
) -> None:
    running = Running(Rules())
    running.server.config.timeout_graceful_shutdown = 1
    endless = {**GOOD, "max_tokens": 100_000, "ignore_eos": True}
    with ThreadPoolExecutor() as clients:
        asked = [
            clients.submit(running.call, "POST", "/v1/completions", {**endless, "stream": how}) for how in (False, True)
        ]
        while running.models.find("plain").engine.load().active < 2:
            time.sleep(0.01)
        running.server.force_exit = hurried  # as a second Ctrl-C has it
        running.stop()
        (status, whole), (begun, streamed) = (one.result() for one in asked)
    error = {"message": "the service ends; ask again when it is back", "type": "server_error"}
    assert (status, begun) == (503, 200)
    assert error.items() <= json.loads(whole)["error"].items()
    assert error.items() <= json.loads(streamed.split(b"data: ")[-1])["error"].items()
    assert not [record for record in caplog.records if record.exc_info or "Traceback" in record.getMessage()]


# the program


def test_another_address_takes_a_key_that_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTAVO_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"--host 0\.0\.0\.0 lets other machines in; name a key in --api-key-file"):
        rules_for("0.0.0.0", read_key(None))
    with pytest.raises(ConfigError, match="the API key has 3 signs; others can guess it, give at least 16"):
        rules_for("0.0.0.0", "abc")
    (tmp_path / "key").write_text(f"{KEY}\n")
    rules = rules_for("0.0.0.0", read_key(tmp_path / "key"))
    assert rules.known("192.0.2.7:8000") and rules.known("localhost") and not rules.known("evil.example")
    assert read_key(None) is None and rules_for("127.0.0.1", None).key is None
    monkeypatch.setenv("OCTAVO_API_KEY", "two words")
    with pytest.raises(ConfigError, match="the API key is no single word of plain letters, digits and signs; give one"):
        read_key(None)
    with pytest.raises(ConfigError, match=r"--api-key-file .*none cannot be read"):
        read_key(tmp_path / "none")


@pytest.mark.parametrize(
    "address",
    [
        *("octavo.example", "ftp://octavo.example", "//octavo.example", "https://", "https:///", "", "https://-"),
        *("https://octavo.example/page", "https://octavo.example//", "https://octavo.example?a=1", f"{PUBLIC}/#a"),
        *("https://me@octavo.example", "https://me:word@octavo.example", "https://octavo example", f" {PUBLIC}"),
        *("https://octavo.example:", "https://octavo.example:0", "https://octavo.example:65536", f"{PUBLIC}:x"),
        *("https://octavo.example:443:443", "https://octavo.example\n", "https://octävo.example", "https://[::1"),
    ],
)
def test_the_address_of_a_proxy_is_a_host_and_nothing_behind_it(address: str) -> None:
    message = "is not http:// or https:// and a host, with a port or none; give one like https://octavo.example"
    shown = address.replace("\n", " ")  # in one line
    with pytest.raises(ConfigError, match=f"^--public {re.escape(shown)} {message}$"):
        rules_for("127.0.0.1", KEY, address)


def test_the_address_of_a_proxy_takes_a_key_and_is_one_however_it_is_spelled() -> None:
    message = r"^--public https://octavo\.example lets other machines in; name a key in .*, or leave it out$"
    with pytest.raises(ConfigError, match=message):
        rules_for("127.0.0.1", None, PUBLIC)
    with pytest.raises(ConfigError, match=r"--host 0\.0\.0\.0 lets other machines in; .*, or serve 127\.0\.0\.1"):
        rules_for("0.0.0.0", None, PUBLIC)
    with pytest.raises(ConfigError, match="the API key has 3 signs; others can guess it, give at least 16"):
        rules_for("127.0.0.1", "abc", PUBLIC)
    for spelled in (PUBLIC, "HTTPS://Octavo.Example", f"{PUBLIC}:443", f"{PUBLIC}/"):
        rules = rules_for("127.0.0.1", KEY, spelled)
        assert rules.public == PUBLIC and rules.known("octavo.example") and not rules.known("192.0.2.7")
    rules = rules_for("0.0.0.0", KEY, "http://[2001:DB8::7]:8080")
    assert rules.public == "http://[2001:db8::7]:8080" and rules.known("192.0.2.7:8000")
    assert rules_for("127.0.0.1", KEY, "http://octavo.example").known("octavo.example:80")
    assert not rules_for("127.0.0.1", KEY, "http://octavo.example:8080").known("octavo.example")


def test_a_port_that_is_taken_or_none_is_said() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        line = f"127.0.0.1 port {port} cannot be listened at: Address already in use; give another --port or --host"
        with pytest.raises(ConfigError, match=f"^{re.escape(line)}$"):
            listen("127.0.0.1", port)
    with pytest.raises(ConfigError, match="--port 99999 is no port; give 0 to 65535"):
        listen("127.0.0.1", 99999)


def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    octavo.save(*MODELS["plain"], tmp_path / "runs" / "ada")
    octavo.save(*MODELS["plain"], tmp_path / "other" / "ada")
    command = [sys.executable, "-m", "octavo", "serve", "ada", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline(), process.stderr.readline()]
        assert lines[1].startswith("serving ada at http://127.0.0.1:") and lines[1].endswith("/v1; Ctrl-C ends it\n")
        address = lines[1].split(" at ")[1].split(";")[0]
        with OpenAI(base_url=address, api_key="none") as client:
            assert client.completions.create(model="ada", prompt="Ada", max_tokens=3).choices
        process.terminate()
        assert process.wait(20) == 143
    twice = subprocess.run([*command, "other/ada"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (twice.returncode, twice.stderr) == (2, "octavo: two models are called ada; rename the folder of one\n")


# a conversation over it


def test_a_conversation_over_a_server_is_the_one_held_here(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    knobs = Knobs(max_new_tokens=12, temperature=0.5, seed=3)
    address = f"http://127.0.0.1:{running.port}"
    for name, both in MODELS.items():
        remote, here = Remote(address, name), Local(*both, name)
        assert (
            remote.answers == here.answers == (name == "chatty")
            and remote.sees == here.sees == here.model.config.context
        )
        said = [("Who?", "Ada.")] if name == "chatty" else []
        assert "".join(remote.speak(said, "Ada finds", knobs)) == "".join(here.speak(said, "Ada finds", knobs))
    assert Remote(f"127.0.0.1:{running.port}/v1/", None).name == "plain"
    with pytest.raises(DownloadError, match=r"^http://127\.0\.0\.1:\d+ has no model other; it has plain, chatty$"):
        Remote(address, "other")
    for none in ("ftp://x", "http://[::1", "http://a..b", "http://a/ä", "http://a:99999", "http://"):
        with pytest.raises(UserError, match=f"--server {re.escape(none)} is no address; give one like http"):
            Remote(none, None)
    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match="OCTAVO_API_KEY holds what no key does; set it"),
    ):
        patch.setenv("OCTAVO_API_KEY", "a\nb")
        Remote(address, None)
    with listen("127.0.0.1", 0) as nobody:
        closed = nobody.getsockname()[1]
    with pytest.raises(DownloadError, match=r"does not answer .*; is octavo serve running there"):
        Remote(f"http://127.0.0.1:{closed}", None)


def test_a_conversation_that_is_too_long_for_the_servers_model_goes_on_without_its_oldest_turns(
    running: Running,
) -> None:
    remote = Remote(f"http://127.0.0.1:{running.port}", "chatty")
    knobs = Knobs(max_new_tokens=12, temperature=0.5, seed=3)
    said = [(f"Who finds the number {n}?", "Ada finds it.") for n in range(20)]
    counts = [len(read_conversation(CHATTY, messages(said[first:], "Why?"))) for first in range(20)]
    fitting = next(first for first, count in enumerate(counts) if count + knobs.max_new_tokens <= 256)
    answer = "".join(remote.speak(said, "Why?", knobs))
    assert 1 < fitting < 19 and answer == "".join(remote.speak(said[fitting:], "Why?", knobs))
    with pytest.raises(DownloadError, match=r"says 400: the conversation takes .* leave out its oldest turns"):
        list(remote.speak(said, TEXT, knobs))


def test_a_line_that_leaves_little_room_is_answered_by_a_server_for_as_long_as_there_is_some(running: Running) -> None:
    remote, line = Remote(f"http://127.0.0.1:{running.port}", "chatty"), leaving(3)
    body = {"model": "chatty", "messages": messages([], line), "temperature": 0.5, "seed": 3}
    alone = json.loads(running.call("POST", "/v1/chat/completions", body)[1])["choices"][0]["message"]["content"]
    knobs = Knobs(max_new_tokens=12, temperature=0.5, seed=3)
    assert "".join(remote.speak([("Who?", "Ada.")], line, knobs)) == "".join(remote.speak([], line, knobs)) == alone


def test_a_model_that_a_server_has_not_is_refused_before_the_talk(
    running: Running, said: Callable[..., tuple[int, str, str]]
) -> None:
    address = f"http://127.0.0.1:{running.port}"
    line = f"octavo: {address} has no model nosuch; it has plain, chatty\n"
    assert said("talk", "nosuch", "--server", address) == (1, "", line)


OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
KNOWN = b'HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{"data": [{"id": "x"}]}'
LOST = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([OK + b'\r\n{"data": []}'], "names no models; is it an OpenAI-compatible server"),
        ([OK + b"\r\n<html>Welcome</html>"], "names no models; is it an OpenAI-compatible server"),
        (
            [LOST + b"\r\n<!DOCTYPE html>\n<p>Lost</p>"],
            r"says 404: nothing that an OpenAI-compatible server would; is it",
        ),
        ([LOST + b"\r\n"], "says 404: nothing that an OpenAI-compatible server would; is it one"),
        ([LOST + b"\r\nno route"], "says 404: no route$"),
        ([KNOWN, OK + b"\r\ndata: {}\n\n"], "the server says what no OpenAI-compatible one does: "),
        ([KNOWN, OK + b'\r\ndata: {"error": {"message": "too hot"}}\n\n'], "the server says: too hot"),
        ([KNOWN, OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\ndata"], r"broke off \(.*\); ask again"),
    ],
)
def test_a_server_that_answers_something_else_is_said_in_one_line(answers: list[bytes], message: str) -> None:
    with listen("127.0.0.1", 0) as at:

        def some() -> None:
            for answer in answers:  # what there is, and then the text
                connection, _ = at.accept()
                connection.recv(65536)
                connection.sendall(answer)
                connection.close()

        thread = threading.Thread(target=some)
        thread.start()
        address = f"http://127.0.0.1:{at.getsockname()[1]}"
        with pytest.raises(DownloadError, match=message):
            list(Remote(address, "x").speak([], "Ada", Knobs()))
        thread.join()


def test_a_server_is_asked_in_openais_words_alone_unless_more_is_wanted() -> None:
    asked: list[bytes] = []
    said = OK + b'\r\ndata: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'
    with listen("127.0.0.1", 0) as at:

        def some() -> None:
            for answer in (KNOWN, said) * 2:
                connection, _ = at.accept()
                asked.append(b"")
                while not asked[-1].endswith((b"}", b"\r\n\r\n") if answer == KNOWN else b"}"):
                    asked[-1] += connection.recv(65536)
                connection.sendall(answer)
                connection.close()

        thread = threading.Thread(target=some)
        thread.start()
        address = f"http://127.0.0.1:{at.getsockname()[1]}"
        for penalty in (1.0, 1.2):
            assert list(Remote(address, "x").speak([], "Ada", Knobs(repetition_penalty=penalty))) == ["Hi"]
        thread.join()
    assert [b"repetition_penalty" in body for body in asked[1::2]] == [False, True]


def test_a_wrong_key_is_told_in_the_servers_words(guarded: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_API_KEY", "wrong")
    with pytest.raises(DownloadError, match="says 401: the key is missing or wrong"):
        Remote(f"http://127.0.0.1:{guarded.port}", None)
    monkeypatch.setenv("OCTAVO_API_KEY", KEY)
    assert Remote(f"http://127.0.0.1:{guarded.port}", None).name == "plain"


def test_the_page_on_serving_says_the_numbers_that_the_service_has() -> None:
    page = (Path(__file__).parents[1] / "docs/serving.md").read_text("utf-8").replace("\n", " ")
    for words in (
        f"{MOST:,} texts are written at once and {QUEUE} more may wait",
        f"{ROWS} tokens in all",
        f"in blocks of {BLOCK} tokens and at most {SHARE:.0%}".replace("%", " %"),
        f"A body has {BODY >> 20} MiB and {PATIENCE:g} seconds at the most",
        f"temperature {USUAL}, or {ANSWERING} where",
        f"gives the texts on their way {GRACE} seconds",
    ):
        assert words in page
