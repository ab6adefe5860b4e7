"""`octavo train`: a GPT on your own text."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from octavo.cli.asking import Shape, Text, Time, gather, named, read_base
from octavo.errors import UserError


def train(
    *texts: Annotated[str, Parameter(name="TEXT", help="Files, folders, - for standard input, or a corpus by name.")],
    time: Time | None = None,
    text: Text | None = None,
    shape: Shape | None = None,
    out: Annotated[
        Path | None, Parameter(help="The folder of the run (runs/<text>-<n> where nothing is said).")
    ] = None,
    resume: Annotated[str | None, Parameter(help="Go on with this run, exactly where it stopped.")] = None,
    force: Annotated[bool, Parameter(help="Overwrite the run in --out.", negative=())] = False,
    allow_mismatch: Annotated[
        bool, Parameter(help="Resume although the text or a setting has changed.", negative=())
    ] = False,
    config: Annotated[Path | None, Parameter(help="Repeat the settings of an octavo.toml.")] = None,
    quiet: Annotated[bool, Parameter(help="Say nothing but the end.", negative=())] = False,
) -> None:
    """Train a GPT on files, folders, - (standard input) or a corpus by name (shakespeare)."""
    from octavo import training
    from octavo.cli.watching import watch
    from octavo.places import find_run
    from octavo.progress import Display

    asked = gather(time, text, shape)
    if bool(texts) == (resume is not None):
        raise UserError("say what to do: octavo train TEXT for a new run, octavo train --resume RUN to go on")
    with Display(quiet=quiet) as display:
        if resume is not None:
            if out or force or config:
                raise UserError("--out, --force and --config are for new runs; leave them out with --resume")
            watch(
                lambda: training.resume(find_run(resume), asked, allow_mismatch=allow_mismatch, on_event=display.show),
                display,
            )
        else:
            if allow_mismatch:
                raise UserError("--allow-mismatch is for --resume; leave it out of a new training")
            base = read_base(config)
            watch(
                lambda: training.begin(named(texts), asked, out=out, force=force, base=base, on_event=display.show),
                display,
            )
