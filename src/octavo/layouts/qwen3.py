"""Qwen3 as transformers' `Qwen3ForCausalLM` writes it: Llama's, with norms on queries and keys."""

from typing import Any

from octavo.config import ModelConfig
from octavo.errors import ConfigError
from octavo.layouts.layout import Layout, Settings
from octavo.layouts.llama import (
    BLOCK,
    HEADS,
    LLAMA_CONSTANTS,
    LLAMA_DEFAULTS,
    LLAMA_ONLY,
    LLAMA_ROWS,
    LLAMA_SETTINGS,
    rope_from,
    rope_to,
)
from octavo.layouts.names import Row


def windows_to(config: ModelConfig) -> dict[str, Any]:
    """Every layer sees the whole past, in all the words that Qwen3's config has for it."""
    return {
        "layer_types": ["full_attention"] * config.layers,
        "max_window_layers": config.layers,
        "sliding_window": None,
        **rope_to(config),
    }


def windows_from(settings: Settings) -> dict[str, Any]:
    """Raises `ConfigError` where a layer does not see the whole past."""
    kinds = settings.get("layer_types") or []
    if not isinstance(kinds, list):
        raise ConfigError(f"layer_types is {kinds!r}; it has to be a list or null")
    other = [kind for kind in kinds if kind != "full_attention"]
    if other:
        raise ConfigError(f"layer_types has {other[0]!r}; octavo has full_attention alone")
    return {"dialect": "modern", "qk_norm": True, **rope_from(settings)}


QWEN3_LAYOUT = Layout(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    prefix="model.",
    rows=(
        *LLAMA_ROWS,
        Row(f"{BLOCK}.self_attn.q_norm", (f"{HEADS}.query_norm",)),
        Row(f"{BLOCK}.self_attn.k_norm", (f"{HEADS}.key_norm",)),
    ),
    settings=LLAMA_SETTINGS,
    defaults={
        **LLAMA_DEFAULTS,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "intermediate_size": 22016,
    },
    only={**LLAMA_ONLY, "use_sliding_window": (False, None)},
    constants=LLAMA_CONSTANTS,
    more_to=windows_to,
    more_from=windows_from,
)
