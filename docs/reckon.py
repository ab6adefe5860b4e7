"""Make the tables of the page on scaling anew: `python docs/reckon.py` computes them from the models' shapes."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil
from pathlib import Path

from octavo.config import ModelConfig
from octavo.presets import PRESETS
from octavo.progress import duration
from octavo.scale import (
    TOKENS,
    USED,
    Optimizer,
    Way,
    activations,
    held,
    most_rows,
    muon_work,
    parameters,
    seconds,
    sent,
    state_of,
    work_per_token,
)

PAGE = Path(__file__).with_name("scaling.md")
MODELS = {"124M": "gpt2", "1.5B": "gpt2-xl", "8B": "llama-8b"}
BATCHES = {"124M": 2**19, "1.5B": 2**20, "8B": 2**22}  # tokens of a global batch
GPUS = (1, 8, 64, 512)
NODE = 8  # GPUs that see each other by NVLink

PEAK = 989e12  # H100 SXM [NVIDIA 2023]: bfloat16 operations a second,
MEMORY = 80e9  # bytes,
LINK = 450e9  # bytes a second to others of its node, each way,
NETWORK = 50e9  # and to other nodes: 400 gigabits for each GPU
DISK = 5e9  # bytes a second that a good shared disk takes, and gives
HASHED = 1.3e9  # bytes a second of which one core of an AMD EPYC makes the sha256, about
INTERRUPTIONS = 419 / (54 * 16384)  # for each GPU and day [Grattafiori 2024, section 3.3.4]

Cells = tuple[str, ...]
GB, DAY = 1e9, 86400


def shape(size: str) -> tuple[ModelConfig, Optimizer, int]:
    """A model's shape, its optimizer, and how many tokens a row of its batch has."""
    model = PRESETS[MODELS[size]]
    return model, "muon" if model.dialect == "modern" else "adamw", min(4096, model.context)


def one_model() -> Iterator[Cells]:
    """What each model is, and what it takes."""
    yield "model", "parameters", "work a token", "tokens", "work in all", "state", "a row keeps", "recomputed"
    for size in MODELS:
        model, optimizer, window = shape(size)
        count, work = parameters(model), work_per_token(model, window).total
        kept = (activations(model, window, recompute=again) for again in (False, True))
        state, learned = state_of(model, optimizer).total, TOKENS * count
        figures = f"{count / 1e9:.2f} billion", f"{work / 1e9:.1f} GFLOP", f"{learned / 1e9:.1f} billion"
        yield size, *figures, _power(learned * work), gigabytes(state), *map(gigabytes, kept)


def _power(work: float) -> str:
    digits, exponent = f"{work:.1e}".split("e+")
    return f"{digits} · 10^{int(exponent)}"


def gigabytes(size: float) -> str:
    """So many bytes, for people."""
    return f"{size / GB:.1f} GB"


@dataclass(frozen=True)
class Step:
    """One step of so many GPUs: how they share it, and for how many seconds each computes and sends."""

    way: Way
    recomputed: bool
    rows: int  # at once
    tokens: float  # on each
    computing: float
    sending: float

    @property
    def name(self) -> str:
        parts = "FSDP, gathered" if self.way.gathered else "FSDP"
        shared = parts if self.way.sharded else "DDP" if self.way.gpus > 1 else "alone"
        return shared + (", recomputed" if self.recomputed else "")

    @property
    def taken(self) -> float:
        """The longer of both, for the one is done behind the other."""
        return max(self.computing, self.sending)


def steps(size: str, gpus: int) -> Iterator[Step]:
    """Every way in which a step fits.

    Sharded weights and gradients are sent anew for each piece of a batch; gathered ones, and those of copies, once.
    """
    model, optimizer, window = shape(size)
    tokens = BATCHES[size] / gpus
    for way, again in product((Way(gpus), Way(gpus, True, True), Way(gpus, True)), (False, True)):
        rows = most_rows(model, way, optimizer, window, MEMORY, again)
        if not rows or (way.sharded and gpus == 1):
            continue
        pieces = ceil(tokens / (rows * window)) if way.sharded and not way.gathered else 1
        sending = pieces * sent(model, way) / (LINK if gpus <= NODE else NETWORK)
        yield Step(way, again, rows, tokens, seconds(model, way, BATCHES[size], window, PEAK, recompute=again), sending)


def best(size: str, gpus: int) -> Step | None:
    """The quickest way, the simplest of those that are as quick; nothing where none fits."""
    return min(steps(size, gpus), key=lambda step: step.taken, default=None)


def time_and_memory() -> Iterator[Cells]:
    """Which way is the quickest with so many GPUs, what one holds, and how long the training takes."""
    yield "model", "GPUs", "way", "state on each", "rows at most", "computing only", "in all"
    for size in MODELS:
        model, optimizer, _ = shape(size)
        for gpus in GPUS:
            step = best(size, gpus)
            if step is None:
                yield size, str(gpus), "does not fit", gigabytes(held(model, optimizer, Way(gpus))), "none", "", ""
                continue
            count = TOKENS * parameters(model) / BATCHES[size]
            state = gigabytes(held(model, optimizer, step.way))
            times = (_long(count * taken) for taken in (step.computing, step.taken))
            yield size, str(gpus), step.name, state, f"{step.rows:,}", *times


def _long(taken: float) -> str:
    return duration(taken) if taken < DAY else f"{taken / DAY:,.1f} days"


def traffic() -> Iterator[Cells]:
    """A step: each GPU's tokens, how long it computes, and how long it sends."""
    yield "model", "GPUs", "tokens on each", "computes", "sends", "sending / computing"
    for size in MODELS:
        for gpus in GPUS[1:]:
            step = best(size, gpus)
            assert step is not None  # all of them fit on a node
            times = milliseconds(step.computing), milliseconds(step.sending)
            yield size, str(gpus), f"{step.tokens:,.0f}", *times, f"{step.sending / step.computing:.0%}"


def milliseconds(taken: float) -> str:
    """So many seconds, for people."""
    return f"{taken * 1000:,.0f} ms"


def fewest_tokens() -> Iterator[Cells]:
    """How many tokens each GPU needs in a step so that sending takes no longer than computing."""
    yield "model", "in a node", "over the network"
    for size in MODELS:
        model, _, window = shape(size)
        pace = PEAK * USED / work_per_token(model, window).total
        yield size, *(f"{sent(model, Way(512)) / speed * pace:,.0f} tokens" for speed in (LINK, NETWORK))


def matrices(model: ModelConfig) -> Counter[tuple[int, int]]:
    """How many matrices of each shape Muon learns."""
    width, heads, keys = model.width, model.heads * model.head_width, model.kv_heads * model.head_width
    up = (model.feed_forward, width)
    block = [(heads, width), (keys, width), (keys, width), (width, heads), *[up] * (2 if model.gated else 1), up[::-1]]
    return Counter({shape: count * model.layers for shape, count in Counter(block).items()})


def muon_shared(model: ModelConfig, gpus: int) -> float:
    """Operations of the GPU that has most to do: matrices are dealt out whole, those of each shape by turns."""
    dealt = ((min(shape), max(shape), ceil(count / gpus)) for shape, count in matrices(model).items())
    return sum(5 * (4 * rows**2 * columns + 2 * rows**3) * count for rows, columns, count in dealt)


def besides() -> Iterator[Cells]:
    """What a larger machine adds: Muon in each GPU, checkpoints, and failures."""
    saved_by = "its checkpoint, written in", "read again and hashed in"
    yield "GPUs", "Muon for 8B, in every GPU", "shared out", *saved_by, "days between failures"
    model, optimizer, window = shape("8B")
    saved = state_of(model, optimizer)
    size = saved.weights + saved.momenta
    for gpus in GPUS[1:]:
        step = BATCHES["8B"] / gpus * work_per_token(model, window).total
        failures = 1 / (INTERRUPTIONS * gpus)
        yield (
            str(gpus),
            f"{muon_work(model) / step:.1%}",
            f"{muon_shared(model, gpus) / step:.2%}",
            f"{gigabytes(size)}, {size / DISK:.0f} s",
            f"{size / min(DISK, HASHED):.0f} s",
            f"{failures:,.0f}",
        )


TABLES: dict[str, Callable[[], Iterator[Cells]]] = {
    "models": one_model,
    "time": time_and_memory,
    "traffic": traffic,
    "tokens": fewest_tokens,
    "besides": besides,
}


def table(name: str) -> str:
    """A table in Markdown."""
    head, *rows = TABLES[name]()
    lines = [head, ("---",) + ("--:",) * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def remade(page: str) -> str:
    """The page with each table between its marks made anew."""
    marks = r"(<!-- made by docs/reckon.py: (\w+) -->\n).*?(<!-- end -->)"
    return re.sub(marks, lambda found: found[1] + table(found[2]) + "\n" + found[3], page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(remade(PAGE.read_text("utf-8")), "utf-8")
