"""Pictures as SVG, drawn by hand: lines over steps, a map of weights, bars of probabilities."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10
from statistics import fmean
from unicodedata import category, east_asian_width

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 400, 64, 48, 24, 24
APART = 1e-9  # values that are nearer than that have one place
COLOURS = ("#3b82f6", "#ea580c", "#16a34a", "#9333ea")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#444}.grid{stroke:#888;stroke-opacity:.3}.paper{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#bbb}.paper{fill:#16181d}}"
)


@dataclass(frozen=True)
class Series:
    """A named line of points (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]

    def smoothed(self, most: int = 200) -> "Series":
        """At most so many points, each the mean of its neighbours: single steps are noise."""
        size = max(1, len(self.points) // most)
        groups = [self.points[start : start + size] for start in range(0, len(self.points), size)]
        return Series(self.name, [(fmean(x for x, _ in group), fmean(y for _, y in group)) for group in groups])


SIGNS = {code: chr(0x2400 + code) for code in range(32)} | {10: "↵", 9: "⇥", 32: "␣", 127: "␡"}
NOWHERE = re.compile("[\ud800-\udfff\ufffe\uffff]")  # what is no character of XML
UNSEEN = re.compile("\\s|^[\u061c\u200b-\u200f]+$")  # other white space, and what is to be seen between letters alone


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round numbers between two values.

    >>> ticks(0.0, 10.0)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    rough = (high - low) / about
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = -(-low // step)
    return [round(step * (first + index), 10) for index in range(int((high - first * step) / step + 1e-9) + 1)]


def line_chart(series: Sequence[Series], *, x: str, y: str) -> str:
    """Lines in one frame, with a legend. Returns the text of an SVG file."""
    points = [point for line in series for point in line.points] or [(0.0, 0.0)]
    low_x, high_x = _span([point[0] for point in points])
    low_y, high_y = _span([point[1] for point in points])

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT)
        up = (point[1] - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM)
        return LEFT + across, HEIGHT - BOTTOM - up

    grid = [_horizontal(place((low_x, tick))[1], f"{tick:g}") for tick in ticks(low_y, high_y)]
    feet = [
        _text(place((tick, low_y))[0], HEIGHT - BOTTOM + 18, f"{tick:g}", "middle") for tick in ticks(low_x, high_x)
    ]
    lines = [_line([place(point) for point in line.points], COLOURS[index]) for index, line in enumerate(series)]
    names = [_legend(index, line) for index, line in enumerate(series)]
    axes = [_text(WIDTH / 2, HEIGHT - 8, x, "middle"), _text(8, 14, y)]
    return document(WIDTH, HEIGHT, [*grid, *feet, *lines, *names, *axes], title=f"{y} over {x}")


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high - low > APART else (low - 0.5, low + 0.5)


def _horizontal(height: float, label: str) -> str:
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>'
    return line + _text(LEFT - 8, height + 4, label, "end")


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
    dot = f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3" fill="{colour}"/>' if len(points) == 1 else ""
    return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{path}"/>{dot}'


def _legend(index: int, line: Series) -> str:
    last = f", {line.points[-1][1]:.3f}" if line.points else ""
    down = TOP + 16 + 18 * index
    mark = f'<rect x="{WIDTH - RIGHT - 12}" y="{down - 9}" width="12" height="3" fill="{COLOURS[index]}"/>'
    return mark + _text(WIDTH - RIGHT - 18, down - 3, line.name + last, "end")


def _text(across: float, down: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{across:.1f}" y="{down:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def heat_map(weights: Sequence[Sequence[float]], labels: Sequence[str], *, title: str = "") -> str:
    """A square of weights from 0 to 1, row by row, dark where they are large: who looks at whom."""
    names = [visible(label) for label in labels]
    cell = max(12, min(28, 560 // max(1, len(names))))
    margin = 24 + 7 * max(map(columns, names), default=0)
    cells = [
        f'<rect x="{margin + cell * column}" y="{margin + cell * row}" width="{cell - 1}" height="{cell - 1}" '
        f'fill="{COLOURS[0]}" fill-opacity="{weight:.3f}"/>'
        for row, line in enumerate(weights)
        for column, weight in enumerate(line)
        if weight > 0
    ]
    rows = [_text(margin - 8, margin + cell * (index + 0.65), name, "end") for index, name in enumerate(names)]
    heads = [f"translate({margin + cell * (index + 0.65):.1f} {margin - 8}) rotate(-90)" for index in range(len(names))]
    feet = [f'<g transform="{head}">{_text(0, 0, name)}</g>' for head, name in zip(heads, names, strict=True)]
    size = margin + cell * len(names) + 16
    parts = [*cells, *rows, *feet, _text(16, size + 12, title)]
    return document(max(size, 32 + 7 * columns(title)), size + 24, parts, title=title)


def bar_charts(charts: Sequence[tuple[str, Sequence[tuple[str, float]]]], *, title: str = "") -> str:
    """Panels of horizontal bars side by side, each of labels and values from 0 to 1."""
    tallest = max((len(bars) for _, bars in charts), default=0)
    margin = 24 + 7 * max((columns(visible(label)) for _, bars in charts for label, _ in bars), default=0)
    panel = margin + 180
    parts = []
    for index, (name, bars) in enumerate(charts):
        left = margin + panel * index
        parts.append(_text(left, 24, name))
        for row, (label, value) in enumerate(bars):
            down = 48 + 22 * row
            parts.append(_text(left - 8, down, visible(label), "end"))
            size = f'width="{110 * value:.1f}" height="14"'
            parts.append(f'<rect x="{left}" y="{down - 11}" {size} fill="{COLOURS[index % len(COLOURS)]}"/>')
            parts.append(_text(left + 6 + 110 * value, down, f"{value:.2f}"))
    height = 48 + 22 * tallest + 24
    width = max(panel * len(charts), 32 + 7 * columns(title))
    return document(width, height, [*parts, _text(16, height - 16, title)], title=title)


def visible(text: str) -> str:
    """White space as signs that can be seen, and so is what commands a machine; XML has no place for it.

    A mark without its letter stands on a circle.

    >>> visible("a b\\n\\x00"), visible("\\u3000"), visible("\\u0301") == "◌\\u0301"
    ('a␣b↵␀', '‹3000›', True)
    """
    letter = "◌" if text and category(text[0]).startswith("M") else ""
    seen = letter + NOWHERE.sub("�", text.translate(SIGNS))
    return UNSEEN.sub(lambda found: "".join(f"‹{ord(sign):04X}›" for sign in found[0]), seen)


def columns(text: str) -> int:
    """How wide a text is, in signs of Latin: those of Chinese, Japanese and Korean, and emoji, are as wide as two.

    >>> columns("ab"), columns("漢字")
    (2, 4)
    """
    return sum(2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def document(width: float, height: float, parts: Sequence[str], *, title: str) -> str:
    """An SVG file that adapts to a dark page."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    about = f"<title>{escape(title)}</title><style>{STYLE}</style>"
    paper = f'<path class="paper" d="M0 0h{width}v{height}H0z"/>'
    return "\n".join([head, about, paper, *parts, "</svg>", ""])
