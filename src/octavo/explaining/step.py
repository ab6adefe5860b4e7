"""A step of an explanation, and where in the code it stands."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo import completion

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Step:
    """One step: what happens, the equation, the shapes, the line of code, and numbers, each row with its name."""

    title: str
    equation: str
    shapes: str
    source: str
    rows: tuple[tuple[str, Numbers], ...]
    names: tuple[str, ...] = ()  # of the columns, where they have any
    note: str = ""
    error: float | None = None  # the largest difference from what the model itself came to


def line_of(function: Callable[..., Any] | type, words: str) -> str:
    """Where in octavo's source these words stand: the file and the line, as they are now.

    Raises `LookupError` where they do not: an explanation that is out of date must not be given.
    """
    function = inspect.unwrap(function)
    lines, first = inspect.getsourcelines(function)
    for number, line in enumerate(lines):
        if words in line:
            root = Path(completion.__file__).parent.parent
            return f"{Path(inspect.getfile(function)).relative_to(root)}:{first + number}"
    raise LookupError(f"{function.__qualname__} does not say {words!r}")
