"""What it takes to bring a model here and to take one elsewhere: seconds and memory, beside transformers and gguf."""

import json
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

BFLOAT16 = 2  # bytes
SHAPES = {"SmolLM2, 135M": "smollm2", "GPT-2, 124M": "gpt2"}


def memory(name: str) -> int:
    """What this process has in memory, in bytes: now (VmRSS), or at the most since it was told to forget (VmHWM)."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


class Stages:
    """The seconds and the most memory that each stage of a task takes; what was there before does not count."""

    def __init__(self) -> None:
        self.before, self.stage, self.began = memory("VmRSS"), "", time.perf_counter()
        self.found: dict[str, tuple[float, int]] = {}
        self._forget()

    def begin(self, stage: str) -> None:
        """Count for another stage from now on."""
        now = time.perf_counter()
        self.found[self.stage] = (now - self.began, memory("VmHWM") - self.before)
        self.stage, self.began = stage, now
        self._forget()

    def show(self, event: Any) -> None:
        """Take the stage from what an import or an export says of itself."""
        stage = next((stage for begins, stage in STAGES.items() if getattr(event, "what", "").startswith(begins)), "")
        if stage not in ("", self.stage):
            self.begin(stage)

    def _forget(self) -> None:
        with suppress(OSError):  # where that is not allowed, a later stage is told what the largest of all has taken
            Path("/proc/self/clear_refs").write_text("5")


STAGES = {
    "writing": "written",
    "asking": "checked by octavo",
    "reading it back with octavo": "checked by octavo",
    "reading it back with": "checked by others",
}


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

    stages = Stages()
    if what == "import":
        porting.bring(str(source), to=target)
    elif what == "import, transformers":
        AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).save_pretrained(target)
        AutoTokenizer.from_pretrained(source).save_pretrained(target)
    elif what == "load and write":
        model, tokenizer = porting.load(source)
        exporting.save_gguf(model, tokenizer, target, dtype="bf16")
    else:
        kind = "gguf" if target.suffix else "hf"
        exporting.export(source, kind, rounding="bf16", to=target, on_event=stages.show)
    stages.begin("end")
    print(json.dumps(stages.found))


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
                ("load and write", folder, file),
                ("import", file, Path(there) / "c"),
                ("export", folder, Path(there) / "d.gguf"),
                ("export", folder, Path(there) / "e"),
            ):
                way = f"{what}: {form(source)} → {form(target)}"
                for stage, (seconds, taken) in measured(what, source, target).items():
                    if stage or what != "export":
                        told = f"{way}, {stage}" if stage else way
                        print(f"| {name} | {told} | {seconds:.1f} | {taken / size:.2f} |", flush=True)


def form(path: Path) -> str:
    """What a model is stored as."""
    return "GGUF" if path.suffix else "a folder"


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(sys.argv[2], Path(sys.argv[3]))
    elif len(sys.argv) > 1:
        do(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
