"""Llama as transformers' `LlamaForCausalLM` writes it, with rotary settings in the spellings of all its versions."""

from collections.abc import Mapping
from typing import Any

from octavo.config import ModelConfig, RopeScaling
from octavo.errors import ConfigError
from octavo.layouts.layout import Layout, Settings
from octavo.layouts.names import Row

BLOCK = "model.layers.{}"
HEADS = "blocks.{}.attention.heads"

LLAMA_ROWS = (
    Row("model.embed_tokens", ("embed",)),
    Row(f"{BLOCK}.input_layernorm", ("blocks.{}.attention_norm",)),
    Row(f"{BLOCK}.self_attn.q_proj", (f"{HEADS}.query",)),
    Row(f"{BLOCK}.self_attn.k_proj", (f"{HEADS}.key",)),
    Row(f"{BLOCK}.self_attn.v_proj", (f"{HEADS}.value",)),
    Row(f"{BLOCK}.self_attn.o_proj", ("blocks.{}.attention.mix",)),
    Row(f"{BLOCK}.post_attention_layernorm", ("blocks.{}.feed_forward_norm",)),
    Row(f"{BLOCK}.mlp.gate_proj", ("blocks.{}.feed_forward.gate",)),
    Row(f"{BLOCK}.mlp.up_proj", ("blocks.{}.feed_forward.up",)),
    Row(f"{BLOCK}.mlp.down_proj", ("blocks.{}.feed_forward.down",)),
    Row("model.norm", ("norm",)),
    Row("lm_head", ("unembed",)),
)
LLAMA_SETTINGS = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "context",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "hidden_size": "width",
    "head_dim": "head_width",
    "intermediate_size": "feed_forward",
    "rms_norm_eps": "norm_epsilon",
    "tie_word_embeddings": "tied",
}
LLAMA_DEFAULTS = {
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
LLAMA_ONLY: Mapping[str, tuple[Any, ...]] = {"hidden_act": ("silu", "swish"), "attention_bias": (False, None)}
LLAMA_CONSTANTS = {"attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True}
LLAMA3 = {
    "factor": "factor",
    "low_freq_factor": "low_frequency_factor",
    "high_freq_factor": "high_frequency_factor",
    "original_max_position_embeddings": "original_context",
}


def rope_to(config: ModelConfig) -> dict[str, Any]:
    """The rotary settings, as transformers 5 spells them and as those before did."""
    scaling = config.rope_scaling
    scaled = scaling and {"rope_type": "llama3", **{theirs: getattr(scaling, LLAMA3[theirs]) for theirs in LLAMA3}}
    return {
        "rope_theta": config.rope_base,
        "rope_scaling": scaled,
        "rope_parameters": {**(scaled or {"rope_type": "default"}), "rope_theta": config.rope_base},
    }


def rope_from(settings: Settings) -> dict[str, Any]:
    """`rope_base` and `rope_scaling` out of either spelling; where both are there, the one that transformers 5 takes.

    Raises `ConfigError` for every kind of scaling but Llama 3's.
    """
    rope = settings.get("rope_scaling") or settings.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        raise ConfigError(f"rope_scaling is {rope!r}; it has to be an object or null")
    kind = rope.get("rope_type", rope.get("type", "default"))
    partial = rope.get("partial_rotary_factor", settings.get("partial_rotary_factor"))
    if partial not in (None, 1):
        raise ConfigError(f"partial_rotary_factor is {partial!r}; octavo turns whole heads, as with 1.0")
    if kind not in ("default", "llama3"):
        raise ConfigError(f"rope scaling of the kind {kind!r} is not octavo's; it has Llama 3's, or none")
    base = rope.get("rope_theta", settings.get("rope_theta", 10000.0))
    return {"rope_base": base, "rope_scaling": _llama3(rope, settings) if kind == "llama3" else None}


def _llama3(rope: Settings, settings: Settings) -> RopeScaling:
    original = settings.get("original_max_position_embeddings", settings["max_position_embeddings"])
    given = {"original_max_position_embeddings": original, **rope}
    missing = [key for key in LLAMA3 if given.get(key) is None]
    if missing:
        raise ConfigError(f"rope scaling of the kind 'llama3' lacks {', '.join(missing)}")
    return RopeScaling(**{ours: given[theirs] for theirs, ours in LLAMA3.items()})


def llama_to(config: ModelConfig) -> dict[str, Any]:
    """What stands in a Llama config beyond the table. Its class wants the width to divide into the heads."""
    if config.width % config.heads:
        raise ConfigError(
            f"width {config.width} does not divide into {config.heads} heads, as Llama's layout wants; "
            "choose a multiple, or norms on queries and keys (qk_norm), whose layout does not"
        )
    return rope_to(config)


LLAMA_LAYOUT = Layout(
    model_type="llama",
    architecture="LlamaForCausalLM",
    prefix="model.",
    rows=LLAMA_ROWS,
    settings=LLAMA_SETTINGS,
    defaults=LLAMA_DEFAULTS,
    only={**LLAMA_ONLY, "mlp_bias": (False, None)},
    constants={**LLAMA_CONSTANTS, "pretraining_tp": 1},
    buffers=frozenset({f"{BLOCK}.self_attn.rotary_emb.inv_freq"}),
    more_to=llama_to,
    more_from=lambda settings: {"dialect": "modern", "qk_norm": False, **rope_from(settings)},
)
