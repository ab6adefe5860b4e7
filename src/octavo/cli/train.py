"""`octavo train`: a GPT on your own text."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from octavo.cli.asking import Manner, Shape, Text, Time, gather, named, read_base
from octavo.cli.flags import unless_named
from octavo.config import Asked
from octavo.errors import UserError

if TYPE_CHECKING:
    from octavo.processes import Processes
    from octavo.trainer import Trainer

Out = Annotated[Path | None, Parameter(help="The folder of the run (runs/<text>-<n> where nothing is said).")]
AllowMismatch = Annotated[bool, unless_named("Resume although the text or a setting has changed.")]


def train(
    *texts: Annotated[str, Parameter(name="TEXT", help="Files, folders, - for standard input, or a corpus by name.")],
    time: Time | None = None,
    text: Text | None = None,
    shape: Shape | None = None,
    out: Out = None,
    resume: Annotated[str | None, Parameter(help="Go on with this run, exactly where it stopped.")] = None,
    force: Annotated[bool, unless_named("Overwrite the run in --out.")] = False,
    allow_mismatch: AllowMismatch = False,
    config: Annotated[Path | None, Parameter(help="Repeat the settings of an octavo.toml.")] = None,
    manner: Manner | None = None,
) -> None:
    """Train a GPT on files, folders, - (standard input) or a corpus by name (shakespeare)."""
    asked = gather(time, text, shape)
    check(new=bool(texts), again=resume is not None, for_new=bool(out or force or config), for_again=allow_mismatch)
    way = manner_of(manner)
    from octavo.cli.page import page_of
    from octavo.places import find_run
    from octavo.processes import first_here, joined
    from octavo.progress import Display

    with (
        Display(quiet=way.quiet, silent=not first_here()) as display,
        page_of(display, wanted=way.page and first_here()) as shown,
        joined() as processes,
    ):
        check_words(processes, repr((resume is None, way.parallel, asked if resume else None)))
        from octavo import training  # after the page has begun to start, which takes as long as this
        from octavo.cli.watching import watch

        shared: dict[str, Any] = {"on_event": display.show, "processes": processes, "parallel": way.parallel}

        def goes_on(run: Path, asked: Asked) -> "Trainer":
            return training.resume(run, asked, allow_mismatch=allow_mismatch, **shared)

        def begins() -> "Trainer":
            if resume is not None:
                return goes_on(processes.in_turn(partial(find_run, resume)), asked)
            return training.begin(named(texts), asked, out=out, force=force, base=read_base(config), **shared)

        watch(begins, display, shown, partial(goes_on, asked=Asked()), track=way.track)


def check_words(processes: "Processes", own: str) -> None:
    """Raise `OctavoError` in a process that was started with other words than the first, where they must be alike."""
    first = processes.told(own)
    with processes.together(), processes.by_itself():
        if own != first:
            raise UserError("it was started with other words than the first process; start all with the same")


def manner_of(manner: Manner | None) -> Manner:
    """How it is done. Raises `UserError` where one process is to share a model with others."""
    way = manner or Manner()
    if way.parallel != "auto" and "WORLD_SIZE" not in os.environ:
        raise UserError(
            "--parallel is for several processes; start them: torchrun --nproc-per-node 2 -m octavo train …"
        )
    return way


def check(*, new: bool, again: bool, for_new: bool, for_again: bool) -> None:
    """Raise `UserError` where it is not clear whether to begin or to go on, or a flag is for the other."""
    if new and again:
        raise UserError("a TEXT begins a new run, and --resume goes on with one; give one of them")
    if for_new and not again and not new:
        raise UserError("--out, --force and --config are for new runs; give a TEXT to train on, too")
    if new == again:
        raise UserError("say what to do: octavo train TEXT for a new run, octavo train --resume RUN to go on")
    if again and for_new:
        raise UserError("--out, --force and --config are for new runs; leave them out with --resume")
    if new and for_again:
        raise UserError("--allow-mismatch is for --resume; leave it out of a new training")
