"""octavo.toml: what was asked and chosen, written and read back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo import toml
from octavo.config import DataConfig, ModelConfig, RopeScaling, RunConfig, TrainConfig
from octavo.errors import ConfigError

MODEL = ModelConfig(
    dialect="modern",
    layers=2,
    heads=2,
    width=32,
    rope_scaling=RopeScaling(factor=8, low_frequency_factor=1, high_frequency_factor=4, original_context=64),
)


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
    lr=st.floats(1e-9, 1e3),
    split=st.none() | st.floats(0.01, 0.99),
)
def test_every_setting_comes_back_as_it_was(texts: list[str], lr: float, split: float | None) -> None:
    config = RunConfig(
        model=MODEL,
        data=DataConfig(texts=tuple(texts), split=split),
        train=TrainConfig(steps=10, batch=4, lr=lr),
    )
    import tomllib

    from octavo.plain import from_dict

    assert from_dict(RunConfig, tomllib.loads(toml.dump(config))) == config


def test_a_run_is_loaded_from_its_folder_and_unknown_keys_are_refused(tmp_path: Path) -> None:
    config = RunConfig(model=MODEL, train=TrainConfig(steps=10, batch=4))
    path = tmp_path / toml.NAME
    path.write_text(toml.dump(config))
    assert toml.load(tmp_path) == config
    path.write_text(toml.dump(config).replace("batch =", "bacth ="))
    with pytest.raises(ConfigError, match=r"train\.bacth is no setting of TrainConfig; did you mean batch\?"):
        toml.load(tmp_path)


@pytest.mark.parametrize("content", [b"[model", b"\xff\xfe", b"x = {", b"x = " + b"[" * 50_000, b"x = " + b"9" * 5000])
def test_what_is_no_toml_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / toml.NAME).write_bytes(content)
    with pytest.raises(ConfigError, match=r"octavo\.toml cannot be read as TOML: "):
        toml.load(tmp_path)
