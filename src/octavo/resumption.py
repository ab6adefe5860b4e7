"""Going back to a state that was saved and to the text it learned from, and moving the end of a training."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import isclose
from pathlib import Path
from typing import Any

from octavo import places, toml
from octavo.checkpoint import forget_after, newest_valid, restore
from octavo.config import DataConfig, RunConfig
from octavo.data import Prepared, prepare, reopen
from octavo.data.corpora import CORPORA
from octavo.data.decoding import shown
from octavo.describing import epochs
from octavo.devices import choose_device
from octavo.disk import MANIFEST, sha256, verify
from octavo.errors import ConfigError, RunError
from octavo.events import Event, Note
from octavo.numerics import difference, numerics
from octavo.processes import Processes
from octavo.readings import weight_decay
from octavo.saved import checkpoint_folder, newest_facts, snapshots, steps_saved
from octavo.scale import parameters
from octavo.spreading import Parallel, holding
from octavo.standing import Standing, mismatch
from octavo.tokenizers import load_tokenizer
from octavo.trainer import Trainer


def settings_of(run: Path) -> RunConfig:
    """The settings of a training; raises `RunError` where there is none, and `ConfigError` for impossible ones."""
    if not (run / toml.NAME).is_file():
        raise RunError(f"{run} holds a model but no training: {toml.NAME} is missing")
    return toml.load(run)


def on_what_is_here(config: RunConfig, on_event: Callable[[Event], None]) -> RunConfig:
    """The same training; where the device that it began on is not here, on the one that is."""
    try:
        choose_device(config.train.device)
    except ConfigError:
        device = choose_device("auto")
        on_event(Note(f"{config.train.device} is not here: going on on {device}"))
        return replace(config, train=replace(config.train, device=device, compile=False))
    return config


def same_text(run: Path, config: RunConfig, on_event: Callable[[Event], None]) -> Prepared:
    """The text of a training again, in parts and tokens; whether it is still the same is for the caller to see.

    Raises `RunError` where it is gone, or came from standard input and is not in the cache any more, and where the run
    has got another vocabulary meanwhile.
    """
    tokenizer, known = load_tokenizer(run), config.model.vocab_size
    if tokenizer.vocab_size > known:
        raise RunError(
            f"{run} has a tokenizer of {tokenizer.vocab_size} tokens, and has learned {known}; bring back its own"
        )
    if "-" not in config.data.texts:
        return prepare(found_again(run, config.data), tokenizer, cache=places.cache(), on_event=on_event)
    facts = newest_facts(run)
    kept = None if facts is None else reopen(places.cache(), facts["fingerprint"])
    if kept is None:  # standard input is gone, and so is what it said
        raise RunError(f"{run} was trained on standard input, which cannot be read again; train anew from a file")
    return replace(kept, tokenizer=tokenizer)  # it may know of more ends than the one that cut the text


def as_the_first(fingerprint: str, prepare: Callable[[], Prepared]) -> Prepared:
    """The text of the first process in another one, which hears its fingerprint, and need not hash it once more.

    Where it is not in the cache here, it is prepared. Raises `RunError` where that comes to something else.
    """
    found = reopen(places.cache(), fingerprint, hashed=False) or prepare()
    if found.fingerprint != fingerprint:
        raise RunError("the text here is not the one that the first process reads; let all see the same files")
    return found


def found_again(run: Path, data: DataConfig) -> DataConfig:
    """The same texts, looked for from here and else from the folder above `runs`, where they were named."""

    def there(name: str) -> str:
        near = run.absolute().parent.parent / name
        found = next((path for path in (Path(name), near) if os.path.lexists(path)), None)
        if found is None and name not in CORPORA:
            raise RunError(
                f"the text of {run} cannot be read again: no such file: {shown(Path(name))}; bring it back, or call "
                "octavo where it was trained"
            )
        return name if found is None else str(found)

    return replace(data, texts=tuple(map(there, data.texts)), val=None if data.val is None else there(data.val))


def go_back(
    trainer: Trainer, *, before: int | None = None, allow_mismatch: bool = False, cut: bool = True
) -> list[Note]:
    """Back to the newest state that is whole; without any, to the beginning. What was found is told.

    What was logged of later steps is cut off. The evaluation that a stop interrupted is still to be logged.

    Raises `RunError` where the text or a setting is not what it was and that is not allowed, where no state is whole,
    and where those that there were have been removed.
    """
    notes: list[Note] = []
    processes = trainer.processes
    with processes.together():
        newest = _newest(trainer, before, notes) if processes.first else None
    newest = json.loads(processes.told(json.dumps(newest)))
    if newest is None:
        trainer.journal.cut(0)
        return [Note("no checkpoint yet: starting from the first step")]
    step, facts, manifest = newest
    folder = checkpoint_folder(trainer.run, step)
    notes += processes.in_turn(lambda: _changes(trainer, folder, facts, manifest, allow_mismatch=allow_mismatch))
    with processes.together(), holding(trainer.device):
        restore(folder, trainer.model, trainer.optimizers, trainer.spread)
    trainer.at = Standing.of(facts)
    then, now = facts.get("numerics", {}), trainer.spread.numerics()
    if any(then.get(name) != now.get(name) for name in ("processes", "way")):
        trainer.at.gathered = trainer.spread.gathered  # as it was decided for those who go on
    trainer.take_less(recompute=trainer.at.recompute, gathered=trainer.at.gathered)
    trainer.let_decay(trainer.at.weight_decay)
    if cut:
        trainer.journal.cut(step if trainer.at.due is None else step - 1)
    return notes


def _newest(trainer: Trainer, before: int | None, notes: list[Note]) -> tuple[int, dict[str, Any], str] | None:
    """The newest state that is whole, all of it read: its step, its facts and its manifest's hash; none before any."""
    run = trainer.run
    if steps_saved(run):
        step, facts = newest_valid(run, before=before, on_damage=lambda line: notes.append(Note(line)))
        return step, facts, sha256(checkpoint_folder(run, step) / MANIFEST)
    learned = max([0, *snapshots(run), *(line["step"] for line in trainer.journal.read())])
    if learned > trainer.config.train.save_every:  # the first one was there
        raise RunError(f"{run} has no checkpoint left; train --from {run} begins a new training with its weights")
    return None


def _changes(
    trainer: Trainer, folder: Path, facts: Mapping[str, Any], manifest: str, *, allow_mismatch: bool
) -> list[Note]:
    """What is not as it was when this state was saved.

    The first process has just read all of it; the others see that theirs has the same manifest, and files of the sizes
    that stand in it.
    """
    notes = []
    if not trainer.processes.first:
        verify(folder, hashed=False)
        if sha256(folder / MANIFEST) != manifest:
            raise RunError(f"{folder} is not the state that the first process goes on from; let all see the same run")
    found = mismatch(facts, trainer.config, trainer.prepared.text_sha256)
    if found is not None and not allow_mismatch:
        raise RunError(f"{found}, in {trainer.run}; bring that back, or go on all the same with --allow-mismatch")
    if found is not None:
        notes.append(Note(f"{found}: going on all the same"))
    changed = difference(
        facts.get("numerics", {}), numerics(trainer.device, trainer.threads.most) | trainer.spread.numerics()
    )
    if changed is not None:
        notes.append(Note(f"same data, not the same bits: {changed}"))
    return notes


def way_before(run: Path, processes: Processes, parallel: Parallel) -> Parallel:
    """The way in which as many processes shared the model until now, where none is asked for: the bits go by it."""
    if parallel != "auto" or processes.size == 1:
        return parallel
    with processes.together():
        facts = newest_facts(run, hashed=False) if processes.first else None
    then = json.loads(processes.told(json.dumps((facts or {}).get("numerics"))))
    same = isinstance(then, dict) and then.get("processes") == processes.size
    return then["way"] if same and then.get("way") in ("ddp", "fsdp") else parallel


def plateau(trainer: Trainer) -> int:
    """The newest step before the rate fell of which there is a state; the first one's word counts."""
    saved = [step for step in steps_saved(trainer.run) if step <= trainer.at.schedule.level_until]
    return int(trainer.processes.told(str(max(saved, default=0))))


def rewind(trainer: Trainer) -> list[Note]:
    """Go back to the newest state from before the rate fell; the best weights stay the best, the logs as they are."""
    best = trainer.at.best
    until = trainer.at.schedule.level_until
    notes = go_back(trainer, before=until, allow_mismatch=True, cut=False)  # it was found a moment ago
    trainer.at.best = best
    return notes


def prolong(trainer: Trainer, steps: int, minutes: float | None) -> Iterator[Event]:
    """Move the end to `steps` in all, or to `minutes` from now; on the disk before it takes effect."""
    at = trainer.at
    at.minutes = None if minutes is None else at.seconds / 60 + minutes
    at.schedule = at.schedule.replanned(at.step, steps, trainer.config.train.decay)
    at.threads = None  # until it is seen what is of use now
    at.weight_decay = _decay_for(trainer, steps)
    trainer.let_decay(at.weight_decay)
    if trainer.processes.first:
        forget_after(trainer.run, at.step)  # the way that is not taken any more; the best weights stay
        trainer.journal.cut(at.step)
    yield from trainer.save_state()


def _decay_for(trainer: Trainer, steps: int) -> float | None:
    """The weight decay that is planned for so many steps; as it was where somebody else than the planner gave it."""
    train, tokens = trainer.config.train, len(trainer.prepared.train.tokens) - 1
    planned, wanted = (
        weight_decay(epochs(trainer.config, count, tokens), count, train.lr, parameters(trainer.config.model))
        for count in (train.steps, steps)
    )
    return wanted if train.optimizer == "muon" and isclose(train.weight_decay, planned) else None
