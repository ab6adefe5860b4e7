"""The laws of attention, of the block and of the whole model, in both dialects."""

import math
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from octavo.config import GPT2, MODERN_1M, MODERN_5M, ModelConfig, RopeScaling
from octavo.errors import ConfigError
from octavo.loss import cross_entropy
from octavo.model import GPT, FeedForward, MultiHeadAttention, Rotary, SelfAttention, rotary_frequencies, rotate
from octavo.tap import Tap
from warm import Warm

EXACT = {"rtol": 0.0, "atol": 1e-12}
SMALLEST = ModelConfig(vocab_size=8, context=8, layers=1, heads=1, width=8)
TAPS = [name for name, module in GPT(SMALLEST).named_modules() if isinstance(module, Tap)]
Models = Callable[..., GPT]


def heard(module: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """What goes through these taps from now on."""
    values: dict[str, Tensor] = {}
    for name in names:
        tap = module.get_submodule(name)
        tap.register_forward_hook(lambda _module, _inputs, value, name=name: values.__setitem__(name, value))
    return values


# law 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_changing_a_token_never_changes_the_past(
    config: ModelConfig, random_model: Models, tokens: Tensor, dtype: torch.dtype
) -> None:
    model = random_model(config, dtype=dtype)
    before = model(tokens)
    for position in range(config.context):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % config.vocab_size
        after = model(changed)
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.equal(after[:, position], before[:, position])


def test_no_gradient_flows_from_a_position_to_what_comes_after_it(model: GPT, tokens: Tensor) -> None:
    values = heard(model, ["stream"])
    logits = model(tokens[:1])
    for position in range(0, tokens.size(1), 3):
        (gradient,) = torch.autograd.grad(logits[0, position].square().sum(), values["stream"], retain_graph=True)
        assert not gradient[0, position + 1 :].any()
        assert gradient[0, : position + 1].abs().sum(-1).all()


# law 3


def test_many_heads_are_single_heads_side_by_side(config: ModelConfig, random_model: Models) -> None:
    many = random_model(config).blocks[0].attention
    alone = ModelConfig(**{**vars(config), "heads": 1, "kv_heads": 1, "width": config.head_width})
    x = torch.randn(2, 5, config.width, dtype=torch.float64)
    rotation = Rotary(config).double()(torch.arange(5).expand(2, 5)) if config.rotary else None
    group = config.heads // config.kv_heads
    each = []
    for head in range(config.heads):
        single = SelfAttention(alone).double()
        for name, place in (("query", head), ("key", head // group), ("value", head // group)):
            rows = slice(place * config.head_width, (place + 1) * config.head_width)
            ours, theirs = getattr(single, name), getattr(many.heads, name)
            ours.weight = nn.Parameter(theirs.weight[rows])
            if config.biased:
                ours.bias = nn.Parameter(theirs.bias[rows])
        single.query_norm, single.key_norm = many.heads.query_norm, many.heads.key_norm
        each.append(single(x, rotation))
    mixed = many.mix(torch.cat(each, dim=1).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixed, many(x, rotation), **EXACT)


def test_one_head_is_the_attention_of_the_paper() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(ModelConfig(heads=1, width=8)).double()
    x = torch.randn(4, 8, dtype=torch.float64)
    q, k, v = attention.query(x), attention.key(x), attention.value(x)
    expected = []
    for t in range(4):  # softmax(q Kᵀ / √d) V, one position after the other
        scores = torch.stack([q[t] @ k[s] / math.sqrt(8) for s in range(t + 1)])
        weights = scores.exp() / scores.exp().sum()
        expected.append(sum(weights[s] * v[s] for s in range(t + 1)))
    torch.testing.assert_close(attention(x[None])[0, 0], torch.stack(expected), **EXACT)


@pytest.mark.parametrize("tap", ["scores", "weights"])
def test_the_fused_kernel_equals_the_explicit_formula(model: GPT, tokens: Tensor, tap: str) -> None:
    fused = model(tokens)
    heard(model, [f"blocks.{layer}.attention.heads.{tap}" for layer in range(2)])
    torch.testing.assert_close(model(tokens), fused, **EXACT)


def test_weights_are_a_distribution_over_the_past(model: GPT, config: ModelConfig, tokens: Tensor) -> None:
    values = heard(model, [f"blocks.{layer}.attention.heads.weights" for layer in range(2)])
    model(tokens)
    future = torch.ones(config.context, config.context, dtype=torch.bool).triu(1)
    for weights in values.values():
        assert weights.shape == (3, config.heads, config.context, config.context)
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3], dtype=weights.dtype), **EXACT)
        assert not weights[..., future].any()


# law 4


def test_a_row_does_not_depend_on_its_neighbours(model: GPT, config: ModelConfig, tokens: Tensor) -> None:
    together = model(tokens)
    torch.testing.assert_close(model(tokens[1:2]), together[1:2], **EXACT)
    others = tokens.clone()
    others[[0, 2]] = (others[[0, 2]] + 1) % config.vocab_size
    assert torch.equal(model(others)[1], together[1])


# law 9


def test_an_untrained_model_finds_all_tokens_equally_likely() -> None:
    torch.manual_seed(0)
    tied_wide = ModelConfig(dialect="modern", vocab_size=67, context=32, layers=2, heads=8, width=512)
    for config in (ModelConfig(vocab_size=67, context=32, layers=2, heads=4, width=64), MODERN_5M, tied_wide):
        tokens = torch.randint(config.vocab_size, (4, 33))
        with torch.no_grad():
            loss = cross_entropy(GPT(config)(tokens[:, :-1]), tokens[:, 1:]) / (4 * 32)
        assert abs(loss.item() - math.log(config.vocab_size)) < 0.15


def test_an_untied_modern_model_begins_at_exactly_ln_v() -> None:
    tokens = torch.randint(MODERN_1M.vocab_size, (2, 9))
    loss = cross_entropy(GPT(MODERN_1M)(tokens[:, :-1]), tokens[:, 1:]) / 16
    assert loss.item() == pytest.approx(math.log(256), abs=1e-6)


def test_gpt2_has_as_many_parameters_as_gpt2() -> None:
    with torch.device("meta"):
        model = GPT(GPT2)
    assert sum(weight.numel() for weight in model.parameters()) == 124_439_808


def test_gpt2_begins_with_smaller_projections_into_the_stream() -> None:
    torch.manual_seed(0)
    block = GPT(ModelConfig(vocab_size=8, context=8, layers=8, heads=4, width=64)).blocks[0]
    assert block.attention.heads.query.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.attention.mix.weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)
    assert block.feed_forward.down.weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)
    assert not block.feed_forward.up.bias.any()


def test_a_modern_block_begins_as_the_identity() -> None:
    block = GPT(MODERN_1M).blocks[0]
    x = torch.randn(1, 4, 128)
    assert torch.equal(block(x, GPT(MODERN_1M).rotary(torch.arange(4)[None])), x)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_the_heads_of_a_modern_model_begin_by_looking_back(tied: bool, kv_heads: int) -> None:
    torch.manual_seed(0)
    config = ModelConfig(
        dialect="modern", vocab_size=50, context=64, layers=2, heads=4, kv_heads=kv_heads, width=128, tied=tied
    )
    model = GPT(config)
    places = [f"blocks.{block}.attention.heads.weights" for block in range(config.layers)]
    values = heard(model, places)
    model(torch.randint(config.vocab_size, (32, config.context)))
    for place, distances in zip(places, [(1, 2, 3, 4), (1, 3, 5, 7)], strict=True):
        for head, distance in enumerate(distances):
            back = [values[place][:, head].diagonal(-far, 1, 2)[:, 20:].mean().item() for far in range(20)]
            assert back.index(max(back)) == distance
            assert back[distance] > 2 * back[distance + 4]  # it looks there, and no longer at everything alike


# rotary positions


def test_a_rotated_score_depends_on_the_distance_alone() -> None:
    config = ModelConfig(dialect="modern", context=64, heads=1, width=16)
    rotary = Rotary(config)
    q, k = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)

    def score(query_at: int, key_at: int) -> float:
        turned = [rotate(x, rotary.double()(torch.tensor([[at]]))) for x, at in ((q, query_at), (k, key_at))]
        return (turned[0] * turned[1]).sum().item()

    for start in (1, 20, 50):
        assert score(start + 9, start) == pytest.approx(score(9, 0), abs=1e-5)  # the tables are of float32
    assert score(9, 1) != pytest.approx(score(9, 0), abs=1e-3)


def test_rotation_multiplies_complex_numbers_of_length_one() -> None:
    config = ModelConfig(dialect="modern", context=8, heads=1, width=6, rope_base=100.0)
    x = torch.randn(1, 1, 8, 6, dtype=torch.float64)
    angles = torch.arange(8)[:, None] * torch.tensor([100.0 ** (-2 * i / 6) for i in range(3)])
    turned = torch.complex(x[..., :3], x[..., 3:]) * torch.polar(torch.ones(8, 3).double(), angles.double())
    rotation = Rotary(config).double()(torch.arange(8)[None])
    torch.testing.assert_close(rotate(x, rotation), torch.cat([turned.real, turned.imag], -1), rtol=0, atol=1e-6)


def test_rotary_tables_are_those_of_float32_in_every_dtype() -> None:
    model = GPT(MODERN_1M)
    cosine = model.rotary.cosine.clone()
    assert cosine.dtype == torch.float32
    assert torch.equal(model.double().rotary.cosine, cosine.double())


def test_a_model_is_the_same_in_new_memory_and_back_from_half_precision(model: GPT, tokens: Tensor) -> None:
    expected, weights = model(tokens), deepcopy(model.state_dict())
    again = deepcopy(model).to("meta")
    assert again(tokens.to("meta")).shape == expected.shape
    again.to_empty(device="cpu").load_state_dict(weights)
    assert torch.equal(again(tokens), expected)
    assert (again.unembed.weight is again.embed.weight) == model.config.tied
    narrow = deepcopy(model).bfloat16().double()
    narrow.load_state_dict(weights)
    assert torch.equal(narrow(tokens), expected)


def test_a_model_may_be_made_in_any_type_and_nowhere(config: ModelConfig, tokens: Tensor) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            assert GPT(config)(tokens).dtype == dtype
        finally:
            torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert GPT(config)(tokens.to("meta")).is_meta


def test_llama3_scaling_keeps_fast_pairs_and_slows_slow_ones() -> None:
    scaling = RopeScaling(factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_context=8192)
    plain = ModelConfig(dialect="modern", heads=1, width=128, rope_base=500000.0)
    scaled = ModelConfig(**{**vars(plain), "rope_scaling": scaling})
    ratio = rotary_frequencies(scaled) / rotary_frequencies(plain)
    turns = 8192 * rotary_frequencies(plain) / (2 * math.pi)
    assert (ratio[turns > 4] == 1).all()
    torch.testing.assert_close(ratio[turns < 1], torch.full_like(ratio[turns < 1], 1 / 8))
    between = ratio[(turns >= 1) & (turns <= 4)].tolist()
    assert len(between) > 2 and all(slower < faster for faster, slower in pairwise(between))


# taps


def test_every_tap_of_a_block_is_heard_in_the_shape_that_is_promised(
    model: GPT, config: ModelConfig, tokens: Tensor
) -> None:
    batch, time, heads, width = 3, config.context, config.heads, config.head_width
    shapes = {
        "attention.heads.q": (batch, heads, time, width),
        "attention.heads.k": (batch, config.kv_heads, time, width),
        "attention.heads.v": (batch, config.kv_heads, time, width),
        "attention.heads.scores": (batch, heads, time, time),
        "attention.heads.weights": (batch, heads, time, time),
        "attention.heads.heads": (batch, heads, time, width),
        "attention_out": (batch, time, config.width),
        "feed_forward_out": (batch, time, config.width),
        "stream": (batch, time, config.width),
    }
    values = heard(model.blocks[1], list(shapes))
    model(tokens)
    assert {name: tuple(value.shape) for name, value in values.items()} == shapes


def test_a_block_adds_what_its_taps_say_to_the_stream(model: GPT, tokens: Tensor) -> None:
    names = ["stream", "blocks.0.attention_out", "blocks.0.feed_forward_out", "blocks.0.stream"]
    values = heard(model, names)
    model(tokens)
    before, attention, feed_forward, after = (values[name] for name in names)
    torch.testing.assert_close(before + attention + feed_forward, after, **EXACT)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("tap", TAPS)
def test_a_tap_that_answers_replaces_the_value(model: GPT, tokens: Tensor, tap: str, fused: bool) -> None:
    heard(model, [] if fused else ["blocks.0.attention.heads.weights"])
    plain, given, answered = model(tokens), list[Tensor](), list[Tensor]()

    def answer(_module: nn.Module, _inputs: tuple[Tensor, ...], value: Tensor) -> Tensor:
        given.append(value)
        answered.append(torch.randn_like(value).requires_grad_())
        return answered[0]

    handle = model.get_submodule(tap).register_forward_hook(answer)
    replaced = model(tokens)
    of_given, of_answered = torch.autograd.grad(replaced.square().sum(), [*given, *answered], allow_unused=True)
    assert of_given is None and of_answered is not None and of_answered.any()
    handle.remove()
    assert torch.equal(model(tokens), plain) and not torch.equal(replaced, plain)


def test_nobody_listens_unless_asked(model: GPT) -> None:
    taps = [module for module in model.modules() if isinstance(module, Tap)]
    assert len(taps) == 1 + 2 * 9 and not any(tap.heard for tap in taps)


# the rest of the page


def test_dropout_is_for_training_alone_and_hides_half_of_all_that_goes_into_the_stream(
    config: ModelConfig, random_model: Models, tokens: Tensor
) -> None:
    torch.manual_seed(0)
    plain, model = random_model(config), GPT(config, dropout=0.5).double()
    model.load_state_dict(plain.state_dict())
    names = ["stream", "blocks.0.attention_out", "blocks.0.feed_forward_out", "blocks.0.stream"]
    entered, values, between = heard(plain, ["stream"]), heard(model, names), list[Tensor]()
    model.blocks[0].feed_forward_norm.register_forward_pre_hook(lambda _module, inputs: between.append(inputs[0]))
    assert torch.equal(model.eval()(tokens), plain(tokens))
    model.train()(tokens)
    before, attention, feed_forward, after = (values[name] for name in names)
    added = [(entered["stream"], before), (attention, between[-1] - before), (feed_forward, after - between[-1])]
    for whole, left in added:
        hidden = left.abs() < 1e-12
        assert hidden.double().mean().item() == pytest.approx(0.5, abs=0.1)
        torch.testing.assert_close(left, (2 * whole).masked_fill(hidden, 0.0), **EXACT)


EXPORTED = """
import torch
from octavo import GPT, ModelConfig

config = ModelConfig(vocab_size=9, context=16, layers=1, heads=2, width=8, dialect="modern", tied=False)
model, tokens = GPT(config).eval(), torch.randint(9, (3, 7))
for weight in model.parameters():
    torch.nn.init.normal_(weight)
sizes = {0: torch.export.Dim("batch", max=9), 1: torch.export.Dim("time", min=2, max=16)}
program = torch.export.export(model, (tokens,), dynamic_shapes=(sizes,)).module()
for read in (tokens, tokens[:2, :2], tokens[:1].repeat(4, 2)):
    torch.testing.assert_close(program(read), model(read))
"""


def test_pytorch_makes_a_program_of_a_model_for_texts_of_any_length(warm: Warm) -> None:
    made = warm.start(EXPORTED)  # what checks the shapes would be exported, too
    assert made.wait() == 0, made.errors


def test_gradients_of_single_rows_and_along_a_line_are_those_of_autograd(model: GPT, tokens: Tensor) -> None:
    tokens = tokens[:2, :6]
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    line = {name: torch.linspace(-1, 1, weight.numel()).view_as(weight).double() for name, weight in weights.items()}

    def surprise(weights: dict[str, Tensor], row: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, weights, (row[None, :-1],))
        return cross_entropy(logits, row[None, 1:])

    with sdpa_kernel(SDPBackend.MATH):  # PyTorch's other kernels know no derivative along a line
        rows = torch.func.vmap(torch.func.grad(surprise), (None, 0))(weights, tokens)
        slopes = [
            torch.func.jvp(lambda weights, row=row: surprise(weights, row), (weights,), (line,))[1] for row in tokens
        ]
    for index, row in enumerate(tokens):
        model.zero_grad()
        cross_entropy(model(row[None, :-1]), row[None, 1:]).backward()
        learned = {name: weight.grad for name, weight in model.named_parameters()}
        for name, gradient in learned.items():
            torch.testing.assert_close(rows[name][index], gradient, rtol=1e-9, atol=1e-12)
        slope = sum(float((gradient * line[name]).sum()) for name, gradient in learned.items() if gradient is not None)
        assert float(slopes[index]) == pytest.approx(slope, rel=1e-9)


def test_a_tied_output_is_the_embedding(model: GPT, config: ModelConfig) -> None:
    assert (model.unembed.weight is model.embed.weight) == config.tied


def test_a_text_longer_than_the_context_is_refused_in_one_line(model: GPT) -> None:
    with pytest.raises(ValueError, match=r"^17 tokens do not fit into a context of 16; give fewer"):
        model(torch.zeros(1, 17, dtype=torch.long))


@pytest.mark.usefixtures("unchecked")
def test_one_text_by_itself_is_refused_in_one_line(config: ModelConfig, model: GPT) -> None:
    x = torch.zeros(5, config.width, dtype=torch.float64)
    for part in (model.blocks[0], model.blocks[0].attention, model.blocks[0].attention.heads):
        with pytest.raises(
            ConfigError, match=rf"^\(5, {config.width}\) is not B T C; give a batch, x\[None\] is one of"
        ):
            part(x)
    with pytest.raises(ConfigError, match=r"^\(3,\) is not B T; give a batch"):
        model(torch.zeros(3, dtype=torch.long))


def test_a_wrong_shape_is_refused_under_test(config: ModelConfig, model: GPT) -> None:
    with pytest.raises(TypeCheckError):
        model(torch.zeros(3, dtype=torch.long))
    with pytest.raises(TypeCheckError):
        FeedForward(config)(torch.zeros(2, config.width))
    with pytest.raises(TypeCheckError):
        MultiHeadAttention(config)(torch.zeros(1, 2, config.width, dtype=torch.long))
