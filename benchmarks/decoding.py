"""One text, token by token: octavo beside llama.cpp on the same weights at the same number of bits.

Both are timed from the first new token to the last, the reading of the prompt left out, and take turns.
"""

import argparse
import os
import statistics
import time

import torch
from generation import CASES, PROMPT, Case, models, prompts
from llamacpp import VERSION, decode_speed

from octavo.fused import fused
from octavo.generation import generate
from octavo.model import GPT

TYPES = {torch.bfloat16: "bf16", torch.float32: "f32"}
EIGHT_BITS = {"q8_0": "int8"}  # llama.cpp's word, and octavo's


def our_speed(model: GPT, kind: str, text: list[int], new: int, repeats: int) -> float:
    """Tokens per second after the first one: the median of some runs, after one that is not counted."""
    model, found = fused(model, rows=1, quantize=EIGHT_BITS.get(kind)), []
    for _ in range(repeats + 1):
        writing = generate(model, text, max_new_tokens=new, temperature=0)
        next(writing)
        begin = time.perf_counter()
        written = sum(1 for _ in writing)
        found.append(written / (time.perf_counter() - begin))
    return statistics.median(found[1:])


def row(case: Case, kind: str, threads: int, turns: int) -> str:
    """A line of the table."""
    model, _ = models(case, case.dtype)
    [text] = prompts(case, 1)
    new = min(case.new, case.config.context - PROMPT)
    ours, theirs = [], []
    for _ in range(turns):
        ours.append(our_speed(model, kind, text, new, 3))
        theirs.append(decode_speed(model, dtype=kind, new_tokens=new, threads=threads, repeats=3))
    octavo, peer = statistics.median(ours), statistics.median(theirs)
    return f"| {case.name} | {kind} | {octavo:,.0f} tokens/s | {peer:,.0f} | **{octavo / peer:.2f}** |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    print(f"| model | type | octavo | llama.cpp (xllamacpp {VERSION}) | ratio |\n|---|---|---|---|---|")
    for case in CASES:
        for kind in (TYPES[case.dtype], *EIGHT_BITS):
            print(row(case, kind, words.threads, words.turns), flush=True)


if __name__ == "__main__":
    main()
