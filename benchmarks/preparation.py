"""How fast a large text becomes tokens, and in how much memory, beside `tokenizers` used directly on the same text."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import tokenizers

MEGABYTE = 1_000_000


def write_text(path: Path, size: int, seed: int = 0) -> None:
    """A text of so many bytes whose words are as unequally common as a language's."""
    draw = Random(seed)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in ("a", "e", "i", "o", "u", "ai", "é")]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(20_000)]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    lines = [" ".join(draw.choices(words, weights, k=12)) + "." + "\n" * draw.randint(1, 2) for _ in range(20_000)]
    with path.open("w", encoding="utf-8") as file:
        written = 0
        while written < size:
            written += file.write("".join(draw.choices(lines, k=5_000)))


def prepare_here(path: str, kind: str, vocabulary: int) -> dict[str, float]:
    """Prepare a text in this process; seconds, and the most memory that was resident, in bytes."""
    from octavo.config import DataConfig
    from octavo.data import prepare

    data = DataConfig(texts=(path,), tokenizer=kind, vocab_size=vocabulary or None, errors="replace")
    begin = time.perf_counter()
    prepare(data, None, cache=Path(path).parent / "cache")
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def encode_here(path: str, kind: str, vocabulary: int) -> dict[str, float]:
    """The same with `tokenizers` alone: trained from the file's lines, then the lines encoded in batches."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    begin = time.perf_counter()
    with Path(path).open(encoding="utf-8") as file:
        sample, size = [], 0
        for line in file:
            sample.append(line)
            size += len(line)
            if size > 64 * MEGABYTE:
                break
        backend.train_from_iterator(sample, trainer)
        file.seek(0)
        while lines := file.readlines(4 * MEGABYTE):
            for encoding in backend.encode_batch_fast(lines):
                len(encoding.ids)
    return {"seconds": time.perf_counter() - begin, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def in_its_own_process(what: str, *words: str) -> dict[str, float]:
    """Run one of the functions above in a fresh process, so that its memory is its own."""
    done = subprocess.run(
        [sys.executable, __file__, what, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TOKENIZERS_PARALLELISM": "true"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(megabytes: int = 1000, peer_megabytes: int = 50) -> list[str]:
    """The lines of a Markdown table: by character, and by byte pairs beside the peer."""
    lines = [
        f"| text of | cut into | octavo | its memory | tokenizers {tokenizers.__version__} | ratio |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for size, kind, vocabulary in (
            (megabytes, "character", "0"),
            (peer_megabytes, "bpe", "8192"),
        ):
            path = Path(folder) / f"{kind}.txt"
            write_text(path, size * MEGABYTE)
            true_size = path.stat().st_size
            ours = in_its_own_process("prepare", str(path), kind, vocabulary)
            peer = in_its_own_process("encode", str(path), kind, vocabulary) if kind == "bpe" else None
            speed = true_size / MEGABYTE / ours["seconds"]
            beside = f"{true_size / MEGABYTE / peer['seconds']:.1f} MB/s" if peer else "–"
            ratio = f"{peer['seconds'] / ours['seconds']:.2f}" if peer else "–"
            lines.append(
                f"| {true_size / MEGABYTE:,.0f} MB | {kind} | {speed:.1f} MB/s | {ours['memory'] / 2**20:.0f} MiB "
                f"| {beside} | {ratio} |"
            )
            path.unlink()
    return lines


if __name__ == "__main__":
    if len(sys.argv) > 1:
        function = {"prepare": prepare_here, "encode": encode_here}[sys.argv[1]]
        print(json.dumps(function(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        print("\n".join(measure()))
