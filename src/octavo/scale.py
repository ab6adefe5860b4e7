"""What a training takes by arithmetic alone: parameters, operations, bytes, time; no torch, and no model is made."""

from dataclasses import dataclass
from typing import Literal

from octavo.config import LOGITS, ModelConfig

Optimizer = Literal["muon", "adamw"]
PER_LOGIT = 12  # bytes: of half and of single precision, and the gradient
FLOAT, HALF = 4, 2  # bytes
TOKENS = 20  # for each parameter: as many make the best model of so much arithmetic [Hoffmann 2022, table 3]
USED = 0.4  # of a GPU's peak, by a training that is well made
LEFT_FREE = 0.1  # of a GPU's memory: what is cut in pieces is not all to be had


def block_matrices(model: ModelConfig) -> int:
    """How many numbers the matrices of one block have.

    >>> from octavo.config import GPT2
    >>> block_matrices(GPT2) == 12 * 768**2
    True
    """
    heads, kept = model.heads * model.head_width, model.kv_heads * model.head_width
    feed_forward = (3 if model.gated else 2) * model.width * model.feed_forward
    return model.width * (2 * heads + 2 * kept) + feed_forward


def block_vectors(model: ModelConfig) -> int:
    """How many numbers the norms and the biases of one block have."""
    norms = (4 if model.biased else 2) * model.width + (2 * model.head_width if model.qk_norm else 0)
    if not model.biased:
        return norms
    heads, kept = model.heads * model.head_width, model.kv_heads * model.head_width
    return norms + heads + 2 * kept + model.width + model.feed_forward + model.width


def outer_parameters(model: ModelConfig) -> int:
    """How many numbers there are outside the blocks: of tokens, of positions, and of the last norm."""
    rows = model.vocab_size * (1 if model.tied else 2) + (0 if model.rotary else model.context)
    return rows * model.width + (2 if model.biased else 1) * model.width


def parameters(model: ModelConfig) -> int:
    """How many numbers a model of this shape learns.

    >>> from octavo.config import GPT2
    >>> f"{parameters(GPT2):,}"
    '124,439,808'
    """
    return model.layers * (block_matrices(model) + block_vectors(model)) + outer_parameters(model)


@dataclass(frozen=True)
class Work:
    """Floating-point operations to learn from one token: two a multiplication and addition, three ways of it."""

    products: int  # with the matrices, 6 for each of their numbers
    looking: int  # back, at the tokens before it

    @property
    def total(self) -> int:
        return self.products + self.looking


def work_per_token(model: ModelConfig, window: int | None = None) -> Work:
    """6 N + 12 L H D T, N being what a token is multiplied with  [Chowdhery 2022, appendix B].

    To look a token up in the embedding takes none. The scores of the future are counted, as everybody counts them,
    though they are never computed: a causal model does half of the second part.

    >>> from octavo.config import GPT2
    >>> work_per_token(GPT2)
    Work(products=741192192, looking=113246208)
    """
    multiplied = model.layers * block_matrices(model) + model.vocab_size * model.width
    return Work(6 * multiplied, 12 * model.layers * model.heads * model.head_width * (window or model.context))


def muon_work(model: ModelConfig) -> float:
    """Operations of one update, five steps of 4 r² c + 2 r³ for each matrix of r ≤ c  [Jordan 2024].

    They are X Xᵀ, its square, and both of them into X.
    """
    width, heads, keys = model.width, model.heads * model.head_width, model.kv_heads * model.head_width
    inner = [(model.feed_forward, width)] * (3 if model.gated else 2)
    matrices = [(width, heads), (width, keys), (width, keys), (heads, width), *inner]
    sorted_ = [(min(pair), max(pair)) for pair in matrices]
    return model.layers * sum(5 * (4 * rows**2 * columns + 2 * rows**3) for rows, columns in sorted_)


@dataclass(frozen=True)
class State:
    """Bytes that stay from step to step, and beside them the weights in half precision, where products are in it."""

    weights: int
    casts: int
    gradients: int
    momenta: int

    @property
    def total(self) -> int:
        return self.weights + self.casts + self.gradients + self.momenta


def state_of(model: ModelConfig, optimizer: Optimizer, size: int = HALF) -> State:
    """What the weights and their optimizer hold: Muon one number for a matrix's, AdamW two for any.

    Products are made with numbers of `size` bytes.
    """
    count = parameters(model)
    once = model.layers * block_matrices(model) if optimizer == "muon" else 0
    casts = 0 if size == FLOAT else size * count
    return State(FLOAT * count, casts, FLOAT * count, 2 * FLOAT * count - FLOAT * once)


def kept_in_block(model: ModelConfig) -> int:
    """Numbers that one block keeps of a token for the way back: what its products, norms and gates have read.

    GPT-2's are 17 C, 34 bytes of half precision a number of its width  [Korthikanti 2022, section 4.1].
    """
    heads, keys = model.heads * model.head_width, model.kv_heads * model.head_width
    attention = heads + 2 * keys + 2 * heads + (heads + keys if model.qk_norm else 0)
    return 4 * model.width + attention + (4 if model.gated else 2) * model.feed_forward


def activations(model: ModelConfig, tokens: int, *, recompute: bool, size: int = HALF) -> int:
    """Bytes that so many tokens keep for the way back; recomputed, only the streams between blocks.

    The logits come on top, and never more of them at once than `LOGITS`.
    """
    numbers = model.layers * (model.width if recompute else kept_in_block(model))
    numbers += kept_in_block(model) if recompute else 0
    return size * tokens * numbers + PER_LOGIT * min(LOGITS, tokens * model.vocab_size)


@dataclass(frozen=True)
class Way:
    """A way to share the work: every GPU holds all of the model, or its part of it.

    What is sharded may be `gathered` for all of a step, or be put together for each piece of a batch anew.
    """

    gpus: int
    sharded: bool = False
    gathered: bool = False

    @property
    def name(self) -> str:
        return "one GPU" if self.gpus == 1 else f"{self.gpus} GPUs, {'FSDP' if self.sharded else 'DDP'}"


def held(model: ModelConfig, optimizer: Optimizer, way: Way, size: int = HALF) -> int:
    """Bytes of the state that one GPU holds.

    Sharded, a part of it [Zhao 2023]; and whole, for a moment, the block at work and the next one, and what stands
    outside the blocks, in the precision of products with their gradients in float32; or all blocks, where they are
    gathered.
    """
    state = state_of(model, optimizer, size)
    if not way.sharded:
        return state.total
    block, outer = block_matrices(model) + block_vectors(model), outer_parameters(model)
    whole = gathered(model, size) if way.gathered else size * (2 * block + outer) + FLOAT * (block + outer)
    return (state.total - state.casts) // way.gpus + whole


def gathered(model: ModelConfig, size: int = HALF) -> int:
    """Bytes of all weights, in the precision that they are computed with, and of their gradients in float32."""
    return (size + FLOAT) * parameters(model)


def most_rows(
    model: ModelConfig,
    way: Way,
    optimizer: Optimizer,
    window: int,
    memory: float,
    recompute: bool,
    size: int = HALF,
) -> int:
    """How many rows of `window` tokens one GPU can learn from at once; none where not even one has room."""
    room = (1 - LEFT_FREE) * memory - held(model, optimizer, way, size)
    rows = 0
    more = 1 << 20
    while more:  # the logits stop growing, so this is no division
        if activations(model, (rows + more) * window, recompute=recompute, size=size) <= room:
            rows += more
        more //= 2
    return rows


def seconds(model: ModelConfig, way: Way, tokens: float, window: int, peak: float, *, recompute: bool = False) -> float:
    """How long it takes to learn from so many tokens at `USED` of each GPU's peak, in operations a second.

    To compute the blocks again takes a third more.
    """
    again = 4 / 3 if recompute else 1
    return tokens * work_per_token(model, window).total * again / (way.gpus * peak * USED)


def sent(model: ModelConfig, way: Way) -> float:
    """Bytes that each GPU sends in a step, or, where weights are sharded and not gathered, for a piece of one.

    All gradients in float32 round a ring, twice [Patarasuk 2009]; sharded, the weights in half precision before either
    way and the gradients once; gathered, the weights once.
    """
    around = (way.gpus - 1) / way.gpus
    sharded = HALF + FLOAT if way.gathered else 2 * HALF + FLOAT
    return parameters(model) * around * (sharded if way.sharded else 2 * FLOAT)
