"""A program of its own: runs a stranger's chat template with bounded time and memory, and writes what comes of it.

In: JSON with `template`, `messages`, `names` and `answering`. Out: JSON with `text`, or with `error`. It imports
nothing of octavo, so that it starts in a tenth of a second, and is never imported by it.
"""

import json
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 256 << 20  # bytes that it may take beside what it has when it starts
SECONDS = 2  # of the processor's time
LARGEST = 4_000_000  # characters that it may write


class Answer(Extension):
    """`{% generation %}` marks, for trainers, what the model itself is to say: here it is text like all other."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def refuse(message: str) -> NoReturn:
    """What templates call where they do not know what to do with a conversation."""
    raise TemplateError(message)


def to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
    """JSON as it is, where jinja2's own is made for web pages."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def rendered(asked: dict[str, Any]) -> str:
    """The conversation in the template's words, in the environment that transformers has for them."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension, Answer]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    now = datetime.fromisoformat(asked["today"]) if asked.get("today") else datetime.now()
    environment.globals["strftime_now"] = now.strftime
    text = environment.from_string(asked["template"]).render(
        messages=asked["messages"], add_generation_prompt=asked["answering"], **asked["names"]
    )
    if len(text) > LARGEST:
        raise TemplateError(f"it writes {len(text):,} characters")
    return text


def bound() -> None:
    """From here on this process has so much time and memory; the second where /proc tells what it has, as on Linux.

    On Windows it has the time alone, which its parent watches.
    """
    try:
        import resource
    except ImportError:
        return
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    with suppress(ValueError, OSError):
        with open("/proc/self/statm") as file:  # noqa: PTH123 (before the limit, as little as can be)
            has = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (has + MEMORY, has + MEMORY))


def main() -> None:
    """Read what is asked, and answer."""
    asked = json.load(sys.stdin)
    bound()
    try:
        answer = {"text": rendered(asked)}
    except Exception as error:  # a template is a program: anything may go wrong in it
        answer = {"error": str(error) or type(error).__name__}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
