"""Texts: found, brought into tokens once, and read in batches that depend on nothing but the seed and the step."""

from octavo.data.batches import Batches, windows
from octavo.data.corpora import CORPORA, DEFAULT_CORPUS, Corpus, fetch, fetch_gpt2_vocabulary
from octavo.data.parts import Part
from octavo.data.sources import Document, Sources, find_texts
from octavo.data.store import Prepared, prepare, reopen

__all__ = [
    "CORPORA",
    "DEFAULT_CORPUS",
    "Batches",
    "Corpus",
    "Document",
    "Part",
    "Prepared",
    "Sources",
    "fetch",
    "fetch_gpt2_vocabulary",
    "find_texts",
    "prepare",
    "reopen",
    "windows",
]
