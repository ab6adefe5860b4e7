"""Who else could foretell the text after learning from the same: nobody, somebody who counts, and two compressors."""

import lzma
from collections.abc import Callable
from math import log
from typing import Protocol

import numpy as np

from octavo.data import Part
from octavo.data.sources import ignore
from octavo.data.survey import Progress
from octavo.events import Event
from octavo.ngrams import spread, surprises
from octavo.report.findings import Score
from octavo.report.readings import scored

Listener = Callable[[Event], None]
ORDER = 5
CHUNK = 1 << 18  # bytes compressed from one event to the next
COUNTED = 5_000_000  # tokens that n-grams are counted in: 600 MB of memory
COMPRESSED = 8_000_000  # bytes of training text that a compressor is given: half a minute for each
NAMES = ("unigrams", "bigrams", "trigrams", "4-grams", "5-grams")


def uniform(part: Part, vocab_size: int) -> Score:
    """Every token of the vocabulary as likely as any other."""
    return scored("all tokens alike", (len(part.tokens) - 1) * log(vocab_size), part)


def counted(learned: np.ndarray, part: Part, vocab_size: int, on_event: Listener = ignore) -> list[Score]:
    """Unigrams to 5-grams of the training tokens, smoothed after Kneser and Ney; none foretells the first token."""
    tokens = spread(learned, COUNTED)
    progress = Progress("counting n-grams", ORDER * len(tokens), on_event)
    found = []
    for name, nats in zip(NAMES, surprises(tokens, part.tokens, vocab_size, ORDER), strict=True):
        found.append(scored(name, float(nats[1:].sum()), part))
        progress.advance(len(tokens))
    progress.finish()
    return found


class Compressor(Protocol):
    """What xz and zstd have in common."""

    def compress(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...


def xz(learned: bytes, text: bytes, on_event: Listener = ignore) -> Score:
    """What a text adds to the training text in xz's strongest setting, with a window over both."""
    window = max(4096, len(learned) + len(text))
    chain = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": window, "pb": 0}]
    return _added("xz", lambda size: lzma.LZMACompressor(lzma.FORMAT_RAW, filters=chain), learned, text, on_event)


def zstd(learned: bytes, text: bytes, on_event: Listener = ignore) -> Score | None:
    """The same of zstd, or nothing where the package is not installed."""
    try:
        from zstandard import ZstdCompressionParameters, ZstdCompressor
    except ImportError:
        return None
    size = len(learned) + len(text)
    window = max(10, min(27, size.bit_length()))
    settings = ZstdCompressionParameters.from_level(22, source_size=size, window_log=window)
    compressor = ZstdCompressor(compression_params=settings)
    return _added("zstd", lambda size: compressor.compressobj(size=size), learned, text, on_event)


def _added(name: str, begin: Callable[[int], Compressor], learned: bytes, text: bytes, on_event: Listener) -> Score:
    progress = Progress(f"compressing with {name}", 2 * len(learned) + len(text), on_event)

    def size(content: bytes) -> int:
        compressor, total = begin(len(content)), 0
        for start in range(0, len(content), CHUNK):
            total += len(compressor.compress(content[start : start + CHUNK]))
            progress.advance(min(CHUNK, len(content) - start))
        return total + len(compressor.flush())

    added = max(1, size(learned + text) - size(learned))  # what only repeats may take nothing
    progress.finish()
    return Score(name, 8 * added / len(text))
