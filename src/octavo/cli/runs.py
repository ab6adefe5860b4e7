"""`octavo runs`: the models that are here, newest first, and how each came to be."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from json import dumps
from math import prod
from pathlib import Path
from typing import Annotated, Any

from safetensors import SafetensorError, safe_open

from octavo import toml
from octavo.claim import claimed
from octavo.cli.flags import unless_named
from octavo.cli.tables import plain_console, plain_table, put
from octavo.config import RunConfig
from octavo.data.decoding import shown
from octavo.disk import read_json
from octavo.errors import OctavoError
from octavo.names import few
from octavo.places import runs as found_runs
from octavo.progress import printable, say
from octavo.saved import newest_facts
from octavo.scale import parameters

COLUMNS = ("run", "learned from", "parameters", "nats/character", "steps", "written")
UNKNOWN = "–"


@dataclass(frozen=True)
class Listed:
    """What is known of a run without opening its model; what is not known is `None`."""

    name: str
    texts: tuple[str, ...] | None = None  # none where it came from elsewhere
    parameters: int | None = None
    nats_per_character: float | None = None  # of its best weights, on held-out text
    step: int | None = None  # so many are done
    steps: int | None = None  # of so many
    learning: bool = False  # a training writes into it now
    damaged: tuple[str, ...] = ()  # those of its files that are missing, or cannot be read
    written: str | None = None  # when, in local time


def runs(*, json: Annotated[bool, unless_named("Print one JSON array and nothing else.")] = False) -> None:
    """List the models that are here, newest first."""
    listed = [look_at(run) for run in found_runs()]
    if json:
        print(dumps([asdict(one) for one in listed]))
        return
    if not listed:
        say("there is no run under runs/ yet; make one with octavo train TEXT")
        return
    table = plain_table(*COLUMNS)
    for one in listed:
        table.add_row(*cells(one))
    put(plain_console(), table)
    for one in listed:
        if one.damaged:
            say(f"{one.name} is damaged: {few(one.damaged)}; copy the whole folder again, or remove it")


def cells(one: Listed) -> tuple[str, ...]:
    """A row of the table."""
    size, loss = one.parameters, one.nats_per_character
    done = UNKNOWN if one.step is None else f"{one.step:,}"
    of = "" if one.step == one.steps or one.steps is None else f" of {one.steps:,}"
    return (
        printable(one.name),
        UNKNOWN if one.texts is None else shown(Path(few(one.texts))),
        UNKNOWN if size is None else f"{size / 1e6:,.2f} M",
        UNKNOWN if loss is None else f"{loss:.3f}",
        done + of + ", learning" * one.learning + ", damaged" * bool(one.damaged),
        one.written or UNKNOWN,
    )


def look_at(run: Path) -> Listed:
    """What a run's small files say of it; one that is damaged is listed all the same."""
    config: RunConfig | None = None
    facts: Mapping[str, Any] = {}
    with suppress(OctavoError, OSError):
        config = toml.load(run)
        facts = newest_facts(run, hashed=False) or {}
    listed = Listed(name=run.name, learning=claimed(run), damaged=_damaged(run), written=_written(run))
    if config is None:
        return replace(listed, parameters=_stored(run))
    return replace(
        listed,
        texts=tuple("standard input" if text == "-" else text for text in config.data.texts),
        parameters=parameters(config.model),
        nats_per_character=_number(facts.get("best"), "val_nats_per_character"),
        step=_number(facts, "step") if facts else 0,
        steps=_number(facts.get("schedule"), "steps") or config.train.steps,
    )


def _number(values: object, name: str) -> Any:
    """What stands under this name, if it is a number: the file may be a stranger's."""
    value = values.get(name) if isinstance(values, Mapping) else None
    return value if isinstance(value, int | float) else None


def _damaged(run: Path) -> tuple[str, ...]:
    """What keeps a run from being opened: files that are missing, or not what their names say. No weight is read."""
    weights, settings = sorted(run.glob("*.safetensors")), run / toml.NAME
    wanted = [settings] if settings.exists() else []
    if weights or (run / "config.json").exists():  # before its first evaluation a training has neither
        wanted += [run / "config.json", run / "tokenizer.json", *(weights or [run / "model.safetensors"])]
    return tuple(file.name for file in wanted if not _readable(file))


def _readable(file: Path) -> bool:
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="numpy"):
                return True
        if file.name == toml.NAME:
            toml.load(file.parent)
        else:
            read_json(file)
    except (OctavoError, OSError, SafetensorError):
        return False
    return True


def _stored(run: Path) -> int | None:
    """How many numbers the weights of a model from elsewhere are, by the heads of its files."""
    count = 0
    with suppress(OSError, SafetensorError):
        for file in run.glob("*.safetensors"):
            with safe_open(file, framework="numpy") as opened:
                count += sum(prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118 (it is no mapping)
    return count or None


def _written(run: Path) -> str | None:
    """When its weights were written last, where there are any."""
    times = [file.stat().st_mtime for file in run.glob("*.safetensors")]
    return datetime.fromtimestamp(max(times)).astimezone().strftime("%Y-%m-%d %H:%M") if times else None
