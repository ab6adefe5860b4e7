"""`octavo generate`: complete a text."""

import sys
from dataclasses import asdict, dataclass, replace
from json import dumps
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from octavo.cli import STDIN
from octavo.cli.flags import Model, unless_named
from octavo.cli.output import is_narrow, seen
from octavo.config import USUAL, Device
from octavo.data.decoding import decoded
from octavo.errors import RunError, UserError

if TYPE_CHECKING:
    from octavo.model import GPT
    from octavo.tokenizers import Tokenizer


Quantize = Annotated[
    Literal["int8"] | None, Parameter(help="Round weights to eight bits: sooner on a CPU, and nearly the same text.")
]
Where = Annotated[Device, Parameter(help="Where to compute: auto takes a GPU for a large model.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Knobs:
    """How the next token is chosen."""

    max_new_tokens: Annotated[int, Parameter(help="Write at most so many tokens.")] = 200
    temperature: Annotated[
        float | None, Parameter(help="0: the likeliest token; 1: as the model believes (0.8, and 0.3 for answers).")
    ] = None
    top_k: Annotated[int | None, Parameter(help="Only the k likeliest tokens.")] = None
    top_p: Annotated[float | None, Parameter(help="Only the likeliest tokens that sum to p.")] = None
    min_p: Annotated[float | None, Parameter(help="Only tokens at least p times as likely as the likeliest.")] = None
    repetition_penalty: Annotated[float, Parameter(help="Above 1: what was said before is less likely.")] = 1.0
    seed: Annotated[int, Parameter(help="Same seed, same text.")] = 0


def generate(
    run: Model = None,
    /,
    *prompts: Annotated[
        str, Parameter(name="PROMPT", help="What to go on from, - for standard input; several are written at once.")
    ],
    knobs: Knobs | None = None,
    stop: Annotated[tuple[str, ...], unless_named("Stop before this text; may be given again.")] = (),
    n: Annotated[int, Parameter(help="So many completions of each prompt.")] = 1,
    slide: Annotated[
        bool, Parameter(name="--slide", help="Go on when the context is full, from its newer half.")
    ] = True,
    json: Annotated[bool, unless_named("One JSON object for each completion, one a line.")] = False,
    quantize: Quantize = None,
    device: Where = "auto",
) -> None:
    """Complete a text, or several at once."""
    from octavo.cli.opening import open_run, unknown_note
    from octavo.completion import completions
    from octavo.progress import say

    name, texts = which(run, prompts)
    model, tokenizer = open_run(name, rows=len(texts) * n, quantize=quantize, device=device)
    for text in texts:
        if note := unknown_note(tokenizer, text):
            say(note)
    words = asdict(settled(knobs, USUAL)) | {"stop": stop, "n": n, "slide": slide}
    if len(texts) == n == 1 and not json:
        stream(model, tokenizer, texts[0], words)
        return
    for done in completions(model, tokenizer, texts, **words):
        line = dumps(asdict(done), ensure_ascii=is_narrow(sys.stdout)) if json else seen(done.prompt + done.text) + "\n"
        print(line, flush=True)


def settled(knobs: Knobs | None, temperature: float) -> Knobs:
    """The knobs, with this temperature where none was asked for."""
    knobs = knobs or Knobs()
    return replace(knobs, temperature=temperature) if knobs.temperature is None else knobs


def stream(model: "GPT", tokenizer: "Tokenizer", prompt: str, words: dict[str, Any]) -> None:
    """Print the prompt and what follows it as it is written."""
    from octavo.completion import complete

    pieces = complete(model, tokenizer, prompt, **words)
    print(seen(prompt), end="", flush=True)
    for piece in pieces:
        print(seen(piece.text), end="", flush=True)
    print()


def which(run: str | None, prompts: tuple[str, ...], word: str = "generate") -> tuple[str | None, tuple[str, ...]]:
    """Tell the run from the prompts: a single argument that names no run is a prompt for the newest one.

    What is not said, or is a lone hyphen, is read from standard input.
    """
    only = None if prompts else run
    if only is not None and not _names_a_run(only, word):
        run, prompts = None, (only,)
    if sys.stdin is None and (not prompts or STDIN in prompts):
        raise UserError("standard input is closed; give a text, or pipe one into it")
    if not prompts and sys.stdin.isatty():
        taken = "" if run is None else f", {run} is taken for the run"
        name = "RUN" if run is None else quote(run)
        raise UserError(f'there is no text{taken}; give one: octavo {word} {name} "Once upon a time"')
    if prompts and STDIN not in prompts:
        return run, prompts
    piped = decoded(sys.stdin.buffer.read())
    return run, tuple(piped if text == STDIN else text for text in prompts or (STDIN,))


def _names_a_run(only: str, word: str) -> bool:
    """Whether the only argument is a run, and no text. Raises `RunError` for a place on the disk that holds none."""
    from octavo.places import find_model, is_path, is_there

    try:
        find_model(only)
    except RunError as error:
        if is_there(Path(only)) or is_path(only):
            raise RunError(
                f"{error} (if it is a text, name a run before it: octavo {word} RUN {quote(only)})"
            ) from None
        return False
    return True
