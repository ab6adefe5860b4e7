"""What a training will do and cost: the sizes that fit the text, the time and the memory, after a moment of probing."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from octavo.config import Asked, DataConfig, ModelConfig, RunConfig, TrainConfig
from octavo.data import Prepared
from octavo.data.nature import known, repeated
from octavo.describing import COPIED, described, epochs
from octavo.errors import ConfigError, TextError
from octavo.evaluation import held_out
from octavo.forecast import forecast
from octavo.memory import free_memory
from octavo.optim import has_bfloat16_units
from octavo.probing import SHARE, count_parameters, fit_into, probe, step_memory, work

MINUTES = 5.0  # where neither minutes nor steps are asked for
EVALUATIONS = 10  # in one training, or as many as fit into this share of its time
EVALUATION_SHARE = 0.1
SAVING = 0.5  # seconds that a sample and a checkpoint take besides
SAVES = 6  # at least, for only then may the end be moved to where the time is over
READING = 1 / 3  # of the time that learning from a token takes
HOPE = 0.15  # of a step's time by the arithmetic in it: none is sooner, and a slower one need not be probed
DIFFERENT_PER_PARAMETER = 0.3
TIRES_AFTER = 4.0  # times that a text is read, before some of what is read is hidden by dropout
DROPOUT = 0.1
WINDOW, ROWS = 256, 16  # tokens of a row and rows of a batch, where a training goes on from a model
CONTINUED = 0.1  # of the usual rate, so that the model keeps what it has
OWN = ("dialect", "layers", "heads", "kv_heads", "width")  # what a model keeps that is gone on from
FEW_STEPS = 100  # in one training: a smaller batch is better then


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One rung of the ladder of sizes: the right one from so many `tokens` on that a training has the time to read."""

    layers: int
    heads: int
    width: int
    context: int
    batch: int
    tokens: int
    lr: float = 0.02  # Muon's


LADDER = (
    Shape(layers=4, heads=2, width=64, context=64, batch=16, tokens=0),
    Shape(layers=4, heads=2, width=128, context=64, batch=8, tokens=50_000),
    Shape(layers=6, heads=2, width=128, context=128, batch=16, tokens=600_000, lr=0.028),
    Shape(layers=6, heads=3, width=192, context=256, batch=16, tokens=3_000_000),
    Shape(layers=8, heads=4, width=256, context=256, batch=16, tokens=10_000_000),
    Shape(layers=8, heads=6, width=384, context=512, batch=16, tokens=40_000_000),
    Shape(layers=12, heads=12, width=768, context=1024, batch=32, tokens=200_000_000),
)
Rung = tuple[Shape, RunConfig]


@dataclass(frozen=True)
class Plan:
    """A training as it will be, and what it looks like in a few lines."""

    config: RunConfig
    parameters: int
    lines: tuple[str, ...]


def choose_device(asked: str) -> str:
    """The device asked for, or the fastest there is. Raises `ConfigError` where it is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if asked == "auto":
        return next(name for name, found in there.items() if found)
    if not there[asked]:
        raise ConfigError(f"device is {asked}, which PyTorch does not find here; give cpu, or leave it out")
    return asked


def plan(
    asked: Asked,
    data: DataConfig,
    prepared: Prepared,
    base: RunConfig | None = None,
    start: ModelConfig | None = None,
) -> Plan:
    """Choose what was not asked for. `base`, an earlier run's settings, is repeated where nothing else was asked.

    A training that begins with the weights of a model has the shape of that model, `start`.

    Raises `ConfigError` where what was asked for does not fit into the memory, `TextError` where the text is too short.
    """
    free, again = free_memory(), repeated(prepared.train.tokens)
    learned, looked_at = prepared.train.tokens, held_out(prepared).tokens
    copied = known(learned, looked_at) if prepared.held_out else 1.0
    if base is not None:
        config = _affordable([_repeat(asked, data, prepared, base)], free)[0]
    elif start is not None:
        config = _continued(asked, data, prepared, free, start)
    else:
        config = _chosen(asked, data, prepared, free, again)
    told = forecast(config, learned, looked_at) if copied < COPIED and start is None else None
    loss, within = (None, None) if told is None else (told.loss, told.within)
    config = replace(config, train=replace(config.train, forecast=loss, forecast_within=within))
    return Plan(config, count_parameters(config.model), described(config, prepared, free, again, copied))


def _chosen(asked: Asked, data: DataConfig, prepared: Prepared, free: int | None, again: float) -> RunConfig:
    device = choose_device(asked.device)
    tokens = len(prepared.train.tokens) - 1
    different = (1 - again) * tokens
    rungs = _affordable([_config(asked, data, prepared, shape, device) for shape in LADDER], free)
    ladder = list(zip(LADDER, rungs, strict=False))
    if asked.steps is not None:
        return _with_steps(_fitting(ladder, different, float(asked.steps)), asked.steps, EVALUATIONS, tokens, asked)
    seconds = 60 * (asked.minutes or MINUTES)
    config, pace = _by_time(ladder, different, seconds)
    looks, steps = _looks_and_steps(config, len(held_out(prepared).tokens), seconds, pace)
    config = replace(config, train=replace(config.train, minutes=seconds / 60))
    return _with_steps(config, steps, looks, tokens, asked)


def _continued(asked: Asked, data: DataConfig, prepared: Prepared, free: int | None, start: ModelConfig) -> RunConfig:
    """Go on from a model: its shape, shorter rows where it sees far, and a smaller rate, for it knows much already."""
    for name in OWN:
        if getattr(asked, name) not in (None, getattr(start, name)):
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} is the model's own with --from, {getattr(start, name)}; leave it out")
    tokens = len(prepared.train.tokens) - 1
    if asked.context is not None and asked.context > min(tokens, start.context):
        raise ConfigError(
            f"--context is {asked.context}; the model sees {start.context} tokens, the text has {tokens}; ask for less"
        )
    window, muon = asked.context or min(WINDOW, start.context, tokens), start.dialect == "modern"
    device, rate = choose_device(asked.device), CONTINUED * (0.02 if muon else 1e-3)
    train = TrainConfig(
        steps=1,
        batch=asked.batch or min(ROWS, max(1, tokens // window)),
        seed=asked.seed or 0,
        lr=asked.lr or rate,
        optimizer="muon" if muon else "adamw",
        device=device,
        dtype=_dtype(asked.dtype, device),
        dropout=asked.dropout or 0.0,
        start=asked.start,
        pack=asked.pack,
        window=None if window == start.context else window,
    )
    config = _affordable([RunConfig(model=start, data=data, train=train)], free)[0]
    if asked.steps is not None:
        return _with_steps(config, asked.steps, EVALUATIONS, tokens, asked)
    seconds = 60 * (asked.minutes or MINUTES)
    row, _ = _probed(replace(config, train=replace(config.train, batch=1, micro_batches=1)))
    if asked.batch is None:  # a model may be so large that a step of many rows takes a minute
        batch = min(config.train.batch, max(1, int(seconds / (row * FEW_STEPS))))
        config = replace(config, train=replace(config.train, batch=batch, micro_batches=1))
        config = _affordable([config], free)[0]
    pace = row * config.train.batch  # at most: rows share the optimizer's work
    looks, steps = _looks_and_steps(config, len(held_out(prepared).tokens), seconds, pace)
    config = replace(config, train=replace(config.train, minutes=seconds / 60))
    return _with_steps(config, steps, looks, tokens, asked)


def _affordable(configs: list[RunConfig], free: int | None) -> list[RunConfig]:
    """The configs up to the first that the memory is too small for, each in as many pieces as it must be read in."""
    found: list[RunConfig] = []
    for config in configs:
        fitting = fit_into(config, free)
        if fitting is None:
            break
        found.append(fitting)
    if not found:
        row = replace(configs[0], train=replace(configs[0].train, micro_batches=configs[0].train.batch))
        raise ConfigError(
            f"to learn from a row takes about {step_memory(row) / 1e9:.1f} GB and {(free or 0) / 1e9:.1f} GB are free, "
            f"of which at most {SHARE:.0%} are taken; ask for a smaller --context, --width or --layers"
        )
    return found


def _looks_and_steps(config: RunConfig, held_out: int, seconds: float, pace: float) -> tuple[int, int]:
    """How often to evaluate, and the steps that the rest of the time is enough for."""
    look = SAVING + READING * pace * held_out / (config.train.batch * config.window)
    looks = min(EVALUATIONS, max(1, int(EVALUATION_SHARE * seconds / look)))
    between = max(0, SAVES - looks) * SAVING / 2
    return looks, max(1, round((seconds - looks * look - between) / pace))


def _config(asked: Asked, data: DataConfig, prepared: Prepared, shape: Shape, device: str) -> RunConfig:
    model = _model(asked, prepared, shape)
    muon = asked.dialect != "gpt2"
    given: dict[str, Any] = {"lr": asked.lr or (shape.lr if muon else None), "dropout": asked.dropout}
    train = TrainConfig(
        steps=1,
        batch=asked.batch or min(shape.batch, max(1, (len(prepared.train.tokens) - 1) // model.context)),
        seed=asked.seed or 0,
        optimizer="muon" if muon else "adamw",
        device=device,
        dtype=_dtype(asked.dtype, device),
        pack=asked.pack,
        **{name: value for name, value in given.items() if value is not None},
    )
    return RunConfig(model=model, data=data, train=train)


def _model(asked: Asked, prepared: Prepared, shape: Shape) -> ModelConfig:
    tokens = len(prepared.train.tokens) - 1
    if asked.context is not None and asked.context > tokens:
        raise TextError(
            f"context is {asked.context}, and the text has only {tokens} tokens to learn from; ask for less"
        )
    width = asked.width or shape.width
    heads = asked.heads or (shape.heads if width % shape.heads == 0 else 1)
    return ModelConfig(
        dialect=asked.dialect or "modern",
        vocab_size=prepared.tokenizer.vocab_size,
        context=asked.context or min(shape.context, tokens),
        layers=asked.layers or shape.layers,
        heads=heads,
        kv_heads=asked.kv_heads or heads,
        width=width,
        tied=asked.dialect == "gpt2" or prepared.tokenizer.vocab_size > 1024,
    )


def _dtype(asked: str, device: str) -> Any:
    if asked != "auto":
        return asked
    fast = {"cpu": has_bfloat16_units, "cuda": torch.cuda.is_bf16_supported}.get(device, bool)
    return "bfloat16" if fast() else "float32"


def _by_time(rungs: list[Rung], different: float, seconds: float) -> tuple[RunConfig, float]:
    """The largest rung that still sees enough tokens in its time, and its pace in seconds a step, as measured."""
    pace, chosen = _probed(rungs[0][1])
    tried = rungs[0][1]
    for shape, config in rungs[1:]:
        if config == tried:
            continue
        tried = config
        hoped = HOPE * pace * work(config) / work(chosen)  # a larger step has less overhead; the probe must not last
        if not _worth(shape, config, different, seconds / hoped):
            break
        try:
            measured, config = probe(config)
        except torch.OutOfMemoryError:
            break
        if not _worth(shape, config, different, seconds / measured):
            break
        chosen, pace = config, measured
    return chosen, pace


def _probed(config: RunConfig) -> tuple[float, RunConfig]:
    try:
        return probe(config)
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"{config.train.device} has not enough memory for a row of {config.window} tokens; "
            "ask for a smaller --context, --width or --layers"
        ) from None


def _fitting(rungs: list[Rung], different: float, steps: float) -> RunConfig:
    fitting = [config for shape, config in rungs if _worth(shape, config, different, steps)]
    return fitting[-1] if fitting else rungs[0][1]


def _worth(shape: Shape, config: RunConfig, different: float, steps: float) -> bool:
    """Whether a model of this size has enough different text to learn from, and the time to read it."""
    seen = steps * config.train.batch * config.window
    return seen >= shape.tokens and different >= DIFFERENT_PER_PARAMETER * count_parameters(config.model)


def _with_steps(config: RunConfig, steps: int, looks: int, tokens: int, asked: Asked) -> RunConfig:
    every = asked.eval_every or -(-steps // looks)
    saves = every if config.train.minutes is None else min(every, -(-steps // SAVES))
    train = replace(config.train, steps=steps, eval_every=every, save_every=saves)
    tired = asked.dropout is None and train.optimizer == "muon" and epochs(config, steps, tokens) > TIRES_AFTER
    return replace(config, train=replace(train, dropout=DROPOUT) if tired else train)


def _repeat(asked: Asked, data: DataConfig, prepared: Prepared, base: RunConfig) -> RunConfig:
    if asked.dialect not in (None, base.model.dialect):
        raise ConfigError(f"--config repeats a {base.model.dialect} model; leave --dialect out, or --config")
    model_words = ("layers", "heads", "kv_heads", "width", "context")
    train_words = ("minutes", "steps", "batch", "lr", "dropout", "eval_every", "seed", "pack")
    model = replace(base.model, vocab_size=prepared.tokenizer.vocab_size, **_given(asked, model_words))
    given = _given(asked, train_words) | ({} if asked.dtype == "auto" else {"dtype": asked.dtype})
    train = replace(base.train, device=choose_device(asked.device), **given)
    return RunConfig(model=model, data=data, train=train)


def _given(asked: Asked, words: tuple[str, ...]) -> dict[str, Any]:
    return {word: getattr(asked, word) for word in words if getattr(asked, word) is not None}
