"""The request of /v1/responses as it comes in: a conversation in the words of OpenAI's newer clients."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StrictBool, StrictInt, model_validator
from pydantic_core import PydanticCustomError

from octavo.server.schema import FIRST, TOKENS, TURNS, Message, Name, Text, Writing, few, refusing

LABELS = 16
ALONE = "octavo keeps no conversation for {name}; send the whole of it as input"
RENAMED = "{name} has another name here; send max_output_tokens"
TOLD = {
    "previous_response_id": ALONE,
    "conversation": ALONE,
    "max_tokens": RENAMED,
    "max_completion_tokens": RENAMED,
}


class ItemPart(BaseModel):
    """A piece of an item's text."""

    type: Literal["input_text", "output_text"]
    text: Text


class Item(Message):
    """A turn of a conversation as /v1/responses has it, where an answer comes back as it was given."""

    type: Literal["message"] | None = None
    content: Text | Annotated[list[ItemPart], FIRST]  # type: ignore[assignment]

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, given: Any) -> Any:
        kind = given.get("type") if isinstance(given, Mapping) else None
        if kind == "item_reference":
            raise ValueError("octavo keeps no answer to refer to; send the message itself, as with store set to false")
        if kind not in (None, "message"):
            raise ValueError(f"octavo does not do items of type {kind!r:.80}; leave them out")
        return given


class TextFormat(BaseModel):
    """The one kind of text that is written."""

    type: Literal["text"]


class TextKind(BaseModel):
    """What kind of text is asked for."""

    format: TextFormat | None = None


class Reasoning(BaseModel):
    """How long to think before the answer: not at all."""

    effort: Literal["none"] | None = None


class ResponseRequest(Writing):
    """POST /v1/responses."""

    said_in: ClassVar[str] = "input"
    input: Text | Annotated[list[Item], Field(min_length=1, max_length=TURNS), FIRST]
    instructions: Text | None = Field(None, description="What the system says before all else.")
    max_output_tokens: StrictInt | None = Field(None, ge=1, le=TOKENS, description="As many as there is room for.")
    include: Annotated[list[Literal["message.output_text.logprobs"]], FIRST] | None = None
    top_logprobs: StrictInt | None = Field(None, ge=0, le=20)
    metadata: Annotated[dict[Name, Text], few(LABELS, "labels")] | None = Field(None, description="Given back.")
    text: TextKind | None = None
    reasoning: Reasoning | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: StrictBool | None = None
    n: StrictInt | None = Field(None, ge=1, le=1)
    store: StrictBool | None = Field(None, description="Taken, and nothing is kept.")

    _refused = model_validator(mode="before")(
        refusing(
            tools=([],),
            background=(False,),
            truncation=("disabled",),
            context_management=([],),
            moderation=(),
            prompt=(),
            response_format=({"type": "text"},),
            grammar=(),
            guided_json=(),
        )
    )

    @model_validator(mode="before")
    @classmethod
    def _told(cls, given: Any) -> Any:
        for name, line in TOLD.items():
            if isinstance(given, Mapping) and given.get(name) is not None:
                raise PydanticCustomError("refused", line, {"name": name})
        return given

    @model_validator(mode="after")
    def _agree(self) -> "ResponseRequest":
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs takes logprobs; include message.output_text.logprobs")
        return self

    @property
    def conversation(self) -> list[dict[str, str]]:
        """What was said so far."""
        said = [Item(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        system = [] if self.instructions is None else [{"role": "system", "content": self.instructions}]
        return system + [item.plain for item in said]

    @property
    def most(self) -> int | None:
        """How many tokens are asked for."""
        return self.max_output_tokens

    @property
    def logprobs(self) -> bool:
        """Whether log-probabilities are to be told."""
        return bool(self.include)
