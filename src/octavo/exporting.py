"""A model written for other programs, good only when read back: by octavo, where it can, and by those installed."""

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from octavo.agreement import Probe, Reading, logits_of, probed
from octavo.card import model_card
from octavo.disk import drafted, made_folder, write_file
from octavo.errors import ConfigError, OctavoError, RunError
from octavo.events import Preparing
from octavo.gguf_file import as_read_back, save_gguf
from octavo.memory import give_back_memory
from octavo.onnx_file import save_onnx
from octavo.parts import Parts
from octavo.porting import SAVED, Listener, check_replaceable, ignore, open_parts, stem, told
from octavo.readers import READERS, read_by_octavo
from octavo.reckoning import reckoning
from octavo.run import save
from octavo.tokenizers import Tokenizer

Format = Literal["hf", "gguf", "onnx"]
Rounding = Literal["f32", "f16", "bf16", "q8_0"]
Progress = Callable[[int, int], None]
TORCH = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
ROUNDINGS: dict[str, tuple[Rounding, ...]] = {
    "hf": ("f32", "f16", "bf16"),
    "gguf": ("f32", "f16", "bf16", "q8_0"),
    "onnx": ("f32",),
}
EXPORTED = {*SAVED, "README.md"}
BEGINNINGS = {
    "gguf": re.compile(rb"GGUF"),
    "onnx": re.compile(rb"\x08.\x12", re.DOTALL),  # the version of the form, then the name of the writer
    "tokenizer": re.compile(rb'\{\s*"version"'),
}
# by how much of their own spread the logits may be off: octavo's, beside those of the model that was rounded in memory,
OURS = 1e-4
THEIRS = 1e-3  # and another program's, beside the same; llama.cpp rounds what it multiplies as the weights are rounded
LLAMA_CPP = {"f32": 1e-3, "f16": 0.02, "bf16": 0.1, "q8_0": 0.6}


@dataclass(frozen=True)
class Export:
    """What was written, with the tokenizer that lies beside it where it is not inside, and what readers found of it.

    Of an ONNX file that is nothing where onnxruntime is not installed, for octavo does not read it.
    """

    path: Path
    found: tuple[str, ...]  # a line each
    tokenizer: Path | None = None


def export(
    where: Path | str,
    kind: Format,
    *,
    rounding: Rounding | None = None,
    to: Path | str | None = None,
    force: bool = False,
    name: str | None = None,
    on_event: Listener = ignore,
) -> Export:
    """Write a model in another program's form beside its place, and put it there unless a reader finds it another.

    Its card calls it by the `name` that it is to have on the hub, else by that of its place.

    Raises `ConfigError` for a form that is not known or a rounding that it does not have, `RunError` where `to` is
    there already and `force` is not given, `SaveError` with the path and the reason, `OctavoError` where it is not
    good.
    """
    if kind not in ROUNDINGS:
        raise ConfigError(f"{kind!r} is no form that a model is written in; give {', '.join(ROUNDINGS)}")
    parts, tokenizer = open_parts(where, exact=True)
    rounding = rounding or ("f32" if kind == "onnx" else own_rounding(parts.dtype))
    if rounding not in ROUNDINGS[kind]:
        raise ConfigError(f"{kind} is not written as {rounding}; give --dtype {', '.join(ROUNDINGS[kind])}")
    target = Path(to or target_of(stem(str(where)), kind, rounding))
    check_target(target, kind, force)
    beside = tokenizer_of(target) if kind == "onnx" else None
    if beside is not None:
        check_target(beside, "tokenizer", force)
    with (
        made_folder(target),
        drafted(target.resolve()) as draft,  # where a link leads to, which stays
        nullcontext() if beside is None else drafted(beside.resolve()) as words,
    ):
        _write(parts, tokenizer, kind, rounding, draft, told(f"writing {target}", on_event))
        if kind == "hf":
            card = model_card(parts.config, Path(where), name or target.name, rounding, sent=name is not None)
            write_file(draft / "README.md", card)
        if words is not None:
            write_file(words, tokenizer.backend.to_str(pretty=True))
        give_back_memory()
        asked = _asked(parts, tokenizer, kind, rounding, on_event)
        give_back_memory()
        return Export(target, tuple(_checked(draft, kind, rounding, *asked, on_event)), beside)


def tokenizer_of(target: Path) -> Path:
    """Where the tokenizer of an ONNX file lies, which has no place for it.

    >>> str(tokenizer_of(Path("book-1.onnx")))
    'book-1.tokenizer.json'
    """
    return target.with_name(target.name.removesuffix(".onnx") + ".tokenizer.json")


def check_target(target: Path, kind: Format | Literal["tokenizer"], force: bool) -> None:
    """Raise `RunError` where an export may not be put: over anything unasked, and over what no export made."""
    check_replaceable(target, "--to")
    if not target.exists():
        return
    if not force:
        raise RunError(f"{target} is there already; overwrite it with --force, or give another --to")
    if (kind == "hf") != target.is_dir():
        raise RunError(f"{target} is a {'folder' if target.is_dir() else 'file'}; give another --to")
    if target.is_dir() and not {path.name for path in target.iterdir()} <= EXPORTED:
        raise RunError(f"{target} holds files that no export wrote; give --to a new folder")
    if not target.is_dir() and not _is_exported(target, BEGINNINGS[kind]):
        raise RunError(f"{target} is no file that such an export wrote, and stays; give another --to")


def _is_exported(path: Path, beginning: re.Pattern[bytes]) -> bool:
    """Whether a file is empty, or begins as those do that an export writes; a pipe or a device is no file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(32)
    return not head or beginning.match(head) is not None


def own_rounding(dtype: torch.dtype) -> Rounding:
    """How a model's weights are stored; float32 where that has no name here."""
    names: dict[torch.dtype, Rounding] = {torch.float16: "f16", torch.bfloat16: "bf16"}
    return names.get(dtype, "f32")


def target_of(name: str, kind: Format, rounding: Rounding) -> Path:
    """Where a model is written to unasked.

    >>> str(target_of("book-1", "gguf", "q8_0")), str(target_of("book-1", "hf", "f32"))
    ('book-1-q8_0.gguf', 'book-1-hf')
    """
    return Path(f"{name}-hf" if kind == "hf" else f"{name}.onnx" if kind == "onnx" else f"{name}-{rounding}.gguf")


def _write(
    parts: Parts, tokenizer: Tokenizer, kind: Format, rounding: Rounding, target: Path, on_progress: Progress
) -> None:
    if kind == "gguf":
        save_gguf(parts, tokenizer, target, dtype=rounding, on_progress=on_progress)
    elif kind == "hf":
        save(parts, tokenizer, target, dtype=TORCH[rounding], on_progress=on_progress)
    else:
        on_progress(0, 0)
        save_onnx(replace(parts, dtype=torch.float32).whole(), target)


def _asked(
    parts: Parts, tokenizer: Tokenizer, kind: Format, rounding: Rounding, on_event: Listener
) -> tuple[Probe, Probe]:
    """What the model says, and what it says when it is rounded as the file is: its weights are held once, as stored."""
    on_event(Preparing("asking the model", 0, 0))
    weights = {name: parts.weights[name] for name in parts.weights if name != "unembed.weight" or not parts.config.tied}
    with reckoning(parts.config, weights) as model:
        probe = probed(model, tokenizer, told("asking the model", on_event))
    with reckoning(parts.config, weights, _rounded(kind, rounding)) as model:
        return probe, probe.by(logits_of(model, probe.tokens))


def _rounded(kind: Format, rounding: Rounding) -> Callable[[str, Tensor], Tensor]:
    """What becomes of a weight that is written."""
    if kind == "gguf":
        return lambda name, weight: as_read_back(name, weight, rounding)
    return lambda name, weight: weight.to(TORCH[rounding]).float()


def _checked(
    target: Path, kind: Format, rounding: Rounding, probe: Probe, rounded: Probe, on_event: Listener
) -> Iterator[str]:
    """A line for each that reads it back: held against the model as it was rounded, told beside the one it was."""
    if kind != "onnx":
        on_event(Preparing("reading it back with octavo", 0, 0))
        yield _held("octavo", read_by_octavo(target, probe), rounded, OURS, probe)
        give_back_memory()
    reader = READERS[kind]
    if reader.there():
        on_event(Preparing(f"reading it back with {reader.name}", 0, 0))
        allowed = LLAMA_CPP[rounding] if kind == "gguf" else THEIRS
        advice = "; --dtype f16 keeps more of the model" if rounding == "q8_0" else ""
        yield _held(reader.name, reader.read(target, probe), rounded, allowed, probe, advice)


def _held(name: str, reading: Reading, rounded: Probe, allowed: float, probe: Probe, advice: str = "") -> str:
    """What a reader found, in words; raises `OctavoError` where that is another model."""
    off, allowed = rounded.off(reading), allowed * probe.spread
    if not reading.greedy or rounded.agreed(reading, off) < len(probe.greedy):
        raise OctavoError(f"{name} writes another text from this file than the model does; it was removed{advice}")
    if not off <= allowed:
        raise OctavoError(
            f"{name} reads logits that are off by {off:.2g}, {allowed:.2g} may be; the file was removed{advice}"
        )
    same, many = probe.same(reading), len(probe.greedy)
    others = "" if same == many else ", the others as near as rounding allows"
    what = "log-probabilities of them" if reading.logits is None else "logits"
    return (
        f"read back by {name}: {same} of {many} greedy tokens are those of the model{others}; "
        f"{what} are off by {probe.off(reading):.2g} at most (the standard deviation of logits is {probe.spread:.2g})"
    )
