"""The API's requests as they come in: what is known, what is refused by name, what is out of range."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)
from pydantic_core import PydanticCustomError

LONGEST_STOP, STOPS, BIASES, COPIES, TOKENS, TURNS = 256, 16, 1024, 128, 1 << 20, 4096


def checked(text: str) -> str:
    """A text that has an encoding, and no NUL in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a surrogate pair, which is no character; replace it") from None
    if "\x00" in text:
        raise ValueError("it holds U+0000; leave it out")
    return text


def few(most: int, what: str) -> BeforeValidator:
    """No more than may be looked at one by one."""

    def check(given: Any) -> Any:
        if isinstance(given, Mapping) and len(given) > most:
            raise ValueError(f"it names {len(given)} {what}; name at most {most}")
        return given

    return BeforeValidator(check)


Text = Annotated[StrictStr, AfterValidator(checked)]
Name = Annotated[StrictStr, Field(max_length=256), AfterValidator(checked)]
Token = Annotated[StrictInt, Field(ge=0, lt=2**31)]
FIRST = Field(fail_fast=True)  # a complaint about each of two million takes minutes: the first one does
Tokens = Annotated[list[Token], FIRST]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Biases = Annotated[
    dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[Number, Field(ge=-100, le=100)]],
    Field(max_length=BIASES),
    few(BIASES, "tokens"),
]
Stop = Annotated[StrictStr, Field(min_length=1, max_length=LONGEST_STOP), AfterValidator(checked)]


def refusing(**harmless: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Refuse fields that the API has and octavo cannot honour, unless they ask for nothing."""

    def check(given: Any) -> Any:
        if isinstance(given, Mapping):
            for name, values in harmless.items():
                value = given.get(name)
                if value is not None and value not in values:
                    raise PydanticCustomError("refused", "octavo does not do {name}; leave it out", {"name": name})
        return given

    return check


class StreamOptions(BaseModel):
    """What a stream is to hold besides text."""

    include_usage: StrictBool = False


class Writing(BaseModel):
    """What every request for text may ask."""

    model_config = ConfigDict(extra="ignore")

    model: Name | None = Field(None, description="A name of /v1/models; left out, the first.")
    temperature: Number | None = Field(None, ge=0, le=2, description="As octavo talk has it where it is left out.")
    top_p: Number | None = Field(None, gt=0, le=1)
    top_k: StrictInt | None = Field(None, ge=-1, le=2**31 - 1, description="0 and -1 keep all tokens.")
    min_p: Number | None = Field(None, ge=0, lt=1)
    frequency_penalty: Number | None = Field(None, ge=-2, le=2)
    presence_penalty: Number | None = Field(None, ge=-2, le=2)
    repetition_penalty: Number | None = Field(None, gt=0, le=100)
    seed: StrictInt | None = Field(None, ge=-(2**63), lt=2**63, description="Drawn anew where it is left out.")
    n: StrictInt | None = Field(None, ge=1, le=COPIES)
    stop: Stop | Annotated[list[Stop], Field(max_length=STOPS)] | None = None
    logit_bias: Biases | None = None
    ignore_eos: StrictBool | None = Field(None, description="Whether a text may not end by itself.")
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    user: Any = Field(None, description="Taken, and not used.")

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts."""
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class CompletionRequest(Writing):
    """POST /v1/completions."""

    prompt: Text | Annotated[list[Text], FIRST] | Tokens | Annotated[list[Tokens], FIRST] | None = Field(
        None, description="Texts, or ids; left out, a text begins anew."
    )
    max_tokens: StrictInt | None = Field(None, ge=0, le=TOKENS, description="16 where it is left out.")
    echo: StrictBool | None = None
    logprobs: StrictInt | None = Field(None, ge=0, le=20)
    return_token_ids: StrictBool | None = Field(None, description="Whether tokens are told by their ids too.")

    _refused = model_validator(mode="before")(
        refusing(suffix=("",), best_of=(1,), grammar=(), guided_json=(), response_format=({"type": "text"},))
    )


class TextPart(BaseModel):
    """A piece of a message."""

    type: Literal["text"]
    text: Text


class Message(BaseModel):
    """A turn of a conversation."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], FIRST]

    _refused = model_validator(mode="before")(refusing(tool_calls=([],), function_call=(), audio=()))

    @property
    def plain(self) -> dict[str, str]:
        """The message with its pieces joined."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class ChatRequest(Writing):
    """POST /v1/chat/completions."""

    said_in: ClassVar[str] = "messages"
    messages: list[Message] = Field(min_length=1, max_length=TURNS, fail_fast=True)
    max_tokens: StrictInt | None = Field(None, ge=1, le=TOKENS, description="As many as the context has room for.")
    max_completion_tokens: StrictInt | None = Field(None, ge=1, le=TOKENS, description="The newer name of it.")
    logprobs: StrictBool | None = None
    top_logprobs: StrictInt | None = Field(None, ge=0, le=20)

    _refused = model_validator(mode="before")(
        refusing(
            tools=([],),
            tool_choice=("none", "auto"),
            functions=([],),
            function_call=("none", "auto"),
            response_format=({"type": "text"},),
            grammar=(),
            guided_json=(),
            modalities=(["text"],),
            audio=(),
            prediction=(),
            web_search_options=(),
            reasoning_effort=("none",),
            store=(False,),
        )
    )

    @property
    def conversation(self) -> list[dict[str, str]]:
        """What was said so far."""
        return [message.plain for message in self.messages]

    @property
    def most(self) -> int | None:
        """How many tokens are asked for, by either name."""
        return self.max_completion_tokens or self.max_tokens

    @model_validator(mode="after")
    def _agree(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs takes logprobs; set that to true")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens say different things; give one of them")
        return self


class TokenizeRequest(BaseModel):
    """POST /tokenize."""

    model: Name | None = None
    content: Text


class DetokenizeRequest(BaseModel):
    """POST /detokenize."""

    model: Name | None = None
    tokens: Annotated[Tokens, Field(max_length=TOKENS)]
