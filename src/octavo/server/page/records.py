"""What a run says of its training in its files, read at any time: while it is written, cut back or deleted."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from octavo import toml
from octavo.claim import claimed
from octavo.disk import read_json
from octavo.errors import OctavoError
from octavo.saved import FACTS, checkpoint_folder, snapshots, steps_saved, written_at
from octavo.server.page.training import Training

METRICS, SAMPLES = "metrics.jsonl", "samples.jsonl"
Values = dict[str, Any]


def about(run: Path | None) -> Values:
    """What /page/state says of a model's training: the steps whose weights were kept, when the newest were written, and
    whether there is a log.
    """
    if run is None:
        return {"steps": [], "written": None, "learned": False}
    return {"steps": snapshots(run), "written": str(written_at(run)), "learned": (run / METRICS).is_file()}


def running(run: Path, training: Training | None) -> bool:
    """Whether steps are taken in a run now, by the training that the page belongs to, else by any."""
    return claimed(run) if training is None else training.running


def settings(run: Path) -> Values:
    """What octavo.toml holds; nothing where it cannot be read."""
    with suppress(OctavoError):
        return toml.read(run / toml.NAME)
    return {}


def newest_facts(run: Path) -> Values:
    """What the newest checkpoint says of itself, unverified, for it is but shown; nothing where there is none."""
    with suppress(OSError):
        for step in steps_saved(run):
            with suppress(OctavoError):  # removed in this moment, or damaged
                return read_json(checkpoint_folder(run, step) / FACTS)
    return {}


def planned_steps(train: Values, facts: Values) -> int | None:
    """How many steps there will be, by the newest plan."""
    return _table(facts, "schedule").get("steps", train.get("steps"))


def forecast(train: Values, facts: Values) -> dict[str, float] | None:
    """The loss that was expected, and how near two of three trainings come; none where the plan is another by now."""
    loss, spread = train.get("forecast"), train.get("forecast_within")
    minutes = facts.get("minutes", train.get("minutes"))
    moved = minutes != train.get("minutes") or (minutes is None and planned_steps(train, facts) != train.get("steps"))
    return None if loss is None or spread is None or moved else {"loss": loss, "spread": spread}


def _table(values: Values, name: str) -> Values:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def train_settings(run: Path) -> Values:
    """The table of octavo.toml on the training itself."""
    return _table(settings(run), "train")
