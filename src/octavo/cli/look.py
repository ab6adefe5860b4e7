"""`octavo look`: inside a model, with a text of yours."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from octavo.cli.flags import Model, unless_named
from octavo.cli.generate import which
from octavo.errors import UserError
from octavo.names import several

if TYPE_CHECKING:
    from octavo.looking import Look

Lens = Literal["surprise", "next", "heads", "logits", "attention", "parts", "map", "weights"]
USUAL: tuple[Lens, ...] = ("surprise", "next", "heads", "logits")


def look(
    run: Model = None,
    /,
    *texts: Annotated[str, Parameter(name="TEXT", help="What the model is to read, - for standard input.")],
    lens: Annotated[
        tuple[Lens, ...],
        unless_named("What to look at; may be given again (surprise, next, heads, logits)."),
    ] = (),
    layer: Annotated[int | None, Parameter(help="The layer to look at, from 0.")] = None,
    head: Annotated[int | None, Parameter(help="The head of it, from 0.")] = None,
    off: Annotated[
        tuple[str, ...],
        unless_named("Switch a part off: a head (2.0), 2.attention, 2.feed_forward, a layer (2)."),
    ] = (),
    step: Annotated[int | None, Parameter(help="Look at the model as it was after this step.")] = None,
    top: Annotated[int, Parameter(help="So many tokens where several could come.")] = 5,
    json: Annotated[bool, unless_named("Print everything as one JSON object.")] = False,
    svg: Annotated[Path | None, Parameter(help="Draw the first lens into this file.")] = None,
    png: Annotated[Path | None, Parameter(help="The same as a PNG.")] = None,
) -> None:
    """Look inside a model: what surprises it, where its heads look, what each layer would say."""
    name, given = which(run, texts, "look")
    if len(given) > 1:
        raise UserError(f"there are {len(given)} texts; look at one at a time, in quotation marks")
    if head is not None and layer is None:
        raise UserError(f"--head {head} of which layer? say --layer too")

    from octavo.cli.showing import show

    seen = opened(name, given[0], off, step, top)
    chosen = lens or (("attention",) if layer is not None else USUAL)
    checked(seen, layer, head)
    if json:
        print_json(seen, chosen, layer)
    elif svg is None and png is None:
        show(seen, chosen, layer, head)
    drawn = chosen[0] if lens or layer is not None else "attention"
    for path in filter(None, (svg, png)):
        draw(seen, drawn, layer, head, path, painted=path is png)


def opened(name: str | None, text: str, off: tuple[str, ...], step: int | None, top: int) -> "Look":
    """The text as the run sees it, or saw it after a step."""
    from octavo.places import find_model

    place = find_model(name)

    from octavo import looking
    from octavo.cli.opening import unknown_note
    from octavo.progress import say

    model, tokenizer = looking.open_model(place, step)
    if note := unknown_note(tokenizer, text):
        say(note)
    seen = looking.look(model, tokenizer, text, changes=dict.fromkeys(off, 0.0), top=top, newest=True)
    if seen.left_out:
        say(f"the text is longer than can be looked at; left out is its beginning, {several(seen.left_out, 'token')}")
    return seen


def checked(seen: "Look", layer: int | None, head: int | None) -> None:
    """Raise `ConfigError` for a layer or a head that there is not, before anything is shown."""
    from octavo.lens import parse

    if layer is not None:
        parse(f"{layer}" if head is None else f"{layer}.{head}", seen.trace.model)


def print_json(seen: "Look", chosen: tuple[str, ...], layer: int | None) -> None:
    """Everything, and of what is large what was asked for."""
    from json import dumps

    from octavo import lens
    from octavo.looking import mapped

    told: dict[str, Any] = seen.to_dict()
    if "attention" in chosen:
        layers = range(told["layers"]) if layer is None else [layer]
        told["attention"] = {str(index): seen.trace.weights(index).tolist() for index in layers}
    if "parts" in chosen:
        told["parts"] = seen.parts(len(seen.trace) - 1, seen.following[0].id)
    if "map" in chosen:
        told["map"] = mapped(seen.trace.model, seen.tokenizer)
    if "weights" in chosen:
        told["weights"] = [vars(matrix) for matrix in lens.matrices(seen.trace.model)]
    print(dumps(told, ensure_ascii=False, allow_nan=False))


def draw(seen: "Look", lens: str, layer: int | None, head: int | None, path: Path, *, painted: bool) -> None:
    """A lens as a picture, drawn in lines or painted in points, whatever the file is called."""
    from octavo.disk import write_file
    from octavo.pictures import as_png, picture
    from octavo.progress import say

    text = picture(seen, lens, layer, head)
    write_file(path, as_png(text) if painted else text)
    say(f"drawn into {path}")
