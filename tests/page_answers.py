"""Answers in the shape of the page's contract, made here from a seed, for rooms whose other half is asked by hand."""

import base64
import json
import math
import random
import re
from typing import Any

import numpy as np

LAYERS, HEADS = 3, 4
KINDS = ("previous", "first", "same", "induction", "mixed")
WORDS = (" the", " a", " dog", " fox", " lazy", "\n", " over", "s", " quick", ".")
STEPS = (1, 10, 100, 1000)
Json = dict[str, Any]


def tokens_of(text: str) -> list[str]:
    """A text in pieces that join to it."""
    return re.findall(r" ?\w+|[^\w]", text)


def chances(draw: random.Random, count: int = 5) -> list[Json]:
    """The likeliest tokens, most probable first."""
    shares = sorted((draw.random() ** 2 for _ in range(count)), reverse=True)
    whole = sum(shares) * 1.3
    words = draw.sample(WORDS, count)
    return [
        {"id": WORDS.index(word), "text": word, "probability": share / whole}
        for word, share in zip(words, shares, strict=True)
    ]


def pattern(kind: str, size: int) -> np.ndarray:
    """Weights of one head, each row with the sum of 1."""
    query, key = np.mgrid[:size, :size]
    scores = {
        "previous": -2.0 * np.abs(query - 1 - key),
        "first": -1.5 * key,
        "same": -1.5 * np.abs(query - key),
        "induction": -2.0 * np.abs((query - key) - 9),
        "mixed": np.sin(query * 1.7 + key * 2.3),
    }[kind]
    weights = np.where(key <= query, np.exp(scores), 0.0)
    return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-9)


def kind_of(layer: int, head: int) -> str:
    return KINDS[(layer * 2 + head) % len(KINDS)]


def look(asked: Json) -> Json:
    """POST /page/look."""
    draw, words = random.Random(1), tokens_of(asked["text"])
    off = len(asked.get("off") or ())
    alternatives = [chances(draw) for _ in words]
    shares: list[float | None] = [None, *(draw.random() ** 2.5 + 1e-3 for _ in words[1:])]
    tokens = [
        {
            "id": 100 + index,
            "text": word,
            "probability": share,
            "surprise": None if share is None else -math.log2(share),
            "alternatives": [] if share is None else row,
        }
        for index, (word, share, row) in enumerate(zip(words, shares, alternatives, strict=True))
    ]
    size = min(len(words), 32)
    maps = [pattern(kind_of(layer, head), size) for layer in range(LAYERS) for head in range(HEADS)]
    return {
        "tokens": tokens,
        "next": chances(draw),
        "loss": 2.5 + off / 4,
        "layers": LAYERS,
        "heads": HEADS,
        "kinds": [[kind_entry(kind_of(layer, head)) for head in range(HEADS)] for layer in range(LAYERS)],
        "lens": [
            {
                "layer": layer,
                "says": [chances(draw, 3) for _ in words],
                "actual": [*(draw.random() for _ in words[1:]), None],
            }
            for layer in range(LAYERS + 1)
        ],
        "thumbnails": {"size": size, "data": encoded((np.stack(maps) * 255).astype(np.uint8))},
    }


def kind_entry(kind: str) -> Json:
    shares = {"previous": 0.1, "first": 0.2, "same": 0.05, "induction": 0.04}
    return {"kind": kind, **shares, **({kind: 0.83} if kind in shares else {})}


def encoded(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def attention(asked: Json) -> Json:
    """POST /page/attention."""
    size = len(tokens_of(asked["text"]))
    rows, columns = np.tril_indices(size)
    heads = [pattern(kind_of(asked["layer"], head), size)[rows, columns] for head in range(HEADS)]
    return {"heads": HEADS, "tokens": size, "data": encoded((np.stack(heads) * 65535).astype("<u2"))}


def regenerate(asked: Json) -> Json:
    """POST /page/regenerate."""
    before = " jumps over the lazy dog, and the dog looks up.\nThe fox is gone."
    after = " jumps over the the the the lazy the, and\nthe the."
    return {"before": {"text": before, "loss": 2.5}, "after": {"text": after, "loss": 2.5 + 0.25 * len(asked["off"])}}


def parts(asked: Json) -> Json:
    """POST /page/parts."""
    draw = random.Random(asked["token"])
    names = ["embedding", "norm bias"]
    names += [f"{layer}.{part}" for layer in range(LAYERS) for part in (*range(HEADS), "feed_forward")]
    values = [draw.gauss(0.3, 1.2) for _ in names]
    found = [{"name": name, "value": value} for name, value in zip(names, values, strict=True)]
    return {"logit": sum(values), "parts": found}


def token_map(asked: Json) -> Json:
    """POST /page/map."""
    draw = random.Random(f"{asked.get('step')}")
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,;!?\n"
    group = {
        letter: (2.0 * letter.isupper(), 1.5 * (letter.lower() in "aeiou") + 3.0 * (not letter.isalpha()))
        for letter in letters
    }
    points = [
        {
            "id": index,
            "text": letter,
            "x": group[letter][0] + draw.gauss(0, 0.5),
            "y": group[letter][1] + draw.gauss(0, 0.4),
        }
        for index, letter in enumerate(letters)
    ]
    return {"points": points, "explained": [0.21, 0.14]}


def weights(asked: Json) -> Json:
    """POST /page/weights."""
    draw = random.Random(2)
    names = ["embed.weight"]
    names += [
        f"blocks.{layer}.{part}.weight"
        for layer in range(LAYERS)
        for part in ("attention.q", "attention.out", "feed_forward.up")
    ]
    rows = [
        {
            "name": name,
            "shape": [64, 64],
            "mean": draw.gauss(0, 1e-3),
            "std": 0.02 + draw.random() / 10,
            "largest": draw.random(),
            "norm": 3 + draw.random(),
            "update": None if asked.get("step") == 1 else draw.random() * 2,
        }
        for name in names
    ]
    return {"weights": rows}


def learn(asked: Json) -> Json:
    """GET /page/learn."""
    draw = random.Random(3)
    losses = [2.1 + 5.2 * math.exp(-step / 60) + 1.2 / math.sqrt(step) for step in range(1, 701)]
    metrics: list[Json] = [
        {
            "step": step,
            "seconds": step * 0.21,
            "tokens": step * 8192,
            "lr": 1e-3,
            "train_loss": loss + draw.gauss(0, 0.09),
            "grad_norm": 1.0,
            "tokens_per_second": 39_000 + draw.random() * 900,
        }
        for step, loss in enumerate(losses, 1)
    ]
    for line in [*metrics[:1], *metrics[49::50]]:
        line["val_loss"] = losses[line["step"] - 1] + 0.06
    babble = [
        "eaoht  tnsi\nr",
        "The the sand of the the",
        "KING:\nWhat say you to the crown, my lord?\n\nQUEEN:\nIt sits ill.",
    ]
    return {
        "metrics": metrics,
        "samples": [{"step": step, "text": text} for step, text in zip((1, 100, 700), babble, strict=True)],
        "forecast": {"loss": 2.02, "spread": 0.07},
        "baselines": [
            {"name": "2-gram", "loss": 3.9},
            {"name": "3-gram", "loss": 2.86},
            {"name": "5-gram", "loss": 2.74},
        ],
        "settings": {"minutes": 5, "text": ["shakespeare"], "train": {"batch": 32, "lr": 0.001}},
        "running": False,
        "steps": 1000,
        "unit": "nats per token",
    }


def report(asked: Json) -> Json:
    """GET /page/report."""
    rows = [
        {"method": "octavo", "bits_per_byte": 2.11, "seconds": 12.5},
        {"method": "5-gram", "bits_per_byte": 2.48, "seconds": 1.1},
        {"method": "xz -9", "bits_per_byte": 2.62, "seconds": 0.4},
    ]
    told = {
        "summary": "On text that it never saw, this model needs 2.11 bits per byte, 15 % less than plain counting.",
        "compression": rows,
        "longest": [{"text": "two\nlines", "place": {"source": "a.txt", "line": 3}}],
        "samples": [{"prompt": "The ", "text": "crown", "overlaps": [{"start": 0, "end": 3}]}],
        "text": {"bytes": 55_770, "tokens": 31_200, "unknown": 0},
        "notes": ["The test part was read once.", "Something that nobody expected: fine."],
    }
    return {"ready": True, "progress": 1.0, "report": told}


ANSWERS = {
    "/page/look": look,
    "/page/attention": attention,
    "/page/regenerate": regenerate,
    "/page/parts": parts,
    "/page/map": token_map,
    "/page/weights": weights,
    "/page/learn": learn,
    "/page/report": report,
}


def answered(path: str, body: str | None) -> str:
    """The answer to a request of the page, as JSON."""
    return json.dumps(ANSWERS[path](json.loads(body or "{}")))
