"""What can be asked of a model, its data and its training, and what is said about the rest."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.config import (
    GPT2,
    GPT2_LARGE,
    GPT2_MEDIUM,
    GPT2_XL,
    Asked,
    DataConfig,
    ModelConfig,
    RopeScaling,
    RunConfig,
    TrainConfig,
)
from octavo.errors import ConfigError
from octavo.plain import as_dict, from_dict
from octavo.toml import dump

SCALING = RopeScaling(factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_context=8192)


def test_without_more_a_model_is_gpt2_of_2019() -> None:
    assert ModelConfig() == GPT2
    assert (GPT2.vocab_size, GPT2.context, GPT2.feed_forward, GPT2.head_width) == (50257, 1024, 3072, 64)
    assert [preset.head_width for preset in (GPT2_MEDIUM, GPT2_LARGE, GPT2_XL)] == [64, 64, 64]
    assert GPT2.biased and not GPT2.rotary and not GPT2.gated and GPT2.tied


def test_what_is_not_given_follows_from_the_rest() -> None:
    modern = ModelConfig(dialect="modern", heads=6, width=96)
    assert (modern.kv_heads, modern.head_width, modern.feed_forward) == (6, 16, 256)
    assert modern.qk_norm and modern.rotary and modern.gated and not modern.biased
    assert ModelConfig(dialect="modern", heads=5, width=96, head_width=8).head_width == 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dialect": "t5"}, r"^dialect is 't5'; octavo speaks gpt2 and modern$"),
        ({"layers": 0}, r"^layers is 0; give a number above zero$"),
        ({"width": -64}, r"^width is -64; give a number above zero$"),
        ({"context": float("nan")}, r"^context is nan; give a whole number$"),
        ({"vocab_size": True}, r"^vocab_size is True; give a whole number$"),
        ({"heads": "12"}, r"^heads is '12'; give a whole number$"),
        ({"layers": 2.5}, r"^layers is 2.5; give a whole number$"),
        ({"feed_forward": 2.5}, r"^feed_forward is 2.5; give a whole number$"),
        ({"tied": "no"}, r"^tied is 'no'; give True or False$"),
        ({"dialect": "modern", "qk_norm": "yes"}, r"^qk_norm is 'yes'; give True or False$"),
        (
            {"dialect": "modern", "rope_scaling": {"factor": 2}},
            r"^rope_scaling is \{'factor': 2\}; give a RopeScaling$",
        ),
        ({"dialect": "modern", "rope_base": 10**400}, r"^rope_base is 10+; give a number above zero$"),
        ({"norm_epsilon": 0.0}, r"^norm_epsilon is 0.0; give a number above zero$"),
        ({"context": 2**22 + 1}, r"^context 4194305 is longer than 4194304 tokens; choose a shorter one$"),
        ({"width": 384, "heads": 5}, r"^width 384 does not divide into 5 heads; choose a multiple$"),
        ({"kv_heads": 4}, r"^kv_heads 4 differ from heads 12; that takes the modern dialect$"),
        ({"head_width": 32}, r"^head_width 32 is not width / heads; that takes the modern dialect$"),
        ({"qk_norm": True}, r"^qk_norm and rope_scaling belong to the modern dialect; leave them out for gpt2$"),
        ({"rope_scaling": SCALING}, r"^qk_norm and rope_scaling belong to the modern dialect"),
        ({"dialect": "modern", "kv_heads": 5}, r"^12 heads do not divide into 5 kv_heads; choose a divisor$"),
        ({"dialect": "modern", "head_width": 7}, r"^head_width 7 is odd; rotary positions turn pairs, choose an even"),
        ({"dialect": "modern", "rope_base": float("inf")}, r"^rope_base is inf; give a number above zero$"),
    ],
)
def test_an_impossible_shape_is_said_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**values)


def test_a_shape_has_no_other_settings_than_it_has() -> None:
    with pytest.raises(ConfigError, match=r"^layer is no setting of ModelConfig; did you mean layers\?$"):
        GPT2.but(layer=3)


def test_rotary_scaling_needs_its_factors_in_order() -> None:
    line = r"^high_frequency_factor 1\.0 is not above low_frequency_factor 1\.0; give them in that order$"
    with pytest.raises(ConfigError, match=line):
        RopeScaling(factor=8.0, low_frequency_factor=1.0, high_frequency_factor=1.0, original_context=8)
    with pytest.raises(ConfigError, match=r"^factor is -1; give a number above zero$"):
        RopeScaling(factor=-1, low_frequency_factor=1.0, high_frequency_factor=4.0, original_context=8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": 1.0}, r"^split is 1.0; give the training part as a fraction between 0 and 1$"),
        ({"split": float("nan")}, r"^split is nan; give the training part"),
        ({"split": 0.9, "val": "b.txt"}, r"^split and val both say what to validate on; give one of them$"),
        ({"split": "most"}, r"^split is 'most'; give a number$"),
        ({"texts": "a.txt"}, r"^texts is 'a.txt'; give texts in a list$"),
        ({"tokenizer": "tiktoken"}, r"^tokenizer is 'tiktoken'; give character, word or bpe$"),
        ({"vocab_size": 0}, r"^vocab_size is 0; give a number above zero$"),
    ],
)
def test_impossible_data_is_said_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, r"^steps is 0; give a number above zero$"),
        ({"batch": 2.5}, r"^batch is 2.5; give a whole number$"),
        ({"lr": float("inf")}, r"^lr is inf; give a number above zero$"),
        ({"minutes": -1.0}, r"^minutes is -1.0; give a number above zero$"),
        ({"dropout": 1.0}, r"^dropout is 1.0; give a fraction from 0 to 1$"),
        ({"warmup": float("nan")}, r"^warmup is nan; give a fraction from 0 to 1$"),
        ({"decay": 1.5}, r"^decay is 1.5; give a fraction from 0 to 1$"),
        ({"weight_decay": -0.1}, r"^weight_decay is -0.1; give zero or more$"),
        ({"compile": "no"}, r"^compile is 'no'; give True or False$"),
        ({"optimizer": "sgd"}, r"^optimizer is 'sgd'; give muon or adamw$"),
        ({"dtype": "fp16"}, r"^dtype is 'fp16'; give float32, bfloat16 or float64$"),
        ({"seed": -1}, r"^seed is -1; give zero or a positive number$"),
        ({"seed": "a"}, r"^seed is 'a'; give a whole number$"),
        ({"pack": "lines"}, r"^pack is 'lines'; give documents$"),
        ({"weight_decay": "a"}, r"^weight_decay is 'a'; give a number$"),
        ({"micro_batches": 9}, r"^9 micro_batches are more than the 8 rows of a batch"),
    ],
)
def test_an_impossible_training_is_said_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**{"steps": 10, "batch": 8, **values})


def test_a_row_is_no_longer_than_the_model_sees() -> None:
    with pytest.raises(ConfigError, match=r"^window 9 is longer than the context 8; shorten it$"):
        RunConfig(model=ModelConfig(context=8), train=TrainConfig(steps=10, batch=8, window=9))
    with pytest.raises(ConfigError, match=r"^model is 3; give ModelConfig$"):
        RunConfig(model=3, train=TrainConfig(steps=10, batch=8))  # type: ignore[arg-type]


def test_the_rate_and_the_weight_decay_follow_from_the_optimizer() -> None:
    muon, adamw = TrainConfig(steps=1, batch=1), TrainConfig(steps=1, batch=1, optimizer="adamw")
    assert (muon.lr, muon.weight_decay) == (0.02, 0.0)
    assert (adamw.lr, adamw.weight_decay) == (1e-3, 0.1)
    asked = TrainConfig(steps=1, batch=1, lr=0.5, weight_decay=0.3)
    assert (asked.lr, asked.weight_decay) == (0.5, 0.3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"minutes": 0}, r"^minutes is 0; give a number above zero$"),
        ({"seed": -1}, r"^seed is -1; give zero or a positive number$"),
    ],
)
def test_what_a_user_asks_is_checked_at_once(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Asked(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dialect": "gpt3"}, r"^dialect is 'gpt3'; give gpt2 or modern$"),
        ({"tokenizer": "x"}, r"^tokenizer is 'x'; give character, word or bpe$"),
        ({"shuffle": "lines"}, r"^shuffle is 'lines'; give documents$"),
        ({"steps": 2.5}, r"^steps is 2.5; give a whole number$"),
        ({"lr": "fast"}, r"^lr is 'fast'; give a number$"),
        ({"val": 3}, r"^val is 3; give a text$"),
    ],
)
def test_what_is_asked_amiss_is_told_what_there_is_to_choose(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(Asked, values)


def test_numbers_of_numpy_and_paths_are_kept_as_plain_ones() -> None:
    config = RunConfig(
        model=ModelConfig(width=np.int64(8), heads=np.int32(2)),
        data=DataConfig(texts=(Path("a.txt"),), val=Path("b.txt")),  # type: ignore[arg-type]
        train=TrainConfig(steps=np.int64(1), batch=1, dropout=np.float64(0.5)),
    )
    assert from_dict(RunConfig, tomllib.loads(dump(config))) == config
    assert type(config.model.width) is int and config.data.texts == ("a.txt",)
    assert from_dict(Asked, {"width": np.int64(8), "val": Path("b.txt")}) == Asked(width=8, val="b.txt")


def test_a_config_is_plain_values_and_back() -> None:
    config = RunConfig(
        model=ModelConfig(dialect="modern", rope_scaling=SCALING),
        data=DataConfig(texts=("a.txt", "b.txt"), split=0.9),
        train=TrainConfig(steps=10, batch=4),
    )
    plain = as_dict(config)
    assert plain["data"]["texts"] == ["a.txt", "b.txt"] and "val" not in plain["data"]
    assert from_dict(RunConfig, plain) == config
    with pytest.raises(ConfigError, match=r"^3 is not a config$"):
        as_dict(3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"layer": 3}}, r"^model.layer is no setting of ModelConfig; did you mean layers\?$"),
        ({"zzz": 3}, r"^zzz is no setting of RunConfig; it has data, model, train$"),
        ({"model": {"layers": "3"}}, r"^model.layers is '3'; give a whole number$"),
        ({"model": {"layers": True}}, r"^model.layers is True; give a whole number$"),
        ({"model": {"norm_epsilon": "small"}}, r"^model.norm_epsilon is 'small'; give a number$"),
        ({"model": {"dialect": "t5"}}, r"^model.dialect is 't5'; give "),
        ({"model": {"rope_scaling": {"factor": 8.0}}}, r"^model.rope_scaling. is incomplete: "),
        ({"data": {"texts": [1]}}, r"^data.texts is \[1\]; give "),
        ({"model": {}}, r"^RunConfig is incomplete: .*'train'"),
    ],
)
def test_an_unknown_or_wrong_setting_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(RunConfig, values)
