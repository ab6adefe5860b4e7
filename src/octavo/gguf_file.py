"""A model and its tokenizer as one GGUF file, which llama.cpp and whatever is built on it run as it stands."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from torch import Tensor

from octavo.config import ModelConfig
from octavo.disk import replace_file
from octavo.errors import ConfigError
from octavo.imagined import imagine, shapes_of
from octavo.layouts import gguf_layout_for
from octavo.layouts.gguf import ARCHITECTURE, FREQUENCIES, TOKENS
from octavo.layouts.names import Made
from octavo.model import GPT, rotary_frequencies
from octavo.parts import Parts, parts_of
from octavo.tensors_file import ignore_progress
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
PIECE = 1 << 20  # numbers that are rounded at a time
NAMED = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def save_gguf(
    model: GPT | Parts,
    tokenizer: "Tokenizer",
    path: Path | str,
    *,
    dtype: GgufType = "f32",
    on_progress: Callable[[int, int], None] = ignore_progress,
) -> None:
    """Write a model and its tokenizer as a GGUF file, whole or not at all, no more than one weight ready at a time.

    Matrices are written in `dtype`; norms, biases and learned positions in float32. Raises `ConfigError` and
    `TokenizerError` for what GGUF cannot hold, `SaveError` with the path and the reason.
    """
    if dtype not in get_args(GgufType):
        raise ConfigError(f"dtype is {dtype!r}; a GGUF file is written in {', '.join(get_args(GgufType))}")
    config, parts = model.config, parts_of(model)
    settings = {
        gguf.Keys.General.FILE_TYPE: int(FILE_TYPES[dtype]),
        gguf.Keys.General.QUANTIZATION_VERSION: gguf.GGML_QUANT_VERSION,
        **gguf_layout_for(config).to_gguf_config(config),
        **_vocabulary(tokenizer, config),
    }
    shapes = shapes_of(_weights(imagine(config).state_dict(), config))
    infos = {name: Info(shape, kind_of(name, shape, dtype)) for name, shape in shapes.items()}
    weights = _weights(parts.weights, config)

    def write(temporary: Path) -> None:
        _write(temporary, settings, infos, weights, on_progress)

    replace_file(Path(path), write, size=sum(info.size for info in infos.values()))


@dataclass(frozen=True)
class Info:
    """What is known of a tensor before it is there."""

    shape: tuple[int, ...]
    kind: GGMLQuantizationType

    @property
    def size(self) -> int:
        """Its bytes in the file."""
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return prod(self.shape) // block * size


def _weights(state: Mapping[str, Tensor], config: ModelConfig) -> Mapping[str, Tensor]:
    weights = gguf_layout_for(config).to_gguf(state, config)
    if config.rope_scaling is None:
        return weights
    factors = rotary_frequencies(replace(config, rope_scaling=None)) / rotary_frequencies(config)
    return Made(
        {**{name: partial(_one, weights, name) for name in weights}, FREQUENCIES: lambda: {FREQUENCIES: factors}}
    )


def _one(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {name: weights[name]}


def kind_of(name: str, shape: tuple[int, ...], dtype: GgufType) -> GGMLQuantizationType:
    """How a tensor is stored. Raises `ConfigError` where that cannot hold it."""
    kind = GGMLQuantizationType[dtype.upper()]
    if len(shape) == 1 or name in EXACT:
        kind = GGMLQuantizationType.F32
    if kind == GGMLQuantizationType.Q8_0 and shape[-1] % BLOCK:
        raise ConfigError(
            f"{name} has rows of {shape[-1]} numbers, which q8_0 cannot cut into blocks of {BLOCK}; "
            "write it as f16 or bf16"
        )
    return kind


def as_read_back(name: str, weight: Tensor, dtype: GgufType) -> Tensor:
    """What a GGUF file of this type holds of a weight, or of some of its rows, as the numbers that are read back."""
    kind = kind_of(name, tuple(weight.shape), dtype)
    whole = torch.empty(weight.shape)
    for rows, part in zip(_pieces(weight), _pieces(whole), strict=True):
        part.copy_(torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(rows.numpy(), kind), kind)))
    return whole


def _pieces(weight: Tensor) -> Iterator[Tensor]:
    """A few rows at a time, in float32."""
    rows = weight.detach().reshape(-1, weight.size(-1))
    for part in rows.split(max(1, PIECE // rows.size(1))):
        yield part.to("cpu", torch.float32)


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
    turn = {"tokenizer.ggml.eot_token_id": tokenizer.more_ends[0]} if tokenizer.more_ends else {}  # it has room for one
    return {**written, **turn, "tokenizer.ggml.add_bos_token": bool(tokenizer.opening)}


def _write(
    path: Path,
    settings: Mapping[str, Any],
    infos: Mapping[str, Info],
    weights: Mapping[str, Tensor],
    on_progress: Callable[[int, int], None],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_head(path, settings, infos)
    total, done = sum(info.size for info in infos.values()), 0
    with path.open("ab") as file:
        for name, info in infos.items():
            on_progress(done, total)
            _pad(file)
            for rows in _pieces(weights[name]):
                file.write(_stored(name, rows, info.kind).data)
            done += info.size
        _pad(file)
    on_progress(total, total)


def _write_head(path: Path, settings: Mapping[str, Any], infos: Mapping[str, Info]) -> None:
    writer = GGUFWriter(path, settings[ARCHITECTURE])
    try:
        for key, value in settings.items():
            if key != ARCHITECTURE:  # the writer has written it
                _add(writer, key, value)
        for name, info in infos.items():
            writer.add_tensor_info(name, info.shape, np.dtype(np.float32), info.size, raw_dtype=info.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))


def _stored(name: str, rows: Tensor, kind: GGMLQuantizationType) -> np.ndarray:
    """The bytes of some rows. Raises `ConfigError` where one is beyond what can be stored."""
    if kind == GGMLQuantizationType.F16 and (largest := float(rows.abs().max())) > torch.finfo(torch.float16).max:
        raise ConfigError(f"{name} holds {largest:.3g}, which is beyond f16; write it as bf16")
    return gguf.quants.quantize(rows.numpy(), kind)


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
