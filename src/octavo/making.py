"""A model before its first step: its random numbers, and how it will compute."""

import torch
from torch import nn

from octavo.accelerated import compile_blocks, quick_products
from octavo.config import ModelConfig, RunConfig
from octavo.imagined import imagine
from octavo.model import GPT, initialise
from octavo.randomness import seed_for
from octavo.recomputing import recompute_blocks
from octavo.scale import parameters

LARGE = 2**26  # parameters: from here on each is drawn once, and not by PyTorch's layers before


def make_model(config: RunConfig) -> GPT:
    """The model of a run before its first step: random numbers from the seed, and from nothing else."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("weights", config.train.seed))
        large = parameters(config.model) >= LARGE
        return (drawn_once if large else GPT)(config.model, dropout=config.train.dropout)


def drawn_once(config: ModelConfig, *, dropout: float = 0.0) -> GPT:
    """A model whose layers are made of nothing, and then each weight of its random numbers.

    A small model takes the longer way, in which PyTorch's layers draw numbers that are drawn anew: a seed goes on to
    mean the same model.
    """
    model = imagine(config, dropout=dropout)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(torch.empty_like(weight, device="cpu")))
    if config.tied:
        model.unembed.weight = model.embed.weight
    initialise(model)
    return model


def prepare_to_learn(model: GPT, config: RunConfig, device: torch.device | None = None) -> GPT:
    """Put a model on a device, or the one it is planned for, there to compute as its training was planned to."""
    device = device or torch.device(config.train.device)
    quick_products(device)
    model = model.to(device)
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
