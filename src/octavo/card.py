"""A model's card: what it is, what it was trained on, how good it is and how it is used."""

import json
from pathlib import Path

from octavo import toml
from octavo.config import ModelConfig, RunConfig
from octavo.data.weights import WEIGHTS
from octavo.disk import read_json
from octavo.errors import OctavoError
from octavo.layouts import layout_for
from octavo.run import ORIGIN
from octavo.scale import parameters

CARD = """\
---
library_name: transformers
pipeline_tag: text-generation
tags: [octavo, {architecture}]{licence}
---

# {name}

A {architecture} of {parameters} parameters, {origin}: {layers} layers of width {width}, {heads} heads, a
context of {context} tokens, a vocabulary of {vocabulary}. Weights are stored as {rounding}.

## What it was trained on

{data}

## How good it is

{figures}

## How to use it

```python
from transformers import pipeline

print(pipeline("text-generation", "{name}")("Once upon a time"))
```

With octavo: {octavo}.

## What to know

It writes what its text taught it: what it says is not checked, and it may repeat what it has read.
"""


def model_card(config: ModelConfig, run: Path, name: str, rounding: str, *, sent: bool = False) -> str:
    """A model's card in Markdown, from what its run says; `name` is its folder's, or the hub's where it is `sent`."""
    fetched = f"`octavo import {name}`, then " if sent else ""
    trained, origin = _trained(run), _brought(run)
    return CARD.format(
        name=name,
        octavo=f'{fetched}`octavo generate {name.rpartition("/")[2]} "Once upon a time"`',
        origin=_origin(trained, origin),
        licence=_licence(origin),
        architecture=layout_for(config).architecture,
        parameters=f"{parameters(config):,}",
        layers=config.layers,
        width=config.width,
        heads=config.heads,
        context=config.context,
        vocabulary=config.vocab_size,
        rounding=rounding,
        data=_data(trained),
        figures=_figures(run),
    )


def _brought(run: Path) -> str | None:
    """Whose model it was before it was brought here."""
    try:
        origin = read_json(run / "config.json").get(ORIGIN)
    except OctavoError:
        return None
    return origin if isinstance(origin, str) else None


def _origin(trained: RunConfig | None, origin: str | None) -> str:
    if trained is not None and trained.train.start is None:
        return "trained with octavo"
    if trained is not None:
        return f"trained with octavo from the weights of {trained.train.start}"
    return "brought from elsewhere" if origin is None else f"which was {origin} and is under the licence of that"


def _licence(origin: str | None) -> str:
    return f"\nlicense: {WEIGHTS[origin].licence.lower()}" if origin in WEIGHTS else ""


def _trained(run: Path) -> RunConfig | None:
    try:
        return toml.load(run)
    except OctavoError:
        return None


def _data(trained: RunConfig | None) -> str:
    if trained is None or not trained.data.texts:
        return "The folder it comes from does not say."
    texts = ", ".join(Path(text).name for text in trained.data.texts)
    return f"{texts}, cut into tokens of the kind {trained.data.tokenizer}, with the seed {trained.train.seed}."


def _figures(run: Path) -> str:
    """The best evaluation of a training's log."""
    log = run / "metrics.jsonl"
    lines = log.read_text("utf-8", errors="replace").splitlines() if log.is_file() else []
    read = [found for line in lines if (found := _evaluation(line))]
    if not read:
        return "The folder it comes from does not say."
    best = min(read, key=lambda line: float(line["val_loss"]))
    return (
        f"On held-out text, after {best['step']} steps: {best['val_loss']:.4f} nats per token, "
        f"{best['val_nats_per_character']:.4f} nats per character, {best['val_bits_per_byte']:.4f} bits per byte."
    )


def _evaluation(line: str) -> dict[str, float] | None:
    """A line of the log, if it is one and speaks of held-out text."""
    try:
        found = json.loads(line)
        return {name: float(found[name]) for name in ("val_loss", *FIGURES)} | {"step": int(found["step"])}
    except (ValueError, KeyError, TypeError):
        return None


FIGURES = ("val_nats_per_character", "val_bits_per_byte")
