"""Tokens per second of octavo's `generate` beside transformers' on the same weights, prompts and threads.

Before anything is timed, both write greedily in float32 and must write the same. The peer is timed in each of its modes
and its best is compared; runs of all take turns, so that a busy machine is busy for all of them.
"""

import argparse
import logging
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

from octavo.config import GPT2, ModelConfig
from octavo.fused import fused
from octavo.generation import generate
from octavo.layouts import layout_for
from octavo.model import GPT
from octavo.optim import has_bfloat16_units

CLASSES = {"gpt2": (GPT2Config, GPT2LMHeadModel), "qwen3": (Qwen3Config, Qwen3ForCausalLM)}
DEMO = ModelConfig(dialect="modern", vocab_size=67, context=256, layers=6, heads=2, width=128, tied=False)
PROMPT = 32

Texts = list[list[int]]
Writer = Callable[[Texts, int], Texts]


@dataclass(frozen=True)
class Case:
    """A model's shape, the type of its weights, and how many tokens are written."""

    name: str
    config: ModelConfig
    dtype: torch.dtype
    new: int


# in bfloat16 a processor without units for it takes the peer a second a token
HALF = torch.bfloat16 if has_bfloat16_units() else torch.float32
CASES = (
    Case("GPT-2, 124M parameters", GPT2, HALF, 64),
    Case("the demo's shape, 1.2M parameters", DEMO, torch.float32, 200),
)


@dataclass(frozen=True)
class Row:
    """One line of the table: tokens per second of octavo, and of each mode of the peer that works here."""

    case: Case
    batch: int
    ours: float
    theirs: dict[str, float]
    same: float  # the share of greedy tokens on which both agree in the type that is timed, up to the first other one

    @property
    def best(self) -> str:
        return max(self.theirs, key=lambda mode: self.theirs[mode])

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs[self.best]


def models(case: Case, dtype: torch.dtype, device: str = "cpu") -> tuple[GPT, torch.nn.Module]:
    """The same random weights twice."""
    torch.manual_seed(0)
    with torch.device(device):
        ours = GPT(case.config).eval()
        with torch.no_grad():
            for weight in ours.parameters():
                weight.normal_(1.0 if weight.dim() == 1 else 0.0, 0.05)
        layout = layout_for(case.config)
        settings, kind = CLASSES[layout.model_type]
        theirs = kind(settings(**layout.to_hf_config(case.config))).eval()
    theirs.load_state_dict(layout.to_hf(ours.state_dict(), tied=case.config.tied), strict=False)
    return ours.to(device, dtype), theirs.to(device, dtype)


def prompts(case: Case, batch: int) -> Texts:
    generator = torch.Generator().manual_seed(batch)
    return torch.randint(case.config.vocab_size, (batch, PROMPT), generator=generator).tolist()


def our_writer(model: GPT, rows: int) -> Writer:
    model = fused(model, rows=rows)  # once, as after loading; `generate` would do it at every call, 0.1 s for GPT-2

    def write(texts: Texts, new: int) -> Texts:
        steps = list(generate(model, texts, max_new_tokens=new, temperature=0))
        return [[step.tokens[row] or 0 for step in steps] for row in range(len(texts))]

    return write


def their_writer(model: torch.nn.Module, **mode: object) -> Writer:
    def write(texts: Texts, new: int) -> Texts:
        inputs = torch.tensor(texts, device=model.device)
        words = {"attention_mask": torch.ones_like(inputs), "do_sample": False, "max_new_tokens": new, **mode}
        return model.generate(inputs, min_new_tokens=new, pad_token_id=0, **words)[:, inputs.size(1) :].tolist()

    return write


def their_writers(model: torch.nn.Module, compiled: bool) -> dict[str, Writer]:
    """The peer's modes: a cache that grows, one that is taken at once, and the latter with a compiled model.

    On a GPU the peer compiles of itself, and records its steps; the others are not timed there.
    """
    if model.device.type == "cuda":
        return {"compiled": their_writer(model, cache_implementation="static")}
    writers = {
        "dynamic cache": their_writer(model),
        "static cache": their_writer(model, cache_implementation="static", disable_compile=True),
    }
    if compiled:
        plan = transformers.CompileConfig(fullgraph=False, mode="default")
        plan._compile_all_devices = True
        writers["compiled"] = their_writer(model, cache_implementation="static", compile_config=plan)
    return writers


def agreement(ours: Texts, theirs: Texts) -> float:
    """The share of tokens before the first on which two writers differ."""
    same = [
        next((i for i, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1]), len(a))
        for a, b in zip(ours, theirs, strict=True)
    ]
    return sum(same) / sum(map(len, ours))


def speeds(writers: dict[str, Writer], texts: Texts, new: int, repeats: int) -> dict[str, float]:
    """Tokens per second of each writer: the median of runs that take turns, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in writers}
    for turn in range(repeats + 1):
        for name, write in writers.items():
            begin = time.perf_counter()
            write(texts, new)
            if turn:
                seconds[name].append(time.perf_counter() - begin)
    return {name: len(texts) * new / statistics.median(times) for name, times in seconds.items()}


def check(case: Case, batches: Sequence[int], device: str = "cpu") -> None:
    """Raise where both do not write the same in float32: a GPU sums up in another order."""
    ours, theirs = models(case, torch.float32, device)
    for batch in batches:
        texts = prompts(case, batch)
        share = agreement(our_writer(ours, batch)(texts, case.new), their_writer(theirs)(texts, case.new))
        if share < (1 if device == "cpu" else 0.7):
            raise RuntimeError(f"{case.name}, batch {batch}: only {share:.1%} of the greedy tokens are the same")


def measure(
    *,
    cases: Sequence[Case] = CASES,
    batches: Sequence[int] = (1, 16),
    repeats: int = 3,
    compiled: bool = True,
    device: str = "cpu",
) -> list[Row]:
    """Check, then time, each case at each batch size."""
    rows = []
    for case in cases:
        check(case, batches, device)
        ours, theirs = models(case, case.dtype, device)
        for batch in batches:
            texts = prompts(case, batch)
            write, others = our_writer(ours, batch), working(their_writers(theirs, compiled), texts, case.new)
            same = agreement(write(texts, case.new), next(iter(others.values()))(texts, case.new))
            found = speeds({"octavo": write, **others}, texts, case.new, repeats)
            rows.append(Row(case, batch, found.pop("octavo"), found, same))
    return rows


def working(writers: dict[str, Writer], texts: Texts, new: int) -> dict[str, Writer]:
    """Those that work here, compiled for as much as they are to write: compiling needs a C++ compiler."""
    found = {}
    for name, write in writers.items():
        try:
            write(texts, new)
        except Exception as error:  # whatever a compiler may say
            logging.getLogger(__name__).warning("%s does not work here: %s", name, str(error).splitlines()[0])
        else:
            found[name] = write
    return found


def table(rows: Sequence[Row], alike: str = "the same") -> list[str]:
    """The lines of a Markdown table, with a line of what was compared below it."""
    lines = [
        f"| model | type | batch | octavo | transformers {transformers.__version__}, at best | ratio | its others |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        others = ", ".join(f"{mode} {speed:,.0f}" for mode, speed in row.theirs.items() if mode != row.best)
        kind = str(row.case.dtype).removeprefix("torch.")
        lines.append(
            f"| {row.case.name} | {kind} | {row.batch} | {row.ours:,.0f} tokens/s | "
            f"{row.theirs[row.best]:,.0f} ({row.best}) | **{row.ratio:.2f}** | {others} |"
        )
    shares = ", ".join(f"{row.same:.0%}" for row in rows)
    lines += [
        "",
        f"The greedy tokens of both are {alike} in float32; in the type that is timed, they are the same up to "
        f"{shares} of the text. torch {torch.__version__}, {torch.get_num_threads()} threads.",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--no-compile", action="store_true", help="leave the peer's compiled mode out: it takes minutes"
    )
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    warnings.simplefilter("ignore")
    print("\n".join(table(measure(repeats=words.repeats, compiled=not words.no_compile))))


if __name__ == "__main__":
    main()
