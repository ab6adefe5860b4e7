"""What a training will do and cost: the sizes that fit the text and the time, after a few seconds of probing."""

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from octavo.config import Asked, DataConfig, ModelConfig, RunConfig, TrainConfig
from octavo.data import Prepared
from octavo.errors import ConfigError, TextError
from octavo.evaluation import held_out
from octavo.model import GPT
from octavo.optim import has_bfloat16_units, make_optimizers
from octavo.progress import duration
from octavo.step import training_step

MINUTES = 5.0  # where neither minutes nor steps are asked for
EVALUATIONS = 10  # in one training, or as many as fit into this share of its time
EVALUATION_SHARE = 0.1
SAVING = 0.5  # seconds that a sample and a checkpoint take besides
READING = 1 / 3  # of the time that learning from a token takes


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One rung of the ladder of sizes: the right one from so many `tokens` on that a training has the time to read."""

    layers: int
    heads: int
    width: int
    context: int
    batch: int
    tokens: int


LADDER = (
    Shape(layers=4, heads=2, width=64, context=64, batch=16, tokens=0),
    Shape(layers=4, heads=2, width=128, context=64, batch=8, tokens=50_000),
    Shape(layers=6, heads=2, width=128, context=128, batch=16, tokens=600_000),
    Shape(layers=6, heads=3, width=192, context=256, batch=16, tokens=3_000_000),
    Shape(layers=8, heads=4, width=256, context=256, batch=16, tokens=10_000_000),
    Shape(layers=8, heads=6, width=384, context=512, batch=16, tokens=40_000_000),
    Shape(layers=12, heads=12, width=768, context=1024, batch=32, tokens=200_000_000),
)


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


def plan(asked: Asked, data: DataConfig, prepared: Prepared, base: RunConfig | None = None) -> Plan:
    """Choose what was not asked for. `base`, an earlier run's settings, is repeated where nothing else was asked."""
    if base is not None:
        return _described(_repeat(asked, data, prepared, base), prepared)
    device = choose_device(asked.device)
    tokens = len(prepared.train.tokens) - 1
    rungs = [_config(asked, data, prepared, shape, device) for shape in LADDER]
    if asked.steps is not None:
        config = _with_steps(_fitting(rungs, tokens, float(asked.steps)), asked.steps, EVALUATIONS, tokens, asked)
        return _described(config, prepared)
    seconds = 60 * (asked.minutes or MINUTES)
    config, pace = _by_time(rungs, tokens, seconds)
    looks, steps = _looks_and_steps(config, len(held_out(prepared).tokens), seconds, pace)
    config = replace(config, train=replace(config.train, minutes=seconds / 60))
    return _described(_with_steps(config, steps, looks, tokens, asked), prepared)


def _looks_and_steps(config: RunConfig, held_out: int, seconds: float, pace: float) -> tuple[int, int]:
    """How often to evaluate, and the steps that the rest of the time is enough for."""
    look = SAVING + READING * pace * held_out / (config.train.batch * config.model.context)
    looks = min(EVALUATIONS, max(1, int(EVALUATION_SHARE * seconds / look)))
    return looks, max(1, round((seconds - looks * look) / pace))


def _config(asked: Asked, data: DataConfig, prepared: Prepared, shape: Shape, device: str) -> RunConfig:
    model = _model(asked, prepared, shape)
    muon = asked.dialect == "modern"
    given: dict[str, Any] = {"lr": asked.lr, "dropout": asked.dropout}
    train = TrainConfig(
        steps=1,
        batch=asked.batch or min(shape.batch, max(1, (len(prepared.train.tokens) - 1) // model.context)),
        seed=asked.seed,
        optimizer="muon" if muon else "adamw",
        device=device,
        dtype=_dtype(asked.dtype, device),
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
        dialect=asked.dialect,
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


def _by_time(rungs: list[RunConfig], tokens: int, seconds: float) -> tuple[RunConfig, float]:
    """The largest rung that still sees enough tokens in its time, and its pace in seconds a step, as measured."""
    chosen, pace = rungs[0], probe(rungs[0])
    for shape, config in zip(LADDER[1:], rungs[1:], strict=True):
        if config == chosen:
            continue
        hoped = HOPE * pace * work(config) / work(chosen)  # a larger step has less overhead; the probe must not last
        if not _worth(shape, config, tokens, seconds / hoped):
            break
        measured = probe(config)
        if not _worth(shape, config, tokens, seconds / measured):
            break
        chosen, pace = config, measured
    return chosen, pace


def _fitting(rungs: list[RunConfig], tokens: int, steps: float) -> RunConfig:
    fitting = [config for shape, config in zip(LADDER, rungs, strict=True) if _worth(shape, config, tokens, steps)]
    return fitting[-1] if fitting else rungs[0]


def _worth(shape: Shape, config: RunConfig, tokens: int, steps: float) -> bool:
    """Whether a model of this size has enough different text to learn from, and the time to read it."""
    seen = steps * config.train.batch * config.model.context
    return seen >= shape.tokens and tokens >= DIFFERENT_PER_PARAMETER * count_parameters(config.model)


HOPE = 0.15
DIFFERENT_PER_PARAMETER = 0.3
TIRES_AFTER = 4.0  # times that a text is read, before some of what is read is hidden by dropout
DROPOUT = 0.1


def work(config: RunConfig) -> float:
    """The arithmetic of one step, as far as its size goes: parameters times tokens."""
    return float(count_parameters(config.model)) * config.train.batch * config.model.context


def count_parameters(model: ModelConfig) -> int:
    """How many numbers a model of this shape learns."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in GPT(model).parameters())


def probe(config: RunConfig, steps: int = 3) -> float:
    """Seconds a training step takes here: the median of a few, after one to warm up."""
    train, device = config.train, torch.device(config.train.device)
    with torch.random.fork_rng(devices=[]):
        model = GPT(config.model, dropout=train.dropout).to(device)
        tokens = torch.randint(config.model.vocab_size, (train.batch, config.model.context), device=device)
    optimizers = make_optimizers(model, train)

    def step() -> float:
        begin = time.perf_counter()
        training_step(
            model, optimizers, [(tokens, tokens)], rate=1.0, clip=1.0, dtype=getattr(torch, train.dtype), seeds=[0]
        )
        return time.perf_counter() - begin

    step()
    return median(step() for _ in range(steps))


def _with_steps(config: RunConfig, steps: int, looks: int, tokens: int, asked: Asked) -> RunConfig:
    every = asked.eval_every or -(-steps // looks)
    train = replace(config.train, steps=steps, eval_every=every)
    tired = asked.dropout is None and train.optimizer == "muon" and _epochs(config, steps, tokens) > TIRES_AFTER
    return replace(config, train=replace(train, dropout=DROPOUT) if tired else train)


def _epochs(config: RunConfig, steps: int, tokens: int) -> float:
    return steps * config.train.batch * config.model.context / max(1, tokens)


def _repeat(asked: Asked, data: DataConfig, prepared: Prepared, base: RunConfig) -> RunConfig:
    model_words = ("layers", "heads", "kv_heads", "width", "context")
    train_words = ("minutes", "steps", "batch", "lr", "dropout", "eval_every")
    model = replace(base.model, vocab_size=prepared.tokenizer.vocab_size, **_given(asked, model_words))
    train = replace(base.train, device=choose_device(asked.device), **_given(asked, train_words))
    return RunConfig(model=model, data=data, train=train)


def _given(asked: Asked, words: tuple[str, ...]) -> dict[str, Any]:
    return {word: getattr(asked, word) for word in words if getattr(asked, word) is not None}


def _described(config: RunConfig, prepared: Prepared) -> Plan:
    model, train, parameters = config.model, config.train, count_parameters(config.model)
    epochs = _epochs(config, train.steps, len(prepared.train.tokens) - 1)
    end = f"about {duration(60 * train.minutes)}" if train.minutes else "as long as it takes"
    unit = {"character": "characters", "word": "words", "bpe": "pieces of words"}[prepared.tokenizer.kind]
    lines = (
        f"text      {prepared.train.characters:,} characters to train on, {prepared.val.characters:,} held out to "
        f"validate; a vocabulary of {model.vocab_size:,} {unit}",
        f"model     {model.dialect}, {model.layers} layers of width {model.width}, {model.heads} heads, "
        f"context {model.context}: {parameters / 1e6:.2f} million parameters",
        f"training  {train.steps:,} steps of {train.batch} × {model.context} tokens, {epochs:.1f} times the text; "
        f"{end} on {train.device}, {train.dtype}",
    )
    return Plan(config, parameters, lines)
