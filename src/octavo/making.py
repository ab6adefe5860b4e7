"""A model before its first step: its random numbers, and how it will compute."""

from collections.abc import Iterator

import torch
from torch import Tensor

from octavo.accelerated import compile_blocks, quick_products
from octavo.config import RunConfig
from octavo.imagined import embody, imagine
from octavo.model import GPT, draw
from octavo.parts import Parts
from octavo.randomness import seed_for
from octavo.recomputing import recompute_blocks
from octavo.scale import parameters

LARGE = 2**26  # parameters: from here on each is drawn once, and not by PyTorch's layers before


def make_model(config: RunConfig, start: Parts | None = None) -> GPT:
    """The model of a run before its first step: what it goes on from, else random numbers from the seed alone."""
    if start is not None or parameters(config.model) >= LARGE:
        return embody(imagine_learner(config), dict(weights_of(config, start)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("weights", config.train.seed))
        return GPT(config.model, dropout=config.train.dropout)


def imagine_learner(config: RunConfig) -> GPT:
    """The same without any numbers."""
    return imagine(config.model, dropout=config.train.dropout)


def weights_of(config: RunConfig, start: Parts | None = None) -> Iterator[tuple[str, Tensor]]:
    """The weights of the same model, one after another: of a large one no two need be in memory at once.

    A small model takes the longer way, in which PyTorch's layers draw numbers that are drawn anew: a seed goes on to
    mean the same model.
    """
    if start is None and parameters(config.model) < LARGE:
        yield from ((name, weight.detach()) for name, weight in make_model(config).named_parameters())
        return
    generator = torch.Generator().manual_seed(seed_for("weights", config.train.seed))
    for name, imagined in imagine(config.model).named_parameters():
        weight = torch.empty_like(imagined, device="cpu")
        if start is None:
            draw(name, weight, config.model, generator)
        else:
            weight.copy_(start.weights[name])  # which may be a view into others
        yield name, weight.detach()


def prepare_to_learn(model: GPT, config: RunConfig, device: torch.device | None = None) -> GPT:
    """Put a model on a device, or the one it is planned for, there to compute as its training was planned to."""
    device = device or torch.device(config.train.device)
    quick_products(device)
    return computing_as_planned(model.to(device), config)


def computing_as_planned(model: GPT, config: RunConfig) -> GPT:
    """Have a model compute its blocks again on the way back, and compiled, where that was planned."""
    if config.train.recompute:
        recompute_blocks(model)
    if config.train.compile:
        compile_blocks(model)
    return model


def recompute_from_now_on(model: GPT, config: RunConfig) -> None:
    """Have a model that learns already compute each block again on the way back."""
    recompute_blocks(model)
    if config.train.compile:
        torch.compiler.reset()  # what is compiled keeps what it was compiled to keep
        compile_blocks(model)
