"""Flags that are off, or nothing, until they are named."""

from cyclopts import Parameter


def unless_named(help: str) -> Parameter:
    """A switch, or what may be named several times, whose help need not say that it is off."""
    return Parameter(help=help, negative=(), show_default=False)
