"""What was asked of a training, completed: sizes from a ladder, from a model that is known, or from an earlier run."""

from dataclasses import dataclass, replace
from typing import Any

import torch

from octavo.accelerated import compiles
from octavo.config import LONGEST, Asked, DataConfig, ModelConfig, RunConfig, TrainConfig
from octavo.data import Prepared
from octavo.devices import choose_device
from octavo.errors import ConfigError, TextError
from octavo.optim import has_bfloat16_units
from octavo.presets import preset
from octavo.scale import Optimizer, parameters

WINDOW, ROWS = 256, 16  # tokens of a row and rows of a batch, where a training goes on from a model
FAR, MANY = 4096, 32  # and at most, where a model of a known shape begins with nothing
SLOWEST = 8.0  # contexts that the slowest pair of rotary positions takes for a radian
UNTIED = 8192  # tokens of a vocabulary up to which an output of its own is worth what it takes
KNOWN = 1.5e6, 2e-3  # parameters of a model that is gone on from, and AdamW's rate for it, at most
OWN = ("dialect", "layers", "heads", "kv_heads", "width")  # what a model keeps that is gone on from


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
    Shape(layers=6, heads=2, width=128, context=128, batch=16, tokens=200_000, lr=0.028),
    Shape(layers=6, heads=3, width=192, context=256, batch=16, tokens=3_000_000),
    Shape(layers=8, heads=4, width=256, context=256, batch=16, tokens=10_000_000),
    Shape(layers=8, heads=6, width=384, context=512, batch=16, tokens=40_000_000),
    Shape(layers=12, heads=12, width=768, context=1024, batch=32, tokens=200_000_000),
)


def check_shape(asked: Asked, base: RunConfig | None, start: ModelConfig | None) -> None:
    """Raise `ConfigError` for what no text makes right: sizes that do not fit together, a device that is not there.

    It takes a moment where the text may take minutes.
    """
    DataConfig(split=asked.split, val=asked.val)
    if base is not None:
        repeated_run(asked, base.data, base.model.vocab_size, base)
        return
    choose_device(asked.device)
    TrainConfig(steps=1, batch=asked.batch or 1, dropout=asked.dropout or 0.0)
    if start is not None:
        check_own(asked, start)
    elif asked.preset is not None:
        preset_model(asked)
    else:
        for shape in LADDER:
            rung_model(asked, shape, asked.vocab_size or UNTIED, asked.context or LONGEST)


def of_rung(asked: Asked, data: DataConfig, prepared: Prepared, shape: Shape, device: str) -> RunConfig:
    """The training of this rung, with what was asked."""
    shape = shape if asked.context else with_room_for_turns(shape, prepared)
    model = rung_model(asked, shape, prepared.tokenizer.vocab_size, len(prepared.train.tokens) - 1)
    muon = asked.dialect != "gpt2"
    given: dict[str, Any] = {"lr": asked.lr or (shape.lr if muon else None), "dropout": asked.dropout}
    train = TrainConfig(
        steps=1,
        batch=asked.batch or min(shape.batch, max(1, (len(prepared.train.tokens) - 1) // model.context)),
        seed=asked.seed or 0,
        optimizer="muon" if muon else "adamw",
        device=device,
        dtype=choose_dtype(asked.dtype, device),
        pack=asked.pack,
        **{name: value for name, value in given.items() if value is not None},
    )
    return RunConfig(model=model, data=data, train=train)


def with_room_for_turns(shape: Shape, prepared: Prepared) -> Shape:
    """The same, seeing most of a conversation where the text holds some, and as many tokens in a step.

    A model that is to answer has to see what it was asked.
    """
    if not prepared.tokenizer.answers:
        return shape
    tokens = sum(len(part.tokens) for part in {prepared.train, prepared.val, prepared.test})
    usual = tokens // max(1, prepared.documents)
    context = max(shape.context, min(WINDOW, 1 << usual.bit_length()))
    return replace(shape, context=context, batch=max(1, shape.batch * shape.context // context))


def sight(config: RunConfig) -> int:
    """How far a model sees, or a model of its width on the ladder, if that is less: of others no loss was measured."""
    usual = [shape.context for shape in LADDER if shape.width <= config.model.width]
    return min(config.window, max(usual, default=LADDER[0].context))


def rung_model(asked: Asked, shape: Shape, vocab_size: int, tokens: int) -> ModelConfig:
    """The model of this rung, with what was asked, for a text of so many tokens to learn from."""
    check_context(asked, tokens)
    width = asked.width or shape.width
    heads = asked.heads or suitable_heads(asked, shape, width)
    model = ModelConfig(
        dialect=asked.dialect or "modern",
        vocab_size=vocab_size,
        context=asked.context or min(shape.context, tokens),
        layers=asked.layers or shape.layers,
        heads=heads,
        kv_heads=asked.kv_heads or heads,
        width=width,
        tied=asked.dialect == "gpt2" or vocab_size > UNTIED,
    )
    return replace(model, rope_base=SLOWEST * model.context) if model.rotary else model


def check_context(asked: Asked, tokens: int) -> None:
    """Raise `TextError` where a row is to be longer than a text of so many tokens."""
    if asked.context is not None and asked.context > tokens:
        raise TextError(
            f"context is {asked.context}, and the text has only {tokens} tokens to learn from; ask for less"
        )


def suitable_heads(asked: Asked, shape: Shape, width: int) -> int:
    """The heads of a rung where they suit what was asked for, else as few as do.

    They divide the width, into even parts where positions turn pairs, and are so many for each head of keys.
    """
    kv_heads, pairs = asked.kv_heads or 1, 1 if asked.dialect == "gpt2" else 2
    suit = width % (shape.heads * pairs) == 0 and shape.heads % kv_heads == 0
    return shape.heads if suit or width % kv_heads else kv_heads


def choose_dtype(asked: str, device: str) -> Any:
    """The precision asked for, or bfloat16 where the device is quick at it."""
    if asked != "auto":
        return asked
    fast = {"cpu": has_bfloat16_units, "cuda": torch.cuda.is_bf16_supported}.get(device, bool)
    return "bfloat16" if fast() else "float32"


def continued(asked: Asked, data: DataConfig, prepared: Prepared, start: ModelConfig) -> RunConfig:
    """Go on from a model: its shape, shorter rows where it sees far, and AdamW at a smaller rate the larger it is.

    A few rows of a large model take less arithmetic than one of Muon's updates. The rate goes through one that
    suits 1.5 million parameters, 2e-3, and one that suits the 135 million of SmolLM2, 1e-4.
    """
    check_own(asked, start)
    tokens = len(prepared.train.tokens) - 1
    if asked.context is not None and asked.context > min(tokens, start.context):
        raise ConfigError(
            f"--context is {asked.context}; the model sees {start.context} tokens, the text has {tokens}; ask for less"
        )
    window = asked.context or min(WINDOW, start.context, tokens)
    rows = min(ROWS, max(1, tokens // window))
    return _known(asked, data, start, window, rows, "adamw", gentle(parameters(start)))


def check_own(asked: Asked, start: ModelConfig) -> None:
    """Raise `ConfigError` where another shape is asked for than the model has that is gone on from."""
    for name in OWN:
        if getattr(asked, name) not in (None, getattr(start, name)):
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} is the model's own with --from, {getattr(start, name)}; leave it out")
    if asked.preset is not None:
        raise ConfigError("--preset is the shape of a new model; leave it out with --from")


def gentle(count: int) -> float:
    """AdamW's rate for a model of so many parameters that knows much already.

    >>> f"{gentle(1_550_000):.1e} {gentle(135_000_000):.1e} {gentle(8_000_000_000):.1e}"
    '2.0e-03 1.0e-04 6.6e-06'
    """
    size, rate = KNOWN
    return rate * min(1.0, size / count) ** (2 / 3)


def of_preset(asked: Asked, data: DataConfig, prepared: Prepared, name: str) -> RunConfig:
    """A new model of a known shape for this text; a wide one learns slower by AdamW  [Brown 2020, table 2.1]."""
    model = preset_model(asked, prepared.tokenizer.vocab_size)
    tokens = len(prepared.train.tokens) - 1
    check_context(asked, tokens)
    window = min(tokens_of_row(asked, model), tokens)
    rows = min(MANY, max(1, tokens // window))
    muon = model.dialect == "modern"
    rate = 0.02 if muon else min(1e-3, 0.5 / model.width)
    return _known(asked, data, model, window, rows, "muon" if muon else "adamw", rate)


def tokens_of_row(asked: Asked, model: ModelConfig) -> int:
    """How far a model of a known shape learns to see: what is asked for, or all of its context, but at most `FAR`."""
    return asked.context or min(FAR, model.context)


def preset_model(asked: Asked, vocab_size: int | None = None) -> ModelConfig:
    """The shape that `--preset` names, with what is asked besides; without it, GPT-2's of 2019 takes its place.

    Raises `ConfigError` where the name is none, or the other dialect is asked for.
    """
    shape = ModelConfig(dialect=asked.dialect or "gpt2") if asked.preset is None else preset(asked.preset)
    if asked.dialect not in (None, shape.dialect):
        raise ConfigError(f"--preset {asked.preset} is a {shape.dialect} model; leave --dialect out, or --preset")
    return replace(shape, **_sizes(asked), vocab_size=vocab_size or asked.vocab_size or shape.vocab_size)


def _sizes(asked: Asked) -> dict[str, Any]:
    """The sizes of a model that were asked for; what followed from others follows from them anew."""
    given = _given(asked, ("layers", "heads", "kv_heads", "width", "context"))
    if {"heads", "width"} & given.keys():
        given = {"kv_heads": None, "head_width": None, "feed_forward": None, **given}
    return given


def _known(
    asked: Asked, data: DataConfig, model: ModelConfig, window: int, rows: int, optimizer: Optimizer, rate: float
) -> RunConfig:
    device = choose_device(asked.device)
    train = TrainConfig(
        steps=1,
        batch=asked.batch or rows,
        seed=asked.seed or 0,
        lr=asked.lr or rate,
        optimizer=optimizer,
        device=device,
        dtype=choose_dtype(asked.dtype, device),
        dropout=asked.dropout or 0.0,
        start=asked.start,
        pack=asked.pack,
        window=None if window == model.context else window,
    )
    return RunConfig(model=model, data=data, train=train)


def repeated_run(asked: Asked, data: DataConfig, vocab_size: int, base: RunConfig) -> RunConfig:
    """An earlier run's settings, for this text, with what was asked. Raises `ConfigError` for another kind of model."""
    if asked.preset is not None:
        raise ConfigError("--preset is the shape of a new model; leave it out with --config")
    if asked.dialect not in (None, base.model.dialect):
        raise ConfigError(f"--config repeats a {base.model.dialect} model; leave --dialect out, or --config")
    train_words = ("minutes", "steps", "batch", "lr", "dropout", "eval_every", "seed", "pack")
    given = _given(asked, train_words)
    model = base.model if base.train.start is not None else _resized(asked, vocab_size, base.model)
    if base.train.start is not None:
        check_own(asked, model)
    if (asked.context or 0) > model.context:
        raise ConfigError(f"--context is {asked.context}; the model sees {model.context} tokens; ask for less")
    if asked.steps is not None:  # its end is no time any more
        given |= {"minutes": None, "most_steps": None}
    given |= {} if asked.dtype == "auto" else {"dtype": asked.dtype}
    if asked.context is not None:
        given |= {"window": None if asked.context == model.context else asked.context}
    device = choose_device(asked.device)
    train = replace(base.train, device=device, compile=base.train.compile and compiles(device), **given)
    return RunConfig(model=model, data=data, train=train)


def _resized(asked: Asked, vocab_size: int, model: ModelConfig) -> ModelConfig:
    resized = replace(model, vocab_size=vocab_size, **_sizes(asked))
    if resized.rotary and model.rope_base == SLOWEST * model.context:
        return replace(resized, rope_base=SLOWEST * resized.context)
    return resized


def _given(asked: Asked, words: tuple[str, ...]) -> dict[str, Any]:
    return {word: getattr(asked, word) for word in words if getattr(asked, word) is not None}
