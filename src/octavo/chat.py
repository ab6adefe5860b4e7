"""Conversations in the words that a model was taught: its chat template, where nobody can forge a turn.

A template is a stranger's program: it runs in jinja2's sandbox, in a process with bounds. It never sees what people
say, which is put in afterwards and read as plain text: a special token spelled out there stays the letters it is.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, lru_cache
from importlib.util import find_spec

from octavo.errors import TextError, TokenizerError
from octavo.tokenizers import Tokenizer
from octavo.tokenizers.turns import END_OF_TURN, TEMPLATE, TURN, TURNS

Message = Mapping[str, str]  # a role and a content
ROLES = ("system", "user", "assistant")
PATIENCE = 10.0  # seconds for a template that a process runs in a tenth of one
OPEN, SPACE, CLOSE = "\U0010fffe", "\x0b", "\U0010ffff"  # what stands for a message: signs that no template writes
PLACE = re.compile(f"({SPACE}?){OPEN}([0-9]{{1,9}}){CLOSE}({SPACE}?)")
THOUGHT = "</think>"  # what ends the thoughts of a model that thinks before it answers
LEAST = 3  # characters that begin a turn, where no special token does, and are worth looking for


@dataclass(frozen=True)
class Spelling:
    """How conversations are written for a model: its chat template, what that calls special tokens, and those."""

    template: str
    names: tuple[tuple[str, str], ...]
    special: tuple[str, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Spelling":
        """That of a tokenizer. Raises `TokenizerError` where it has no template."""
        template = tokenizer.settings.get("chat_template")
        if not isinstance(template, str):
            raise TokenizerError("the model has no chat template, it was not taught to answer; use octavo generate")
        names = tuple((name, text) for name, text in tokenizer.settings.items() if name.endswith("_token"))
        return cls(template, names, tuple(tokenizer.special_ids))

    def parts(
        self, messages: Sequence[Message], *, answering: bool = True, today: date | None = None
    ) -> Iterator[tuple[str, bool]]:
        """A conversation up to where the model is to answer: special tokens, and all that stands between two of them.

        With each comes whether it is a special token. Raises what `read_conversation` raises.
        """
        for message in messages:
            if message.get("role") not in ROLES or not isinstance(message.get("content"), str):
                raise TextError(f"{dict(message)!r:.80} is no message; give a role, {', '.join(ROLES)}, and a content")
        if THOUGHT in self.template:
            messages = without_thoughts(messages)
        day = (today or date.today()) if "strftime_now" in self.template else None
        frame = rendered(self.template, tuple(message["role"] for message in messages), self.names, answering, day)
        pattern = self._pattern
        chunks = list(_chunks(frame, [message["content"] for message in messages]))
        _check_unforged(chunks, [message["content"] for message in messages if message["role"] != "assistant"], pattern)
        text = ""
        for chunk, said in chunks:
            for part in [chunk] if said else pattern.split(chunk):
                if not said and part in self.special:
                    yield from [(text, False)] * bool(text)
                    yield part, True
                    text = ""
                else:
                    text += part
        yield from [(text, False)] * bool(text)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        names = sorted(self.special, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, names)) + ")" if names else r"(?!)()")


OWN = Spelling(TEMPLATE, (), TURNS)  # of a model that is taught to answer here


def spelling_of(tokenizer: Tokenizer | None) -> Spelling | None:
    """How conversations are written for what learns with this tokenizer, or with one still to be made; perhaps not."""
    if tokenizer is None:
        return OWN
    return Spelling.of(tokenizer) if tokenizer.answers else None


def read_conversation(tokenizer: Tokenizer, messages: Sequence[Message], *, answering: bool = True) -> list[int]:
    """The ids of a conversation as the model was taught to read it, up to where it is to answer.

    They are those of transformers' `apply_chat_template`, except where a message spells a special token: there it is
    text. Raises `TokenizerError` where there is no template or it does not run, `TextError` for a message that holds
    what begins a turn.
    """
    ids: list[int] = []
    for text, special in Spelling.of(tokenizer).parts(messages, answering=answering):
        if special:
            ids.append(tokenizer.special_ids[text])
        else:
            (found,) = tokenizer.encode_pieces([text], ["special" if ids else "nothing"])
            ids += found.tolist()
    return ids


def without_thoughts(messages: Sequence[Message]) -> list[Message]:
    """What a model thought before it said something, it reads no more once it was answered.

    Templates of such models say so themselves; octavo does it for them, as they see no message.

    >>> talk = [("assistant", "<think>2+2</think>\\n4"), ("user", "5?"), ("assistant", "<think>")]
    >>> [message["content"] for message in without_thoughts([{"role": role, "content": text} for role, text in talk])]
    ['4', '5?', '<think>']
    """
    last = max((place for place, message in enumerate(messages) if message["role"] == "user"), default=0)
    return [
        {**message, "content": message["content"].rpartition(THOUGHT)[2].lstrip("\n")}
        if message["role"] == "assistant" and place < last and THOUGHT in message["content"]
        else message
        for place, message in enumerate(messages)
    ]


@lru_cache(maxsize=4096)  # a text to learn from may hold conversations of many lengths
def rendered(
    template: str,
    roles: tuple[str, ...],
    names: tuple[tuple[str, str], ...],
    answering: bool,
    today: date | None = None,
) -> str:
    """A conversation of these roles in the template's words, with a place for each message.

    It is remembered; where the template writes the date, for the day that is said to be today.
    Raises `TokenizerError` where the template refuses, or does not come to an end in time.
    """
    messages = [{"role": role, "content": f"{SPACE}{OPEN}{number}{CLOSE}{SPACE}"} for number, role in enumerate(roles)]
    if template == TEMPLATE:  # which is no stranger's
        turns = "".join(f"{TURN}{message['role']}\n{message['content']}{END_OF_TURN}\n" for message in messages)
        return turns + f"{TURN}assistant\n" * answering
    asked = {
        "template": template,
        "messages": messages,
        "names": dict(names),
        "answering": answering,
        "today": today and today.isoformat(),
    }
    program = find_spec("octavo.template")
    assert program is not None and program.origin is not None  # it stands beside this file
    try:
        done = subprocess.run(
            [sys.executable, "-I", program.origin],
            input=json.dumps(asked).encode(),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        answer = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):  # it was ended before it answered
        raise TokenizerError("the chat template takes more time or memory than any needs; take another") from None
    if "text" not in answer:
        raise TokenizerError(f"the chat template does not take this conversation: {answer.get('error')}")
    return str(answer["text"])


def _chunks(frame: str, contents: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """The template's words and what people say, in turn, and which is which; trimmed where the template trims."""
    end = 0
    for found in PLACE.finditer(frame):
        yield frame[end : found.start()], False
        if int(found[2]) >= len(contents):
            raise TokenizerError("the chat template writes a message that nobody has said; take another")
        said = contents[int(found[2])]
        said = said if found[1] else said.lstrip()
        yield said if found[3] else said.rstrip(), True
        end = found.end()
    yield frame[end:], False


def _check_unforged(chunks: Sequence[tuple[str, bool]], said: Sequence[str], special: re.Pattern[str]) -> None:
    """Where no special token begins a turn but plain words do, nobody but the model may say those words."""
    plain = [text.strip() for text, message in chunks if not message and not special.search(text)]
    openings = {text.splitlines()[-1].strip() for text in plain if text}  # the line that a message follows
    for text in said:
        for opening in openings:
            if len(opening) >= LEAST and opening in text:
                raise TextError(f"{opening!r} begins a turn of this model's conversations; write it in other words")
