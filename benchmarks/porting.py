"""What it takes to bring a model here and to take one elsewhere: seconds and memory, beside transformers and gguf."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BFLOAT16 = 2  # bytes
SHAPES = {"SmolLM2, 135M": "smollm2", "GPT-2, 124M": "gpt2"}


def resident() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make(kind: str, where: Path) -> None:
    """A folder as transformers writes it, in bfloat16: the published model, or one of random weights."""
    import torch

    import octavo
    from octavo import porting
    from octavo.data import fetch_gpt2_vocabulary
    from octavo.tokenizers import BPETokenizer

    if kind == "smollm2":
        porting.bring("smollm2", to=where)
        return
    torch.manual_seed(0)
    model = octavo.GPT(octavo.GPT2).to(torch.bfloat16)
    octavo.save(model, BPETokenizer.from_gpt2(*fetch_gpt2_vocabulary()), where)


def do(what: str, source: Path, target: Path) -> None:
    """One way, in this process; what it imports does not count."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from octavo import exporting, porting, readers  # noqa: F401 (for its imports)

    before, begin = resident(), time.perf_counter()
    if what == "import":
        porting.bring(str(source), to=target)
    elif what == "import, transformers":
        AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(target)
        AutoTokenizer.from_pretrained(source).save_pretrained(target)
    elif what == "write":
        model, tokenizer = porting.load(source)
        exporting.save_gguf(model, tokenizer, target, dtype="bf16")
    else:
        exporting.export(source, "gguf", rounding="bf16", to=target)
    print(json.dumps({"seconds": time.perf_counter() - begin, "memory": resident() - before}))


def measured(what: str, source: Path, target: Path) -> dict[str, Any]:
    """The same in a process of its own."""
    words = [sys.executable, __file__, what, str(source), str(target)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print a table."""
    print("| model | way | seconds | memory, times the weights in bfloat16 |\n|---|---|---|---|")
    for name, kind in SHAPES.items():
        with tempfile.TemporaryDirectory() as there:
            folder, file = Path(there) / "model", Path(there) / "model.gguf"
            subprocess.run([sys.executable, __file__, "make", kind, str(folder)], check=True, capture_output=True)
            size = (folder / "model.safetensors").stat().st_size
            for what, source, target in (
                ("import", folder, Path(there) / "a"),
                ("import, transformers", folder, Path(there) / "b"),
                ("write", folder, file),
                ("export", folder, Path(there) / "c.gguf"),
                ("import", file, Path(there) / "d"),
            ):
                found = measured(what, source, target)
                way = (
                    f"{what}: {'a folder' if source == folder else 'GGUF'} → {'GGUF' if target.suffix else 'a folder'}"
                )
                print(f"| {name} | {way} | {found['seconds']:.1f} | {found['memory'] / size:.2f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(sys.argv[2], Path(sys.argv[3]))
    elif len(sys.argv) > 1:
        do(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
