"""`octavo talk`: the same as `generate`, as a conversation in the terminal."""

from typing import Annotated

from cyclopts import Parameter

from octavo.cli.generate import Knobs, Quantize


def talk(
    run: Annotated[str | None, Parameter(name="RUN", help="A run, by path or name; left out, the newest.")] = None,
    /,
    *,
    knobs: Knobs | None = None,
    quantize: Quantize = None,
) -> None:
    """Talk to a model: what you type goes on as the model would have it."""
    from octavo.cli.conversation import Conversation
    from octavo.cli.opening import open_run

    model, tokenizer = open_run(run, quantize=quantize)
    Conversation(model, tokenizer, knobs).run()
