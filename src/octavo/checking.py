"""What a config makes of the values that it is given: plain ones, or one line that says what is wrong with one."""

from dataclasses import fields
from sys import float_info
from typing import Any, get_type_hints

from octavo.errors import ConfigError
from octavo.plain import simple, typed


def simplify(config: Any) -> None:
    """Turn NumPy's numbers and paths into plain ones."""
    for f in fields(config):
        object.__setattr__(config, f.name, simple(getattr(config, f.name)))


def fill(config: Any, **derived: Any) -> None:
    """Give values to what was left out."""
    for name, value in derived.items():
        if getattr(config, name) is None:
            object.__setattr__(config, name, value)


def check_types(config: object) -> None:
    """Raise `ConfigError` unless each value is of the type that stands beside its name."""
    for name, hint in get_type_hints(type(config)).items():
        object.__setattr__(config, name, typed(hint, getattr(config, name), name))


def check_seed(config: Any) -> None:
    """Raise `ConfigError` for a seed below zero."""
    if config.seed is not None and config.seed < 0:
        raise ConfigError(f"seed is {config.seed}; give zero or a positive number")


def check_positive(config: object, *names: str) -> None:
    """Raise `ConfigError` unless these are numbers above zero."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= float_info.max:
            raise ConfigError(f"{name} is {value!r}; give a number above zero")


def given(config: object, *names: str) -> list[str]:
    """Those of the names that were not left out."""
    return [name for name in names if getattr(config, name) is not None]


def check_whole(config: object, *names: str) -> None:
    """Raise `ConfigError` unless these are whole numbers above zero."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{name} is {value!r}; give a whole number")
    check_positive(config, *names)


def check_either(config: object, *names: str) -> None:
    """Raise `ConfigError` unless these are true or false."""
    for name in names:
        if not isinstance(getattr(config, name), bool):
            raise ConfigError(f"{name} is {getattr(config, name)!r}; give True or False")
