"""Published shapes: as many parameters as transformers counts in models of them, made of nothing."""

import pytest
import torch

from octavo.config import ModelConfig
from octavo.errors import ConfigError
from octavo.imagined import imagine
from octavo.layouts import layout_for
from octavo.presets import PRESETS, preset

PUBLISHED = {  # parameters, as the model cards and papers count them
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "smollm2-135m": 134_515_008,
    "smollm2-360m": 361_821_120,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "llama-8b": 8_030_261_248,
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_parameters_that_were_published_and_that_transformers_counts(name: str) -> None:
    from transformers import AutoModelForCausalLM

    config = PRESETS[name]
    with torch.device("meta"):
        theirs = AutoModelForCausalLM.from_config(theirs_of(config))
    assert theirs.num_parameters() == PUBLISHED[name]
    assert sum(weight.numel() for weight in imagine(config).parameters()) == PUBLISHED[name]


def theirs_of(config: ModelConfig) -> object:
    """The same shape as transformers' own config."""
    import transformers

    settings = layout_for(config).to_hf_config(config)
    return transformers.AutoConfig.for_model(**settings)


def test_a_preset_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"^preset is 'gpt5'; give one of gpt2, gpt2-medium, .*llama-8b$"):
        preset("gpt5")
