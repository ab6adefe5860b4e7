"""Lenses as pictures: SVG drawn here, and PNG of it."""

from collections.abc import Sequence
from html import escape

from octavo.errors import ConfigError
from octavo.figure import COLOURS, bar_charts, columns, document, heat_map, visible
from octavo.looking import Look, mapped

LONGEST = 128  # tokens that a matrix is drawn for with all its labels
WIDEST = 24  # tokens, the last of them, that all layers are drawn for
CELL, SMALL = 22, 96
CLEAR = 8.0  # bits
DRAWN = {"surprise", "next", "logits", "attention", "heads", "parts", "map"}


def picture(seen: Look, lens: str, layer: int | None = None, head: int | None = None) -> str:
    """A lens as SVG. Raises `ConfigError` for one that is a table of numbers, and where the text is too long."""
    if lens not in DRAWN:
        raise ConfigError(f"{lens} is no picture; draw one of {', '.join(sorted(DRAWN))}")
    if lens == "next":
        bars = [(seen.spell(choice.id), choice.probability) for choice in seen.following]
        return bar_charts([("next", bars)], title=f"after {visible(''.join(seen.texts))[-60:]}")
    if lens == "parts":
        return parts(seen)
    if lens == "map":
        return points(seen)
    if len(seen.trace) > LONGEST:
        raise ConfigError(f"the text has {len(seen.trace)} tokens and {LONGEST} can be drawn; shorten it")
    if lens == "surprise":
        return surprise(seen)
    if lens == "logits":
        return logits(seen)
    if layer is not None and head is not None:
        kind = seen.kinds[layer][head].kind
        return heat_map(
            seen.trace.weights(layer)[head].tolist(), seen.texts, title=f"layer {layer}, head {head}: {kind}"
        )
    return every_head(seen, layer)


def text_at(x: float, y: float, text: str, anchor: str = "start") -> str:
    """Words of ours."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def token_at(x: float, y: float, text: str, room: int | None = None) -> str:
    """A token, with its white space to be seen, or as much of it as there is room for."""
    shown = visible(text)
    while room is not None and columns(shown) > room:
        shown = shown[:-1]
    return text_at(x, y, shown, "middle")


def boxes(cells: Sequence[tuple[float, float, float, float]], colour: str, size: float) -> list[str]:
    """Squares (or wider) at places, each as strong as its share."""
    return [
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{size:.1f}" fill="{colour}" '
        f'fill-opacity="{min(max(share, 0.0), 1.0):.3f}"/>'
        for x, y, width, share in cells
    ]


def surprise(seen: Look) -> str:
    """The text, each token in the strength of its surprise."""
    x, y, cells, words = 16.0, 16.0, [], []
    for read, text in zip(seen.reads, seen.texts, strict=True):
        width = 8.0 * columns(visible(text)) + 6
        if x + width > 700:
            x, y = 16.0, y + CELL + 6
        cells.append((x, y, width - 2, (read.surprise or 0.0) / CLEAR))
        words.append(token_at(x + width / 2 - 1, y + 15, text))
        x += width
    title = "" if seen.trace.loss is None else f"{seen.trace.loss:.3f} nats a token"
    height = y + 2 * CELL + 20
    return document(
        720, height, [*boxes(cells, COLOURS[1], CELL), *words, text_at(16, height - 10, title)], title=title
    )


def logits(seen: Look) -> str:
    """Layers from below to above, tokens from left to right: what each layer would say after each."""
    wide, left = 52, 90
    first, rows = max(0, len(seen.trace) - WIDEST), list(reversed(seen.said))
    cells, words = [], []
    for down, said in enumerate(rows):
        y = 40 + CELL * down
        words.append(text_at(left - 8, y + 15, "embedding" if said.layer == 0 else f"layer {said.layer - 1}", "end"))
        for across, choices in enumerate(said.choices[first:]):
            cells.append((left + wide * across, y, wide - 2, choices[0].probability))
            words.append(token_at(left + wide * (across + 0.5) - 1, y + 15, seen.spell(choices[0].id), 8))
    heads = [token_at(left + wide * (across + 0.5), 30, text, 8) for across, text in enumerate(seen.texts[first:])]
    width, height = left + wide * (len(seen.trace) - first) + 16, 40 + CELL * len(rows) + 30
    foot = text_at(16, height - 8, "what each layer would say next; the stronger, the surer")
    return document(width, height, [*boxes(cells, COLOURS[2], CELL - 2), *words, *heads, foot], title="logit lens")


def every_head(seen: Look, layer: int | None) -> str:
    """All heads at a glance, or those of a layer: each a small matrix with its name."""
    from base64 import b64decode

    told = seen.thumbnails()
    size, data = told["size"], b64decode(told["data"])
    layers = range(len(seen.kinds)) if layer is None else [layer]
    count, pixel, parts = len(seen.kinds[0]), SMALL / told["size"], []
    for down, index in enumerate(layers):
        for one in range(count):
            left, top = 16 + (SMALL + 24) * one, 28 + (SMALL + 40) * down
            start = (index * count + one) * size * size
            cells = [
                (left + pixel * column, top + pixel * row, pixel, data[start + row * size + column] / 255)
                for row in range(size)
                for column in range(row + 1)
                if data[start + row * size + column] > 3
            ]
            parts += [f'<rect x="{left}" y="{top}" width="{SMALL}" height="{SMALL}" fill="none" class="grid"/>']
            parts += boxes(cells, COLOURS[0], pixel)
            parts.append(text_at(left, top - 6, f"{index}.{one} {seen.kinds[index][one].kind}"))
    width, height = 16 + (SMALL + 24) * count, 28 + (SMALL + 40) * len(layers) + 8
    foot = text_at(16, height - 6, "each row a token, each column what it looks at")
    return document(max(width, 300), height, [*parts, foot], title="where every head looks")


def parts(seen: Look) -> str:
    """Who put how much into the likeliest next token's logit: bars to the right and to the left."""
    choice = seen.following[0]
    told = seen.parts(len(seen.trace) - 1, choice.id)
    ranked = sorted(told["parts"], key=lambda part: -abs(part["value"]))[:32]
    largest = max(abs(part["value"]) for part in ranked) or 1.0
    drawn, zero = [], 150 + 300 * max(0.0, *(-part["value"] for part in ranked)) / largest
    for row, part in enumerate(ranked):
        y, length = 40 + CELL * row, 300 * abs(part["value"]) / largest
        colour, x = (COLOURS[0], zero) if part["value"] >= 0 else (COLOURS[1], zero - length)
        drawn.append(f'<rect x="{x:.1f}" y="{y}" width="{length:.1f}" height="{CELL - 6}" fill="{colour}"/>')
        drawn.append(text_at(140, y + 12, part["name"], "end"))
        drawn.append(text_at(max(zero, x + length) + 8, y + 12, f"{part['value']:+.3f}"))
    title = f"who says {visible(seen.spell(choice.id))}: the logit {told['logit']:.3f} as a sum"
    return document(int(zero) + 380, 50 + CELL * len(ranked), [text_at(16, 22, title), *drawn], title=title)


def points(seen: Look) -> str:
    """The vocabulary as a map."""
    told = mapped(seen.trace.model, seen.tokenizer, 300)
    largest = max((max(abs(point["x"]), abs(point["y"])) for point in told["points"]), default=1.0) or 1.0
    drawn = [
        token_at(360 + 330 * point["x"] / largest, 360 - 330 * point["y"] / largest, point["text"], 8)
        for point in told["points"]
    ]
    shares = " and ".join(f"{100 * share:.0f} %" for share in told["explained"])
    foot = text_at(16, 712, f"the embedding's two main directions: {shares} of all differences")
    return document(720, 724, [*drawn, foot], title="the embedding as a map")


def as_png(svg: str) -> bytes:
    """A picture as PNG, on white. Raises `ConfigError` where what draws it is not installed."""
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise ConfigError("PNG is drawn by resvg-py; install it with pip install -e '.[plot]', or use --svg") from None
    return bytes(svg_to_bytes(svg_string=svg, zoom=2, background="#ffffff", sans_serif_family="DejaVu Sans"))
