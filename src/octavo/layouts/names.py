"""The names of weights: one table of theirs and ours, read in both directions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from octavo.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class Row:
    """One line of the table of names: a module of theirs, and the one or several of ours that it holds."""

    theirs: str
    ours: tuple[str, ...]  # more than one where theirs is fused: they stand below each other
    transposed: bool = False  # theirs is (in, out) where a linear layer is (out, in)


@dataclass(frozen=True, kw_only=True)
class Names:
    """The names that somebody else gives the weights of one kind of model, in both directions."""

    architecture: str
    rows: tuple[Row, ...]
    buffers: frozenset[str] = frozenset()  # tables that stand among the weights and are none

    def _to_theirs(self, state: Mapping[str, "Tensor"], *, tied: bool) -> dict[str, "Tensor"]:
        """Octavo's weights under their names; a tied output is not written, for it is the embedding."""
        rows = {name: row for row in self.rows for name in row.ours}
        theirs: dict[str, Tensor] = {}
        for name in state:
            module, layer, parameter = split_name(name)
            if module not in rows:
                raise ConfigError(f"{name} has no place in {self.architecture}")
            row = rows[module]
            if module == row.ours[0] and not (tied and module == "unembed"):
                parts = [state[join_name(ours, layer, parameter)] for ours in row.ours]
                theirs[join_name(row.theirs, layer, parameter)] = _joined(parts, row.transposed)
        return theirs

    def _from_theirs(self, state: Mapping[str, "Tensor"], *, tied: bool) -> dict[str, "Tensor"]:
        """Their weights under octavo's names. A tied output may be there or not.

        Raises `ConfigError` for a name that is not in the table, and for a tied output that is not the embedding.
        """
        rows = {row.theirs: row for row in self.rows}
        ours: dict[str, Tensor] = {}
        for name, given in self._full_names(state).items():
            module, layer, parameter = split_name(name)
            if module not in rows:
                raise ConfigError(f"{given} is no weight of {self.architecture}")
            names = [join_name(part, layer, parameter) for part in rows[module].ours]
            ours |= dict(zip(names, _parted(state[given], len(names), rows[module].transposed), strict=True))
        return _tie(ours) if tied else ours

    def check(self, found: Shapes, expected: Shapes) -> None:
        """Raise `ConfigError` if weights are missing, unexpected or of another shape than ours would have there."""
        names = self._full_names(found)
        missing = [name for name in expected if name not in names]
        if missing:
            raise ConfigError(f"{_named(missing)} missing from the weights")
        output = join_name(self._theirs("unembed"), "", "weight")
        unexpected = [given for name, given in names.items() if name not in expected and name != output]
        if unexpected:
            raise ConfigError(f"{_named(unexpected)} not expected among the weights of {self.architecture}")
        embedding = join_name(self._theirs("embed"), "", "weight")
        for name, given in names.items():
            wanted = expected.get(name, expected[embedding])
            if tuple(found[given]) != tuple(wanted):
                raise ConfigError(f"{given} has the shape {_by(found[given])} where the config asks for {_by(wanted)}")

    def _theirs(self, ours: str) -> str:
        return next(row.theirs for row in self.rows if ours in row.ours)

    def _full_names(self, names: Mapping[str, object]) -> dict[str, str]:
        """Each name as `rows` has it, with the name as it was given; buffers are left out."""
        return {name: name for name in names if LAYER.sub("{}", name) not in self.buffers}


def split_name(name: str) -> tuple[str, str, str]:
    """A name as module, layer and parameter.

    >>> split_name("blocks.3.attention.mix.weight")
    ('blocks.{}.attention.mix', '3', 'weight')
    """
    module, _, parameter = name.rpartition(".")
    layer = LAYER.search(module)
    return LAYER.sub("{}", module, count=1), layer.group() if layer else "", parameter


def join_name(module: str, layer: str, parameter: str) -> str:
    """The inverse of `split_name`."""
    return f"{module.format(layer)}.{parameter}"


def _joined(parts: list["Tensor"], transposed: bool) -> "Tensor":
    whole = parts[0]
    if len(parts) > 1:
        rows = [part.size(0) for part in parts]
        whole = whole.new_empty((sum(rows), *whole.shape[1:]))
        for place, part in zip(whole.split(rows), parts, strict=True):
            place.copy_(part)
    return whole.t().contiguous() if transposed else whole.contiguous()


def _parted(whole: "Tensor", count: int, transposed: bool) -> list["Tensor"]:
    whole = whole.t() if transposed else whole
    if count == 1:
        return [whole.contiguous()]
    return [part.clone().contiguous() for part in whole.chunk(count)]  # no two share memory


def _tie(ours: dict[str, "Tensor"]) -> dict[str, "Tensor"]:
    embedding = ours["embed.weight"]
    if "unembed.weight" in ours and not ours["unembed.weight"].equal(embedding):
        raise ConfigError("lm_head.weight differs from the embedding, though the config says tie_word_embeddings")
    return {**ours, "unembed.weight": embedding}


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _named(names: list[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''} are"
