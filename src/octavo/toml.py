"""`octavo.toml`: all that was asked and chosen for one training, in a form that people read and `--config` repeats."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octavo.config import RunConfig
from octavo.errors import ConfigError
from octavo.plain import as_dict, from_dict

NAME = "octavo.toml"


def dump(config: RunConfig) -> str:
    """A run's settings as TOML.

    >>> from octavo.config import ModelConfig, TrainConfig
    >>> print(dump(RunConfig(model=ModelConfig(), train=TrainConfig(steps=9, batch=2))).splitlines()[0])
    [model]
    """
    return "\n".join(_table(name, values) for name, values in as_dict(config).items())


def _table(name: str, values: Mapping[str, Any]) -> str:
    plain = [f"{key} = {_value(value)}" for key, value in values.items() if not isinstance(value, dict)]
    nested = [_table(f"{name}.{key}", value) for key, value in values.items() if isinstance(value, dict)]
    return "\n".join([f"[{name}]", *plain, "", *nested])


def _value(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)  # the shortest digits that read back as the same number
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's strings, numbers, lists are TOML's


def read(path: Path) -> dict[str, Any]:
    """A TOML file as plain values. Raises `ConfigError` where it cannot be read."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # a number of 5,000 digits is none of TOML's own errors
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error


def load(run: Path) -> RunConfig:
    """The settings of a run. Raises `ConfigError` where a setting is unknown or impossible."""
    return from_dict(RunConfig, read(run / NAME))
