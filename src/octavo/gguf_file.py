"""A model and its tokenizer as one GGUF file, which llama.cpp and whatever is built on it run as it stands."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from torch import Tensor

from octavo.config import ModelConfig
from octavo.disk import replace_file
from octavo.errors import ConfigError
from octavo.layouts import gguf_layout_for
from octavo.layouts.gguf import ARCHITECTURE, FREQUENCIES, TOKENS
from octavo.model import GPT, rotary_frequencies
from octavo.tokenizers.byte_level import byte_level, unused

if TYPE_CHECKING:
    from octavo.tokenizers import Tokenizer

GgufType = Literal["f32", "f16", "bf16", "q8_0"]
FILE_TYPES = {
    "f32": LlamaFileType.ALL_F32,
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
}
EXACT = ("position_embd.weight", "positions.weight")  # beside norms and biases: llama.cpp's own files keep it so
BLOCK = 32  # numbers that share one scale in Q8_0
PIECE = 4 << 20  # numbers that are rounded at a time
NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def save_gguf(model: GPT, tokenizer: "Tokenizer", path: Path | str, *, dtype: GgufType = "f32") -> None:
    """Write a model and its tokenizer as a GGUF file, whole or not at all.

    Matrices are written in `dtype`; norms, biases and learned positions in float32. Raises `ConfigError` and
    `TokenizerError` for what GGUF cannot hold, `SaveError` with the path and the reason.
    """
    if dtype not in get_args(GgufType):
        raise ConfigError(f"dtype is {dtype!r}; a GGUF file is written in {', '.join(get_args(GgufType))}")
    settings = {**gguf_layout_for(model.config).to_gguf_config(model.config), **_vocabulary(tokenizer, model.config)}
    weights = _weights(model)
    kinds = {name: _kind(name, weight, dtype) for name, weight in weights.items()}
    size = sum(_bytes(weight, kinds[name]) for name, weight in weights.items())
    replace_file(Path(path), lambda temporary: _write(temporary, settings, weights, kinds, dtype), size=size)


def _weights(model: GPT) -> dict[str, Tensor]:
    config = model.config
    state = {name: weight.detach().cpu() for name, weight in model.state_dict().items()}
    weights = gguf_layout_for(config).to_gguf(state, config)
    if config.rope_scaling is not None:
        weights[FREQUENCIES] = rotary_frequencies(replace(config, rope_scaling=None)) / rotary_frequencies(config)
    return weights


def _kind(name: str, weight: Tensor, dtype: GgufType) -> GGMLQuantizationType:
    """How a tensor is stored. Raises `ConfigError` where that cannot hold it."""
    kind = GGMLQuantizationType[dtype.upper()]
    if weight.dim() == 1 or name in EXACT:
        kind = GGMLQuantizationType.F32
    if kind == GGMLQuantizationType.Q8_0 and weight.size(-1) % BLOCK:
        raise ConfigError(
            f"{name} has rows of {weight.size(-1)} numbers, which q8_0 cannot cut into blocks of {BLOCK}; "
            "write it as f16 or bf16"
        )
    if kind == GGMLQuantizationType.F16 and weight.abs().max() > torch.finfo(torch.float16).max:
        raise ConfigError(f"{name} holds {weight.abs().max():.3g}, which is beyond f16; write it as bf16")
    return kind


@torch.no_grad()
def round_in_place(model: GPT, dtype: GgufType) -> None:
    """Make a float32 model what a GGUF file of this type holds of it: each weight the number that is read back."""
    for name, weight in model.named_parameters():
        kind = _kind(name, weight, dtype)
        for rows in weight.reshape(-1, weight.size(-1)).split(max(1, PIECE // weight.size(-1))):
            stored = gguf.quants.quantize(rows.numpy(), kind)
            rows.copy_(torch.from_numpy(gguf.quants.dequantize(stored, kind)))


def _bytes(weight: Tensor, kind: GGMLQuantizationType) -> int:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return weight.numel() // block * size


def _stored(weight: Tensor, kind: GGMLQuantizationType) -> np.ndarray:
    """The bytes of a tensor, outermost axis first, rounded a few rows at a time."""
    rows = weight.reshape(-1, weight.size(-1))
    stored = np.empty((len(rows), _bytes(weight, kind) // len(rows)), np.uint8)
    step = max(1, PIECE // rows.size(1))
    for start in range(0, len(rows), step):
        part = gguf.quants.quantize(rows[start : start + step].float().numpy(), kind)
        stored[start : start + step] = part.view(np.uint8).reshape(len(part), -1)
    return stored


def _vocabulary(tokenizer: "Tokenizer", config: ModelConfig) -> dict[str, Any]:
    """The tokenizer as settings, with as many tokens as the model knows."""
    if tokenizer.vocab_size > config.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} tokens and the model knows {config.vocab_size}; "
            "they do not belong together"
        )
    found = byte_level(tokenizer)
    more = [unused(position) for position in range(len(found.tokens), config.vocab_size)]
    kinds = [TokenType[kind.upper()] for kind in (*found.kinds, *("unused" for _ in more))]
    settings: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": found.cut,
        TOKENS: [*found.tokens, *more],
        "tokenizer.ggml.token_type": [int(kind) for kind in kinds],
        "tokenizer.ggml.merges": list(found.merges),
        **_special(tokenizer),
    }
    if tokenizer.forbidden:
        settings["tokenizer.ggml.suppress_tokens"] = list(tokenizer.forbidden)
    if isinstance(tokenizer.settings.get("chat_template"), str):
        settings["tokenizer.chat_template"] = tokenizer.settings["chat_template"]
    return settings


def _special(tokenizer: "Tokenizer") -> dict[str, Any]:
    """Which ids have a meaning. What is not said, llama.cpp takes from GPT-2, whatever this vocabulary has there."""
    ids = {
        theirs: tokenizer.backend.token_to_id(tokenizer.settings[ours])
        for ours, theirs in NAMED.items()
        if tokenizer.settings.get(ours) is not None
    }
    if "eos" not in ids:
        raise ConfigError(
            "the tokenizer names no token that ends a text, and llama.cpp would take another; "
            "name one as eos_token in tokenizer_config.json"
        )
    ids.setdefault("bos", ids["eos"])
    if tokenizer.opening not in ((), (ids["bos"],)):
        raise ConfigError(
            f"the tokenizer opens every text with the ids {list(tokenizer.opening)}, of which GGUF can say the "
            "bos_token alone; leave the others out of its post_processor"
        )
    written = {f"tokenizer.ggml.{theirs}_token_id": position for theirs, position in ids.items()}
    return {**written, "tokenizer.ggml.add_bos_token": bool(tokenizer.opening)}


def _write(
    path: Path,
    settings: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    kinds: Mapping[str, GGMLQuantizationType],
    dtype: GgufType,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, settings[ARCHITECTURE])
    try:
        writer.add_file_type(FILE_TYPES[dtype])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        for key, value in settings.items():
            if key != ARCHITECTURE:  # the writer has written it
                _add(writer, key, value)
        for name, weight in weights.items():
            size = _bytes(weight, kinds[name])
            writer.add_tensor_info(name, tuple(weight.shape), np.dtype(np.float32), size, raw_dtype=kinds[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, weight in weights.items():
            writer.write_tensor_data(_stored(weight, kinds[name]))
    finally:
        writer.close()


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    """A setting in the kind of number that llama.cpp looks for: it takes no other."""
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)
