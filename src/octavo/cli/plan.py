"""`octavo plan`: what a training would be, before it is done."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from octavo.cli.asking import Shape, Text, Time, gather, named, read_base


def plan(
    *texts: Annotated[str, Parameter(name="TEXT", help="Files, folders, - for standard input, or a corpus by name.")],
    time: Time | None = None,
    text: Text | None = None,
    shape: Shape | None = None,
    config: Annotated[Path | None, Parameter(help="Repeat the settings of an octavo.toml.")] = None,
) -> None:
    """Say what octavo train would do with these texts and flags, and train nothing."""
    from octavo.progress import Display
    from octavo.training import opened_start, plan_training

    asked, base = gather(time, text, shape), read_base(config)
    start = opened_start(asked, base)
    with Display() as display:
        chosen, _ = plan_training(named(texts), asked, base=base, start=start, on_event=display.show)
    print("\n".join(chosen.lines))
