"""GPT-2 as transformers' `GPT2LMHeadModel` writes it: one fused projection, linear layers as (in, out)."""

from octavo.layouts.layout import Layout
from octavo.layouts.names import Row

BLOCK = "transformer.h.{}"
HEADS = "blocks.{}.attention.heads"

GPT2_LAYOUT = Layout(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    prefix="transformer.",
    rows=(
        Row("transformer.wte", ("embed",)),
        Row("transformer.wpe", ("positions",)),
        Row(f"{BLOCK}.ln_1", ("blocks.{}.attention_norm",)),
        Row(f"{BLOCK}.attn.c_attn", (f"{HEADS}.query", f"{HEADS}.key", f"{HEADS}.value"), transposed=True),
        Row(f"{BLOCK}.attn.c_proj", ("blocks.{}.attention.mix",), transposed=True),
        Row(f"{BLOCK}.ln_2", ("blocks.{}.feed_forward_norm",)),
        Row(f"{BLOCK}.mlp.c_fc", ("blocks.{}.feed_forward.up",), transposed=True),
        Row(f"{BLOCK}.mlp.c_proj", ("blocks.{}.feed_forward.down",), transposed=True),
        Row("transformer.ln_f", ("norm",)),
        Row("lm_head", ("unembed",)),
    ),
    settings={
        "vocab_size": "vocab_size",
        "n_positions": "context",
        "n_layer": "layers",
        "n_head": "heads",
        "n_embd": "width",
        "n_inner": "feed_forward",
        "layer_norm_epsilon": "norm_epsilon",
        "tie_word_embeddings": "tied",
    },
    defaults={
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_layer": 12,
        "n_head": 12,
        "n_embd": 768,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    },
    only={
        "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    constants={
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "initializer_range": 0.02,
        "reorder_and_upcast_attn": False,  # the same mathematics in another order
        "summary_activation": None,
        "summary_first_dropout": 0.0,
        "summary_proj_to_labels": True,
        "summary_type": "cls_index",
        "summary_use_proj": True,
        "use_cache": True,
    },
    buffers=frozenset({f"{BLOCK}.attn.bias", f"{BLOCK}.attn.masked_bias"}),
    more_from=lambda settings: {"dialect": "gpt2"},
)
