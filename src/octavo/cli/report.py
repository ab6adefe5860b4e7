"""`octavo report`: how good a model is, honestly."""

from collections.abc import Iterable
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from octavo.cli.flags import unless_named
from octavo.cli.tables import plain_console, plain_table, put
from octavo.config import Device
from octavo.errors import UserError

if TYPE_CHECKING:
    from octavo.report import Report
    from octavo.report.findings import Copying, Duplicates, Passage, Sample

SHOWN_SAMPLES = 3


def report(
    run: Annotated[str | None, Parameter(name="RUN", help="A run, by path or name; left out, the newest.")] = None,
    /,
    *,
    markdown: Annotated[Path | None, Parameter(help="Write the report into this file, too.")] = None,
    json: Annotated[bool, unless_named("Print one JSON object and nothing else.")] = False,
    samples: Annotated[int, Parameter(help="How many samples are looked through for copies.")] = 20,
    seed: Annotated[int, Parameter(help="Of samples and intervals; same seed, same report.")] = 0,
    device: Annotated[Device, Parameter(help="Where to compute.")] = "auto",
) -> None:
    """Say how good a model is on text that it has not learned from."""
    from octavo.places import find_run

    where = find_run(run)  # before torch is imported: a wrong name is answered at once
    if markdown is not None and (markdown.is_dir() or not markdown.parent.is_dir()):
        raise UserError(f"{markdown} cannot be a file; give --markdown a name in a folder that is there")

    from octavo.disk import write_file
    from octavo.progress import Display
    from octavo.report import report as make

    with Display() as display:
        made = make(where, samples=samples, seed=seed, device=device, on_event=display.show)
    if markdown is not None:
        write_file(markdown, made.to_markdown())
    if json:
        print(dumps(made.to_dict(), ensure_ascii=False))
    else:
        show(made, plain_console())


def show(made: "Report", console: Console) -> None:
    """The report on a terminal."""
    from octavo.report.markdown import standing, summary

    _line(console, f"{made.run}: {summary(made)}", style="bold")
    _line(console, standing(made))
    for note in made.notes:
        _line(console, f"note: {note}", style="yellow")
    _scores(made, console)
    _curve(made, console)
    _calibration(made, console)
    _passages("the easiest passages", made.easiest, console)
    _passages("the hardest passages", made.hardest, console)
    if made.copying:
        _copying(made.copying, console)
    if made.duplicates:
        _duplicates(made.duplicates, console)


def _line(console: Console, text: str, style: str = "") -> None:
    from octavo.progress import printable

    console.print(Text(printable(text), style=style), soft_wrap=True)


def _scores(made: "Report", console: Console) -> None:
    from octavo.report.markdown import COLUMNS, figures

    ranked = sorted((made.model, *made.baselines), key=lambda score: score.bits_per_byte)
    table = plain_table("", *COLUMNS)
    for score in ranked:
        table.add_row(score.name, *figures(score), style="bold green" if score is made.model else "")
    _titled(console, "how well the text is foretold", table)


def _curve(made: "Report", console: Console) -> None:
    from octavo.report.markdown import CURVE, curve_row

    if made.curve:
        table = plain_table(*CURVE)
        for further in made.curve:
            table.add_row(*curve_row(further))
        _titled(console, "what other sizes would come to (forecasts)", table)


def _calibration(made: "Report", console: Console) -> None:
    from octavo.report.markdown import bin_row, calibration_line

    table = plain_table("likeliest token", "tokens", "said", "came")
    for found in made.calibration.bins:
        table.add_row(*bin_row(found))
    _titled(console, "how well it knows what it knows", table)
    _line(console, calibration_line(made.calibration))


def _titled(console: Console, title: str, table: Table | None = None) -> None:
    console.print()
    console.print(Text(title, style="bold cyan"))
    if table is not None:
        put(console, table)


def _passages(title: str, passages: Iterable["Passage"], console: Console) -> None:
    _titled(console, title)
    for passage in passages:
        _line(console, f"{passage.bits_per_byte:.2f} bits a byte", style="dim")
        _quoted(console, passage.text)


def _quoted(console: Console, text: str) -> None:
    from octavo.progress import readable

    for line in readable(text).strip("\n").split("\n"):
        _line(console, f"  {line}")


def _copying(found: "Copying", console: Console) -> None:
    from octavo.report.markdown import copy_line, longest_lines

    _titled(console, "wrote or copied")
    for line in (copy_line(found), *longest_lines(found)):
        _line(console, line)
    for sample in sorted(found.samples, key=lambda sample: -sample.copied)[:SHOWN_SAMPLES]:
        _sample(sample, console)


def _sample(sample: "Sample", console: Console) -> None:
    from octavo.progress import readable
    from octavo.report.markdown import marked

    text, notes = marked(sample)
    console.print()
    _line(console, f"after {sample.prompt!r}, {sample.copied:.1%} copied:", style="dim")
    shown = Text("  " + readable(text).replace("\n", "\n  "))
    shown.highlight_regex("⟦[^⟧]*⟧", "bold magenta")
    console.print(shown, soft_wrap=True)
    for note in notes:
        _line(console, f"  {note}", style="magenta")


def _duplicates(found: "Duplicates", console: Console) -> None:
    from octavo.report.markdown import duplicate_line

    _titled(console, "how new the held-out text is")
    _line(console, duplicate_line(found))
    for duplicate in found.longest:
        where = f"{duplicate.held_out}, as in {duplicate.training}"
        _line(console, f"{duplicate.characters:,} characters of {where}:", style="dim")
        _quoted(console, duplicate.text)
