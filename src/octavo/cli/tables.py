"""Tables of which nothing is ever cut: what a line has no room for stands below, and the rest is as wide as it is."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table

GAP = 2  # signs between two columns
ENDLESS = 1_000_000  # signs, for a table that is measured


def plain_console() -> Console:
    """Standard output, on which no text is a command: neither `[red]` nor `:smile:`."""
    return Console(highlight=False, markup=False, emoji=False)


def plain_table(*columns: str) -> Table:
    """A table with as few lines as possible."""
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=any(columns))
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right", no_wrap=True)
    return table


def put(console: Console, part: RenderableType) -> None:
    """Print a table as wide as it must be, or a line: in a pipe it stays one."""
    if not isinstance(part, Table):
        console.print(part, soft_wrap=not console.is_terminal)
        return
    width = console.width
    console.width = max(width, console.measure(part, options=console.options.update(max_width=ENDLESS)).maximum)
    console.print(part)
    console.width = width


def side_by_side(names: Sequence[str], columns: Sequence[Sequence[str]], width: int) -> Iterator[Table]:
    """Columns beside their names, as many in each table as are not wider together; the first of each is its heading.

    >>> [len(table.columns) for table in side_by_side(["", "x"], [["a", "1"], ["b", "2"], ["c", "3"]], 7)]
    [3, 2]
    """
    begin = 0
    while begin < len(columns):
        end, used = begin + 1, widest(names) + GAP + widest(columns[begin])
        while end < len(columns) and used + GAP + widest(columns[end]) <= width:
            used += GAP + widest(columns[end])
            end += 1
        heads, *rows = zip(names, *columns[begin:end], strict=True)
        table = plain_table(*heads)
        for row in rows:
            table.add_row(*row)
        yield table
        begin = end


def widest(cells: Sequence[str]) -> int:
    """Signs that the widest cell of a column takes."""
    return max(map(cell_len, cells))
