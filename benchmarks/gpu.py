"""What octavo makes of a GPU, beside transformers' models at their best: learning, writing, serving.

    python benchmarks/gpu.py                 # all of it, a quarter of an hour
    python benchmarks/gpu.py learn write     # some parts: learn, profile, steps, write, serve, shakespeare

It prints Markdown with the GPU's name. A part that fails says so, and the others go on.
"""

import argparse
import re
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
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.parallel import Spread
from octavo.repeating import Repeated
from octavo.scale import parameters, work_per_token
from octavo.shapes import LADDER
from octavo.speed import peak

MINUTES, SEEDS = 3.0, 3
WARM = 5  # steps that compile and record
HOW = ((False, False), (False, True), (True, True))  # compiled, recorded
KERNELS = (
    ("products of matrices", "nvjet|gemm|cutlass|splitK|cublas"),
    ("looking back", "sdpa|flash|fmha|cudnn"),
    ("the loss, without its products", "^kernel|log_softmax"),
    ("norms, GELU, sums between the products", "^triton"),
    ("the optimizer and the gradient's length", "multi_tensor|FusedOpt|Optimizer|reduce"),
    ("casts, copies and the rest", ""),
)
Step = Callable[[Tensor], object]


@dataclass(frozen=True)
class Case:
    """A GPT-2 of some size, and how many rows of its context a step reads."""

    name: str
    model: ModelConfig
    rows: int
    steps: int = 20


CASES = (Case("124M", GPT2, 16), Case("1.5B", GPT2_XL, 8, 10))
LARGE = 10**9  # parameters: to compile a model of so many whole takes minutes


def our_step(case: Case, device: str) -> Step:
    """octavo's, as a training in bfloat16 takes it."""
    train = TrainConfig(
        steps=1, batch=case.rows, optimizer="adamw", lr=6e-4, dtype="bfloat16", device=device, compile=compiles(device)
    )
    config = RunConfig(model=case.model, train=train)
    with torch.device(device):  # drawn there: what the numbers are is of no interest
        model = prepare_to_learn(GPT(case.model), config)
    repeated = Repeated(Spread(model, torch.bfloat16), make_optimizers(model, train), clip=1.0)

    def step(tokens: Tensor) -> object:
        pieces = [(tokens[:, :-1], tokens[:, 1:])]
        return repeated.step(pieces, rate=1.0, seeds=())

    return step


def their_step(case: Case, device: str) -> Step:
    """A plain loop over transformers' GPT-2: compiled, whole or, if it is large, by blocks; autocast, fused AdamW."""
    none = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    settings = {**layout_for(case.model).to_hf_config(case.model), **none}
    with torch.device(device):
        model = GPT2LMHeadModel(GPT2Config(**settings))
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, weight_decay=0.1, fused=True)

    def surprise(tokens: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            logits = model(tokens[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    compiled = surprise
    if compiles(device) and parameters(case.model) < LARGE:
        compiled = torch.compile(surprise)
    elif compiles(device):
        for block in model.transformer.h:
            block.compile()

    def step(tokens: Tensor) -> object:
        loss = compiled(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss  # nobody asks for it, so the processor is ahead of the GPU

    return step


def pace(make: Callable[[Case, str], Step], case: Case, device: str) -> tuple[float, float]:
    """Tokens a second, and GiB at most: of some steps, one behind the other, after some that compile and record."""
    on_a_gpu = device == "cuda"
    torch.compiler.reset()  # else what comes in a second shape is compiled for any
    if on_a_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step, wait = make(case, device), torch.cuda.synchronize if on_a_gpu else int
    batches = [
        torch.randint(case.model.vocab_size, (case.rows, case.model.context + 1), device=device)
        for _ in range(WARM + case.steps)
    ]
    for tokens in batches[:WARM]:
        step(tokens)
    wait()
    begin = time.perf_counter()
    for tokens in batches[WARM:]:
        step(tokens)
    wait()
    seconds = (time.perf_counter() - begin) / case.steps
    height = torch.cuda.max_memory_allocated() / 2**30 if on_a_gpu else 0.0
    return case.rows * case.model.context / seconds, height


def learn(device: str = "cuda", cases: tuple[Case, ...] = CASES) -> list[str]:
    """A table of both loops, one after the other on the same device."""
    lines = [
        "| GPT-2 | | tokens/s | of the peak | memory | octavo's times that |",
        "|---|---|---|---|---|---|",
    ]
    most = peak(device, "bfloat16")
    for case in cases:
        work = work_per_token(case.model).total
        found: dict[str, tuple[float, float]] = {}
        for name, make in (("octavo", our_step), ("transformers", their_step)):
            found[name] = pace(make, case, device)
            print(f"{case.name}, {name}: {found[name][0]:,.0f} tokens/s", file=sys.stderr, flush=True)
        for name, (speed, height) in found.items():
            ratio = found["octavo"][0] / speed
            lines.append(
                f"| {case.name}, {case.rows} × {case.model.context:,} | {name} | {speed:,.0f} | "
                f"{speed * work / most:.0%} | {height:.1f} GiB | **{ratio:.2f}** |"
            )
    return [*lines, "", f"Its peak in bfloat16, as measured: {most / 1e12:,.0f} TFLOP/s."]


def profile() -> list[str]:
    """Where the time of a step goes on the GPU, by kinds of kernels."""
    case, rounds = CASES[0], 5
    step = our_step(case, "cuda")
    tokens = torch.randint(case.model.vocab_size, (case.rows, case.model.context + 1), device="cuda")
    for _ in range(WARM):
        step(tokens)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        begin = time.perf_counter()
        for _ in range(rounds):
            step(tokens)
        torch.cuda.synchronize()
        whole = 1000 * (time.perf_counter() - begin) / rounds
    spent = dict.fromkeys([kind for kind, _ in KERNELS], 0.0)
    for event in (event for event in seen.key_averages() if not event.key.startswith("Optimizer.step")):
        kind = next(kind for kind, names in KERNELS if re.search(names, event.key))
        spent[kind] += event.self_device_time_total / 1000 / rounds
    lines = ["| of a step | ms | |", "|---|---|---|"]
    lines += [f"| {kind} | {taken:.1f} | {taken / whole:.0%} |" for kind, taken in spent.items()]
    return [*lines, f"| nothing | {whole - sum(spent.values()):.1f} | |", f"| in all | {whole:.1f} | |"]


def paces() -> list[str]:
    """What recording and compiling make of small steps."""
    lines = [
        "| a model of the ladder | tokens in a step | as it is | recorded | recorded and compiled |",
        "|---|---|---|---|---|",
    ]
    for shape in LADDER[2:5]:
        model = ModelConfig(
            dialect="modern", vocab_size=1056, context=shape.context, layers=shape.layers, heads=shape.heads,
            width=shape.width, tied=False,
        )  # fmt: skip
        found = [small_pace(model, shape.batch, compiled, recorded) for compiled, recorded in HOW]
        times = " | ".join(f"{1000 * seconds:.1f} ms" for seconds in found)
        lines.append(f"| {shape.layers} × {shape.width} | {shape.batch} × {shape.context} | {times} |")
    return lines


def small_pace(model: ModelConfig, rows: int, compiled: bool, recorded: bool) -> float:
    """Seconds that a step by Muon takes in bfloat16."""
    train = TrainConfig(steps=1, batch=rows, dtype="bfloat16", device="cuda", compile=compiled)
    config = RunConfig(model=model, train=train)
    made = prepare_to_learn(make_model(config), config)
    repeated = Repeated(Spread(made, torch.bfloat16), make_optimizers(made, train), clip=1.0)
    repeated.works = recorded
    tokens, times = torch.randint(model.vocab_size, (rows, model.context), device="cuda"), []
    for number in range(WARM + 20):
        begin = time.perf_counter()
        repeated.step([(tokens, tokens)], rate=0.1, seeds=(number,))
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return median(times[WARM:])


def write() -> list[str]:
    """A table of generation, one text and 64."""
    case = Writing("GPT-2, 124M parameters", GPT2, torch.bfloat16, 100)
    rows = written(cases=[case], batches=(1, 64), repeats=3, device="cuda")
    return writing_table(rows, alike="the same up to at least 70% of the text")


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
    "profile": profile,
    "steps": paces,
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
