"""What octavo makes of a GPU, beside transformers' models at their best: learning, writing, serving.

    python benchmarks/gpu.py                 # all of it, a quarter of an hour
    python benchmarks/gpu.py learn write     # some parts: learn, write, shakespeare, serve

It prints Markdown with the GPU's name. A part that fails says so, and the others go on.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from generation import Case as Writing
from generation import measure as written
from generation import table as writing_table
from learning import octavo as shakespeare_once
from serving import ON_A_GPU, small_model, streams
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from octavo.accelerated import compiles
from octavo.config import GPT2, GPT2_XL, ModelConfig, RunConfig, TrainConfig
from octavo.data import fetch
from octavo.layouts import layout_for
from octavo.making import make_model, prepare_to_learn
from octavo.optim import make_optimizers
from octavo.parallel import Spread
from octavo.scale import work_per_token
from octavo.speed import peak
from octavo.step import training_step

MINUTES, SEEDS = 3.0, 3
Step = Callable[[Tensor], object]


@dataclass(frozen=True)
class Case:
    """A GPT-2 of some size, and how many rows of its context a step reads."""

    name: str
    model: ModelConfig
    rows: int
    steps: int = 20


CASES = (Case("124M", GPT2, 16), Case("1.5B", GPT2_XL, 4))


def our_step(case: Case, device: str) -> Step:
    """octavo's, as a training in bfloat16 takes it."""
    train = TrainConfig(
        steps=1, batch=case.rows, optimizer="adamw", lr=6e-4, dtype="bfloat16", device=device, compile=compiles(device)
    )
    config = RunConfig(model=case.model, train=train)
    model = prepare_to_learn(make_model(config), config)
    optimizers, spread = make_optimizers(model, train), Spread(model, torch.bfloat16)

    def step(tokens: Tensor) -> object:
        pieces = [(tokens[:, :-1], tokens[:, 1:])]
        return training_step(model, optimizers, pieces, rate=1.0, clip=1.0, dtype=torch.bfloat16, spread=spread)

    return step


def their_step(case: Case, device: str) -> Step:
    """A plain loop over transformers' GPT-2: compiled whole where there is a GPU, autocast, fused AdamW."""
    none = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    settings = {**layout_for(case.model).to_hf_config(case.model), **none}
    model = GPT2LMHeadModel(GPT2Config(**settings)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, weight_decay=0.1, fused=True)

    def surprise(tokens: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            logits = model(tokens[:, :-1]).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    compiled = torch.compile(surprise) if compiles(device) else surprise

    def step(tokens: Tensor) -> object:
        loss = compiled(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def pace(make: Callable[[Case, str], Step], case: Case, device: str) -> tuple[float, float]:
    """Tokens a second, and GiB at most: medians of steps, after three that compile and warm up."""
    on_a_gpu = device == "cuda"
    if on_a_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step, times = make(case, device), []
    for number in range(case.steps + 3):
        tokens = torch.randint(case.model.vocab_size, (case.rows, case.model.context + 1), device=device)
        begin = time.perf_counter()
        step(tokens)
        if on_a_gpu:
            torch.cuda.synchronize()
        if number >= 3:
            times.append(time.perf_counter() - begin)
    height = torch.cuda.max_memory_allocated() / 2**30 if on_a_gpu else 0.0
    return case.rows * case.model.context / median(times), height


def learn(device: str = "cuda", cases: tuple[Case, ...] = CASES) -> list[str]:
    """A table of both loops, one after the other on the same device."""
    lines = [
        "| GPT-2 | | tokens/s | of the peak | memory | octavo's times that |",
        "|---|---|---|---|---|---|",
    ]
    most = peak(device, "bfloat16")
    for case in cases:
        work = work_per_token(case.model).total
        found = {name: pace(make, case, device) for name, make in (("octavo", our_step), ("transformers", their_step))}
        for name, (speed, height) in found.items():
            ratio = found["octavo"][0] / speed
            lines.append(
                f"| {case.name}, {case.rows} × {case.model.context:,} | {name} | {speed:,.0f} | "
                f"{speed * work / most:.0%} | {height:.1f} GiB | **{ratio:.2f}** |"
            )
    return [*lines, "", f"Its peak in bfloat16, as measured: {most / 1e12:,.0f} TFLOP/s."]


def write() -> list[str]:
    """A table of generation, one text and 64."""
    case = Writing("GPT-2, 124M parameters", GPT2, torch.bfloat16, 256)
    return writing_table(written(cases=[case], batches=(1, 64), repeats=3, device="cuda"))


def shakespeare() -> list[str]:
    """The losses that three minutes come to."""
    text = fetch("shakespeare")
    losses = [shakespeare_once(text, MINUTES, "--seed", str(seed)).loss for seed in range(SEEDS)]
    found = ", ".join(f"{loss:.4f}" for loss in losses)
    return [f"Tiny-Shakespeare, {MINUTES:g} minutes, seeds 0 to {SEEDS - 1}: {found} nats a character, held out."]


def serve() -> list[str]:
    """Whether texts depend on their neighbours there."""
    with tempfile.TemporaryDirectory() as folder:
        return streams(small_model(Path(folder) / "small"), 200, ON_A_GPU)


PARTS: dict[str, Callable[[], list[str]]] = {
    "learn": learn,
    "write": write,
    "serve": serve,
    "shakespeare": shakespeare,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    words = parser.parse_args()
    if unknown := [part for part in words.parts if part not in PARTS]:
        parser.error(f"{unknown[0]} is no part; give some of {', '.join(PARTS)}")
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no GPU here")
    print(f"## {torch.cuda.get_device_name()}, torch {torch.__version__}\n", flush=True)
    for part in words.parts:
        begin = time.perf_counter()
        try:
            print("\n".join(PARTS[part]()))
        except Exception:  # the others are worth having
            traceback.print_exc()
            print(f"{part} failed.")
        print(f"\n({part}: {time.perf_counter() - begin:.0f} s)\n", flush=True)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
