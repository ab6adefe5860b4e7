"""What lenses return shows itself in a notebook: as a table of its fields."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from html import escape
from typing import Any, SupportsIndex, TypeVar, overload

T = TypeVar("T")
CELL = 'style="text-align:left;padding:1px 8px;white-space:pre"'
MOST = 200  # rows


class Rows(list[T]):
    """A list of findings, or of lists of them, that a notebook shows as a table, and so is a part of it.

    >>> from octavo.lens.saying import Choice
    >>> Rows([Choice(3, 0.25)])._repr_html_().count("<tr>")
    2
    """

    @overload
    def __getitem__(self, place: SupportsIndex, /) -> T: ...
    @overload
    def __getitem__(self, place: slice, /) -> "Rows[T]": ...
    def __getitem__(self, place: Any, /) -> Any:
        return Rows(super().__getitem__(place)) if isinstance(place, slice) else super().__getitem__(place)

    def _repr_html_(self) -> str:
        return table(flat(self))


def flat(values: Iterable[Any]) -> list[Any]:
    """The findings in a list, or in lists of lists."""
    return [one for value in values for one in (flat(value) if isinstance(value, list) else [value])]


def table(rows: list[Any]) -> str:
    """A table of dataclasses, one in each row; of more than can be read, the first ones."""
    if not rows or not is_dataclass(rows[0]):
        return f"<pre>{escape(repr(rows))}</pre>"
    names = [field.name for field in fields(rows[0])]
    head = row(names, "th")
    body = [row([plain(getattr(one, name)) for name in names], "td") for one in rows[:MOST]]
    more = f"<p>… and {len(rows) - MOST} more</p>" if len(rows) > MOST else ""
    return f"<table>{head}{''.join(body)}</table>{more}"


def row(cells: list[str], tag: str) -> str:
    """A row of cells whose text is nothing but text."""
    return f"<tr>{''.join(f'<{tag} {CELL}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def plain(value: Any) -> str:
    """A value in few signs.

    >>> plain(0.123456), plain(None), plain({"a": 0.5})
    ('0.1235', '–', 'a 0.5')
    """
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(one)}" for key, one in value.items())
    if is_dataclass(value):
        return " ".join(plain(getattr(value, field.name)) for field in fields(value))
    return ", ".join(map(plain, value)) if isinstance(value, tuple) else str(value)
