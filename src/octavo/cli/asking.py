"""The flags that say what a training should be, shared by `train`, `plan` and `demo`: one field a flag."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from octavo.cli import STDIN
from octavo.cli.flags import unless_named
from octavo.config import Asked, Device, Dialect, RunConfig
from octavo.errors import ConfigError


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Time:
    """When a training ends."""

    minutes: Annotated[
        float | None,
        Parameter(
            help="Train for so many minutes (5 where nothing is said), or less where a small text gives no more."
        ),
    ] = None
    steps: Annotated[int | None, Parameter(help="Train for so many steps instead.")] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Text:
    """How the text is read and cut."""

    split: Annotated[float | None, Parameter(help="Train on this first part, 0.9 say, and validate on the rest.")] = (
        None
    )
    val: Annotated[str | None, Parameter(help="Validate on this text instead of a part of TEXT.")] = None
    field: Annotated[str | None, Parameter(help="The field of a JSONL file that holds the text (text).")] = None
    errors: Annotated[
        Literal["strict", "replace"] | None, Parameter(help="What to do with bytes that are no UTF-8 (strict).")
    ] = None
    tokenizer: Annotated[Literal["character", "word", "bpe"] | None, Parameter(help="Cut the text into these.")] = None
    vocab_size: Annotated[int | None, Parameter(help="How many different tokens there may be.")] = None
    shuffle: Annotated[
        Literal["documents"] | None, Parameter(help="Draw the parts, and the order, from whole documents by lot.")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Shape:
    """The size of the model and of a step; what is left out is chosen to fit the text and the time."""

    preset: Annotated[str | None, Parameter(help="A published model's shape: gpt2-xl, qwen3-0.6b, llama-8b, …")] = None
    dialect: Annotated[Dialect | None, Parameter(help="GPT-2 of 2019, or the modern form (Qwen3's).")] = None
    layers: Annotated[int | None, Parameter(help="How many blocks.")] = None
    heads: Annotated[int | None, Parameter(help="Heads of attention in a block.")] = None
    kv_heads: Annotated[int | None, Parameter(help="Heads of keys and values, a divisor of --heads.")] = None
    width: Annotated[int | None, Parameter(help="How many numbers a token is.")] = None
    context: Annotated[int | None, Parameter(help="How many tokens the model sees at once.")] = None
    batch: Annotated[int | None, Parameter(help="How many windows of text one step learns from.")] = None
    lr: Annotated[float | None, Parameter(help="The peak learning rate.")] = None
    dropout: Annotated[float | None, Parameter(help="The share of values to drop while learning.")] = None
    eval_every: Annotated[int | None, Parameter(help="Evaluate, sample and save after so many steps.")] = None
    pack: Annotated[
        Literal["documents"] | None, Parameter(help="Let none of the documents in a window see another.")
    ] = None
    seed: Annotated[int | None, Parameter(help="Same seed, text, machine and --steps: same model (0).")] = None
    device: Annotated[Device, Parameter(help="Where to compute.")] = "auto"
    start: Annotated[str | None, Parameter(name="--from", help="Go on from a run's or a .gguf file's weights.")] = None
    dtype: Annotated[Literal["auto", "float32", "bfloat16"], Parameter(help="The precision of matrix products.")] = (
        "auto"
    )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a training is done and shown; nothing of it changes what is learned, but for the last bits."""

    quiet: Annotated[bool, unless_named("Say nothing but the end.")] = False
    parallel: Annotated[
        Literal["auto", "ddp", "fsdp"], Parameter(help="Under torchrun: the model whole in each process, or in parts.")
    ] = "auto"
    page: Annotated[bool, unless_named("Watch it, stop it and go on with it in a browser, on this machine.")] = False
    track: Annotated[bool, unless_named("Write its figures for tensorboard, too.")] = False


def gather(time: Time | None, text: Text | None, shape: Shape | None) -> Asked:
    """The flags of a command line as one value. Raises `ConfigError` for one that is out of its range."""
    groups = (time or Time(), text or Text(), shape or Shape())
    return Asked(**{f.name: getattr(group, f.name) for group in groups for f in fields(group)})


def named(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts as they were named: a hyphen is standard input."""
    return tuple("-" if text == STDIN else text for text in texts)


def read_base(config: Path | None) -> RunConfig | None:
    """The settings that `--config FILE` repeats."""
    if config is None:
        return None
    from octavo import toml
    from octavo.beginning import goes_on_from
    from octavo.places import check_name
    from octavo.plain import from_dict

    check_name(config, "--config")
    if not config.is_file():
        raise ConfigError(f"--config {config} is no file; give the octavo.toml of a run")
    base = from_dict(RunConfig, toml.read(config))
    if goes_on_from(config.parent, base):
        raise ConfigError(
            f"--config {config} began with weights of its own folder, which it has learned over since; "
            f"give --from {config.parent} to go on from these"
        )
    return base
