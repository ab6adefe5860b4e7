"""What somebody who only counts makes of a run's text: lines to hold a loss against, counted once beside all else."""

import json
import os
import threading
from contextlib import suppress
from math import log
from pathlib import Path
from typing import Any

from octavo import places
from octavo.data import reopen
from octavo.data.parts import VALIDATION_TOKENS
from octavo.disk import make_folder, read_json, write_file
from octavo.errors import OctavoError
from octavo.ngrams import spread, surprise

ORDER = 5
LEARNED = 1_200_000  # tokens counted at most
POLITE = 19  # the lowest priority there is
Baselines = list[dict[str, Any]]


class Counting:
    """The baselines of texts, each counted at its first asking, in a thread that gives way to all others."""

    def __init__(self) -> None:
        self._begun: set[str] = set()

    def of(self, fingerprint: str | None) -> Baselines | None:
        """What was counted in the text of this fingerprint; nothing yet where it is being counted, or cannot be."""
        if fingerprint is None or not fingerprint.isalnum():
            return None
        with suppress(OctavoError):
            return list(read_json(_file(fingerprint))["baselines"])
        if fingerprint not in self._begun:
            self._begun.add(fingerprint)
            threading.Thread(target=_count, args=[fingerprint], daemon=True).start()
        return None


def _file(fingerprint: str) -> Path:
    return places.cache() / "baselines" / f"{fingerprint}.json"


def _count(fingerprint: str) -> None:
    with suppress(AttributeError, OSError):  # on Linux a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), POLITE)
    with suppress(OctavoError, OSError):  # whoever asks again gets none, and misses a line on a picture
        counted = baselines(fingerprint)
        if counted is not None:
            make_folder(_file(fingerprint).parent)
            write_file(_file(fingerprint), json.dumps({"baselines": counted}) + "\n")


def baselines(fingerprint: str) -> Baselines | None:
    """The loss on held-out text of guessing and of n-grams, in nats per token; `None` without its tokens in the cache.

    Raises `DamagedError` where they are not what they were.
    """
    prepared = reopen(places.cache(), fingerprint)
    if prepared is None:
        return None
    learned, held_out = prepared.train.tokens, prepared.val.head(VALIDATION_TOKENS).tokens
    counted = surprise(spread(learned, LEARNED), held_out, ORDER)
    named = {f"{order}-gram": loss for order, loss in enumerate(counted, 1)}
    return [
        {"name": name, "loss": round(loss, 4)}
        for name, loss in {"uniform": log(prepared.tokenizer.vocab_size), **named}.items()
    ]
