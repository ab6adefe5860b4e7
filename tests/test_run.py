"""A run is one folder that transformers opens as it stands, and octavo opens what Hugging Face wrote."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from torch import Tensor

import octavo
from octavo.config import ModelConfig
from octavo.errors import ConfigError, RunError, SaveError
from octavo.model import GPT, FeedForward
from octavo.run import load, load_model, save, save_model
from octavo.tokenizers import SimpleTokenizer
from warm import Warm

Models = Callable[..., GPT]
TEXT = "the quick brown fox"


@pytest.fixture
def saved(model: GPT, run: Path) -> Path:
    """A run in each layout in turn."""
    save_model(model.float(), run, end_of_text=0)
    return run


def state_of(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(weight, other[name]) for name, weight in one.items())


# out and back


def test_a_model_comes_back_to_the_bit(model: GPT, run: Path, tokens: Tensor) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        save_model(model.to(dtype), run)
        back = load_model(run)
        assert back.config == model.config and not back.training
        assert back.embed.weight.dtype == dtype and same(state_of(model), state_of(back))
        assert (back.unembed.weight is back.embed.weight) == model.config.tied
        assert torch.equal(back(tokens), model(tokens))
        assert all(weight.requires_grad for weight in back.parameters())


def test_a_run_can_be_written_in_fewer_bits_than_it_was_trained_in(model: GPT, run: Path) -> None:
    save_model(model.float(), run, dtype=torch.bfloat16)
    assert load_model(run).embed.weight.dtype == torch.bfloat16
    assert transformers.AutoModelForCausalLM.from_pretrained(run).dtype == torch.bfloat16
    assert model.embed.weight.dtype == torch.float32


def test_a_model_with_other_weights_than_its_config_says_is_not_written(model: GPT, run: Path) -> None:
    model.blocks[0].register_parameter("added", torch.nn.Parameter(torch.zeros(2)))
    with pytest.raises(ConfigError, match=r"blocks\.0\.added is a weight of the model or of its config alone; "):
        save_model(model, run)
    del model.blocks[0].added
    model.unembed.weight = torch.nn.Parameter(model.embed.weight + 1)
    if model.config.tied:
        with pytest.raises(ConfigError, match="the output has weights of its own where the config ties it to the emb"):
            save_model(model, run)
    assert not run.exists()


@pytest.mark.parametrize("how", ["class", "function", "model"])
def test_a_model_that_computes_something_else_is_not_written(model: GPT, run: Path, how: str) -> None:
    class Loud(FeedForward):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    class Doubled(GPT):
        def forward(self, *given: Any) -> torch.Tensor:
            return 2 * super().forward(*given)

    class Named(GPT):
        name = "mine"

    plain = deepcopy(model)
    if how == "class":
        model.blocks[1].feed_forward.__class__ = Loud
    elif how == "function":
        model.blocks[1].feed_forward.forward = lambda x: x
    else:
        model.__class__ = Doubled
    name = "the model" if how == "model" else r"blocks\.1\.feed_forward"
    with pytest.raises(ConfigError, match=f"^{name} computes what no config tells; write such a model by torch.save, "):
        save_model(model, run)
    assert not run.exists()
    plain.load_state_dict(model.state_dict())
    plain.dropout, plain.__class__ = torch.nn.Identity(), Named
    save_model(plain, run)
    assert same(state_of(model), state_of(load_model(run)))


def test_a_compiled_model_is_saved_as_what_it_was_made_of(model: GPT, run: Path) -> None:
    save_model(torch.compile(model.float()), run)
    assert same(state_of(model), state_of(load_model(run)))
    for block in model.blocks:
        block.compile(backend="eager")
    save_model(model, run)
    assert same(state_of(model), state_of(load_model(run)))


@pytest.mark.parametrize("dtype", ["float32", torch.int8, torch.float8_e4m3fn])
def test_a_type_that_no_weight_is_stored_in_is_refused(model: GPT, run: Path, dtype: torch.dtype) -> None:
    with pytest.raises(ConfigError, match=r"dtype is .*; give one of torch\.float"):
        save_model(model, run, dtype=dtype)
    assert not run.exists()
    with pytest.raises(ConfigError, match=r"dtype is .*; give one of torch\.float"):
        octavo.load(run, dtype=dtype)


def test_opening_a_model_draws_no_random_number(saved: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(saved)
    assert torch.equal(torch.rand(3), expected)


def test_opening_a_model_does_not_load_the_compiler(tiny: dict[str, ModelConfig], run: Path, warm: Warm) -> None:
    save_model(GPT(tiny["gpt2"]), run)
    script = (
        "import sys; from octavo.run import load_model; load_model(sys.argv[1]); print('torch._dynamo' in sys.modules)"
    )
    opening = warm.start(script, str(run))
    assert opening.wait() == 0 and opening.output == "False\n", opening.errors


def test_a_model_that_was_opened_learns_on(saved: Path, tokens: Tensor) -> None:
    model = load_model(saved)
    model(tokens).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_weights_are_of_their_own_and_no_window_on_the_file(saved: Path, tokens: Tensor) -> None:
    model = load_model(saved)
    before = model(tokens)
    (saved / "model.safetensors").write_bytes(bytes((saved / "model.safetensors").stat().st_size))
    assert torch.equal(model(tokens), before)


def test_nothing_but_the_run_is_left_in_its_folder(saved: Path) -> None:
    save_model(load_model(saved), saved)
    names = {path.name for path in saved.iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors"}
    with safe_open(saved / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


# transformers


def test_transformers_opens_a_run_as_it_stands(model: GPT, run: Path, tokens: Tensor) -> None:
    save_model(model.float(), run, end_of_text=2, forbidden=(1,))
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(run, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(tokens).logits, model(tokens), rtol=1e-4, atol=2e-5)
    assert (theirs.config.eos_token_id, theirs.generation_config.eos_token_id) == (2, 2)
    said = theirs.generate(tokens[:1, :3], max_new_tokens=6, do_sample=False)
    assert 1 not in said[0, 3:]
    assert theirs.generate(tokens[:1, :3], do_sample=False, eos_token_id=-1).size(1) == model.config.context


def test_transformers_samples_from_the_whole_distribution(saved: Path) -> None:
    settings = transformers.GenerationConfig.from_pretrained(saved)
    assert (settings.do_sample, settings.temperature, settings.top_k, settings.top_p) == (True, 1.0, 0, 1.0)


@pytest.mark.parametrize("shard", ["1GB", "8KB"])
def test_what_transformers_wrote_is_opened(saved: Path, tmp_path: Path, tokens: Tensor, shard: str) -> None:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(saved)
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size=shard)
    assert (tmp_path / "theirs/model.safetensors.index.json").exists() == (shard == "8KB")
    ours, original = load_model(tmp_path / "theirs"), load_model(saved)
    assert ours.config == original.config and same(state_of(ours), state_of(original))


def test_a_model_saved_without_its_output_is_opened(tmp_path: Path) -> None:
    theirs = transformers.GPT2Model(transformers.GPT2Config(vocab_size=9, n_positions=8, n_embd=8, n_layer=1, n_head=2))
    theirs.save_pretrained(tmp_path)
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        torch.testing.assert_close(load_model(tmp_path).read(tokens), theirs.eval()(tokens).last_hidden_state)


def test_a_run_brings_its_tokenizer(run: Path) -> None:
    tokenizer = SimpleTokenizer(TEXT)
    model = GPT(ModelConfig(dialect="modern", vocab_size=tokenizer.vocab_size, context=8, layers=1, heads=2, width=8))
    save(model, tokenizer, run)
    back, words = load(str(run))
    assert same(state_of(back), state_of(model)) and words.encode(TEXT) == tokenizer.encode(TEXT)
    theirs = transformers.AutoTokenizer.from_pretrained(run)
    assert theirs.encode(TEXT) == tokenizer.encode(TEXT) and theirs.decode(theirs.encode(TEXT)) == TEXT
    settings = json.loads((run / "config.json").read_text())
    assert settings["eos_token_id"] == tokenizer.end_of_text == theirs.eos_token_id
    said = transformers.AutoModelForCausalLM.from_pretrained(run).generate(
        torch.tensor([[tokenizer.encode("t")[0]]]), max_new_tokens=40
    )
    assert not set(tokenizer.forbidden) & set(said[0].tolist())


def test_a_tokenizer_of_another_model_is_refused(run: Path, tmp_path: Path) -> None:
    small = GPT(ModelConfig(vocab_size=5, context=8, layers=1, heads=1, width=8))
    tokenizer = SimpleTokenizer(TEXT)
    message = r"^the tokenizer of .*run has \d+ tokens and the model knows 5; they do not belong together$"
    with pytest.raises(RunError, match=message):
        save(small, tokenizer, run)
    save_model(small, run)
    tokenizer.save(run)
    with pytest.raises(RunError, match=message):
        load(run)


# writing


def test_a_folder_that_cannot_be_written_to_is_said_in_one_line(model: GPT, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        SaveError, match="run could not be written: Not a directory; what was saved before is untouched"
    ):
        save_model(model, tmp_path / "file" / "run")


def test_a_failed_write_leaves_what_was_there(saved: Path, monkeypatch: pytest.MonkeyPatch, model: GPT) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("octavo.run.write_tensors", full)
    with pytest.raises(SaveError, match=r"could not be written: No space left on device; it takes [0-9,]+ bytes"):
        save_model(model, saved, end_of_text=3)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
