"""/v1/responses, asked by OpenAI's client: the same turn as a chat completion, in that API's newer words."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import (
    Response,
    ResponseErrorEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseStreamEvent,
)
from pydantic import TypeAdapter

from octavo.server.engine.engine import Engine
from octavo.server.gate import Rules
from octavo.server.models import Served
from test_server import MODELS, NO_BLANK_LINE, PLAIN, Running, leaving

Json = dict[str, Any]
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TURNS: list[Any] = [
    {"type": "message", "role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "input_text", "text": "Who "}, {"type": "input_text", "text": "is Ada?"}]},
    {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "Ada.", "annotations": [], "logprobs": []}],
    },
    {"role": "user", "content": "And Grace?"},
]
SAME = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "Who is Ada?"},
    {"role": "assistant", "content": "Ada."},
    {"role": "user", "content": "And Grace?"},
]
ENDLESS: Json = {
    "model": "plain",
    "input": "Ada",
    "max_output_tokens": 100_000,
    "ignore_eos": True,
    "logit_bias": {**NO_BLANK_LINE, str(PLAIN.end_of_text): -100},
}
WORDS: Json = {"model": "chatty", "temperature": 0, "extra_body": {"seed": 3}}


@pytest.fixture(scope="module")
def client(running: Running) -> Iterator[OpenAI]:
    words: Json = {"api_key": "none", "max_retries": 0, "_strict_response_validation": True}  # against its own types
    with OpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", **words) as client:
        yield client


def text_of(answer: Response) -> ResponseOutputText:
    """The one text of an answer."""
    (message,) = answer.output
    assert isinstance(message, ResponseOutputMessage)
    (text,) = message.content
    assert isinstance(text, ResponseOutputText) and message.status == answer.status
    return text


@pytest.mark.parametrize("model", ["plain", "chatty"])
@pytest.mark.parametrize("temperature", [0, 0.9])
def test_a_response_is_the_turn_that_a_chat_completion_is(model: str, temperature: float, client: OpenAI) -> None:
    words: Json = {"model": model, "temperature": temperature, "top_p": 0.9, "extra_body": {"seed": 3}}
    for most in (1, 12):
        chat = client.chat.completions.create(messages=SAME, max_tokens=most, **words)  # type: ignore[arg-type]
        told = client.responses.create(input=TURNS, max_output_tokens=most, **words)
        system, rest = TURNS[0]["content"], TURNS[1:]
        instructed = client.responses.create(input=rest, instructions=system, max_output_tokens=most, **words)
        assert text_of(told).text == told.output_text == instructed.output_text == chat.choices[0].message.content
        assert told.usage is not None and chat.usage is not None
        assert (told.usage.input_tokens, told.usage.output_tokens, told.usage.total_tokens) == (
            *(chat.usage.prompt_tokens, chat.usage.completion_tokens),
            chat.usage.total_tokens,
        )
        assert told.usage.output_tokens_details.reasoning_tokens == 0
        assert told.usage.input_tokens_details.cached_tokens <= told.usage.input_tokens
        length = chat.choices[0].finish_reason == "length"
        assert told.status == ("incomplete" if length else "completed")
        assert (told.incomplete_details is not None) == length and (told.completed_at is None) == length
        assert (told.temperature, told.top_p, told.max_output_tokens) == (temperature, 0.9, most)
        assert (instructed.instructions, told.instructions) == (system, None)


def test_a_text_alone_is_what_the_user_says(client: OpenAI) -> None:
    told = client.responses.create(input="Ada", max_output_tokens=9, **WORDS)
    chat = client.chat.completions.create(messages=[{"role": "user", "content": "Ada"}], max_tokens=9, **WORDS)
    assert told.output_text == chat.choices[0].message.content
    assert told.id.startswith("resp_") and told.output[0].id is not None and told.output[0].id.startswith("msg_")
    assert (told.model, told.object, told.error, told.tool_choice) == ("chatty", "response", None, "auto")
    first = client.responses.create(input="Ada", max_output_tokens=9, **WORDS, metadata={"who": "Ada"})
    assert first.metadata == {"who": "Ada"} and first.output_text == told.output_text and first.id != told.id
    again = [{"role": "user", "content": "Ada"}, *(one.model_dump() for one in told.output)]
    more = client.responses.create(input=[*again, {"role": "user", "content": "Why?"}], max_output_tokens=2, **WORDS)  # type: ignore[list-item]
    assert more.usage is not None and told.usage is not None and more.usage.input_tokens > told.usage.total_tokens


def test_what_ends_by_itself_is_completed(client: OpenAI, running: Running) -> None:
    words: Json = {"model": "plain", "input": "Ada", "max_output_tokens": 40}
    whole = client.responses.create(**words, extra_body={"seed": 3, "stop": ["\n\n", "a"]})
    assert whole.status == "completed" and whole.incomplete_details is None and "a" not in text_of(whole).text
    assert whole.completed_at is not None and whole.completed_at >= whole.created_at
    assert whole.temperature == 0.8 and client.responses.create(**WORDS | words | {"model": "chatty"}).top_p == 1


NAMES = {
    "first": [
        *("response.created", "response.in_progress"),
        *("response.output_item.added", "response.content_part.added"),
    ],
    "last": ["response.output_text.done", "response.content_part.done", "response.output_item.done"],
}


@pytest.mark.parametrize(("stop", "end"), [([], "response.incomplete"), (["ho", "e"], "response.completed")])
@pytest.mark.parametrize("include", [[], ["message.output_text.logprobs"]])
def test_a_stream_is_named_events_that_join_to_the_whole(
    stop: list[str], end: str, include: list[str], client: OpenAI, running: Running
) -> None:
    words = {**ENDLESS, "max_output_tokens": 40, "seed": 3, "stop": stop, "include": include}
    status, content = running.call("POST", "/v1/responses", words)
    whole = json.loads(content)
    status, content = running.call("POST", "/v1/responses", words | {"stream": True})
    assert status == 200 and content.endswith(b"\n\n") and b"[DONE]" not in content
    events = [line.split("\ndata: ") for line in content.decode().removesuffix("\n\n").split("\n\n")]
    told = [json.loads(data) for _, data in events]
    assert [f"event: {one['type']}" for one in told] == [name for name, _ in events]
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    for one in told:
        EVENT.validate_python(one)
    names = [one["type"] for one in told]
    assert names[:4] == NAMES["first"] and names[-4:] == [*NAMES["last"], end]
    assert set(names[4:-4]) == {"response.output_text.delta"} and len(names) > 9
    final = told[-1]["response"]
    (item,), (same,) = final["output"], whole["output"]
    assert item == told[-2]["item"] and item["content"] == [told[-3]["part"]] == same["content"]
    deltas = [one for one in told if one["type"] == "response.output_text.delta"]
    assert "".join(one["delta"] for one in deltas) == told[-4]["text"] == item["content"][0]["text"]
    rows = [row for one in deltas for row in one["logprobs"]]
    assert rows == told[-4]["logprobs"] == item["content"][0]["logprobs"] and bool(rows) == bool(include)
    assert {one["item_id"] for one in told if "item_id" in one} == {item["id"]}
    assert {one["response"]["id"] for one in told if "response" in one} == {final["id"]}
    assert told[0]["response"]["output"] == [] and told[0]["response"]["usage"] is None
    differing = {"id", "created_at", "completed_at", "output", "usage"}
    assert {name for name in final if final[name] != whole[name]} <= differing
    assert final["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


def test_log_probabilities_are_those_of_a_chat_completion(client: OpenAI) -> None:
    chat = client.chat.completions.create(messages=SAME, max_tokens=8, logprobs=True, top_logprobs=2, **WORDS)  # type: ignore[arg-type]
    told = client.responses.create(
        input=TURNS, max_output_tokens=8, include=["message.output_text.logprobs"], top_logprobs=2, **WORDS
    )
    rows, wanted = text_of(told).logprobs, chat.choices[0].logprobs
    assert rows is not None and wanted is not None and wanted.content is not None and len(rows) == 8
    assert [row.model_dump() for row in rows] == [row.model_dump() for row in wanted.content]


def test_a_stream_tells_of_every_token_also_of_those_that_are_a_part_of_a_character(client: OpenAI) -> None:
    words: Json = {"model": "chatty", "input": "Ada", "max_output_tokens": 40, "temperature": 2}
    words |= {"include": ["message.output_text.logprobs"], "extra_body": {"seed": 1, "ignore_eos": True}}
    events = list(client.responses.create(**words, stream=True))
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert sum(len(event.logprobs) for event in deltas) == 40
    assert "".join(event.delta for event in deltas) == client.responses.create(**words).output_text


def test_the_clients_helpers_read_it(client: OpenAI, running: Running) -> None:
    words: Json = {"model": "plain", "input": "Ada", "extra_body": {"seed": 3, "stop": ["\n\n", "a"]}}
    whole = client.responses.create(**words)
    with client.responses.stream(**words) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(pieces) == final.output_text == whole.output_text != ""
    assert final.usage is not None and whole.usage is not None
    assert final.usage.total_tokens == whole.usage.total_tokens

    async def ask() -> list[str]:
        async with AsyncOpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key="none") as many:
            one = await many.responses.create(**words)
            streamed = await many.responses.create(**words, stream=True)
            texts = [event.delta async for event in streamed if event.type == "response.output_text.delta"]
            async with many.responses.stream(**words) as stream:
                last = await stream.get_final_response()
            return [one.output_text, "".join(texts), last.output_text]

    assert asyncio.run(ask()) == [whole.output_text] * 3


HARMLESS: Json = {
    "background": False,
    "conversation": None,
    "context_management": [],
    "include": [],
    "max_tool_calls": 3,
    "metadata": {},
    "n": 1,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt": None,
    "prompt_cache_key": "x",
    "reasoning": {"effort": "none", "summary": None},
    "safety_identifier": "x",
    "service_tier": "auto",
    "store": True,
    "stream_options": {"include_obfuscation": False},
    "text": {"format": {"type": "text"}, "verbosity": "medium"},
    "tool_choice": "none",
    "tools": [],
    "top_logprobs": 0,
    "truncation": "disabled",
    "user": "x",
}


def test_a_field_that_asks_for_nothing_changes_nothing(running: Running) -> None:
    usual = {"model": "chatty", "input": "Ada", "max_output_tokens": 4, "seed": 1}
    absent = dict.fromkeys(HARMLESS)
    answers = [json.loads(running.call("POST", "/v1/responses", usual | more)[1]) for more in ({}, HARMLESS, absent)]
    assert len({answer["output"][0]["content"][0]["text"] for answer in answers}) == 1
    assert [answer["tool_choice"] for answer in answers] == ["auto", "none", "auto"]
    assert [answer["store"] for answer in answers] == [False] * 3  # for nothing is kept


ALONE = "octavo keeps no conversation for {}; send the whole of it as input"
RENAMED = "{} has another name here; send max_output_tokens"
PICTURE = {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,"}]}


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"previous_response_id": "resp_1"}, ALONE.format("previous_response_id"), "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, ALONE.format("conversation"), "conversation"),
        ({"max_tokens": 2}, RENAMED.format("max_tokens"), "max_tokens"),
        ({"max_completion_tokens": 2}, RENAMED.format("max_completion_tokens"), "max_completion_tokens"),
        ({"tools": [{"type": "web_search"}]}, "octavo does not do tools; leave it out", "tools"),
        ({"background": True}, "octavo does not do background; leave it out", "background"),
        ({"truncation": "auto"}, "octavo does not do truncation; leave it out", "truncation"),
        ({"prompt": {"id": "pmpt_1"}}, "octavo does not do prompt; leave it out", "prompt"),
        ({"moderation": {}}, "octavo does not do moderation; leave it out", "moderation"),
        (
            {"context_management": [{"type": "compaction"}]},
            "octavo does not do context_management; leave it out",
            "context_management",
        ),
        ({"response_format": {"type": "json"}}, "octavo does not do response_format; leave it out", "response_format"),
        ({"grammar": "x"}, "octavo does not do grammar; leave it out", "grammar"),
        ({"tool_choice": "required"}, "tool_choice: Input should be 'none' or 'auto'", "tool_choice"),
        ({"text": {"format": {"type": "json_object"}}}, "text.format.type: Input should be 'text'", "text"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort: Input should be 'none'", "reasoning"),
        (
            {"include": ["reasoning.encrypted_content"]},
            "include.0: Input should be 'message.output_text.logprobs'",
            "include",
        ),
        ({"top_logprobs": 2}, "top_logprobs takes logprobs; include message.output_text.logprobs", None),
        ({"n": 2}, "n: Input should be less than or equal to 1", "n"),
        ({"max_output_tokens": 0}, "max_output_tokens: Input should be greater than", "max_output_tokens"),
        (
            {"metadata": {f"{n}": "x" for n in range(17)}},
            "metadata: it names 17 labels; name at most 16",
            "metadata",
        ),
        ({"metadata": {"x": 1}}, "metadata.x: Input should be a valid string", "metadata"),
        ({"instructions": "a\x00"}, "instructions: it holds U+0000; leave it out", "instructions"),
        ({"input": "a\ud800"}, "input: it holds half of a surrogate pair, which is no character; replace it", "input"),
        ({"input": []}, "input: List should have at least 1 item after validation, not 0", "input"),
        ({"input": None}, "input: Input should be a valid string", "input"),
        ({"input": [PICTURE]}, "input.0.content.0.type: Input should be 'input_text' or 'output_text'", "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role: Input should be 'system', 'develop", "input"),
        (
            {"input": [{"type": "function_call", "call_id": "x", "name": "x", "arguments": "{}"}]},
            "input.0: octavo does not do items of type 'function_call'; leave them out",
            "input",
        ),
        (
            {"input": [{"type": "item_reference", "id": "msg_1"}]},
            "input.0: octavo keeps no answer to refer to; send the message itself, as with store set to false",
            "input",
        ),
        ({"model": "other"}, "no model 'other'; there is plain, chatty", "model"),
    ],
)
def test_what_is_not_octavos_is_refused_in_one_line(
    body: Json, message: str, param: str | None, running: Running
) -> None:
    status, error = running.refusal("POST", "/v1/responses", {"model": "plain", "input": "Ada", **body})
    assert status == (404 if "no model" in message else 400)
    assert error["message"].startswith(message) and "\n" not in error["message"] and error["param"] == param


def test_a_conversation_that_is_too_long_is_refused_as_a_chat_completions_is(running: Running) -> None:
    said = leaving(12)
    fits = {"model": "chatty", "input": said, "max_output_tokens": 12}
    assert running.call("POST", "/v1/responses", fits)[0] == 200
    status, error = running.refusal("POST", "/v1/responses", fits | {"max_output_tokens": 13})
    messages = [{"role": "user", "content": said}]
    chat = {"model": "chatty", "messages": messages, "max_tokens": 13}
    assert (status, error) == (400, running.refusal("POST", "/v1/chat/completions", chat)[1] | {"param": "input"})
    assert error["code"] == "context_length_exceeded"


def test_no_answer_is_kept(client: OpenAI) -> None:
    kept = client.responses.create(input="Ada", max_output_tokens=2, store=True, **WORDS).id
    line = "here: no answer is kept; send the whole conversation anew"
    ways: list[tuple[Callable[[str], object], str]] = [
        *((client.responses.retrieve, ""), (client.responses.delete, ""), (client.responses.cancel, "/cancel")),
        (client.responses.input_items.list, "/input_items"),
    ]
    for ask, part in ways:
        with pytest.raises(openai.NotFoundError, match=f"there is no '/v1/responses/{kept}{part}' {line}"):
            ask(kept)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_is_not_written_for_any_longer(stream: bool, running: Running) -> None:
    body = json.dumps({**ENDLESS, "stream": stream})
    engine = running.models.find("plain").engine
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        head = "POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        while not engine.load().active:
            time.sleep(0.001)
    end = time.monotonic() + 10
    while engine.load().active:
        assert time.monotonic() < end
        time.sleep(0.001)


def last(content: bytes) -> Json:
    """The last event of a stream, which says what it is twice."""
    name, data = content.decode().removesuffix("\n\n").split("\n\n")[-1].split("\ndata: ")
    told = json.loads(data)
    assert name == f"event: {told['type']}"
    return told


def test_what_cannot_go_on_ends_with_an_event_that_says_so(
    client: OpenAI, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    body: Json = {"model": "plain", "input": "Ada", "max_output_tokens": 3}
    with monkeypatch.context() as patched:
        patched.setattr("octavo.server.engine.runner.choose", lambda *words: 1 / 0)
        status, error = running.refusal("POST", "/v1/responses", body)
        assert (status, error["message"], error["type"]) == (500, "division by zero", "server_error")
        status, content = running.call("POST", "/v1/responses", body | {"stream": True})
        with pytest.raises(openai.APIError, match="division by zero"):
            list(client.responses.create(**body, stream=True))
    told = last(content)
    assert status == 200 and isinstance(EVENT.validate_python(told), ResponseErrorEvent)
    assert (told["type"], told["message"], told["sequence_number"]) == ("error", "division by zero", 4)
    assert told["error"]["type"] == "server_error"
    assert client.responses.create(**body).output_text


def test_a_service_that_ends_tells_so_in_an_event_too() -> None:
    running = Running(Rules())
    running.server.config.timeout_graceful_shutdown = 1
    with ThreadPoolExecutor() as clients:
        asked = clients.submit(running.call, "POST", "/v1/responses", {**ENDLESS, "stream": True})
        while not running.models.find("plain").engine.load().active:
            time.sleep(0.01)
        running.stop()
        told = last(asked.result()[1])
    assert isinstance(EVENT.validate_python(told), ResponseErrorEvent)
    assert (told["type"], told["code"]) == ("error", "ending")
    assert told["message"] == told["error"]["message"] == "the service ends; ask again when it is back"


def test_too_many_are_told_to_come_again_before_they_are_read() -> None:
    running = Running(Rules(), served=[Served("plain", Engine(*MODELS["plain"], most=1, queue=0))])
    try:
        with (
            OpenAI(base_url=f"http://127.0.0.1:{running.port}/v1", api_key="none", max_retries=0) as client,
            client.responses.create(extra_body=ENDLESS, stream=True) as stream,
        ):
            next(iter(stream))
            status, error = running.refusal("POST", "/v1/responses", b"no JSON")
            assert (status, error["code"]) == (429, "queue_full")
            with pytest.raises(openai.RateLimitError, match="try again"):
                client.responses.create(model="plain", input="Ada")
    finally:
        running.stop()
