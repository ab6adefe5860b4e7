"""Words and flags that several commands have, or that are off until they are named."""

from typing import Annotated

from cyclopts import Parameter

_RUN = "A run by path or name, a Hugging Face folder or a .gguf; left out, the newest run."
Model = Annotated[str | None, Parameter(name="RUN", help=_RUN)]


def unless_named(help: str) -> Parameter:
    """A switch, or what may be named several times, whose help need not say that it is off."""
    return Parameter(help=help, negative=(), show_default=False)
