"""Tokenizers that put a space before a text, as SentencePiece does: what stands within the text gets none."""

import json
from typing import Any, Literal

from tokenizers import Tokenizer as Backend

Behind = Literal["nothing", "text", "special"]  # what stands right before a piece in the text that it is from


def without_prefix(backend: Backend, behind: Behind) -> Backend | None:
    """The same tokenizer for what stands behind text, or behind a special token; `None` where it makes no difference.

    >>> from tokenizers import models, normalizers
    >>> spaced = Backend(models.BPE())
    >>> spaced.normalizer = normalizers.Prepend("▁")
    >>> without_prefix(spaced, "text").normalizer, without_prefix(spaced, "special")
    (None, None)
    """
    if behind == "nothing":
        return None
    parts = {"normalizer": backend.normalizer, "pre_tokenizer": backend.pre_tokenizer}
    rules = {name: part and json.loads(part.__getstate__()) for name, part in parts.items()}  # without the vocabulary
    changed = {name: _changed(rule, behind) for name, rule in rules.items()}
    if changed == rules:
        return None
    return Backend.from_str(json.dumps(json.loads(backend.to_str()) | changed))


def _changed(rule: Any, behind: Behind) -> Any:
    """A step of a tokenizer, or several in one, without what puts the space there; `None` where nothing is left."""
    match rule, behind:
        case {"type": "Sequence"}, _:
            (name,) = {"normalizers", "pretokenizers"} & rule.keys()
            steps = [_changed(step, behind) for step in rule[name]]
            return rule | {name: [step for step in steps if step is not None]}
        case {"type": "Metaspace", "prepend_scheme": "first"}, _:  # behind a special token it is no longer the first
            return rule | {"prepend_scheme": "never"}
        case {"type": "Metaspace"}, "text":
            return rule | {"prepend_scheme": "never"}
        case {"type": "ByteLevel"}, "text":
            return rule | {"add_prefix_space": False}
        case {"type": "Prepend"}, "text":
            return None
    return rule
