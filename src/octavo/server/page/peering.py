"""Looking into the models of a service: as they are, and as they were after a step that was kept."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from octavo import lens, looking
from octavo.fused import alone
from octavo.looking import Json, Look
from octavo.model import GPT
from octavo.saved import snapshot_file, snapshots, written_at
from octavo.scale import parameters
from octavo.server.page.lenses import (
    Asked,
    AttentionRequest,
    HeadsRequest,
    PartsRequest,
    RegenerateRequest,
    TextRequest,
)
from octavo.server.refused import RefusedError
from octavo.server.worker import Worker
from octavo.tokenizers import Tokenizer

SMALL = 2**23  # parameters: with another thread these are read no sooner where the browser wants a core too
KEPT = 3  # models, and looks, that the next question is likely to be about
GONE = "other_weights"  # the code of a refusal: whoever asked is to look anew

T = TypeVar("T")
Sources = Callable[[], Mapping[str, Path]]


@dataclass(frozen=True)
class Opened:
    """A model with its tokenizer, and when its weights were written."""

    model: GPT
    tokenizer: Tokenizer
    written: str


class Lenses:
    """The models that can be looked into, by the names that they are served by, and what was asked last.

    They are copies of their own, opened when they are first asked for: whoever listens to a model makes it slow. One
    question is answered at a time.
    """

    def __init__(self, sources: Sources) -> None:
        """`sources` gives the models' places by name, as they are at the moment."""
        self.sources = sources
        self._worker = Worker()
        self._opened: OrderedDict[tuple[object, ...], Opened] = OrderedDict()
        self._looks: OrderedDict[tuple[object, ...], Look] = OrderedDict()

    def place(self, name: str | None) -> tuple[str, Path]:
        """A model's name and folder, the first where none is said. Raises `RefusedError` where there is none."""
        places = self.sources()
        found = next(iter(places), None) if name is None else name
        if found is None or found not in places:
            there = ", ".join(places) or "none"
            raise RefusedError(404, f"no model {found!r:.80} can be looked into; there is {there}", param="model")
        return found, places[found]

    def look(self, asked: TextRequest) -> Json:
        """A text with what is seen of it first."""
        return self._see(asked, Look.overview)

    def heads(self, asked: HeadsRequest) -> Json:
        """All heads at a glance, and where those of a layer look if one is named."""

        def told(seen: Look) -> Json:
            layer = {} if asked.layer is None else {"attention": seen.attention(asked.layer)}
            return {"kinds": seen.by_head(), "thumbnails": seen.thumbnails(), **layer}

        return self._see(asked, told)

    def layers(self, asked: TextRequest) -> Json:
        """What each layer would say."""
        return self._see(asked, lambda seen: {"lens": seen.by_layer()})

    def attention(self, asked: AttentionRequest) -> Json:
        """Where a layer's heads look."""
        return self._see(asked, lambda seen: seen.attention(asked.layer))

    def parts(self, asked: PartsRequest) -> Json:
        """Who said a token."""
        return self._see(asked, lambda seen: seen.parts(asked.position, asked.token))

    def regenerate(self, asked: RegenerateRequest) -> Json:
        """How a text goes on with parts of the model off."""
        words: Json = {"max_new_tokens": asked.max_new_tokens, "temperature": asked.temperature, "seed": asked.seed}
        return self._ask(
            asked, lambda one: looking.regenerated(one.model, one.tokenizer, asked.text, asked.changes, **words)
        )

    def embedding_map(self, asked: Asked) -> Json:
        """The vocabulary as a map."""
        return self._ask(asked, lambda one: looking.mapped(one.model, one.tokenizer))

    def weights(self, asked: Asked) -> Json:
        """Figures of the weights, and how far they have come from the first that were kept."""
        _, place = self.place(asked.model)
        first = snapshots(place)[:1]
        before = self._ask(Asked(model=asked.model, step=first[0]), lambda one: one.model) if first else None
        state = dict(before.named_parameters()) if before else None
        found = self._ask(asked, lambda one: lens.matrices(one.model, state))
        return {"weights": [vars(matrix) | {"std": matrix.deviation} for matrix in found]}

    def _ask(self, asked: Asked, work: Callable[[Opened], T]) -> T:
        """Do something with the model that is asked for."""
        name, place = self.place(asked.model)

        def with_model() -> T:
            opened = self._open(name, place, asked)
            with alone(parameters(opened.model.config) < SMALL):
                return work(opened)

        return self._worker.do(with_model)

    def _open(self, name: str, place: Path, asked: Asked) -> Opened:
        """The weights that are asked for. Raises `RefusedError` where others stand there and these are forgotten."""
        now = str(written_at(place if asked.step is None else snapshot_file(place, asked.step)))
        key = (name, asked.step, asked.written or now)
        if key not in self._opened and asked.written not in (None, now):
            raise RefusedError(409, f"{name} has other weights by now; look at the text again", code=GONE)
        return kept(self._opened, key, lambda: Opened(*looking.open_model(place, asked.step), now))

    def _see(self, asked: TextRequest, work: Callable[[Look], Json]) -> Json:
        """Tell something of a look; the next question is most often about the same one."""

        def with_model(opened: Opened) -> Json:
            key = (id(opened.model), asked.text, tuple(sorted(asked.off)), asked.top)
            last = next(reversed(self._looks.values()), None)  # most often the same text but for a letter
            return work(kept(self._looks, key, lambda: looked(opened, asked, last))) | {"written": opened.written}

        return self._ask(asked, with_model)


def looked(opened: Opened, asked: TextRequest, last: Look | None) -> Look:
    """A look at what is asked, after another one."""
    words: Json = {"changes": asked.changes, "top": asked.top, "known": last and last.trace}
    return looking.look(opened.model, opened.tokenizer, asked.text, **words)


def kept(memory: OrderedDict[Any, T], key: Any, make: Callable[[], T]) -> T:
    """What is remembered under a key, made where it is not; the oldest is forgotten."""
    found = memory[key] if key in memory else make()
    memory[key] = found
    memory.move_to_end(key)
    while len(memory) > KEPT:
        memory.popitem(last=False)
    return found
