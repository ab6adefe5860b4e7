"""transformers agrees: the same logits and gradients from tiny random models, at full context."""

from collections.abc import Callable, Iterator
from inspect import signature

import pytest
import torch
import transformers
from torch import Tensor

from octavo.config import ModelConfig
from octavo.layouts import layout_for
from octavo.model import GPT

Models = Callable[..., GPT]
Configs = Callable[[str, int], ModelConfig]
CLASSES = {
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}
MODERN = ["llama", "qwen3"]


def theirs_of(model: GPT) -> torch.nn.Module:
    """transformers' model with the same weights, in the same dtype."""
    layout = layout_for(model.config)
    config_class, model_class = CLASSES[layout.model_type]
    theirs = model_class(config_class(**layout.to_hf_config(model.config))).to(model.embed.weight.dtype).eval()
    state = layout.to_hf(model.state_dict(), tied=model.config.tied)
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if model.config.tied else set())
    return theirs


def full_context(config: ModelConfig) -> Tensor:
    return torch.randint(config.vocab_size, (2, config.context), generator=torch.Generator().manual_seed(3))


def gradients_apart(
    model: GPT, ours_out: Tensor, theirs: torch.nn.Module, theirs_out: Tensor, tokens: Tensor
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """For each weight: its name in transformers, how far the surprise's gradients are apart, and how long theirs is."""
    for out in (ours_out, theirs_out):
        torch.nn.functional.cross_entropy(out[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    if model.config.tied:
        gradients["unembed.weight"] = gradients["embed.weight"]
    ours_grad = layout_for(model.config).to_hf(gradients, tied=model.config.tied)
    for name, weight in theirs.named_parameters():
        yield name, (ours_grad[name] - weight.grad).norm(), weight.grad.norm()


@pytest.mark.parametrize("deviation", [0.02, 0.2])
@pytest.mark.parametrize("seed", range(8))
def test_gpt2_says_what_transformers_says_in_float64(
    random_model: Models, drawn_config: Configs, seed: int, deviation: float
) -> None:
    model = random_model(drawn_config("gpt2", seed), deviation=deviation, seed=seed)
    theirs, tokens = theirs_of(model), full_context(model.config)
    ours_out, theirs_out = model(tokens), theirs(tokens).logits
    torch.testing.assert_close(ours_out, theirs_out, rtol=0, atol=1e-10)
    for name, away, length in gradients_apart(model, ours_out, theirs, theirs_out, tokens):
        assert away <= 1e-9 * length + 1e-15, name  # a bias on keys has no gradient but rounding


@pytest.mark.parametrize("deviation", [0.02, 0.2])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", MODERN)
def test_modern_says_what_transformers_says(
    random_model: Models, drawn_config: Configs, kind: str, seed: int, deviation: float
) -> None:
    for dtype in (torch.float32, torch.float64):  # theirs norms in float32 in either
        model = random_model(drawn_config(kind, seed), deviation=deviation, dtype=dtype, seed=seed)
        theirs, tokens = theirs_of(model), full_context(model.config)
        ours_out, theirs_out = model(tokens), theirs(tokens).logits
        assert (ours_out - theirs_out).abs().max() < 2e-5 * theirs_out.std()
        for name, away, length in gradients_apart(model, ours_out, theirs, theirs_out, tokens):
            assert away < 2e-5 * length, name


@pytest.mark.parametrize("kind", CLASSES)
def test_transformers_says_the_same_when_it_remembers(random_model: Models, drawn_config: Configs, kind: str) -> None:
    model = random_model(drawn_config(kind, 1), dtype=torch.float32)
    theirs, tokens = theirs_of(model), full_context(model.config)
    remembered = "cache" if "cache" in signature(theirs.forward).parameters else "past_key_values"  # until 5.24
    with torch.no_grad():
        cache = {remembered: transformers.DynamicCache()}
        theirs(tokens[:, :2], **cache)
        last = theirs(tokens[:, 2:], **cache).logits
        torch.testing.assert_close(model(tokens)[:, 2:], last, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_names_are_exactly_those_of_transformers(random_model: Models, drawn_config: Configs, kind: str) -> None:
    model = random_model(drawn_config(kind, 0))
    names = set(layout_for(model.config).to_hf(model.state_dict(), tied=False))
    assert names == set(theirs_of(model).state_dict())
