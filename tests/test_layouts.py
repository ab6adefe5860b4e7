"""Names and settings of Hugging Face's layouts, read in both directions."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from octavo.config import GPT2, MODERN_1M, ModelConfig, RopeScaling
from octavo.errors import ConfigError
from octavo.layouts import LAYOUTS, Layout, layout_for, layout_of
from octavo.model import GPT

Models = Callable[..., GPT]
Configs = Callable[[str, int], ModelConfig]
CLASSES = {"gpt2": transformers.GPT2Config, "llama": transformers.LlamaConfig, "qwen3": transformers.Qwen3Config}
MODERN = ["llama", "qwen3"]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", CLASSES)
def test_out_and_back_is_bitwise(random_model: Models, drawn_config: Configs, kind: str, seed: int) -> None:
    model = random_model(drawn_config(kind, seed), dtype=torch.float32, seed=seed)
    layout, tied = layout_for(model.config), model.config.tied
    assert layout.from_hf_config(layout.to_hf_config(model.config)) == model.config
    theirs = layout.to_hf(model.state_dict(), tied=tied)
    assert all(weight.is_contiguous() for weight in theirs.values())
    back = dict(layout.from_hf(theirs, tied=tied))  # all of them at once
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(weight, back[name]) for name, weight in model.state_dict().items())
    assert len({weight.untyped_storage().data_ptr() for weight in back.values()}) == len(back) - tied


# settings


@pytest.mark.parametrize("kind", CLASSES)
def test_every_key_with_a_default_of_theirs_is_written(drawn_config: Configs, kind: str) -> None:
    config_class = CLASSES[kind]
    written = LAYOUTS[kind].to_hf_config(drawn_config(kind, 1), bos=3, eos=4, dtype="bfloat16")
    own = {one.name for one in fields(config_class)} - {one.name for one in fields(transformers.PreTrainedConfig)}
    assert own <= written.keys()
    assert {"architectures", "model_type", "dtype", "torch_dtype"} <= written.keys()
    read = config_class(**written).to_dict()
    spelled_otherwise = {"torch_dtype", "rope_theta", "rope_scaling"}
    assert {key: read[key] for key in written.keys() - spelled_otherwise} == {
        key: written[key] for key in written.keys() - spelled_otherwise
    }


@pytest.mark.parametrize("kind", CLASSES)
def test_a_key_that_is_left_out_means_what_it_means_to_transformers(kind: str) -> None:
    assert LAYOUTS[kind].from_hf_config({}) == LAYOUTS[kind].from_hf_config(CLASSES[kind]().to_dict())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", MODERN)
def test_both_spellings_of_rotary_settings_say_the_same(drawn_config: Configs, kind: str, seed: int) -> None:
    config = drawn_config(kind, seed)
    both = LAYOUTS[kind].to_hf_config(config)
    old = {key: value for key, value in both.items() if key != "rope_parameters"}
    new = {key: value for key, value in both.items() if key not in ("rope_theta", "rope_scaling")}
    for settings in (old, new):
        assert LAYOUTS[kind].from_hf_config(settings) == config
        assert CLASSES[kind](**settings).rope_parameters == both["rope_parameters"]


def test_published_models_are_known_for_what_they_are() -> None:
    gpt2 = {"model_type": "gpt2", "n_ctx": 1024, "activation_function": "gelu_new", "resid_pdrop": 0.1}
    assert layout_of(gpt2).from_hf_config(gpt2) == GPT2
    smollm2 = {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_hidden_layers": 30,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-05,
        "rope_interleaved": False,
        "rope_scaling": None,
        "rope_theta": 100000,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": 49152,
    }
    config = layout_of(smollm2).from_hf_config(smollm2)
    assert (config.dialect, config.qk_norm, config.head_width, config.rope_base) == ("modern", False, 64, 100000)
    llama3 = {
        "model_type": "llama",
        "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
    }
    scaling = RopeScaling(factor=32.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_context=8192)
    assert layout_of(llama3).from_hf_config(llama3).rope_scaling == scaling
    qwen3 = {"model_type": "qwen3", "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8}
    config = layout_of(qwen3).from_hf_config(qwen3)
    assert (config.head_width, config.qk_norm, config.tied) == (128, True, False)


def test_each_dialect_has_its_layout() -> None:
    assert layout_for(GPT2).architecture == "GPT2LMHeadModel"
    assert layout_for(MODERN_1M).architecture == "Qwen3ForCausalLM"
    assert layout_for(ModelConfig(dialect="modern", qk_norm=False)).architecture == "LlamaForCausalLM"


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
REFUSED = [
    (
        "gpt2",
        {"activation_function": "relu"},
        r"^activation_function is 'relu', which octavo's model cannot be; it can",
    ),
    ("gpt2", {"activation_function": "gelu"}, r"it can be 'gelu_new' or 'gelu_pytorch_tanh' or 'gelu_fast'$"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, r"^scale_attn_by_inverse_layer_idx is True"),
    ("gpt2", {"scale_attn_weights": False}, r"^scale_attn_weights is False"),
    ("gpt2", {"add_cross_attention": True}, r"^add_cross_attention is True"),
    ("gpt2", {"is_encoder_decoder": True}, r"^is_encoder_decoder is True"),
    ("gpt2", {"quantization_config": {"bits": 4}}, r"^quantization_config is \{'bits': 4\}"),
    ("gpt2", {"n_layer": "12"}, r"^layers is '12'; give a whole number$"),
    ("gpt2", {"n_embd": 770}, r"^width 770 does not divide into 12 heads"),
    ("llama", {"hidden_act": "gelu"}, r"^hidden_act is 'gelu'"),
    ("llama", {"attention_bias": True}, r"^attention_bias is True"),
    ("llama", {"mlp_bias": True}, r"^mlp_bias is True"),
    ("llama", {"rope_interleaved": True}, r"^rope_interleaved is True"),
    ("llama", {"partial_rotary_factor": 0.5}, r"^partial_rotary_factor is 0.5; octavo turns whole heads"),
    (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        r"^rope scaling of the kind 'linear' is not octavo's",
    ),
    ("llama", {"rope_parameters": {"rope_type": "yarn"}}, r"^rope scaling of the kind 'yarn' is not octavo's; it has"),
    ("llama", {"rope_scaling": "linear"}, r"^rope_scaling is 'linear'; it has to be an object or null$"),
    (
        "llama",
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        r"^rope scaling of the kind 'llama3' lacks low_freq_factor, high_freq_factor$",
    ),
    ("llama", {"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}}, r"^high_frequency_factor 1.0 is not above"),
    ("llama", {"rope_scaling": {**LLAMA3, "factor": "8"}}, r"^factor is '8'; give a number above zero"),
    ("llama", {"per_layer_config": {"0": {}}}, r"^per_layer_config is"),
    ("llama", {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": None}}, r"lacks original_max_position"),
    ("qwen3", {"use_sliding_window": True}, r"^use_sliding_window is True"),
    (
        "qwen3",
        {"layer_types": ["full_attention", "sliding_attention"]},
        r"^layer_types has 'sliding_attention'; octavo has full_attention alone",
    ),
    ("qwen3", {"layer_types": 3}, r"^layer_types is 3; it has to be a list or null$"),
    ("qwen3", {"head_dim": 7}, r"^head_width 7 is odd"),
]


@pytest.mark.parametrize(("kind", "settings", "message"), REFUSED)
def test_what_octavo_cannot_be_is_refused_by_name(kind: str, settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LAYOUTS[kind].from_hf_config(settings)


@pytest.mark.parametrize("model_type", ["mistral", None, 3])
def test_other_models_are_refused_by_name(model_type: Any) -> None:
    with pytest.raises(
        ConfigError, match=rf"^model_type is {model_type!r}, which octavo does not read; it reads gpt2, "
    ):
        layout_of({"model_type": model_type})


def test_a_width_that_llama_cannot_have_is_refused_before_it_is_written() -> None:
    config = ModelConfig(dialect="modern", width=50, heads=4, head_width=12, qk_norm=False)
    with pytest.raises(ConfigError, match=r"^width 50 does not divide into 4 heads, as Llama's layout wants; choose"):
        layout_for(config).to_hf_config(config)


# names and shapes


@pytest.fixture(params=CLASSES)
def written(
    request: pytest.FixtureRequest, random_model: Models, drawn_config: Configs
) -> tuple[Layout, dict[str, Tensor]]:
    config = ModelConfig(**{**vars(drawn_config(request.param, 0)), "tied": True})
    layout = layout_for(config)
    return layout, dict(layout.to_hf(random_model(config).state_dict(), tied=True))


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in state.items()}


def test_a_tied_output_may_be_there_or_not(written: tuple[Layout, dict[str, Tensor]]) -> None:
    layout, state = written
    assert "lm_head.weight" not in state
    embedding = next(iter(state.values()))
    for given in (state, {**state, "lm_head.weight": embedding.clone()}):
        layout.check(shapes(given), shapes(state))
        ours = layout.from_hf(given, tied=True)
        assert ours["unembed.weight"] is ours["embed.weight"]
    with pytest.raises(ConfigError, match=r"^lm_head.weight differs from the embedding, though the config says tie"):
        layout.from_hf({**state, "lm_head.weight": embedding + 1}, tied=True)


def test_a_model_saved_without_its_output_has_shorter_names(written: tuple[Layout, dict[str, Tensor]]) -> None:
    layout, state = written
    short = {name.removeprefix(layout.prefix): weight for name, weight in state.items()}
    layout.check(shapes(short), shapes(state))
    back = layout.from_hf(short, tied=True)
    assert all(torch.equal(weight, back[name]) for name, weight in layout.from_hf(state, tied=True).items())


def test_tables_that_older_versions_saved_are_passed_over(written: tuple[Layout, dict[str, Tensor]]) -> None:
    layout, state = written
    old = {name.format(0): torch.ones(1) for name in layout.buffers}
    layout.check(shapes({**state, **old}), shapes(state))
    assert layout.from_hf({**state, **old}, tied=True).keys() == layout.from_hf(state, tied=True).keys()


def test_weights_that_do_not_fit_are_refused_by_name(written: tuple[Layout, dict[str, Tensor]]) -> None:
    layout, state = written
    expected = shapes(state)
    names = list(expected)
    with pytest.raises(ConfigError, match=rf"^{names[1]} is missing from the weights$"):
        layout.check({name: shape for name, shape in expected.items() if name != names[1]}, expected)
    with pytest.raises(ConfigError, match=rf"^{names[0]}, {names[1]}, {names[2]} and \d+ more are missing"):
        layout.check({}, expected)
    with pytest.raises(ConfigError, match=rf"^{layout.prefix}extra.weight is not expected among the weights"):
        layout.check({**expected, f"{layout.prefix}extra.weight": (1,)}, expected)
    with pytest.raises(ConfigError, match=rf"^{names[0]} has the shape 1 x 2 where the config asks for \d+ x \d+$"):
        layout.check({**expected, names[0]: (1, 2)}, expected)
    with pytest.raises(ConfigError, match=r"^lm_head.weight has the shape 1 where the config asks for"):
        layout.check({**expected, "lm_head.weight": (1,)}, expected)


def test_a_name_without_a_place_is_refused_on_either_road(written: tuple[Layout, dict[str, Tensor]]) -> None:
    layout, state = written
    with pytest.raises(ConfigError, match=rf"^{layout.prefix}extra.weight is no weight of {layout.architecture}$"):
        layout.from_hf({**state, f"{layout.prefix}extra.weight": torch.ones(1)}, tied=True)
    with pytest.raises(ConfigError, match=rf"^extra.weight has no place in {layout.architecture}$"):
        layout.to_hf({"extra.weight": torch.ones(1)}, tied=True)
