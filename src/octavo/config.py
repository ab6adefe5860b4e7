"""Everything that is asked of a model, its data and its training, as frozen values: no torch, no files."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from octavo.checking import (
    check_either,
    check_positive,
    check_seed,
    check_types,
    check_whole,
    fill,
    given,
    simplify,
)
from octavo.errors import ConfigError
from octavo.plain import check_names

Dialect = Literal["gpt2", "modern"]
Device = Literal["auto", "cpu", "cuda", "mps"]
LONGEST = 2**22  # tokens; the rotary tables of a whole context stand in memory
LOGITS = 2**26  # at once: of more, the surprise is summed up piece by piece
USUAL, ANSWERING = 0.8, 0.3  # temperatures: of a text that goes on, and of an answer, where small models soon wander
BASE_STOP = "\n\n", "\r\n\r\n"  # blank lines, where a model ends in a talk that was never taught to hold one
DERIVED: Any = None  # stands for a value that __post_init__ works out from the others, so that its type stays plain


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Llama 3's fixed change of the rotary frequencies, which stretches a short context to a long one."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context: int

    def __post_init__(self) -> None:
        simplify(self)
        check_positive(self, "factor", "low_frequency_factor", "high_frequency_factor", "original_context")
        if self.high_frequency_factor <= self.low_frequency_factor:
            raise ConfigError(
                f"high_frequency_factor {self.high_frequency_factor} is not above low_frequency_factor "
                f"{self.low_frequency_factor}; give them in that order"
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of a GPT. What is not given follows from the rest; without more it is GPT-2 of 2019, the small one.

    Once it is made, `dataclasses.replace` keeps what followed, and `but` lets it follow anew.

    >>> ModelConfig(layers=2, heads=4, width=64).head_width
    16
    >>> ModelConfig(dialect="modern", layers=2, heads=4, width=64).feed_forward
    192
    """

    vocab_size: int = 50257
    context: int = 1024
    layers: int = 12
    heads: int = 12
    width: int = 768
    dialect: Dialect = "gpt2"
    kv_heads: int = DERIVED  # as many as heads
    head_width: int = DERIVED  # width / heads; published Qwen3 models choose it freely
    feed_forward: int = DERIVED  # 4 width, and 8/3 width where a gate makes a third matrix [Shazeer 2020]
    norm_epsilon: float = DERIVED
    qk_norm: bool = DERIVED
    tied: bool = True
    rope_base: float = 10000.0
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        simplify(self)
        if self.dialect not in get_args(Dialect):
            raise ConfigError(f"dialect is {self.dialect!r}; octavo speaks gpt2 and modern")
        check_whole(self, "vocab_size", "context", "layers", "heads", "width")
        check_positive(self, "rope_base")
        if self.context > LONGEST:
            raise ConfigError(f"context {self.context} is longer than {LONGEST} tokens; choose a shorter one")
        if self.head_width is None and self.width % self.heads:
            raise ConfigError(f"width {self.width} does not divide into {self.heads} heads; choose a multiple")
        fill(self, **self._derived())
        check_whole(self, "kv_heads", "head_width", "feed_forward")
        check_positive(self, "norm_epsilon")
        check_either(self, "qk_norm", "tied")
        if self.rope_scaling is not None and not isinstance(self.rope_scaling, RopeScaling):
            raise ConfigError(f"rope_scaling is {self.rope_scaling!r}; give a RopeScaling")
        if self.heads % self.kv_heads:
            raise ConfigError(f"{self.heads} heads do not divide into {self.kv_heads} kv_heads; choose a divisor")
        if self.rotary and self.head_width % 2:
            raise ConfigError(f"head_width {self.head_width} is odd; rotary positions turn pairs, choose an even one")
        self._check_gpt2()

    def _derived(self) -> dict[str, Any]:
        modern = self.dialect == "modern"
        return {
            "kv_heads": self.heads,
            "head_width": self.width // self.heads,
            "feed_forward": -(-8 * self.width // (3 * 64)) * 64 if modern else 4 * self.width,
            "norm_epsilon": 1e-6 if modern else 1e-5,
            "qk_norm": modern,
        }

    def but(self, **changes: Any) -> "ModelConfig":
        """The same shape with some values changed, and with what followed from them following anew.

        Raises `ConfigError` where there is no such setting, or no such shape.

        >>> small = ModelConfig(dialect="modern", layers=2, heads=4, width=64)
        >>> small.but(width=256).head_width, replace(small, width=256).head_width
        (64, 16)
        """
        check_names(ModelConfig, changes)
        followed = {name: None for name, value in self._derived().items() if getattr(self, name) == value}
        return replace(self, **{**followed, **changes})

    def _check_gpt2(self) -> None:
        if self.dialect != "gpt2":
            return
        if self.kv_heads != self.heads:
            raise ConfigError(f"kv_heads {self.kv_heads} differ from heads {self.heads}; that takes the modern dialect")
        if self.head_width * self.heads != self.width:
            raise ConfigError(f"head_width {self.head_width} is not width / heads; that takes the modern dialect")
        if self.qk_norm or self.rope_scaling is not None:
            raise ConfigError("qk_norm and rope_scaling belong to the modern dialect; leave them out for gpt2")

    @property
    def rotary(self) -> bool:
        """Whether positions turn queries and keys, or are learned vectors added to the embedding."""
        return self.dialect == "modern"

    @property
    def gated(self) -> bool:
        """Whether the feed-forward network is SwiGLU or GELU."""
        return self.dialect == "modern"

    @property
    def biased(self) -> bool:
        """Whether linear layers and norms add a bias (and the norms subtract the mean)."""
        return self.dialect == "gpt2"


GPT2 = ModelConfig()
GPT2_MEDIUM = ModelConfig(layers=24, heads=16, width=1024)
GPT2_LARGE = ModelConfig(layers=36, heads=20, width=1280)
GPT2_XL = ModelConfig(layers=48, heads=25, width=1600)

MODERN_1M = ModelConfig(dialect="modern", vocab_size=256, context=128, layers=6, heads=2, width=128, tied=False)
MODERN_5M = ModelConfig(dialect="modern", vocab_size=4096, context=256, layers=6, heads=4, width=256)
MODERN_25M = ModelConfig(dialect="modern", vocab_size=8192, context=512, layers=8, heads=8, width=512)
MODERN_100M = ModelConfig(dialect="modern", vocab_size=32768, context=1024, layers=12, heads=12, width=768)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which texts are learned from, how they are cut in parts and into tokens."""

    texts: tuple[str, ...] = ()
    field: str = "text"
    errors: Literal["strict", "replace"] = "strict"
    split: float | None = None  # none: 90 % to train on, 5 % to validate on, 5 % kept for the report
    val: str | None = None
    tokenizer: Literal["character", "word", "bpe"] = "character"
    vocab_size: int | None = None
    shuffle: Literal["documents"] | None = None  # draw the parts and the order from these; none: as they come

    def __post_init__(self) -> None:
        simplify(self)
        check_types(self)
        if self.split is not None and not 0 < self.split < 1:
            raise ConfigError(f"split is {self.split}; give the training part as a fraction between 0 and 1")
        if self.split is not None and self.val is not None:
            raise ConfigError("split and val both say what to validate on; give one of them")
        if self.val == "-":
            raise ConfigError("val is -, and what is validated on is read again later; give a file or a folder")
        if self.vocab_size is not None:
            check_positive(self, "vocab_size")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model learns: the recipe, in full, so that the same values give the same model."""

    steps: int
    batch: int  # rows of the global batch
    micro_batches: int = 1  # the global batch is read in so many pieces, for memory's sake
    minutes: float | None = None
    most_steps: int | None = None  # where the end is a time: after so many the text is only learned by heart
    seed: int = 0
    lr: float = DERIVED  # of the matrices; 0.02 with Muon, 1e-3 with AdamW alone
    weight_decay: float = DERIVED  # of the matrices; none with Muon, 0.1 with AdamW alone
    pairs: int | None = None  # steps before the first, in which embedding and output learn what was counted
    dropout: float = 0.0
    warmup: float = 0.02  # fraction of the steps
    decay: float = 0.5  # fraction of the steps, the last ones
    clip: float = 1.0
    optimizer: Literal["muon", "adamw"] = "muon"
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    eval_every: int = 100
    save_every: int = DERIVED  # steps; eval_every, where nothing else is said
    val_tokens: int | None = None  # of the held-out text, its first ones, that an evaluation reads; none: up to 500,000
    start: str | None = None  # the model whose weights it began with; none: random ones
    window: int | None = None  # tokens that a row has, where that is less than the model's context
    pack: Literal["documents"] | None = None  # what stands side by side in a row and is not seen by its neighbours
    forecast: float | None = None  # the loss on held-out text that is expected, in nats per token
    forecast_within: float | None = None  # two of three trainings come so near to it
    recompute: bool = False  # compute each block again on the way back, for memory's sake
    compile: bool = False  # each block, by PyTorch's compiler

    def __post_init__(self) -> None:
        simplify(self)
        lr, weight_decay = (0.02, 0.0) if self.optimizer == "muon" else (1e-3, 0.1)
        fill(self, lr=lr, weight_decay=weight_decay, save_every=self.eval_every)
        check_either(self, "recompute", "compile")
        check_types(self)
        check_seed(self)
        whole = given(self, "window", "most_steps", "pairs", "val_tokens")
        check_whole(self, "steps", "batch", "micro_batches", "eval_every", "save_every", *whole)
        check_positive(self, "lr", "clip", *given(self, "minutes", "forecast", "forecast_within"))
        for name in ("dropout", "warmup", "decay"):
            if not 0 <= getattr(self, name) < (1.0001 if name == "decay" else 1):
                raise ConfigError(f"{name} is {getattr(self, name)}; give a fraction from 0 to 1")
        if not 0 <= self.weight_decay < float("inf"):
            raise ConfigError(f"weight_decay is {self.weight_decay}; give zero or more")
        if self.micro_batches > self.batch:
            raise ConfigError(f"{self.micro_batches} micro_batches are more than the {self.batch} rows of a batch")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All that was asked and chosen for one training: what `octavo.toml` holds."""

    model: ModelConfig
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig

    def __post_init__(self) -> None:
        check_types(self)
        if self.train.window is not None and self.train.window > self.model.context:
            raise ConfigError(f"window {self.train.window} is longer than the context {self.model.context}; shorten it")
        if self.train.pairs and (self.model.tied or not self.model.rotary or self.train.start is not None):
            raise ConfigError("pairs are for a new model of the modern dialect with tied = false; leave them out")

    @property
    def window(self) -> int:
        """How many tokens a row of a batch has."""
        return self.train.window or self.model.context


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user asked of a training; what was not asked (`None`) is the planner's to choose."""

    minutes: float | None = None
    steps: int | None = None
    seed: int | None = None  # 0, or that of the training that is repeated
    split: float | None = None
    val: str | None = None
    field: str | None = None
    errors: Literal["strict", "replace"] | None = None
    tokenizer: Literal["character", "word", "bpe"] | None = None
    vocab_size: int | None = None
    shuffle: Literal["documents"] | None = None
    preset: str | None = None  # a published model's shape; what is asked besides comes first
    dialect: Dialect | None = None  # modern, or that of the model that is gone on from
    layers: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    width: int | None = None
    context: int | None = None
    batch: int | None = None
    lr: float | None = None
    dropout: float | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    eval_every: int | None = None
    pack: Literal["documents"] | None = None
    start: str | None = None

    def __post_init__(self) -> None:
        simplify(self)
        if self.minutes is not None and self.steps is not None:
            raise ConfigError("minutes and steps both say when to end; give one of them")
        sizes = ("vocab_size", "layers", "heads", "kv_heads", "width", "context", "batch")
        check_positive(self, *given(self, "minutes", "steps", *sizes, "lr", "eval_every"))
        check_seed(self)
