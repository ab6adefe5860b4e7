"""Lenses on a terminal: colours where it has them, and the same in words and numbers where it has none."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.text import Text

from octavo.cli.tables import GAP, plain_console, plain_table, put, side_by_side, widest
from octavo.figure import visible
from octavo.progress import printable

if TYPE_CHECKING:
    from octavo.lens import Choice
    from octavo.looking import Look

CLEAR = 6.0  # bits: from here on a token is shown as a full surprise
LISTED = 8  # tokens where not all can be shown
LEAST = 1e-6  # of which a share is told


def show(seen: "Look", lenses: tuple[str, ...], layer: int | None, head: int | None) -> None:
    """Print these lenses, one below the other."""
    console = plain_console()
    for index, name in enumerate(lenses):
        if index:
            console.print()
        for part in LENSES[name](seen, layer, head, console):
            put(console, part)


def quoted(text: str) -> str:
    """A token that can be seen and does nothing."""
    return visible(printable(text))


def percent(share: float | None) -> str:
    """A share as a person reads it.

    >>> percent(0.256), percent(0.0001), percent(1e-8), percent(None)
    ('26 %', '0.01 %', '< 0.0001 %', '–')
    """
    if share is None:
        return "–"
    if 0 < share < LEAST:
        return f"< {100 * LEAST:.4f} %"
    return f"{100 * share:.0f} %" if share >= 0.01 or share == 0 else f"{100 * share:.1g} %"


def surprise(seen: "Look", layer: int | None, head: int | None, console: Console) -> Iterator[RenderableType]:
    """The text in the colours of its surprise, and where it surprised most."""
    loss = seen.trace.loss
    mean = "" if loss is None else f": {loss:.3f} nats a token, as if it chose among {2.718281828**loss:.1f}"
    yield Text(f"surprise{mean}", style="bold")
    text = Text()
    for read in seen.reads:
        text.append(printable(seen.spell(read.id)), style=shade(read.surprise))
    yield text
    table = plain_table("what surprised it most", "bits", "it was", "and it thought of")
    ranked = sorted(seen.reads[1:], key=lambda read: -(read.surprise or 0))[:LISTED]
    for read in ranked:
        others = "  ".join(sure(seen, choice) for choice in read.alternatives[:3])
        table.add_row(quoted(seen.spell(read.id)), f"{read.surprise:.1f}", percent(read.probability), others)
    if ranked:
        yield table


def shade(bits: float | None) -> str:
    """The style of a token that cost so many bits: the more, the redder.

    >>> shade(None), shade(0.0), shade(9.0)
    ('dim', '', 'black on #ff8870')
    """
    if bits is None:
        return "dim"
    if bits < 1:
        return ""
    heat = min(bits / CLEAR, 1.0)
    return f"black on #ff{round(240 - 104 * heat):02x}{round(224 - 112 * heat):02x}"


def following(seen: "Look", layer: int | None, head: int | None, console: Console) -> Iterator[RenderableType]:
    """What could come next."""
    yield Text("next", style="bold")
    table = plain_table("", "", "")
    table.columns[1].justify = "left"
    for choice in seen.following:
        table.add_row(quoted(seen.spell(choice.id)), bar(choice.probability), percent(choice.probability))
    yield table


def bar(share: float, width: int = 30) -> str:
    """A bar of eighths of a sign.

    >>> bar(0.5, 4), bar(0.0, 4)
    ('██', '')
    """
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]


def heads(seen: "Look", layer: int | None, head: int | None, console: Console) -> Iterator[RenderableType]:
    """What each head tends to do, on this text."""
    yield Text("heads, by what they favour on this text", style="bold")
    chosen = [(index, found) for index, found in enumerate(seen.kinds) if layer in (None, index)]
    columns = [
        (f"head {place}", *(kind_of(found[place].kind, found[place].shares) for _, found in chosen))
        for place in range(len(seen.kinds[0]))
    ]
    yield from side_by_side(("layer", *(str(index) for index, _ in chosen)), columns, console.width)


def kind_of(kind: str, shares: "object") -> str:
    """A head's kind with its share of the weight."""
    share = shares.get(kind) if isinstance(shares, dict) else None
    return kind if share is None else f"{kind} {percent(share)}"


def logits(seen: "Look", layer: int | None, head: int | None, console: Console) -> Iterator[RenderableType]:
    """What each layer would say after each of the last tokens."""
    yield Text("what each layer would say next (logit lens)", style="bold")
    names = ("after", *("embedding" if said.layer == 0 else f"layer {said.layer - 1}" for said in reversed(seen.said)))
    columns = [
        (quoted(seen.texts[place]), *(sure(seen, said.choices[place][0]) for said in reversed(seen.said)))
        for place in range(max(0, len(seen.trace) - LISTED), len(seen.trace))
    ]
    yield from side_by_side(names, columns, console.width)


def sure(seen: "Look", choice: "Choice") -> str:
    """A token and how likely it is."""
    return f"{quoted(seen.spell(choice.id))} {percent(choice.probability)}"


def attention(seen: "Look", layer: int | None, head: int | None, console: Console) -> Iterator[RenderableType]:
    """Where a head looks: from each token, the three places with most weight."""
    layer, head = clearest(seen) if layer is None else (layer, head)
    for one in range(len(seen.kinds[layer])) if head is None else [head]:
        found = seen.kinds[layer][one]
        yield Text(f"layer {layer}, head {one}: {kind_of(found.kind, found.shares)}", style="bold")
        table = plain_table("from", "looks at", "", "")
        weights, texts = seen.trace.weights(layer)[one], seen.texts
        for query, row in enumerate(weights):
            best = row[: query + 1].topk(min(3, query + 1))
            places = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            cells = [f"{quoted(texts[key])}@{key} {percent(weight)}" for key, weight in places]
            table.add_row(f"{quoted(texts[query])}@{query}", *cells)
        yield table


def clearest(seen: "Look") -> tuple[int, int]:
    """The layer and the head that has most of its weight on one kind of place."""
    every = [one for layer in seen.kinds for one in layer]
    best = max(every, key=lambda one: one.shares.get(one.kind) or 0.0)
    return best.layer, best.head


def parts(seen: "Look", layer: int | None, head: int | None, console: Console) -> Iterator[RenderableType]:
    """Who put how much into the logit of the likeliest next token."""
    choice = seen.following[0]
    told = seen.parts(len(seen.trace) - 1, choice.id)
    yield Text(f"who says {quoted(seen.spell(choice.id))}: its logit, {told['logit']:.3f}, is the sum of", style="bold")
    table = plain_table("", "", "")
    table.columns[2].justify = "left"
    ranked = sorted(told["parts"], key=lambda part: -abs(part["value"]))
    largest = max(abs(part["value"]) for part in ranked) or 1.0
    for part in ranked:
        style = "" if part["value"] >= 0 else "red"
        table.add_row(part["name"], f"{part['value']:+.3f}", Text(bar(abs(part["value"]) / largest, 24), style=style))
    yield table


def map_of(seen: "Look", layer: int | None, head: int | None, console: Console) -> Iterator[RenderableType]:
    """The ends of the two directions in which the vocabulary's vectors differ most."""
    from octavo.looking import mapped

    told = mapped(seen.trace.model, seen.tokenizer)
    yield Text("the embedding's main directions; --svg draws it as a map", style="bold")
    table = plain_table("", "", "")
    for column in table.columns:
        column.justify = "left"
    for axis, share in zip("xy", told["explained"], strict=True):
        ranked = [quoted(point["text"]) for point in sorted(told["points"], key=lambda point: point[axis])]
        table.add_row(f"{percent(share)} of all", "one end", " ".join(ranked[:LISTED]))
        table.add_row("", "the other end", " ".join(ranked[-LISTED:]))
    yield table


def weights(seen: "Look", layer: int | None, head: int | None, console: Console) -> Iterator[RenderableType]:
    """Figures of every array of weights."""
    from octavo.lens import matrices

    yield Text("weights", style="bold")
    rows: list[tuple[str, ...]] = [("shape", "mean", "σ", "largest", "norm")]
    for one in (found := matrices(seen.trace.model)):
        figures = (f"{number:.3g}" for number in (one.mean, one.deviation, one.largest, one.norm))
        rows.append(("×".join(map(str, one.shape)), *figures))
    room = console.width - sum(GAP + widest(cells) for cells in zip(*rows, strict=True))
    table = plain_table("name", *rows[0])
    for one, cells in zip(found, rows[1:], strict=True):
        table.add_row(folded(one.name, room) if console.is_terminal else one.name, *cells)
    yield table


def folded(name: str, room: int) -> str:
    """A long name in two lines.

    >>> folded("blocks.0.attention.mix.weight", 28)
    'blocks.0.attention.mix\\n  .weight'
    """
    place = name.rfind(".", 1, max(room, 0) + 1)
    return name if len(name) <= room or place < 0 else f"{name[:place]}\n  {name[place:]}"


LENSES: dict[str, Callable[["Look", int | None, int | None, Console], Iterator[RenderableType]]] = {
    "surprise": surprise,
    "next": following,
    "heads": heads,
    "logits": logits,
    "attention": attention,
    "parts": parts,
    "map": map_of,
    "weights": weights,
}
