"""From a text to a training that can be iterated over: read it, plan, make the run's folder; or open one to go on."""

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch

from octavo import places
from octavo.beginning import begin_anew, check_free, check_room, check_unclaimed, leaving_no_folder
from octavo.claim import Claim
from octavo.config import Asked, RunConfig
from octavo.cores import Threads
from octavo.cutting import Listener, cut_as_before, ignore, read_texts
from octavo.data import Prepared, prepare
from octavo.devices import choose_device
from octavo.disk import make_folder, saving
from octavo.errors import ConfigError, RunError
from octavo.events import Note, Planned
from octavo.pace import Pace
from octavo.pairs import begun_with_pairs
from octavo.parts import Parts
from octavo.places import find_model, new_run
from octavo.plain import as_dict, from_dict
from octavo.planner import Plan, plan
from octavo.porting import open_parts
from octavo.processes import ALONE, Processes
from octavo.resumption import (
    as_the_first,
    go_back,
    on_what_is_here,
    plateau,
    prolong,
    rewind,
    same_text,
    settings_of,
    way_before,
)
from octavo.saved import steps_saved
from octavo.shapes import check_shape
from octavo.spreading import Parallel, Team, check_rows
from octavo.tokenizers import Tokenizer
from octavo.trainer import Trainer

Start = tuple[Parts, Tokenizer]  # what a training goes on from


def plan_training(
    texts: Sequence[str],
    asked: Asked,
    *,
    base: RunConfig | None = None,
    start: Start | None = None,
    on_event: Listener = ignore,
    team: Team | None = None,
) -> tuple[Plan, Prepared]:
    """What a training on these texts would be; nothing is trained or written but the encoded text in the cache."""
    (model, tokenizer), threads = start or (None, None), Threads()
    check_shape(asked, base, None if model is None else model.config)
    if base is not None:
        asked = cut_as_before(asked, base.data, own=tokenizer is not None)
    data, prepared = read_texts(texts, asked, on_event, tokenizer, None if base is None else base.data)
    if asked.pack is not None and prepared.tokenizer.end_of_text is None:
        raise ConfigError("the tokenizer has no token that ends a document; leave --pack out")
    on_event(Note("measuring this machine for a moment"))
    fewer = threads.use(_useful(threads, asked, base, on_event)) if team is None else None
    try:
        chosen = plan(asked, data, prepared, base, None if model is None else model.config, team)
    finally:
        threads.use(None)
    return replace(chosen, threads=fewer), prepared


def _useful(threads: Threads, asked: Asked, base: RunConfig | None, on_event: Listener) -> int:
    """How many threads are of use beside other programs, where the end of a training on the CPU is a time."""
    timed = asked.steps is None and (base is None or (asked.minutes or base.train.minutes) is not None)
    if not timed or choose_device(asked.device) != "cpu":
        return threads.most
    useful = threads.useful(wait=True)
    if useful < threads.most:
        on_event(Note(f"other programs want cores: {useful} of {threads.most} threads learn"))
    return useful


def opened_start(asked: Asked, base: RunConfig | None) -> Start | None:
    """The model that a training goes on from, in float32, still where it lies; `None` for one that begins anew."""
    if asked.start is not None and base is not None:
        raise ConfigError("--config repeats a training, with what it began from; leave --from out")
    name = asked.start if base is None else base.train.start
    return None if name is None else open_parts(find_model(name), dtype=torch.float32)


def begin(
    texts: Sequence[str],
    asked: Asked,
    *,
    out: str | Path | None = None,
    force: bool = False,
    base: RunConfig | None = None,
    on_event: Listener = ignore,
    processes: Processes = ALONE,
    parallel: Parallel = "auto",
) -> Trainer:
    """Plan a training and make its folder.

    Of several processes the first one does it; the others hear what it decided, and open what it has prepared.

    Raises `RunError` where `out` already holds a run and `force` is not given or another training writes into it,
    `TextError` for what cannot be read, `SaveError` where there is no room for what will be saved.
    """
    if not processes.first:
        return _joining(processes, parallel)
    with processes.together():
        run = Path(out) if out is not None else new_run(texts[0])
        check_free(run, force=force)
        check_unclaimed(run)
        check_rows(asked.batch or (base.train.batch if base else processes.size), processes)
        start = opened_start(asked, base)
        team = Team(processes, parallel) if processes.size > 1 else None
        chosen, prepared = plan_training(texts, asked, base=base, start=start, on_event=on_event, team=team)
        on_event(Planned(chosen.lines, chosen.config, chosen.parameters))
        run = run if out is not None else new_run(texts[0])  # another training may have taken the name meanwhile
    with leaving_no_folder(run), ExitStack() as claims:
        with processes.together():
            with saving(run):
                make_folder(run)
            claim = claims.enter_context(Claim(run))
            check_free(run, force=force)  # or have come to its end there
            check_room(run, chosen.config, chosen.parameters)
        processes.told(json.dumps([str(run.absolute()), prepared.fingerprint, as_dict(chosen.config)]))
        processes.agree()  # the others have opened all that they begin with
        trainer = _begun(
            chosen.config, prepared, run, processes, parallel, start=start, on_event=on_event, threads=chosen.threads
        )
        trainer.claim, trainer.at.threads = claim, chosen.threads
        with processes.together():  # now nobody needs what stood there any more, but for what this training begins with
            begin_anew(run, chosen.config, prepared.tokenizer)
    _save_start(trainer, on_event)
    return trainer


def _joining(processes: Processes, parallel: Parallel) -> Trainer:
    """The training that the first process has begun, in another one."""
    processes.agree()  # the first one has planned
    processes.agree()  # and made the folder
    place, fingerprint, settings = json.loads(processes.told())
    run, config = Path(place), from_dict(RunConfig, settings)
    with processes.together(), processes.by_itself():
        if not run.is_dir():
            raise RunError(f"{run} is not there; give --out a folder on a disk that all processes see")
        start = opened_start(Asked(), config)
        tokenizer = None if start is None else start[1]
        prepared = as_the_first(fingerprint, lambda: prepare(config.data, tokenizer, cache=places.cache()))
    trainer = _begun(config, prepared, run, processes, parallel, start=start)
    processes.agree()  # the first one has written the run
    _save_start(trainer, ignore)
    return trainer


def _begun(
    config: RunConfig,
    prepared: Prepared,
    run: Path,
    processes: Processes,
    parallel: Parallel,
    *,
    start: Start | None,
    on_event: Listener = ignore,
    threads: int | None = None,
) -> Trainer:
    """A training before its first step, with the weights of a model, with what was counted in its text, or neither."""
    if start is not None or config.train.pairs is None:
        return Trainer(config, prepared, run, processes, parallel, None if start is None else start[0])
    on_event(Note("counting what follows what, for the model to begin with"))
    clock = time.monotonic()
    with Threads().using(threads):
        weights = begun_with_pairs(config, prepared.train.tokens)
    seconds = time.monotonic() - clock
    trainer = Trainer(config, prepared, run, processes, parallel, weights)
    trainer.at.seconds = trainer.at.besides = float(processes.told(repr(seconds)))  # all go on by the same clock
    return trainer


def _save_start(trainer: Trainer, on_event: Listener) -> None:
    """Save the state before the first step where nothing else tells it: weights that it begins with, fewer threads."""
    with trainer.claim or nullcontext():
        for event in trainer.save_state() if trainer.config.train.start is not None or trainer.at.threads else ():
            on_event(event)


def resume(
    run: Path,
    asked: Asked,
    *,
    allow_mismatch: bool = False,
    on_event: Listener = ignore,
    processes: Processes = ALONE,
    parallel: Parallel = "auto",
) -> Trainer:
    """Open a training to go on with, from its newest state that is whole.

    With `minutes` (that many more) or `steps` (so many in all), a finished one goes on from before its rate fell.
    Raises `ConfigError` where anything else was asked, `RunError` where the folder is no run, another training writes
    into it, or the text or a setting is not what it was and a mismatch is not allowed.
    """
    refuse_changes(asked)
    config = processes.in_turn(lambda: on_what_is_here(settings_of(run), on_event))
    with ExitStack() as claims:
        with processes.together():
            claim = claims.enter_context(Claim(run)) if processes.first else None
            prepared = same_text(run, config, on_event) if processes.first else None
        trainer, anew = _reopened(run, config, prepared, processes, parallel, on_event)
        trainer.claim = claim
        notes = go_back(trainer, allow_mismatch=allow_mismatch)
        for note in notes:
            on_event(note)
        if anew:
            _save_start(trainer, on_event)
        if asked.minutes is not None or asked.steps is not None:
            _prolong(trainer, asked, on_event, told=notes)
        elif trainer.over:
            raise RunError(f"{run} is finished; train it longer with --minutes or --steps")
        on_event(Note(f"going on with {run} after step {trainer.at.step} of {trainer.at.schedule.steps}"))
        return trainer


def _reopened(
    run: Path,
    config: RunConfig,
    prepared: Prepared | None,
    processes: Processes,
    parallel: Parallel,
    on_event: Listener,
) -> tuple[Trainer, bool]:
    """A training with nothing of its state yet, on the text that the first process has prepared.

    And whether it begins with the weights of another model: one that was ended before it had saved those does so anew.
    """
    fingerprint = processes.told("" if prepared is None else prepared.fingerprint)
    with processes.together(), processes.by_itself():  # what the first has read and encoded the others find
        prepared = prepared or as_the_first(fingerprint, lambda: same_text(run, config, on_event))
    saved = bool(processes.told("yes" if steps_saved(run) else ""))
    start = None if saved else processes.in_turn(lambda: opened_start(Asked(), config))
    opened = Trainer if saved else partial(_begun, start=start, on_event=on_event)
    return opened(config, prepared, run, processes, way_before(run, processes, parallel)), start is not None


def refuse_changes(asked: Asked) -> None:
    """Raise `ConfigError` for the first setting that a resumed training cannot change."""
    usual = asdict(Asked())
    for name, value in asdict(asked).items():
        if name not in ("minutes", "steps") and value != usual[name]:
            flag = "from" if name == "start" else name.replace("_", "-")
            raise ConfigError(f"--{flag} cannot change when a training is resumed; leave it out, or train anew")


def _prolong(trainer: Trainer, asked: Asked, on_event: Listener, told: Sequence[Note]) -> None:
    steps, at = asked.steps, trainer.at
    if steps is not None and steps <= at.step:
        raise ConfigError(f"--steps {steps} are already behind: {at.step} are done; give more")
    pace = at.learning / at.step if at.step else 0.0  # of the checkpoint, in which all processes read the same
    again = at.step - plateau(trainer) if at.step else 0
    if steps is None and pace and 60 * (asked.minutes or 0) <= again * pace:
        raise ConfigError(
            f"--minutes {asked.minutes:g} are no more than the {again * pace / 60:.3g} of the last {again} steps, "
            "which are learned anew from before the rate fell; give more"
        )
    every, left = trainer.config.train.eval_every, 60 * (asked.minutes or 0)
    more = Pace().fitting(at.step, at.learning, left, every, at.look) - at.step
    if again:
        on_event(Note(f"{again} of the {at.step} steps are learned anew, those from where the learning rate fell"))
    for note in rewind(trainer) if at.step else []:
        if note not in told:
            on_event(note)
    if steps is None and pace:
        steps = trainer.at.step + more
    elif steps is None:  # before the first step nobody knows; the pace will tell
        steps = trainer.at.schedule.steps
    for event in prolong(trainer, steps, asked.minutes):
        on_event(event)
