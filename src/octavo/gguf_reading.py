"""A model and its tokenizer out of a GGUF file, one tensor at a time, rounded weights made whole again."""

from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast, get_args

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, TokenType
from gguf.quants import dequantize
from torch import Tensor

from octavo.config import ModelConfig, RopeScaling
from octavo.errors import ConfigError, DamagedError, RunError, TokenizerError
from octavo.gguf_header import Header, Stored, read_header
from octavo.imagined import check_fit
from octavo.layouts import GgufLayout, gguf_layout_of
from octavo.layouts.gguf import FREQUENCIES, SCALING, TOKENS
from octavo.model import GPT, rotary_frequencies
from octavo.parts import Parts
from octavo.tokenizers import Tokenizer
from octavo.tokenizers.byte_level import ByteLevel, TokenKind, from_byte_level

Kind = GGMLQuantizationType
FLOATS = {Kind.F32: torch.float32, Kind.F16: torch.float16, Kind.BF16: torch.bfloat16}
READABLE = (*FLOATS, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1)
WHOLE = torch.bfloat16  # what rounded weights become unasked: finer than the rounding, and quick to read
PIECE = 1 << 20  # numbers that are made whole at a time
NAMED = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
GGML = "tokenizer.ggml."
OPENED = {"llama-bpe"}  # cuts with which a text begins with a token of its own unless a file says that it does not
LLAMA3 = tuple(
    RopeScaling(factor=factor, low_frequency_factor=1.0, high_frequency_factor=4.0, original_context=8192)
    for factor in (8.0, 32.0)  # as Llama 3.1 and the small ones of 3.2 were published
)


def load_gguf(path: Path | str, *, dtype: torch.dtype | None = None) -> tuple[GPT, Tokenizer]:
    """Open a GGUF file of GPT-2, Llama or Qwen3: the model, in `dtype` or the file's own, and its tokenizer.

    Rounded weights (Q8_0, Q4_0, Q4_1) become bfloat16 where nothing else is asked for. Raises `DamagedError` where the
    file is not what it says, `RunError` for what octavo does not have.
    """
    parts, tokenizer = open_gguf(path, dtype=dtype)
    return parts.whole(), tokenizer


def open_gguf(path: Path | str, *, dtype: torch.dtype | None = None, exact: bool = False) -> tuple[Parts, Tokenizer]:
    """The same with all weights still in the file; `exact` has each read as what holds it without loss."""
    path = Path(path)
    header = read_header(path)
    with _naming(path):
        layout = gguf_layout_of(header.settings)
        weights = GgufWeights(path, header, dtype, exact)
        config = _config(layout, weights)
        shapes = {name: stored.shape for name, stored in header.tensors.items()}
        check_fit(shapes, config, layout, lambda state: layout.to_gguf(state, config))
        tokenizer = _tokenizer(header.settings, config)
        ours = layout.from_gguf(weights, config)
    return Parts(config, ours, weights.type()), tokenizer


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (ConfigError, TokenizerError) as error:
        raise RunError(f"{path}: {error}") from error


@dataclass(frozen=True)
class GgufWeights(Mapping[str, Tensor]):
    """The tensors of a file, each read when it is asked for. Raises `ConfigError` for a kind that octavo has not."""

    path: Path
    header: Header
    dtype: torch.dtype | None
    exact: bool = False

    def __post_init__(self) -> None:
        for name, stored in self.header.tensors.items():
            if stored.kind not in READABLE:
                can = ", ".join(kind.name for kind in READABLE)
                raise ConfigError(f"{name} is stored as {stored.kind.name}; octavo reads {can}")

    def type(self) -> torch.dtype:
        """The dtype of the model: that of the matrices, for norms are float32 in every file."""
        kinds = {stored.kind for stored in self.header.tensors.values() if len(stored.shape) > 1}
        kinds -= {Kind.F32} if len(kinds) > 1 else set()
        return self.dtype or (FLOATS.get(kinds.pop(), WHOLE) if len(kinds) == 1 else WHOLE)

    def __getitem__(self, name: str) -> Tensor:
        stored = self.header.tensors[name]
        return read_tensor(self.path, stored, FLOATS.get(stored.kind, torch.float32) if self.exact else self.type())

    def __iter__(self) -> Iterator[str]:
        return iter(self.header.tensors)

    def __len__(self) -> int:
        return len(self.header.tensors)


def _config(layout: GgufLayout, weights: GgufWeights) -> ModelConfig:
    """The model's shape. The files of Llama 3 scale positions by numbers alone: whose they are is found by trying."""
    settings, names = weights.header.settings, set(weights)
    if FREQUENCIES not in names or any(key.startswith(SCALING) for key in settings):
        return layout.from_gguf_config(settings, names)
    plain = layout.from_gguf_config(settings, names - {FREQUENCIES})
    found = read_tensor(weights.path, weights.header.tensors[FREQUENCIES], torch.float32)
    for scaling in LLAMA3:
        config = replace(plain, rope_scaling=scaling)
        factors = rotary_frequencies(plain) / rotary_frequencies(config)
        if factors.shape == found.shape and torch.allclose(factors.float(), found, rtol=1e-3):
            return config
    return layout.from_gguf_config(settings, names)  # which says that it cannot be read


def read_tensor(path: Path, stored: Stored, dtype: torch.dtype) -> Tensor:
    """One tensor, a few rows at a time, so that no more than it is ever in memory."""
    block, size = GGML_QUANT_SIZES[stored.kind]
    rows, bytes_of_row = prod(stored.shape[:-1]), stored.shape[-1] // block * size
    whole = torch.empty(rows, stored.shape[-1], dtype=dtype)
    with _opened(path) as file:
        file.seek(stored.offset)
        for part in whole.split(max(1, PIECE // stored.shape[-1])):
            raw = np.fromfile(file, np.uint8, len(part) * bytes_of_row)
            if raw.size < len(part) * bytes_of_row:
                raise DamagedError(f"{path} became shorter while it was read; fetch it again")
            part.copy_(torch.from_numpy(dequantize(raw.reshape(len(part), bytes_of_row), stored.kind)))
    return whole.view(stored.shape)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:  # here, for whoever writes the weights elsewhere would think that it is the other file
        raise DamagedError(f"{path} cannot be read: {error}") from error


def _tokenizer(settings: Mapping[str, Any], config: ModelConfig) -> Tokenizer:
    kind = settings.get(f"{GGML}model")
    if kind != "gpt2":
        raise ConfigError(f"its tokenizer is {kind!r}; octavo reads byte pairs, 'gpt2': take the model's own folder")
    tokens, merges = _texts(settings, TOKENS), _texts(settings, f"{GGML}merges")
    if len(tokens) > config.vocab_size:
        raise ConfigError(f"the file has {len(tokens)} tokens and its model knows {config.vocab_size}")
    found = ByteLevel(tokens=tokens, kinds=_kinds(settings, len(tokens)), merges=merges, cut=_cut(settings))
    named = {
        ours: tokens[_id(settings, theirs, len(tokens))] for theirs, ours in NAMED.items() if _has(settings, theirs)
    }
    opened = settings.get(f"{GGML}add_bos_token", _cut(settings) in OPENED) is True
    opens = opened and "bos_token" in named
    template = settings.get("tokenizer.chat_template")
    kept = {"chat_template": template} if isinstance(template, str) else {}
    tokenizer = from_byte_level(found, opening=named["bos_token"] if opens else None, settings={**named, **kept})
    if _has(settings, "eot") and (turn := _id(settings, "eot", len(tokens))) != tokenizer.end_of_text:
        tokenizer.more_ends = (turn,)
    return tokenizer


def _cut(settings: Mapping[str, Any]) -> str:
    cut = settings.get(f"{GGML}pre", "gpt-2")
    return cut if isinstance(cut, str) else repr(cut)


def _texts(settings: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = settings.get(name)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ConfigError(f"{name} is no list of texts; write the file again")
    return tuple(value)


def _kinds(settings: Mapping[str, Any], tokens: int) -> tuple[TokenKind, ...]:
    numbers = settings.get(f"{GGML}token_type", array("i", [int(TokenType.NORMAL)]) * tokens)
    if not isinstance(numbers, array) or len(numbers) != tokens:
        raise ConfigError(f"{GGML}token_type does not say a kind for each token; write the file again")
    known = {int(TokenType[name.upper()]): name for name in get_args(TokenKind)}
    known[int(TokenType.UNKNOWN)] = "control"
    if not all(isinstance(number, int) and number in known for number in numbers):
        raise ConfigError(f"{GGML}token_type has kinds that byte pairs do not have; write the file again")
    return tuple(cast(TokenKind, known[number]) for number in numbers)


def _has(settings: Mapping[str, Any], name: str) -> bool:
    return f"{GGML}{name}_token_id" in settings


def _id(settings: Mapping[str, Any], name: str, tokens: int) -> int:
    value = settings[f"{GGML}{name}_token_id"]
    if not isinstance(value, int) or not 0 <= value < tokens:
        raise ConfigError(f"{GGML}{name}_token_id is {value!r}, which no token has; write the file again")
    return value
