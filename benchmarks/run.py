"""`make bench`: every figure that octavo publishes, measured in one run on one machine, in docs/benchmarks.md."""

import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
SECTIONS = {
    "Learning beside the yardstick": (
        "learning",
        "Tiny-Shakespeare, the last tenth held out; every token of it is predicted once, and their surprise divided by "
        "its characters. The yardstick is the published recipe for a small GPT by character (4 layers, width 128, "
        "context 64, 2,000 steps of 12 rows, AdamW) in a plain float32 loop over transformers' GPT-2, which neither "
        "evaluates on the way nor saves. octavo is given the text and the minutes, nothing else, and cuts it into "
        "pieces of words.",
    ),
    "Beside another program": (
        "beside",
        "A training of 6 layers of width 128, and a text that a GPT-2 of 124 million parameters writes in float32, "
        "beside a program that keeps one core busy. Threads wait for one another at every product, so all of them wait "
        "for the one that shares its core; with an end in time octavo learns with fewer then, and one text or a few "
        "are written with fewer.",
    ),
    "Two minutes of training": (
        "demo",
        "`octavo train shakespeare --split 0.9 --minutes 2` in either dialect: the best loss on the last tenth of the "
        "text, in nats a character; and of 2,000 characters sampled at temperature 0.8, the share of "
        "words that occur in the training text.",
    ),
    "Writing": (
        "generation",
        "Tokens per second of `generate` beside transformers on the same weights, prompts and threads; greedy ids are "
        "compared first. The peer is timed in each of its modes and its best is shown.",
    ),
    "Writing beside llama.cpp": (
        "decoding",
        "One text, greedily, from the first new token to the last, on the same weights at the same number of bits.",
    ),
    "What eight bits cost": (
        "quantized",
        "One model, trained for a minute, asked for the held-out tenth of tiny-Shakespeare with its weights as they "
        "are and with `--quantize int8`.",
    ),
    "Preparing a large text": (
        "preparation",
        "Seconds and peak memory from a text on the disk to its tokens on the disk, the vocabulary learned on the way; "
        "beside it the `tokenizers` library used directly, which keeps nothing.",
    ),
}


def processor() -> str:
    """What computes here."""
    facts = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", facts.read_text(), re.MULTILINE) if facts.is_file() else []
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def seconds(*words: str) -> float:
    """The median wall-clock of five processes."""
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def section(script: str) -> str:
    """What a benchmark prints, in a process of its own."""
    done = subprocess.run([sys.executable, str(HERE / f"{script}.py")], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def main() -> None:
    """Measure everything, one thing after the other, and write the page."""
    import torch
    import transformers

    os.environ["GOMP_SPINCOUNT"] = "5000"  # as `octavo` sets it
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    parts = [
        "# Benchmarks",
        f"Made by `make bench` in one run on one machine: {processor()}, {versions}. Ratios above 1 are in octavo's "
        "favour. What one GPU, an NVIDIA H200, comes to is on [a page of its own](gpu.md).",
        f"`octavo --help` takes {seconds('-m', 'octavo', '--help'):.2f} s, `import octavo` "
        f"{seconds('-c', 'import octavo'):.2f} s.",
    ]
    for title, (script, words) in SECTIONS.items():
        print(f"{title} …", file=sys.stderr, flush=True)
        parts += [f"## {title}", words, section(script)]
        print(parts[-1], file=sys.stderr, flush=True)  # what is measured is not lost when the next one fails
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(PAGE.read_text("utf-8"))


if __name__ == "__main__":
    main()
