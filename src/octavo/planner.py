"""What a training will do and cost: the sizes that fit the text, the time and the memory, after a moment of probing."""

from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from octavo.accelerated import compiles
from octavo.config import Asked, DataConfig, ModelConfig, RunConfig
from octavo.data import Prepared
from octavo.data.nature import known, repeated
from octavo.describing import COPIED, described, epochs
from octavo.devices import choose_device
from octavo.errors import ConfigError
from octavo.evaluation import GLANCE, held_out
from octavo.forecast import forecast
from octavo.making import LARGE
from octavo.memory import free_memory
from octavo.probing import Room, fit_into, probe, probed, recomputed, refuse, update_share, work
from octavo.readings import BY_SIZE, most_readings, pairs, weight_decay
from octavo.scale import parameters
from octavo.shapes import LADDER, Shape, continued, of_preset, of_rung, repeated_run, sight
from octavo.spreading import Team

MINUTES = 5.0  # where neither minutes nor steps are asked for
EVALUATIONS = 10  # in one training, or as many as fit into this share of its time
EVALUATION_SHARE = 0.1
LOOK = 20.0  # seconds that an evaluation may take, however short the time
SAVING = 0.5  # seconds that a sample and a checkpoint take besides
SAVES = 6  # at least, for only then may the end be moved to where the time is over
READING = 1 / 3  # of the time that learning from a token takes
# of a step's time by the arithmetic in it: none is sooner, and a slower one need not be probed
HOPE = {"cpu": 0.5, "cuda": 0.15, "mps": 0.15}  # on a GPU a larger step may take hardly longer
DIFFERENT_PER_PARAMETER = 0.3  # characters
ABOUT = 2.0  # times as large, or as small
COMPILED_FROM = 60.0  # seconds of a training on a GPU: to compile takes some ten of them
FEW_STEPS = 100  # in one training: a smaller batch is better then

Rung = tuple[Shape, RunConfig]


@dataclass(frozen=True)
class Plan:
    """A training as it will be, and what it looks like in a few lines."""

    config: RunConfig
    parameters: int
    lines: tuple[str, ...]
    threads: int | None = None  # fewer than there are, for others want cores


def plan(
    asked: Asked,
    data: DataConfig,
    prepared: Prepared,
    base: RunConfig | None = None,
    start: ModelConfig | None = None,
    team: Team | None = None,
) -> Plan:
    """Choose what was not asked for. `base`, an earlier run's settings, is repeated where nothing else was asked.

    A training that begins with the weights of a model has the shape of that model, `start`; one of several processes is
    a `team`'s.

    Raises `ConfigError` where what was asked for does not fit into the memory, `TextError` where the text is too short.
    """
    rooms = [Room(free_memory())] if team is None else team.rooms(asked.device)
    for room in rooms[:-1]:
        with suppress(ConfigError):  # copies do not fit: parts are tried
            return _planned(asked, data, prepared, base, start, room)
    return _planned(asked, data, prepared, base, start, rooms[-1])


def _planned(
    asked: Asked,
    data: DataConfig,
    prepared: Prepared,
    base: RunConfig | None,
    start: ModelConfig | None,
    room: Room,
) -> Plan:
    again = repeated(prepared.train.tokens)
    learned, looked_at = prepared.train.tokens, held_out(prepared).tokens
    copied = known(learned, looked_at) if prepared.held_out else 1.0
    share = 1.0  # of its time
    if base is not None:
        same = repeated_run(asked, data, prepared.tokenizer.vocab_size, base)
        config = _affordable([same], room)[0]
        config, share = _again(config, base, asked, prepared, room)
    elif start is not None:
        config, share = _of_model(continued(asked, data, prepared, start), asked, prepared, room)
    elif asked.preset is not None:
        config, share = _of_model(of_preset(asked, data, prepared, asked.preset), asked, prepared, room)
    else:
        config, share = _chosen(asked, data, prepared, room, again)
    known_recipe = copied < COPIED and start is None and asked.preset is None
    known_recipe = known_recipe and _usual(config, asked, data, prepared, (1 - again) * prepared.train.characters)
    told = forecast(config, learned, looked_at, sight(config)) if known_recipe else None
    loss, within = (None, None) if told is None else (told.loss, told.within)
    config = replace(config, train=replace(config.train, forecast=loss, forecast_within=within))
    return Plan(config, parameters(config.model), described(config, prepared, room, again, copied, share))


def _chosen(asked: Asked, data: DataConfig, prepared: Prepared, room: Room, again: float) -> tuple[RunConfig, float]:
    """A training of a rung of the ladder, and the share of its time that it is thought to take."""
    device = choose_device(asked.device)
    tokens = len(prepared.train.tokens) - 1
    different = (1 - again) * prepared.train.characters
    rungs = _affordable([of_rung(asked, data, prepared, shape, device) for shape in LADDER], room)
    ladder = list(zip(LADDER, rungs, strict=False))
    if asked.steps is not None:
        config = _compiled_for(_fitting(ladder, different, asked.steps), asked.steps, room)
        return _with_steps(config, asked.steps, EVALUATIONS, tokens, asked), 1.0
    seconds = 60 * (asked.minutes or MINUTES)
    config, pace = _compiled(*_by_time(ladder, different, seconds, room), seconds, room)
    return _in_time(config, pace, seconds, prepared, asked)


def _in_time(
    config: RunConfig, pace: float, seconds: float, prepared: Prepared, asked: Asked
) -> tuple[RunConfig, float]:
    """A training of as many steps as its time is enough for, or its text is good for, and its share of that time."""
    tokens = len(prepared.train.tokens) - 1
    config, looks, steps = _timed(config, prepared, seconds, pace)
    config = _bounded(config, steps, tokens)
    return _with_steps(config, config.train.steps, looks, tokens, asked), config.train.steps / steps


def _bounded(config: RunConfig, steps: int, tokens: int) -> RunConfig:
    """A training of so many steps, or as many as a text of so many tokens is good for, however quick it may be."""
    readings = most_readings(BY_SIZE * tokens / parameters(config.model))
    most = max(1, round(readings / epochs(config, 1, tokens)))
    return replace(config, train=replace(config.train, steps=min(steps, most), most_steps=most))


def _again(config: RunConfig, base: RunConfig, asked: Asked, prepared: Prepared, room: Room) -> tuple[RunConfig, float]:
    """An earlier training repeated: where its end is a time, this text has its own bound, and no fewer evaluations.

    In another time, of another size or elsewhere it does as many steps as there is time for.
    """
    if config.train.minutes is None:
        return config, 1.0
    if not _as_quick(config, base):
        pace, config = probed(config, room)
        fitted, share = _in_time(config, pace, 60 * (config.train.minutes or 0.0), prepared, asked)
        kept = {name: getattr(config.train, name) for name in ("weight_decay", "pairs")}
        return replace(fitted, train=replace(fitted.train, **kept)), share
    tokens = len(prepared.train.tokens) - 1
    before, config = config.train, _bounded(config, config.train.steps, tokens)
    steps = config.train.steps
    if steps == before.steps:
        return config, 1.0
    every = asked.eval_every or min(before.eval_every, -(-steps // EVALUATIONS))
    saves = min(before.save_every, every, -(-steps // SAVES))
    return replace(config, train=replace(config.train, eval_every=every, save_every=saves)), steps / before.steps


def _as_quick(config: RunConfig, base: RunConfig) -> bool:
    """Whether a training has the time of an earlier one, and steps of the same size, but for the words of its text."""
    model = replace(config.model, vocab_size=base.model.vocab_size)
    now, then = ((train.minutes, train.batch, train.device, train.dtype) for train in (config.train, base.train))
    return model == base.model and now == then


def _of_model(config: RunConfig, asked: Asked, prepared: Prepared, room: Room) -> tuple[RunConfig, float]:
    """A training of a model of a given shape: as many rows and steps as there is time for, and its share of that."""
    config = _affordable([config], room)[0]
    if asked.steps is not None:
        tokens = len(prepared.train.tokens) - 1
        return _with_steps(_compiled_for(config, asked.steps, room), asked.steps, EVALUATIONS, tokens, asked), 1.0
    seconds = 60 * (asked.minutes or MINUTES)
    few = replace(config, train=replace(config.train, batch=room.processes, micro_batches=1))
    once, stays = probed(few, room)[0], update_share(config)  # a row in each process, and what more rows do not add to
    if asked.batch is None:  # a model may be so large that a step of many rows takes a minute
        rows = room.processes * (seconds / (once * FEW_STEPS) - stays) / (1 - stays)
        batch = min(config.train.batch, max(room.processes, int(rows)))
        config = replace(config, train=replace(config.train, batch=batch, micro_batches=1))
        config = _affordable([config], room)[0]
    pace = once * (stays + (1 - stays) * config.train.batch / room.processes)
    if config.train.device != "cpu":  # where many rows may take hardly longer than one
        pace, config = probed(config, room)
    config, pace = _compiled(config, pace, seconds, room)
    return _in_time(config, pace, seconds, prepared, asked)


def _compiled(config: RunConfig, pace: float, seconds: float, room: Room) -> tuple[RunConfig, float]:
    """The same with its blocks compiled where that makes a training of so many seconds quicker, and its pace."""
    if seconds < COMPILED_FROM or not compiles(config.train.device):
        return config, pace
    measured, found = probed(replace(config, train=replace(config.train, compile=True)), room)
    return (found, measured) if measured < pace else (config, pace)


def _compiled_for(config: RunConfig, steps: int, room: Room) -> RunConfig:
    """The same where the length is so many steps: how long they take is measured only where it matters."""
    if not compiles(config.train.device):
        return config
    pace, config = probed(config, room)
    return _compiled(config, pace, steps * pace, room)[0]


def _affordable(configs: list[RunConfig], room: Room) -> list[RunConfig]:
    """The configs up to the first that the memory is too small for, each in as many pieces as it must be read in."""
    found: list[RunConfig] = []
    for config in configs:
        fitting = fit_into(config, room)
        if fitting is None:
            break
        found.append(fitting)
    again = None if found else recomputed(configs[0])  # slower by a third, so only where nothing fits else
    fitting = None if again is None else fit_into(again, room)
    if fitting is not None:
        return [fitting]
    if not found:
        refuse(configs[0], room)
    return found


def _timed(config: RunConfig, prepared: Prepared, seconds: float, pace: float) -> tuple[RunConfig, int, int]:
    """The same for so many seconds, how often to evaluate, and the steps that the rest of the time is enough for.

    A model may be so slow that to read all that is held out takes longer than that: then it reads some of it. One that
    begins with weights is measured once more, before its first step.
    """
    held, token = len(held_out(prepared).tokens), READING * pace / (config.train.batch * config.window)
    most = max(GLANCE, int(max(EVALUATION_SHARE * seconds, LOOK) / max(token, 1e-12)))
    train = replace(config.train, minutes=seconds / 60, val_tokens=most if most < held else None)
    look = SAVING + token * min(held, most)
    looks = min(EVALUATIONS, max(1, int(EVALUATION_SHARE * seconds / look)))
    between = max(0, SAVES - looks) * SAVING / 2
    left = seconds - (looks + (train.start is not None)) * look - between
    return replace(config, train=train), looks, max(1, round(left / pace))


def _by_time(rungs: list[Rung], different: float, seconds: float, room: Room) -> tuple[RunConfig, float]:
    """The largest rung that still sees enough tokens in its time, and its pace in seconds a step, as measured."""
    pace, chosen = probed(rungs[0][1], room)
    tried = rungs[0][1]
    for shape, config in rungs[1:]:
        if config == tried:
            continue
        tried = config
        hoped = HOPE[config.train.device] * pace * work(config) / work(chosen)  # a larger step has less overhead
        if not _worth(shape, config, different, seconds / hoped):
            break
        try:
            measured, config = probe(config, room)
        except torch.OutOfMemoryError:
            break
        if not _worth(shape, config, different, seconds / measured):
            break
        chosen, pace = config, measured
    return chosen, pace


def _fitting(rungs: list[Rung], different: float, steps: int) -> RunConfig:
    fitting = [config for shape, config in rungs if _worth(shape, config, different, steps)]
    return fitting[-1] if fitting else rungs[0][1]


def _worth(shape: Shape, config: RunConfig, different: float, steps: float) -> bool:
    """Whether a model of this size has enough different text to learn from, and the time to read it."""
    seen = steps * config.train.batch * config.window
    return seen >= shape.tokens and different >= DIFFERENT_PER_PARAMETER * parameters(config.model)


def _usual(config: RunConfig, asked: Asked, data: DataConfig, prepared: Prepared, different: float) -> bool:
    """Whether a model is about as large as that of the ladder for so much text: of others no loss was measured."""
    if asked.layers is None and asked.width is None:
        return True
    free = replace(asked, layers=None, width=None, heads=None, kv_heads=None, context=config.model.context)
    free = replace(free, batch=config.train.batch)
    ladder = [(shape, of_rung(free, data, prepared, shape, config.train.device)) for shape in LADDER]
    size = parameters(_fitting(ladder, different, config.train.steps).model)
    return size / ABOUT < parameters(config.model) < size * ABOUT


def _with_steps(config: RunConfig, steps: int, looks: int, tokens: int, asked: Asked) -> RunConfig:
    every = asked.eval_every or -(-steps // looks)
    saves = every if config.train.minutes is None else min(every, -(-steps // SAVES))
    train = replace(config.train, steps=steps, eval_every=every, save_every=saves)
    if train.optimizer == "muon":
        decay = weight_decay(epochs(config, steps, tokens), steps, train.lr, parameters(config.model))
        train = replace(train, weight_decay=decay)
    return replace(config, train=replace(train, pairs=_pairs(replace(config, train=train), tokens)))


def _pairs(config: RunConfig, different: int) -> int | None:
    """For how long what was counted is learned before the first step, where steps alone would find less of it."""
    model, train = config.model, config.train
    new = model.rotary and not model.tied and train.start is None and parameters(model) < LARGE
    return pairs(train.steps * train.batch * config.window, model.vocab_size, different) if new else None
