"""Names as a line tells them: a few of many, the one that was meant, and one or several."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

FEW = 5


def few(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are.

    >>> few(["a", "b"]), few(["a", "b", "c", "d", "e", "f", "g"])
    ('a, b', 'a, b, c, d, e and 2 more')
    """
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def several(number: int, name: str) -> str:
    """A number of things, of which there may be one.

    >>> several(1, "token"), several(1200, "token")
    ('1 token', '1,200 tokens')
    """
    return f"{number:,} {name}{'s' * (number != 1)}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, be it written in capitals or not.

    >>> nearest("Storis-1", ["folder-1", "stories-1"]), nearest("nothing", ["stories-1"])
    ('stories-1', None)
    """
    spelled = {known.lower(): known for known in names}
    near = get_close_matches(name.lower(), spelled, n=1)
    return spelled[near[0]] if near else None
