"""The quick copy of a model says what the model says."""

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from octavo import fused as fusing
from octavo import products as module
from octavo.cache import StaticCache
from octavo.config import ModelConfig
from octavo.errors import ConfigError, OctavoError, SamplingError
from octavo.fused import fused, memory_dtype
from octavo.generation import generate
from octavo.model import GPT, FeedForward
from octavo.products import (
    TILE,
    EightBitProduct,
    HalfProduct,
    Product,
    TiledProduct,
    WideProduct,
    counts_in_eight_bits,
    halves,
    packs,
)

Models = Callable[..., GPT]
Configs = Callable[[str, int], ModelConfig]


def in_pieces(model: GPT, tokens: Tensor, cuts: list[int], dtype: torch.dtype) -> Tensor:
    cache = StaticCache(model.config, batch=tokens.size(0), capacity=tokens.size(1), dtype=dtype)
    with torch.inference_mode():
        return torch.cat([model(piece, cache) for piece in tokens.split(cuts, 1)], 1)


@pytest.fixture
def everything_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKED_FROM", 1)


@pytest.fixture
def forgetful() -> Iterator[None]:
    """What was found out about this processor is found out again, before and after."""
    for found in (packs, halves, counts_in_eight_bits):
        found.cache_clear()
    yield
    for found in (packs, halves, counts_in_eight_bits):
        found.cache_clear()


def test_a_fused_model_says_the_same_in_float64(model: GPT, tokens: Tensor) -> None:
    for cuts in ([16], [1] * 16, [7, 1, 1, 4, 3]):
        torch.testing.assert_close(
            in_pieces(fused(model), tokens, cuts, torch.float64), model(tokens).detach(), rtol=0, atol=1e-11
        )


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("seed", range(5))
def test_a_fused_model_of_any_shape_says_the_same(
    random_model: Models, drawn_config: Configs, kind: str, seed: int
) -> None:
    model = random_model(drawn_config(kind, seed), seed=seed)
    tokens = torch.randint(model.config.vocab_size, (2, model.config.context))
    expected = model(tokens).detach()
    found = in_pieces(fused(model), tokens, [1] * model.config.context, torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
@pytest.mark.usefixtures("everything_packed")
def test_packed_matrices_differ_by_rounding_alone(
    config: ModelConfig, random_model: Models, tokens: Tensor, dtype: torch.dtype, bound: float
) -> None:
    model = random_model(config, deviation=0.1)
    exact = model(tokens).detach()
    model.to(dtype)
    plain = (in_pieces(model, tokens, [1] * 16, dtype) - exact).norm() / exact.norm()
    swift = (in_pieces(fused(model), tokens, [1] * 16, dtype) - exact).norm() / exact.norm()
    assert swift < min(bound, 2 * plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.usefixtures("everything_packed")
def test_a_product_is_a_linear_layer(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(48, 72, dtype=dtype)
    product, x = Product(linear.weight, linear.bias), torch.randn(3, 5, 48, dtype=dtype)
    curved, stream = Product(linear.weight, linear.bias, gelu=True), torch.randn(3, 5, 72, dtype=dtype)
    before, bound = stream.clone(), 0.03 if dtype == torch.bfloat16 else 1e-5
    with torch.inference_mode():
        for rows in (x, x[:, -1], x[:1, :1], x.transpose(0, 1)):
            torch.testing.assert_close(product(rows), linear(rows), rtol=bound, atol=bound)
            gelu = torch.nn.functional.gelu(linear(rows), approximate="tanh")
            torch.testing.assert_close(curved(rows), gelu, rtol=bound, atol=bound)
        torch.testing.assert_close(product(x, stream), linear(x) + stream, rtol=bound, atol=bound)
    assert torch.equal(stream, before)


def test_a_copy_remembers_in_float32_at_least_and_makes_do_with_less(random_model: Models) -> None:
    config = ModelConfig(dialect="modern", vocab_size=23, context=16, layers=2, heads=4, kv_heads=2, width=16)
    for dtype, wider in ((torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64,) * 2):
        model = random_model(config, dtype=dtype, deviation=0.1)
        assert (memory_dtype(model), memory_dtype(fused(model))) == (dtype, wider)
    model, tokens = random_model(config, deviation=0.1).bfloat16(), torch.arange(16)[None]
    expected = model(tokens).detach()
    for narrow in (torch.bfloat16, torch.float32):
        found = in_pieces(fused(model), tokens, [9, 1, 6], narrow).to(expected.dtype)
        torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_held_whole_where_the_processor_is_not_made_for_it(
    config: ModelConfig, random_model: Models, tokens: Tensor, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(config, deviation=0.1).to(dtype)
    wide = deepcopy(model).double()
    for buffer, narrow in zip(wide.buffers(), model.buffers(), strict=True):
        buffer.copy_(narrow)  # rotary tables, which would be exact
    exact = wide(tokens).detach()  # of these weights
    monkeypatch.setattr("octavo.fused.has_bfloat16_units", lambda: False)
    swift = fused(model)
    assert {part.weight.dtype for part in swift.modules() if isinstance(part, Product)} == {torch.float32}
    found = in_pieces(swift, tokens, [1] * 16, torch.float32)
    assert found.dtype == torch.float32
    bound = 1e-4 if config.rotary else 0.02  # GPT-2's embedding is a sum, in half precision still
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=bound * exact.std().item())
    assert model.embed.weight.dtype == dtype
    monkeypatch.setattr("octavo.fused.has_bfloat16_units", lambda: True)
    assert not any(type(part) is WideProduct for part in fused(model).modules())


def test_a_model_that_is_listened_to_stays_as_it_is(model: GPT) -> None:
    assert fused(model) is not model
    handle = model.blocks[1].stream.register_forward_hook(lambda *_: None)
    assert fused(model) is model
    handle.remove()
    assert fused(model) is not model


def test_a_copy_is_not_copied_again_and_leaves_the_model_alone(model: GPT) -> None:
    names = [name for name, _ in model.named_modules()]
    swift = fused(model)
    assert fused(swift) is swift
    assert [name for name, _ in model.named_modules()] == names
    assert list(generate(swift, [1, 2], max_new_tokens=9)) == list(generate(model, [1, 2], max_new_tokens=9))


def test_a_model_that_is_only_imagined_stays_as_it_is(config: ModelConfig) -> None:
    with torch.device("meta"):
        model = GPT(config)
    assert fused(model) is model


@pytest.mark.usefixtures("forgetful", "everything_packed")
def test_where_pytorch_does_not_pack_the_plain_product_is_taken(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not packs(torch.float64)

    def gone(*_: object) -> None:
        raise NotImplementedError("mkldnn::_reorder_linear_weight")

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", gone)
    assert not packs(torch.float32) and not packs(torch.bfloat16)
    assert not any(part.packed for part in fused(model.float()).modules() if isinstance(part, Product))


@pytest.mark.usefixtures("forgetful")
def test_a_processor_that_does_not_know_bfloat16_is_not_asked_to_pack_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert not packs(torch.bfloat16)


def error_of(model: GPT, exact: Tensor, tokens: Tensor) -> float:
    with torch.inference_mode():
        found = in_pieces(model, tokens, [5, *[1] * 11], memory_dtype(model)).double()
    return float((found - exact).norm() / exact.norm())


@pytest.fixture
def reads_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a processor does that has instructions for it; others come to the same, if not as soon."""
    for found in ("halves", "has_bfloat16_units"):
        monkeypatch.setattr(fusing, found, lambda: True)


@pytest.mark.usefixtures("reads_float16")
def test_one_text_is_read_in_float16_and_no_less_exactly(
    config: ModelConfig, random_model: Models, tokens: Tensor
) -> None:
    model = random_model(config, deviation=0.1).bfloat16()
    exact, swift = deepcopy(model).double()(tokens).detach(), fused(model, rows=1)
    assert all(part.halved for part in swift.modules() if isinstance(part, HalfProduct))
    assert any(isinstance(part, HalfProduct) for part in swift.modules())
    assert not any(isinstance(part, HalfProduct) for part in fused(model, rows=2).modules())
    rows = tokens[:1]
    assert error_of(swift, exact[:1], rows) <= error_of(fused(model), exact[:1], rows)


@pytest.mark.usefixtures("reads_float16")
def test_on_another_device_no_text_is_read_in_float16() -> None:
    model = GPT(ModelConfig(vocab_size=5, context=8, layers=1, heads=1, width=8)).bfloat16().to("meta")
    assert not any(isinstance(part, HalfProduct) for part in fused(model, rows=1, everywhere=True).modules())


@pytest.mark.parametrize("factor", [1e6, 1e-7, 1.0])
def test_what_float16_cannot_hold_stays_as_it_was_and_nothing_overflows(factor: float) -> None:
    torch.manual_seed(0)
    weight, bias = (torch.randn(48, 72) * factor).bfloat16(), torch.randn(48).bfloat16()
    product = HalfProduct(weight, bias)
    assert product.halved == (factor == 1.0)
    for x in (torch.randn(1, 72) * 1e9, torch.randn(1, 72) * 1e-9, torch.zeros(1, 72), torch.randn(3, 72)):
        for stream in (None, torch.randn(len(x), 48)):
            exact = torch.nn.functional.linear(x, weight.float(), bias.float()) + (0 if stream is None else stream)
            assert product(x, stream).dtype == torch.float32
            torch.testing.assert_close(product(x, stream), exact, rtol=0.02, atol=0.02 * float(exact.abs().max()))


@pytest.mark.usefixtures("everything_packed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_eight_bits_are_near(config: ModelConfig, random_model: Models, tokens: Tensor, dtype: torch.dtype) -> None:
    model = random_model(config, deviation=0.1)
    exact = model(tokens).detach()
    near = fused(model.to(dtype), quantize="int8")
    assert any(isinstance(part, EightBitProduct) and not part.whole for part in near.modules())
    assert 1e-4 < error_of(near, exact, tokens) < 0.1
    assert fused(near, rows=1) is fused(near, quantize="int8") is near
    assert len(list(generate(near, [1, 2], max_new_tokens=20, temperature=0))) == 20


def test_small_matrices_stay_whole(random_model: Models, config: ModelConfig) -> None:
    model, tokens = random_model(config, dtype=torch.float32), torch.arange(9)[None]
    torch.testing.assert_close(fused(model, quantize="int8")(tokens), fused(model)(tokens))


@pytest.mark.usefixtures("forgetful")
def test_where_eight_bits_cannot_be_had_a_line_says_so(
    model: GPT, config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="quantize is 'int4'; give 'int8' or None"):
        fused(model, quantize="int4")
    with torch.device("meta"), pytest.raises(ConfigError, match="int8 is for a CPU and the model is on meta; move it"):
        fused(GPT(config), quantize="int8")
    with pytest.raises(ConfigError, match="a quick copy already, with whole weights; quantize the model that it is of"):
        fused(fused(model), quantize="int8")
    handle = model.blocks[1].stream.register_forward_hook(lambda *_: None)
    with pytest.raises(ConfigError, match="somebody listens to the model, or changed a part of it, and no copy of"):
        fused(model, quantize="int8")
    handle.remove()
    monkeypatch.setattr(torch.ops.quantized, "linear_dynamic", None)
    with pytest.raises(ConfigError, match="this PyTorch does not multiply in int8 on this processor; leave quantize"):
        fused(model, quantize="int8")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["embed.weight", "blocks.0.feed_forward.up.weight", "norm.weight"])
def test_damaged_weights_are_not_rounded_away(model: GPT, name: str, value: float) -> None:
    with torch.no_grad():
        model.get_parameter(name).view(-1)[3] = value
    with pytest.raises(OctavoError, match="the model has weights that are not finite; its training diverged or they"):
        fused(model.float(), quantize="int8")


class Turned(GPT):
    """A model of somebody else's making, who changes all of it."""

    def forward(self, *given: Any) -> Tensor:
        return -super().forward(*given)


WAYS = ["hook", "class", "patched model", "patched block", "patched matrix", "changed class", "patched function"]


@pytest.mark.parametrize("how", WAYS)
def test_what_is_done_to_a_model_is_done_to_what_it_writes(
    model: GPT, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model.float().eval()
    before = deepcopy(model)
    with torch.no_grad():
        was = before(torch.tensor([[1, 2, 3]]))[0, -1]
    if how == "hook":
        model.register_forward_hook(lambda part, given, logits: -logits)
    elif how == "class":
        model.__class__ = Turned
    elif how == "changed class":
        monkeypatch.setattr(FeedForward, "forward", lambda part, x: part.down(part.up(x).relu()))
    elif how == "patched function":
        heads = model.blocks[0].attention.heads
        project = heads.project
        heads.project = lambda x, rotation: project(-x, rotation)
    else:
        part = {"patched model": model, "patched block": model.blocks[1], "patched matrix": model.unembed}[how]
        forward = part.forward
        part.forward = lambda *given: -forward(*given)
    prompt = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        expected = model(prompt)[0, -1]
        assert not torch.allclose(expected, was)
    step = next(generate(model, prompt, max_new_tokens=1, temperature=0))
    assert step.tokens == [expected.argmax().item()]
    assert step.logprobs[0] == pytest.approx(expected.log_softmax(-1).max().item(), rel=1e-5)


class Adapted(nn.Linear):
    """A matrix with something added to what it says, as adapters do  [Hu 2021]."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + input.mean(-1, keepdim=True)


class Wrapped(nn.Module):
    """A block in a module of somebody else's, as compilers and sharders put it there."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *given: Any) -> Any:
        return self.block(*given)


@pytest.mark.parametrize("part", ["block", "matrix", "norm"])
def test_a_model_with_a_part_of_somebody_elses_writes_as_it_is(model: GPT, config: ModelConfig, part: str) -> None:
    if part == "block":
        model.blocks[0] = Wrapped(model.blocks[0])
    elif part == "matrix":
        model.blocks[0].attention.mix = Adapted(config.heads * config.head_width, config.width, bias=config.biased)
    else:
        model.norm = nn.Identity()
    model = model.float().eval()
    with torch.no_grad():
        expected = model(torch.tensor([[1, 2, 3]]))[0, -1].log_softmax(-1)
    step = next(generate(model, [1, 2, 3], max_new_tokens=1, temperature=0))
    assert step.tokens == [expected.argmax().item()] and step.logprobs[0] == pytest.approx(
        expected.max().item(), rel=1e-5
    )
    with pytest.raises(SamplingError, match="somebody listens to the model or changed it, or it is a quick copy"):
        generate(model, [1], max_new_tokens=1, bitwise=True)
    with pytest.raises(ConfigError, match="or changed a part of it, and no copy of it has that; undo it, or leave"):
        fused(model, quantize="int8")


@pytest.mark.parametrize("rows", [1, 7, TILE, TILE + 1, 3 * TILE])
def test_in_tiles_a_row_comes_to_the_same_bits_whoever_is_beside_it(rows: int) -> None:
    """As a GPU does it in the bitwise mode; a CPU would have other tiles, but the sums are these."""
    draw = torch.Generator().manual_seed(rows)
    weight, bias, x = (torch.randn(*size, generator=draw) for size in ((33, 17), (33,), (2, rows, 17)))
    product = TiledProduct(weight, bias)
    product.weight = weight  # which stays as it is there
    together = product.linear(x)
    torch.testing.assert_close(together, x @ weight.mT + bias)
    for row in {0, rows // 2, rows - 1}:
        assert torch.equal(product.linear(x[:, row : row + 1])[:, 0], together[:, row])
