"""Published models' shapes by name: what `--preset` asks for, and what a model of a known size would take."""

from typing import Any

from octavo.config import GPT2, GPT2_LARGE, GPT2_MEDIUM, GPT2_XL, ModelConfig, RopeScaling
from octavo.errors import ConfigError


def _qwen3(**shape: Any) -> ModelConfig:
    """Qwen3's: heads of 128 whatever the width, and two queries or more to a key  [Yang 2025, table 1]."""
    return ModelConfig(
        dialect="modern", vocab_size=151936, context=40960, head_width=128, kv_heads=8, rope_base=1e6, **shape
    )


QWEN3_06B = _qwen3(layers=28, heads=16, width=1024, feed_forward=3072)
QWEN3_17B = _qwen3(layers=28, heads=16, width=2048, feed_forward=6144)
QWEN3_4B = _qwen3(layers=36, heads=32, width=2560, feed_forward=9728)
QWEN3_8B = _qwen3(layers=36, heads=32, width=4096, feed_forward=12288, tied=False)


def _smollm2(**shape: Any) -> ModelConfig:
    """SmolLM2's: Llama's layout, deep for its width  [Allal 2025]."""
    return ModelConfig(
        dialect="modern", vocab_size=49152, context=8192, rope_base=1e5, norm_epsilon=1e-5, qk_norm=False, **shape
    )


SMOLLM2_135M = _smollm2(layers=30, heads=9, kv_heads=3, width=576, feed_forward=1536)
SMOLLM2_360M = _smollm2(layers=32, heads=15, kv_heads=5, width=960, feed_forward=2560)

LLAMA_8B = ModelConfig(  # Llama 3.1 [Grattafiori 2024, table 3]
    dialect="modern",
    vocab_size=128256,
    context=131072,
    layers=32,
    heads=32,
    kv_heads=8,
    width=4096,
    feed_forward=14336,
    norm_epsilon=1e-5,
    qk_norm=False,
    tied=False,
    rope_base=5e5,
    rope_scaling=RopeScaling(factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_context=8192),
)

PRESETS = {
    "gpt2": GPT2,
    "gpt2-medium": GPT2_MEDIUM,
    "gpt2-large": GPT2_LARGE,
    "gpt2-xl": GPT2_XL,
    "smollm2-135m": SMOLLM2_135M,
    "smollm2-360m": SMOLLM2_360M,
    "qwen3-0.6b": QWEN3_06B,
    "qwen3-1.7b": QWEN3_17B,
    "qwen3-4b": QWEN3_4B,
    "qwen3-8b": QWEN3_8B,
    "llama-8b": LLAMA_8B,
}


def preset(name: str) -> ModelConfig:
    """The shape of this name. Raises `ConfigError` for a name that is none, with those that are.

    >>> preset("qwen3-0.6b").heads
    16
    """
    if name not in PRESETS:
        raise ConfigError(f"preset is {name!r}; give one of {', '.join(PRESETS)}")
    return PRESETS[name]
