"""A model in parts: its shape, and its weights by name, each of which may still lie on a disk."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octavo.config import ModelConfig
from octavo.errors import ConfigError
from octavo.imagined import embody, imagine
from octavo.model import GPT
from octavo.own import strange_parts


@dataclass(frozen=True)
class Parts:
    """What a model is made of: whoever asks for a weight gets it, and what nobody holds takes no memory.

    `dtype` is the one that the model is stored in, whatever single weights are.
    """

    config: ModelConfig
    weights: Mapping[str, Tensor]
    dtype: torch.dtype

    def whole(self) -> GPT:
        """The model, all of its weights in memory once."""
        names = [name for name in self.weights if not (self.config.tied and name == "unembed.weight")]
        model = embody(imagine(self.config), {name: self.weights[name] for name in names})
        return model.to(self.dtype).eval()  # the rotary tables too


def parts_of(model: GPT | Parts) -> Parts:
    """A model that is in memory already, in parts. Raises `ConfigError` where it has others than its config says.

    So it does where a part computes something else: whoever opens what is written gets what the config says.
    """
    if isinstance(model, Parts):
        return model
    model = getattr(model, "_orig_mod", model)  # which `torch.compile` wraps
    odd = imagine(model.config).state_dict().keys() ^ model.state_dict().keys()
    if odd:
        raise ConfigError(
            f"{min(odd)} is a weight of the model or of its config alone; write such a model by torch.save, "
            "or bring what was added into the weights that are known"
        )
    if model.config.tied and model.unembed.weight is not model.embed.weight:
        raise ConfigError("the output has weights of its own where the config ties it to the embedding; say tied=False")
    for name, part in strange_parts(model):
        if type(part) not in (nn.Dropout, nn.Identity):  # which change nothing for who has learned
            raise ConfigError(
                f"{name or 'the model'} computes what no config tells; write such a model by torch.save, "
                "or give its weights to a GPT of its config, by load_state_dict"
            )
    return Parts(model.config, model.state_dict(), model.embed.weight.dtype)
