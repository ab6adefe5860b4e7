"""Dataclasses as plain nested values, ready for TOML or JSON, and back; what does not fit is refused by name."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields, is_dataclass
from difflib import get_close_matches
from numbers import Integral, Real
from os import PathLike, fspath
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from octavo.errors import ConfigError

Config = TypeVar("Config")
WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    tuple: "texts in a list",
}
NAMES = {"Asked": "a training"}  # what a user knows a config by


def as_dict(config: object) -> dict[str, Any]:
    """A config as plain nested values, ready for TOML or JSON; what is `None` is left out."""
    if not is_dataclass(config) or isinstance(config, type):
        raise ConfigError(f"{config!r} is not a config")
    return _without_none(asdict(config))


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, dict) else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value is not None
    }


def simple(value: Any) -> Any:
    """Paths, and what NumPy and PyTorch have of numbers, as TOML and JSON know them: strings, plain numbers, lists.

    >>> from pathlib import Path
    >>> simple((Path("a.txt"), "b.txt")), simple([Path("a.txt")])
    (('a.txt', 'b.txt'), ['a.txt'])
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list):
        return list(map(simple, value))
    if isinstance(value, tuple):
        return tuple(map(simple, value))
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def from_dict(kind: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """Build a config of this kind from plain nested values; an unknown key is refused by name.

    >>> from octavo.config import ModelConfig
    >>> from_dict(ModelConfig, {"layer": 3})
    Traceback (most recent call last):
    octavo.errors.ConfigError: layer is no setting of ModelConfig; did you mean layers?
    """
    hints = get_type_hints(kind)
    check_names(kind, values, where)
    try:
        return kind(**{name: typed(hints[name], value, f"{where}{name}") for name, value in values.items()})
    except TypeError as error:
        raise ConfigError(f"{where or kind.__name__} is incomplete: {error}") from None


def check_names(kind: type, names: Iterable[str], where: str = "") -> None:
    """Raise `ConfigError` for the first name that no setting of this kind of config has."""
    known = {f.name for f in fields(kind)}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(known))}"
            raise ConfigError(f"{where}{name} is no setting of {NAMES.get(kind.__name__, kind.__name__)}; {hint}")


def typed(hint: Any, value: Any, name: str) -> Any:
    """A plain value as its type has it, a list as a tuple; raises `ConfigError` where it is of another."""
    choices = [hint] if get_origin(hint) not in (Union, UnionType) else list(get_args(hint))
    value = simple(value)
    for choice in choices:
        if isinstance(choice, type) and is_dataclass(choice) and isinstance(value, Mapping):
            return from_dict(choice, value, f"{name}.")
        if _fits(choice, value):
            return tuple(value) if get_origin(choice) is tuple else value
    raise ConfigError(f"{name} is {value!r}; give {_wanted(choices)}")


def _wanted(choices: list[Any]) -> str:
    if get_origin(choices[0]) is Literal:
        *first, last = get_args(choices[0])
        return f"{', '.join(first)} or {last}" if first else str(last)
    kinds = (get_origin(choice) or choice for choice in choices if choice is not NoneType)
    return " or ".join(WORDS.get(kind) or kind.__name__ for kind in kinds)


def _fits(hint: Any, value: Any) -> bool:
    if hint is Any:
        return True
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
