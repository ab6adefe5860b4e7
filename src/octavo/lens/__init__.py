"""Looking inside a model: plain functions over what its taps let through. A lens changes no logit by a bit."""

from octavo.lens.changes import Changes, Part, parse, switched
from octavo.lens.heads import Head, head_kinds
from octavo.lens.matrices import Map, Matrix, embedding_map, matrices
from octavo.lens.parts import Share, contributions
from octavo.lens.saying import Choice, Read, Said, logit_lens, next_tokens, surprises
from octavo.lens.shown import Rows
from octavo.lens.trace import Trace, trace

__all__ = [
    "Changes",
    "Choice",
    "Head",
    "Map",
    "Matrix",
    "Part",
    "Read",
    "Rows",
    "Said",
    "Share",
    "Trace",
    "contributions",
    "embedding_map",
    "head_kinds",
    "logit_lens",
    "matrices",
    "next_tokens",
    "parse",
    "surprises",
    "switched",
    "trace",
]
