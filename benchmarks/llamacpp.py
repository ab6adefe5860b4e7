"""Tokens per second of llama.cpp, greedy and one text at a time, on a GGUF file that octavo writes.

It is timed in a process of its own, for beside torch's threads its own would be slower, with flash attention and
without; the better one counts.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import xllamacpp

if TYPE_CHECKING:
    from octavo.gguf_file import GgufType
    from octavo.model import GPT
    from octavo.tokenizers import Tokenizer

PROMPT = 32
VERSION = xllamacpp.__version__
FLASH = xllamacpp.llama_flash_attn_type
MODES = {"flash": FLASH.LLAMA_FLASH_ATTN_TYPE_ENABLED, "plain": FLASH.LLAMA_FLASH_ATTN_TYPE_DISABLED}


def decode_speed(
    model: "GPT",
    tokenizer: "Tokenizer | None" = None,
    dtype: "GgufType" = "bf16",
    new_tokens: int = 64,
    *,
    threads: int = 2,
    repeats: int = 5,
) -> float:
    """Tokens per second by llama.cpp's own clock, the reading of the prompt left out: the median of some runs.

    Without a tokenizer the vocabulary is one letter and as many unused tokens as the model knows beside it: the
    prompt is ids, and no text is made of what follows.
    """
    from octavo.gguf_file import save_gguf
    from octavo.tokenizers import SimpleTokenizer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.gguf")
        save_gguf(model, tokenizer or SimpleTokenizer("a"), path, dtype=dtype)
        words = (str(path), str(min(new_tokens, model.config.context - PROMPT)), str(threads), str(repeats))
        done = subprocess.run(
            [sys.executable, __file__, "--here", *words],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"},  # its default is best
        )
    return max(json.loads(done.stdout.splitlines()[-1]).values())


def speeds_here(path: str, new_tokens: int, threads: int, repeats: int) -> dict[str, float]:
    """The median of each mode, after one run that is not counted."""
    found = {}
    for mode, flash in MODES.items():
        server = opened(path, PROMPT + new_tokens, threads, flash)
        found[mode] = statistics.median([decode(server, new_tokens) for _ in range(repeats + 1)][1:])
        del server
    return found


def opened(path: str, context: int, threads: int, flash: int) -> xllamacpp.Server:
    """llama.cpp with this file, on so many threads."""
    words = xllamacpp.CommonParams()
    words.model.path, words.verbosity = path, 0
    words.n_ctx, words.n_parallel, words.flash_attn_type = context, 1, flash
    words.cpuparams.n_threads = words.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(words)


def decode(server: xllamacpp.Server, new_tokens: int) -> float:
    """Write so many tokens after a prompt, whatever they are."""
    asked = {"prompt": [2] * PROMPT, "n_predict": new_tokens, "ignore_eos": True, "cache_prompt": False}
    # greedy by the shortest chain of samplers, of which the others would be run in vain
    answer = server.handle_completions({**asked, "temperature": 0, "samplers": ["top_k"], "top_k": 1})
    written = answer["usage"]["completion_tokens"]
    if written != new_tokens:
        raise RuntimeError(f"llama.cpp wrote {written} tokens where {new_tokens} were asked for")
    return answer["timings"]["predicted_per_second"]


def main() -> None:
    import torch

    from octavo.config import GPT2
    from octavo.model import GPT

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    words = parser.parse_args()
    torch.manual_seed(0)
    model = GPT(GPT2).eval()
    for dtype in ("bf16", "q8_0"):
        found = decode_speed(model, dtype=dtype, threads=words.threads, repeats=words.repeats)
        print(f"GPT-2, 124M parameters, {dtype}: {found:,.1f} tokens/s (xllamacpp {VERSION})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--here"]:
        print(json.dumps(speeds_here(sys.argv[2], *map(int, sys.argv[3:]))))
    else:
        main()
