"""The names of weights: one table of theirs and ours, read in both directions."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from octavo.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


class Made(Mapping[str, "Tensor"]):
    """Weights that are made when they are asked for, and let go: a model of which no more than one part is in memory.

    A maker makes a weight, and those that it cannot be had without, which wait for the next to be asked for.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Mapping[str, "Tensor"]]]) -> None:
        self.makers = makers
        self.waiting: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> "Tensor":
        if name not in self.waiting:
            self.waiting.clear()  # before others are made
            self.waiting = dict(self.makers[name]())
        return self.waiting.pop(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)


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

    def _to_theirs(self, state: Mapping[str, "Tensor"], *, tied: bool) -> Made:
        """Octavo's weights under their names; a tied output is not written, for it is the embedding."""
        rows = {name: row for row in self.rows for name in row.ours}
        makers = {}
        for name in state:
            module, layer, parameter = split_name(name)
            if module not in rows:
                raise ConfigError(f"{name} has no place in {self.architecture}")
            row = rows[module]
            if module == row.ours[0] and not (tied and module == "unembed"):
                theirs = join_name(row.theirs, layer, parameter)
                names = [join_name(ours, layer, parameter) for ours in row.ours]
                makers[theirs] = partial(_joined, state, names, theirs, row.transposed)
        return Made(makers)

    def _from_theirs(self, state: Mapping[str, "Tensor"], *, tied: bool) -> Made:
        """Their weights under octavo's names. A tied output may be there or not.

        Raises `ConfigError` for a name that is not in the table, and for a tied output that is not the embedding.
        """
        rows = {row.theirs: row for row in self.rows}
        makers: dict[str, Callable[[], Mapping[str, Tensor]]] = {}
        for name, given in self._full_names(state).items():
            module, layer, parameter = split_name(name)
            if module not in rows:
                raise ConfigError(f"{given} is no weight of {self.architecture}")
            names = [join_name(part, layer, parameter) for part in rows[module].ours]
            makers |= dict.fromkeys(names, partial(_parted, state, given, names, rows[module].transposed))
        return _tie(makers) if tied else Made(makers)

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
        return {name: name for name in names if not self.is_buffer(name)}

    def is_buffer(self, name: str) -> bool:
        """Whether this is a table that stands among the weights and is none."""
        return LAYER.sub("{}", name) in self.buffers


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


def _joined(state: Mapping[str, "Tensor"], names: list[str], theirs: str, transposed: bool) -> dict[str, "Tensor"]:
    """One of their weights, of one or several of ours."""
    parts = [state[name].t() if transposed else state[name] for name in names]
    if len(parts) == 1:
        return {theirs: parts[0].contiguous()}
    axis = parts[0].dim() - 1 if transposed else 0
    sizes = [part.size(axis) for part in parts]
    shape = list(parts[0].shape)
    shape[axis] = sum(sizes)
    whole = parts[0].new_empty(shape)
    for place, part in zip(whole.split(sizes, axis), parts, strict=True):
        place.copy_(part)
    return {theirs: whole}


def _parted(state: Mapping[str, "Tensor"], given: str, names: list[str], transposed: bool) -> dict[str, "Tensor"]:
    """One or several of our weights, of one of theirs."""
    whole = state[given].t() if transposed else state[given]
    if len(names) == 1:
        return {names[0]: whole.contiguous()}
    parts = (part.new_empty(part.shape).copy_(part) for part in whole.chunk(len(names)))  # no two share memory
    return dict(zip(names, parts, strict=True))


def _tie(makers: Mapping[str, Callable[[], Mapping[str, "Tensor"]]]) -> Made:
    ours = Made(makers)
    if "unembed.weight" in makers and not ours["unembed.weight"].equal(ours["embed.weight"]):
        raise ConfigError("lm_head.weight differs from the embedding, though the config says tie_word_embeddings")
    return Made({**makers, "unembed.weight": lambda: {"unembed.weight": ours["embed.weight"]}})


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _named(names: list[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''} are"
