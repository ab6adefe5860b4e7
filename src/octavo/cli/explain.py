"""`octavo explain`: the forward pass, from the formula to the number."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from octavo.cli.flags import Model, unless_named
from octavo.cli.generate import which
from octavo.config import USUAL
from octavo.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from octavo.explaining import Step


def explain(
    run: Model = None,
    /,
    *texts: Annotated[
        str, Parameter(name="TEXT", help="What the model is to read, - for standard input; a few words are best.")
    ],
    layer: Annotated[int, Parameter(help="The layer that is gone through, from 0.")] = 0,
    head: Annotated[int, Parameter(help="The head of it, from 0.")] = 0,
    temperature: Annotated[float, Parameter(help="0: the likeliest token; 1: as the model believes.")] = USUAL,
    seed: Annotated[int, Parameter(help="Same seed, same choice.")] = 0,
    json: Annotated[bool, unless_named("Print the steps as one JSON list.")] = False,
) -> None:
    """Go through the forward pass step by step: equation, shapes, line of code, and this model's own numbers."""
    name, given = which(run, texts, "explain")
    if len(given) > 1:
        raise UserError(f"there are {len(given)} texts; have one explained at a time, in quotation marks")
    from octavo.places import find_model

    place = find_model(name)

    from octavo import looking
    from octavo.cli.opening import unknown_note
    from octavo.explaining import explain
    from octavo.progress import say

    model, tokenizer = looking.open_model(place)
    if note := unknown_note(tokenizer, given[0]):
        say(note)
    steps = explain(model, tokenizer, given[0], layer=layer, head=head, temperature=temperature, seed=seed)
    if json:
        print_json(steps)
    else:
        show(steps)


def print_json(steps: Sequence["Step"]) -> None:
    """All steps; a number that is hidden, −∞, is null."""
    from json import dumps
    from math import isfinite

    def finite(step: "Step") -> dict[str, object]:
        rows = [
            {"name": name, "values": [value if isfinite(value) else None for value in values]}
            for name, values in step.rows
        ]
        return {**asdict(step), "rows": rows}

    print(dumps([finite(step) for step in steps], ensure_ascii=False, allow_nan=False))


def show(steps: Sequence["Step"]) -> None:
    """All steps, one below the other."""
    from rich.text import Text

    from octavo.cli.tables import plain_console, put

    console = plain_console()
    for number, step in enumerate(steps, 1):
        console.print(Text.assemble((f"{number}. {step.title}", "bold"), "   ", (step.source, "dim")), soft_wrap=True)
        console.print(Text.assemble("   ", (step.equation, "cyan"), f"   {step.shapes}"), soft_wrap=True)
        for table in numbers(step, console.width):
            put(console, table)
        for line in (step.note, agreement(step)):
            if line:
                console.print(Text(f"   {line}", style="dim"), soft_wrap=True)
        console.print()


def agreement(step: "Step") -> str:
    """How near the equation comes to what the model did."""
    if step.error is None:
        return ""
    return "the model's own, to the bit" if step.error == 0 else f"the model's own, within {step.error:.1g}"


def numbers(step: "Step", width: int) -> "Iterator[Table]":
    """A step's numbers, with the tokens above them where each belongs to one: as many beside each other as fit."""
    from octavo.cli.showing import quoted
    from octavo.cli.tables import side_by_side

    count = max(len(values) for _, values in step.rows)
    heads = [quoted(name) for name in step.names] or [""] * count
    columns = [
        (heads[place], *(number(values[place]) if place < len(values) else "" for _, values in step.rows))
        for place in range(count)
    ]
    return side_by_side(("", *(f"   {name}" for name, _ in step.rows)), columns, width)


def number(value: float) -> str:
    """A number in few signs.

    >>> number(3.0), number(-0.12345), number(float("-inf"))
    ('3', '-0.123', '−∞')
    """
    if value == float("-inf"):
        return "−∞"
    return f"{value:.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.3f}"
