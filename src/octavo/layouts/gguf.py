"""GPT-2, Llama and Qwen3 as GGUF files name them: tensors and settings, one table each, read in both directions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from octavo.config import ModelConfig, RopeScaling
from octavo.errors import ConfigError
from octavo.layouts.layout import Settings
from octavo.layouts.names import Made, Names, Row, split_name
from octavo.plain import from_dict

if TYPE_CHECKING:
    from torch import Tensor

ARCHITECTURE, TOKENS = "general.architecture", "tokenizer.ggml.tokens"
FREQUENCIES = "rope_freqs.weight"  # by how much each pair of a head turns slower than it would unscaled
SCALING = "octavo.rope_scaling."  # GGUF keeps those numbers but not the four they come from, which are kept here
BLOCK, OURS = "blk.{}", "blocks.{}"
HEADS = f"{OURS}.attention.heads"


@dataclass(frozen=True, kw_only=True)
class GgufLayout(Names):
    """How GGUF writes one architecture down; every key of `settings`, `repeated` and `only` begins with its name.

    A setting is a value of `ModelConfig` under another key (`settings`), such a value once more (`repeated`), or
    something that octavo's model cannot have otherwise (`only`: the values that mean the same; none is written).
    """

    settings: Mapping[str, str]  # their key: ours
    repeated: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    implied: Settings  # values of ours that the architecture says by its name
    scalable: bool = False  # whether llama.cpp heeds `rope_freqs` in this architecture
    # Llama's queries and keys: their neighbours 2i and 2i+1 turn together where ours, as Hugging Face's, turn
    # i and i + D/2
    paired: frozenset[str] = frozenset()

    def to_gguf_config(self, config: ModelConfig) -> dict[str, Any]:
        """The settings of a GGUF file, less the tokenizer's; llama.cpp wants whole numbers and floats told apart.

        Raises `ConfigError` for a scaling of positions that llama.cpp would not heed.
        """
        scaling = config.rope_scaling
        if scaling is not None and not self.scalable:
            raise ConfigError(
                f"rope_scaling is set, which GGUF's {self.architecture} has no place for; train without it, "
                "or write the model in Hugging Face's layout"
            )
        written = {**self.settings, **self.repeated}.items()
        return {
            ARCHITECTURE: self.architecture,
            **{f"{self.architecture}.{theirs}": _typed(ours, getattr(config, ours)) for theirs, ours in written},
            **{SCALING + name: float(value) for name, value in (asdict(scaling) if scaling else {}).items()},
        }

    def from_gguf_config(self, settings: Settings, names: Collection[str]) -> ModelConfig:
        """The shape of the model that a file of these settings and names of tensors holds; ours come back exactly.

        Raises `ConfigError` where it asks for what octavo's model does not have, or for what octavo does not know.
        """
        prefix = f"{self.architecture}."
        theirs = {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
        self._check(theirs)
        given = {ours: _shortest(theirs[key]) for key, ours in self.settings.items() if theirs.get(key) is not None}
        tokens = settings.get(TOKENS)
        given.setdefault("vocab_size", len(tokens) if isinstance(tokens, Sequence) else 0)
        scaling = _scaling(settings, names)
        config = from_dict(
            ModelConfig,
            {**given, **self.implied, "tied": f"{self._theirs('unembed')}.weight" not in names, **scaling},
        )
        self._check_repeated(theirs, config)
        return config

    def _check(self, theirs: Settings) -> None:
        for key, value in theirs.items():
            if key in self.only and value not in self.only[key]:
                can = " or ".join(map(repr, self.only[key]))
                raise ConfigError(
                    f"{self.architecture}.{key} is {value!r}, which octavo's model cannot be; it can be {can}"
                )
            if key not in {*self.settings, *self.repeated, *self.only}:
                raise ConfigError(
                    f"{self.architecture}.{key} is nothing that octavo's model knows; "
                    "convert the model from Hugging Face's layout"
                )
        missing = [f"{self.architecture}.{key}" for key in self.settings if key not in {*theirs, *OPTIONAL}]
        if missing:
            raise ConfigError(f"the settings lack {', '.join(missing)}; write the file again")

    def _check_repeated(self, theirs: Settings, config: ModelConfig) -> None:
        for key, ours in self.repeated.items():
            wanted = getattr(config, ours)
            if theirs.get(key, wanted) != wanted:
                raise ConfigError(
                    f"{self.architecture}.{key} is {theirs[key]!r} where octavo's model has its {ours}, {wanted}; "
                    "it cannot be another"
                )

    def to_gguf(self, state: Mapping[str, "Tensor"], config: ModelConfig) -> Mapping[str, "Tensor"]:
        """Octavo's weights under GGUF's names; a tied output is not written, for it is the embedding."""
        return self._turned(self._to_theirs(state, tied=config.tied), (2, config.head_width // 2))

    def from_gguf(self, state: Mapping[str, "Tensor"], config: ModelConfig) -> Mapping[str, "Tensor"]:
        """GGUF's weights, the outermost axis first as `gguf` reads them, under octavo's names; `check` them first."""
        return self._from_theirs(self._turned(state, (config.head_width // 2, 2)), tied=config.tied)

    def _turned(self, state: Mapping[str, "Tensor"], sizes: tuple[int, int]) -> Made:
        def turned(name: str) -> dict[str, "Tensor"]:
            if split_name(name)[0] not in self.paired:
                return {name: state[name]}
            return {name: state[name].unflatten(0, (-1, *sizes)).transpose(1, 2).flatten(0, 2)}

        return Made({name: partial(turned, name) for name in state})


def _typed(ours: str, value: Any) -> Any:
    return float(value) if ours in ("norm_epsilon", "rope_base") else value


def _shortest(value: Any) -> Any:
    """A float as the shortest decimal that float32, which the file keeps it in, does not tell from it.

    >>> _shortest(9.999999974752427e-07)
    1e-06
    """
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _scaling(settings: Settings, names: Collection[str]) -> dict[str, Any]:
    kept = {key.removeprefix(SCALING): _shortest(value) for key, value in settings.items() if key.startswith(SCALING)}
    if not kept and FREQUENCIES in names:
        raise ConfigError(
            f"{FREQUENCIES} scales the positions by a rule that the file does not tell; "
            "convert the model from Hugging Face's layout"
        )
    if not kept:
        return {}
    context = kept.get("original_context")
    if isinstance(context, float) and context.is_integer():
        kept["original_context"] = int(context)
    return {"rope_scaling": from_dict(RopeScaling, kept, "rope_scaling.")}


OPTIONAL = frozenset({"vocab_size", "attention.head_count_kv", "attention.key_length", "rope.freq_base"})
SHAPE = {
    "vocab_size": "vocab_size",
    "context_length": "context",
    "embedding_length": "width",
    "block_count": "layers",
    "feed_forward_length": "feed_forward",
    "attention.head_count": "heads",
}
MODERN_SETTINGS = {
    **SHAPE,
    "attention.head_count_kv": "kv_heads",
    "attention.key_length": "head_width",
    "attention.layer_norm_rms_epsilon": "norm_epsilon",
    "rope.freq_base": "rope_base",
}
# what files of these architectures can say of themselves that a plain model does not
ONLY: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "rope.scale_linear": (1.0,),
    "rope.scaling.type": ("none",),
    "use_parallel_residual": (False,),
}
ENDS = (Row("token_embd", ("embed",)), Row("output_norm", ("norm",)), Row("output", ("unembed",)))
BLOCKS = (
    Row(f"{BLOCK}.attn_norm", (f"{OURS}.attention_norm",)),
    Row(f"{BLOCK}.attn_output", (f"{OURS}.attention.mix",)),
    Row(f"{BLOCK}.ffn_norm", (f"{OURS}.feed_forward_norm",)),
    Row(f"{BLOCK}.ffn_up", (f"{OURS}.feed_forward.up",)),
    Row(f"{BLOCK}.ffn_down", (f"{OURS}.feed_forward.down",)),
)
MODERN_ROWS = (
    *ENDS,
    *BLOCKS,
    Row(f"{BLOCK}.attn_q", (f"{HEADS}.query",)),
    Row(f"{BLOCK}.attn_k", (f"{HEADS}.key",)),
    Row(f"{BLOCK}.attn_v", (f"{HEADS}.value",)),
    Row(f"{BLOCK}.ffn_gate", (f"{OURS}.feed_forward.gate",)),
)
GPT2_GGUF = GgufLayout(
    architecture="gpt2",
    rows=(
        *ENDS,
        *BLOCKS,
        Row("position_embd", ("positions",)),
        Row(f"{BLOCK}.attn_qkv", (f"{HEADS}.query", f"{HEADS}.key", f"{HEADS}.value")),
    ),
    settings={**SHAPE, "attention.layer_norm_epsilon": "norm_epsilon"},
    only=ONLY,
    implied={"dialect": "gpt2"},
)
LLAMA_GGUF = GgufLayout(
    architecture="llama",
    rows=MODERN_ROWS,
    settings=MODERN_SETTINGS,
    repeated={"attention.value_length": "head_width", "rope.dimension_count": "head_width"},
    only=ONLY,
    implied={"dialect": "modern", "qk_norm": False},
    scalable=True,
    buffers=frozenset({FREQUENCIES}),
    paired=frozenset({f"{BLOCK}.attn_q", f"{BLOCK}.attn_k"}),
)
QWEN3_GGUF = GgufLayout(
    architecture="qwen3",
    rows=(
        *MODERN_ROWS,
        Row(f"{BLOCK}.attn_q_norm", (f"{HEADS}.query_norm",)),
        Row(f"{BLOCK}.attn_k_norm", (f"{HEADS}.key_norm",)),
    ),
    settings=MODERN_SETTINGS,
    repeated=LLAMA_GGUF.repeated,
    only=ONLY,
    implied={"dialect": "modern", "qk_norm": True},
)
GGUF_LAYOUTS = {layout.architecture: layout for layout in (GPT2_GGUF, LLAMA_GGUF, QWEN3_GGUF)}
