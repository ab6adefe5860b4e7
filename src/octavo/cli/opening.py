"""Opening a run for those who want text from it."""

from collections import Counter
from typing import TYPE_CHECKING, Literal

from octavo.names import few
from octavo.places import find_model

if TYPE_CHECKING:
    from octavo.model import GPT
    from octavo.tokenizers import Tokenizer


def open_run(
    name: str | None, *, rows: int = 1, quantize: Literal["int8"] | None = None, device: str = "auto"
) -> "tuple[GPT, Tokenizer]":
    """The model and the tokenizer of a run, by path or name, ready to write so many texts at once on a device."""
    place = find_model(name)  # before torch is imported: a wrong name is answered at once

    from octavo.devices import choose_device, placed
    from octavo.fused import fused
    from octavo.porting import load

    where = "cpu" if device == "auto" and quantize is not None else device
    choose_device(where)
    model, tokenizer = load(place)
    return fused(placed(model, where).eval(), rows=rows, quantize=quantize), tokenizer


def unknown_note(tokenizer: "Tokenizer", text: str) -> str:
    """Which pieces of a prompt the vocabulary has never seen, in one line; empty where it knows all."""
    from octavo.tokenizers import SimpleTokenizer

    if not isinstance(tokenizer, SimpleTokenizer):
        return ""
    counts = Counter(unknown.text for unknown in tokenizer.unknowns(text))
    if not counts:
        return ""
    shown = few([repr(piece) for piece, _ in counts.most_common()])
    return f"the model has never seen {shown}; it reads them as unknown"
