"""A text as a model sees it, all lenses together: for the terminal, for a file, for the page."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from octavo import lens
from octavo.checkpoint import open_kept
from octavo.completion import completions, opened
from octavo.errors import ConfigError
from octavo.lens import Changes, Choice, Head, Read, Rows, Said, Trace
from octavo.lens.shown import plain
from octavo.model import GPT
from octavo.porting import open_parts
from octavo.tokenizers import BPETokenizer, Tokenizer

LONGEST = 1024  # tokens that are looked at together: there are as many weights as their square, in every head
THUMBNAIL = 32  # numbers along a side
Json = dict[str, Any]


def spelled(tokenizer: Tokenizer, token: int) -> str:
    """A token as text: a special one by its name, bytes that are but a part of a character by their numbers."""
    if token >= tokenizer.vocab_size:  # models are made wider than their vocabulary, to a round number
        return f"[{token}]"
    if isinstance(tokenizer, BPETokenizer) and (own := tokenizer.token_bytes(token)):
        return own.decode("utf-8", errors="backslashreplace")
    return tokenizer.decode([token], special=True)


@dataclass(frozen=True, eq=False)
class Look:
    """A text as a model sees it. What is not asked for is not computed."""

    tokenizer: Tokenizer
    trace: Trace
    top: int = 5
    left_out: int = 0  # tokens at the beginning of the text that there was no room for
    _spelled: dict[int, str] = field(default_factory=dict)

    @cached_property
    def reads(self) -> list[Read]:
        """Each token with its surprise and its alternatives."""
        return lens.surprises(self.trace, self.top)

    @cached_property
    def following(self) -> Rows[Choice]:
        """The likeliest tokens after the text."""
        return lens.next_tokens(self.trace, self.top)

    @cached_property
    def kinds(self) -> Rows[Rows[Head]]:
        """What each head tends to do."""
        return lens.head_kinds(self.trace)

    @cached_property
    def said(self) -> list[Said]:
        """What each layer would say after each token."""
        return lens.logit_lens(self.trace)

    def spell(self, token: int) -> str:
        """A token as text."""
        if token not in self._spelled:
            self._spelled[token] = spelled(self.tokenizer, token)
        return self._spelled[token]

    @property
    def texts(self) -> list[str]:
        """The tokens of the text, as text."""
        return [self.spell(token) for token in self.trace.tokens.tolist()]

    def choice(self, choice: Choice) -> Json:
        """A choice with its text."""
        return {"id": choice.id, "text": self.spell(choice.id), "probability": choice.probability}

    def choices(self, choices: Sequence[Choice]) -> list[Json]:
        """Choices with their texts."""
        return [self.choice(choice) for choice in choices]

    def _repr_html_(self) -> str:
        """The text in the colours of its surprise, for a notebook; a token's bits are shown where one points at it."""
        tokens = [span(self.spell(read.id), read.surprise) for read in self.reads]
        heads = self.kinds._repr_html_()
        return f'<pre style="white-space:pre-wrap">{"".join(tokens)}</pre>{self.trace._repr_html_()}{heads}'

    def to_dict(self) -> Json:
        """All of it, ready for JSON."""
        return {**self.overview(), "kinds": self.by_head(), "lens": self.by_layer()}

    def overview(self) -> Json:
        """What is seen first, ready for JSON: the tokens, and what might come next."""
        config = self.trace.model.config
        return {
            "tokens": [self._read(read) for read in self.reads],
            "next": self.choices(self.following),
            "loss": self.trace.loss,
            "layers": config.layers,
            "heads": config.heads,
        }

    def by_head(self) -> list[list[Json]]:
        """What each head tends to do, ready for JSON."""
        return [[{"kind": head.kind, **head.shares} for head in layer] for layer in self.kinds]

    def by_layer(self) -> list[Json]:
        """What each layer would say, ready for JSON."""
        return [self._layer(layer) for layer in self.said]

    def _read(self, read: Read) -> Json:
        return {
            "id": read.id,
            "text": self.spell(read.id),
            "probability": read.probability,
            "surprise": read.surprise,
            "alternatives": self.choices(read.alternatives),
        }

    def _layer(self, said: Said) -> Json:
        return {
            "layer": said.layer,
            "says": [self.choices(choices) for choices in said.choices],
            "actual": list(said.actual),
        }

    def thumbnails(self) -> Json:
        """Every head's weights, small: the largest of each square, from 0 to 255."""
        size = min(len(self.trace), THUMBNAIL)
        pooled = torch.stack([shrunk(self.trace.weights(n), size) for n in range(self.trace.model.config.layers)])
        return {"size": size, "data": packed((pooled * 255).round().to(torch.uint8))}

    def attention(self, layer: int) -> Json:
        """The weights of a layer's heads, all that can be other than zero: each row up to itself, × 65,535."""
        weights = self.trace.weights(layer)
        rows, columns = torch.tril_indices(*weights.shape[1:], device=weights.device)
        lower = weights.flatten(1).index_select(1, rows * weights.size(2) + columns)
        values = (lower.float() * 65535).round().to(torch.uint16)
        return {"heads": weights.size(0), "tokens": weights.size(1), "data": packed(values)}

    def parts(self, position: int, token: int) -> Json:
        """A logit and what it is the sum of."""
        shares = lens.contributions(self.trace, position, token)
        return {
            "logit": self.trace.logits[position, token].item(),
            "parts": [{"name": share.name, "value": share.value} for share in shares],
        }


def span(text: str, bits: float | None) -> str:
    """A token as HTML, in the strength of its surprise."""
    strength = min((bits or 0.0) / 8, 1.0)
    style = f"background:rgba(234,88,12,{strength:.2f})"
    return f'<span title="{escape(text)}: {plain(bits)} bits" style="{style}">{escape(text)}</span>'


def shrunk(squares: Float[Tensor, "H T T"], size: int) -> Float[Tensor, "H N N"]:
    """The largest of each part, as torch's adaptive_max_pool2d has it, which takes far longer."""
    whole = squares.size(-1)
    first = torch.arange(size, device=squares.device) * whole // size
    last = (torch.arange(1, size + 1, device=squares.device) * whole - 1) // size
    longest = int((last - first).max()) + 1
    places = torch.minimum(first[:, None] + torch.arange(longest, device=squares.device), last[:, None]).flatten()
    for dim in (1, 2):  # rows first, which lie together
        squares = squares.index_select(dim, places).unflatten(dim, (size, longest)).amax(dim + 1)
    return squares


def packed(values: Tensor) -> str:
    """Whole numbers as base64, little end first."""
    array = values.cpu().contiguous().numpy()
    return b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode("ascii")


def open_model(place: Path, step: int | None = None) -> tuple[GPT, Tokenizer]:
    """A model to look into, as it is or as it was after a step of its training, and its tokenizer.

    A training without a model yet shows the weights that it kept last. Those of half precision become float32, in
    which nothing is hidden. Raises `RunError` where there are no such weights.
    """
    if step is None and (place.is_file() or (place / "config.json").is_file()):
        parts, tokenizer = open_parts(place)
        return replace(parts, dtype=torch.promote_types(parts.dtype, torch.float32)).whole(), tokenizer
    return open_kept(place, step)


def look(
    model: GPT,
    tokenizer: Tokenizer,
    text: str,
    *,
    changes: Changes | None = None,
    top: int = 5,
    newest: bool = False,
    known: Trace | None = None,
) -> Look:
    """Look at a text, with parts of the model switched as `changes` says, from where it goes on otherwise than `known`.

    Raises `ConfigError` for a text that is too long, unless its newest part is to do, and for parts that there are not.
    """
    if not isinstance(top, int) or not 1 <= top <= 100:
        raise ConfigError(f"top is {top!r:.40}; give 1 to 100")
    ids = opened(tokenizer, text)
    room = min(model.config.context, LONGEST)
    left_out = max(0, len(ids) - room)
    if left_out and not newest:
        raise ConfigError(f"the text has {len(ids)} tokens and {room} can be looked at together; shorten it")
    return Look(tokenizer, lens.trace(model, ids[left_out:], changes, known), top, left_out)


def regenerated(
    model: GPT,
    tokenizer: Tokenizer,
    text: str,
    changes: Mapping[str, float],
    *,
    max_new_tokens: int = 60,
    temperature: float = 0.0,
    seed: int = 0,
) -> Json:
    """How a text goes on, and what it costs, as the model is and with parts of it switched."""
    seen = look(model, tokenizer, text, newest=True)

    def written(changes: Mapping[str, float]) -> Json:
        with lens.switched(model, changes, everywhere=False):
            loss = lens.trace(model, seen.trace.tokens.tolist()).loss
            words: Json = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
            return {"text": completions(model, tokenizer, text, **words)[0].text, "loss": loss}

    return {"before": written({}), "after": written(changes)}


def mapped(model: GPT, tokenizer: Tokenizer, most: int = 500) -> Json:
    """The first tokens of a vocabulary as points of a map."""
    found = lens.embedding_map(model)
    count = min(most, tokenizer.vocab_size)
    points = found.points[:count].tolist()
    return {
        "points": [
            {"id": token, "text": spelled(tokenizer, token), "x": x, "y": y} for token, (x, y) in enumerate(points)
        ],
        "explained": list(found.explained),
    }
