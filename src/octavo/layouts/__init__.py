"""Hugging Face's and llama.cpp's ways to write down a model, each as one table that is read in both directions.

Values go in and come out, no file is touched: whoever saves, imports or exports brings dictionaries here.
"""

from collections.abc import Mapping
from typing import Any

from octavo.config import ModelConfig
from octavo.errors import ConfigError
from octavo.layouts.gguf import GGUF_LAYOUTS, GgufLayout
from octavo.layouts.gpt2 import GPT2_LAYOUT
from octavo.layouts.layout import Layout
from octavo.layouts.llama import LLAMA_LAYOUT
from octavo.layouts.names import Row, split_name
from octavo.layouts.qwen3 import QWEN3_LAYOUT

__all__ = [
    "GGUF_LAYOUTS",
    "GPT2_LAYOUT",
    "LAYOUTS",
    "LLAMA_LAYOUT",
    "QWEN3_LAYOUT",
    "GgufLayout",
    "Layout",
    "Row",
    "gguf_layout_for",
    "gguf_layout_of",
    "layout_for",
    "layout_of",
    "split_name",
]

LAYOUTS = {layout.model_type: layout for layout in (GPT2_LAYOUT, LLAMA_LAYOUT, QWEN3_LAYOUT)}


def layout_for(config: ModelConfig) -> Layout:
    """The layout in which a model of octavo's is written down.

    >>> layout_for(ModelConfig(dialect="modern")).architecture
    'Qwen3ForCausalLM'
    """
    if config.dialect == "gpt2":
        return GPT2_LAYOUT
    return QWEN3_LAYOUT if config.qk_norm else LLAMA_LAYOUT


def layout_of(hf_config: Mapping[str, Any]) -> Layout:
    """The layout that a `config.json` speaks of.

    >>> layout_of({"model_type": "mamba"})
    Traceback (most recent call last):
    octavo.errors.ConfigError: model_type is 'mamba', which octavo does not read; it reads gpt2, llama, qwen3
    """
    model_type = hf_config.get("model_type")
    layout = LAYOUTS.get(model_type) if isinstance(model_type, str) else None
    if layout is None:
        raise ConfigError(f"model_type is {model_type!r}, which octavo does not read; it reads {', '.join(LAYOUTS)}")
    return layout


def gguf_layout_for(config: ModelConfig) -> GgufLayout:
    """The layout in which llama.cpp runs a model of octavo's.

    >>> gguf_layout_for(ModelConfig(dialect="modern")).architecture
    'qwen3'
    """
    return GGUF_LAYOUTS[layout_for(config).model_type]


def gguf_layout_of(settings: Mapping[str, Any]) -> GgufLayout:
    """The layout that the settings of a GGUF file speak of.

    >>> gguf_layout_of({"general.architecture": "mamba"})
    Traceback (most recent call last):
    octavo.errors.ConfigError: general.architecture is 'mamba', which octavo does not read; it reads gpt2, llama, qwen3
    """
    architecture = settings.get("general.architecture")
    layout = GGUF_LAYOUTS.get(architecture) if isinstance(architecture, str) else None
    if layout is None:
        known = ", ".join(GGUF_LAYOUTS)
        raise ConfigError(f"general.architecture is {architecture!r}, which octavo does not read; it reads {known}")
    return layout
