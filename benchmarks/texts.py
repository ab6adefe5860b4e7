"""How fast 2 GB of text become tokens on the disk, beside `tokenizers` used directly with as many cores.

`--bytes 50000000` takes a smaller text, `--form jsonl.zst` another form of it, `--shuffle` draws its documents by lot.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
from preparation import MEGABYTE, write_text

VOCABULARY = 8192
SAMPLE = 20 * MEGABYTE  # that the vocabulary is learned from, before anything is timed
BATCH = 4 * MEGABYTE  # characters that the peer is given at once
SHARE = 0.05  # of the text, on which the peer shows which of its ways is its best
FORMS = ("txt", "txt.zst", "txt.gz", "jsonl", "jsonl.zst")


def used() -> dict[str, float]:
    """What this process has taken of the processor and, at its height, of the memory."""
    from octavo.memory import peak_memory

    times = os.times()
    return {"processor": times.user + times.system, "memory": peak_memory()}


def prepare_here(path: str, vocabulary: str, cache: str, shuffle: str) -> dict[str, Any]:
    """Prepare a text in this process, from the first byte read to the last file synced."""
    from octavo.config import DataConfig
    from octavo.data import prepare
    from octavo.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(Path(vocabulary))
    data = DataConfig(texts=(path,), tokenizer="bpe", shuffle="documents" if shuffle == "documents" else None)
    begin = time.perf_counter()
    found = prepare(data, tokenizer, cache=Path(cache))
    seconds = time.perf_counter() - begin
    tokens = sum(len(part.tokens) for part in (found.train, found.val, found.test))
    return {"seconds": seconds, "tokens": tokens, **used()}


def encode_here(path: str, vocabulary: str, way: str, share: str) -> dict[str, Any]:
    """The same text with `tokenizers` alone, which keeps nothing; `way` is what it is given: lines, or pages."""
    backend = tokenizers.Tokenizer.from_file(str(Path(vocabulary) / "tokenizer.json"))
    begin, tokens = time.perf_counter(), 0
    end = float(share) * Path(path).stat().st_size
    with Path(path).open(encoding="utf-8") as file:
        for batch in batches(file, end):
            texts = batch if way == "lines" else pages(batch)
            tokens += sum(len(encoding.ids) for encoding in backend.encode_batch_fast(texts, add_special_tokens=False))
    return {"seconds": time.perf_counter() - begin, "tokens": tokens, **used()}


def batches(file: Any, end: float) -> Iterator[list[str]]:
    """Lines by and by, until about so many bytes of a file were read."""
    come = 0
    while come < end and (lines := file.readlines(BATCH)):
        come += sum(map(len, lines))
        yield lines


def pages(lines: list[str], length: int = 200) -> list[str]:
    """Lines joined, so many at a time: about 16,000 characters."""
    return ["".join(lines[start : start + length]) for start in range(0, len(lines), length)]


def in_its_own_process(*words: str) -> dict[str, Any]:
    """Run one of the functions above in a fresh process, so that its memory is its own."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true"}
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def in_form(plain: Path, form: str) -> Path:
    """The same text in another form: as JSON lines, a document to 200 lines, and packed by the programs for that."""
    path = plain
    if form.startswith("jsonl"):
        path = plain.with_suffix(".jsonl")
        with plain.open(encoding="utf-8") as source, path.open("w", encoding="utf-8") as target:
            for lines in batches(source, float("inf")):
                target.writelines(json.dumps({"text": page}, ensure_ascii=False) + "\n" for page in pages(lines))
    if form.endswith((".zst", ".gz")):
        path = pack(path, path.with_name(f"{path.name}.{form.rpartition('.')[2]}"))
    return path


def pack(path: Path, target: Path) -> Path:
    """Pack a file without having it in memory."""
    import gzip
    import shutil

    import zstandard

    with path.open("rb") as source:
        if target.suffix == ".gz":
            with gzip.open(target, "wb", compresslevel=3) as sink:
                shutil.copyfileobj(source, sink)
        else:
            with target.open("wb") as sink:
                zstandard.ZstdCompressor().copy_stream(source, sink)
    return target


def learn_vocabulary(path: Path, folder: Path) -> None:
    """A byte-pair vocabulary that both are given."""
    from octavo.tokenizers import BPETokenizer

    with path.open(encoding="utf-8") as file:
        BPETokenizer.train(pages(file.readlines(SAMPLE)), vocab_size=VOCABULARY).save(folder)


def measure(size: int = 2000 * MEGABYTE, form: str = "txt", shuffle: bool = False) -> list[str]:
    """The lines of a Markdown table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, vocabulary = folder / "text.txt", str(folder / "vocabulary")
        write_text(path, size)
        learn_vocabulary(path, folder / "vocabulary")
        size = path.stat().st_size
        tried = {
            way: in_its_own_process("encode", str(path), vocabulary, way, str(SHARE)) for way in ("lines", "pages")
        }
        best = min(tried, key=lambda way: float(tried[way]["seconds"]))
        peer = in_its_own_process("encode", str(path), vocabulary, best, "1")
        given, order = str(in_form(path, form)), "documents" if shuffle else "as it comes"
        ours = in_its_own_process("prepare", given, vocabulary, str(folder / "cache"), order)
    return [
        f"| {size / MEGABYTE:,.0f} MB of text | MB/s | of it | processor seconds | memory |",
        "|---|---|---|---|---|",
        row(f"octavo, {form}{', shuffled' if shuffle else ''}", ours, peer, size),
        row(f"tokenizers {tokenizers.__version__}, in {best}, nothing kept", peer, peer, size),
    ]


def row(name: str, measured: dict[str, Any], peer: dict[str, Any], size: int) -> str:
    """One line of the table."""
    return (
        f"| {name} | {size / MEGABYTE / measured['seconds']:.2f} | {peer['seconds'] / measured['seconds']:.2f} "
        f"| {measured['processor']:,.0f} | {measured['memory'] / 2**20:,.0f} MiB |"
    )


if __name__ == "__main__":
    if sys.argv[1:2] in (["prepare"], ["encode"]):
        print(json.dumps({"prepare": prepare_here, "encode": encode_here}[sys.argv[1]](*sys.argv[2:6])))
    else:
        asked = argparse.ArgumentParser(description=__doc__)
        asked.add_argument("--bytes", type=int, default=2000 * MEGABYTE)
        asked.add_argument("--form", choices=FORMS, default="txt")
        asked.add_argument("--shuffle", action="store_true", help="documents by lot; a plain text is only one document")
        given = asked.parse_args()
        print("\n".join(measure(given.bytes, given.form, given.shuffle)))
