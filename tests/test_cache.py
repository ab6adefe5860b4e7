"""What is remembered is what was read: the cached logits are those of one full pass, however a text is cut."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from octavo.cache import GrowingCache, NoCache, StaticCache
from octavo.config import ModelConfig
from octavo.errors import ConfigError
from octavo.model import GPT

EXACT = {"rtol": 0.0, "atol": 1e-10}
DOUBLE = torch.float64
Models = Callable[..., GPT]


def in_pieces(model: GPT, tokens: Tensor, lengths: Sequence[int], cache: StaticCache) -> Tensor:
    return torch.cat([model(piece, cache) for piece in tokens.split(list(lengths), dim=1)], dim=1)


@st.composite
def cuts(draw: st.DrawFn, total: int = 16) -> list[int]:
    """A way to cut a text into pieces."""
    places = sorted(draw(st.sets(st.integers(1, total - 1))))
    return [end - start for start, end in zip([0, *places], [*places, total], strict=True)]


# law 2


@given(lengths=cuts(), growing=st.booleans())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_any_cut_into_chunks_gives_the_logits_of_one_full_pass(
    tiny: dict[str, ModelConfig], random_model: Models, lengths: list[int], growing: bool
) -> None:
    for config in tiny.values():
        model = random_model(config)
        tokens = torch.randint(config.vocab_size, (2, 16), generator=torch.Generator().manual_seed(2))
        kind, capacity = (GrowingCache, 1) if growing else (StaticCache, 16)
        cache = kind(config, batch=2, capacity=capacity, dtype=DOUBLE)
        with torch.inference_mode():
            torch.testing.assert_close(in_pieces(model, tokens, lengths, cache), model(tokens), **EXACT)
        assert cache.lengths == [16, 16]


def test_rows_of_different_lengths_go_on_as_each_alone(model: GPT, config: ModelConfig, tokens: Tensor) -> None:
    lengths = [9, 4, 1]
    cache = StaticCache(config, batch=3, capacity=16, dtype=DOUBLE)
    with torch.inference_mode():
        model(tokens[:, :9], cache)
        cache.keep(lengths)
        for step in range(6):
            new = torch.stack([tokens[row, length + step] for row, length in enumerate(lengths)])
            logits = model(new[:, None], cache)
            for row, length in enumerate(lengths):
                alone = model(tokens[row : row + 1, : length + step + 1])[0, -1]
                torch.testing.assert_close(logits[row, 0], alone, **EXACT)


def test_several_tokens_of_uneven_rows_are_read_at_once(model: GPT, config: ModelConfig, tokens: Tensor) -> None:
    cache = StaticCache(config, batch=2, capacity=16, dtype=DOUBLE)
    with torch.inference_mode():
        model(tokens[:2, :6], cache)
        cache.keep([6, 2])
        logits = model(torch.stack([tokens[0, 6:11], tokens[1, 2:7]]), cache)
        torch.testing.assert_close(logits[0], model(tokens[:1, :11])[0, 6:], **EXACT)
        torch.testing.assert_close(logits[1], model(tokens[1:2, :7])[0, 2:], **EXACT)


def test_the_explicit_formula_uses_the_same_memory(model: GPT, config: ModelConfig, tokens: Tensor) -> None:
    expected = model(tokens)
    for block in model.blocks:
        block.attention.heads.weights.register_forward_hook(lambda _module, _inputs, value: None)
    for lengths in ([16], [5, 1, 1, 9], [1] * 16):
        cache = StaticCache(config, batch=3, capacity=16, dtype=DOUBLE)
        torch.testing.assert_close(in_pieces(model, tokens, lengths, cache), expected, **EXACT)


def test_what_is_forgotten_leaves_no_trace(model: GPT, config: ModelConfig, tokens: Tensor) -> None:
    cache = StaticCache(config, batch=3, capacity=16, dtype=DOUBLE)
    with torch.inference_mode():
        model(tokens, cache)
        cache.keep([0, 0, 0])
        assert torch.equal(model(tokens[:, :5], cache), model(tokens[:, :5]))
        cache.keep([3, 3, 3])
        torch.testing.assert_close(model(tokens[:, 3:9], cache), model(tokens[:, :9])[:, 3:], **EXACT)


def test_rows_are_selected_repeated_and_put_in_order(model: GPT, config: ModelConfig, tokens: Tensor) -> None:
    cache = StaticCache(config, batch=3, capacity=16, dtype=DOUBLE)
    with torch.inference_mode():
        model(tokens[:, :6], cache)
        cache.keep([6, 5, 4])
        cache.select([2, 0, 2])
        assert (cache.lengths, cache.capacity) == ([4, 6, 4], 16)
        logits = model(torch.stack([tokens[2, 4:5], tokens[0, 6:7], tokens[2, 4:5]]), cache)
        torch.testing.assert_close(logits[1], model(tokens[:1, :7])[0, 6:], **EXACT)
        assert torch.equal(logits[0], logits[2])


@pytest.mark.parametrize("kind", [StaticCache, GrowingCache])
def test_a_row_adopts_what_another_cache_has_read(
    model: GPT, config: ModelConfig, tokens: Tensor, kind: type[StaticCache]
) -> None:
    cache = kind(config, batch=2, capacity=16 if kind is StaticCache else 2, dtype=DOUBLE)
    other = StaticCache(config, batch=1, capacity=16, dtype=DOUBLE)
    with torch.inference_mode():
        model(tokens[:2, :2], cache)
        model(tokens[2:, :9], other)
        cache.adopt(1, other)
        assert cache.lengths == [2, 9]
        logits = model(torch.stack([tokens[0, 2:3], tokens[2, 9:10]]), cache)
        torch.testing.assert_close(logits[1], model(tokens[2:, :10])[0, 9:], **EXACT)
        torch.testing.assert_close(logits[0], model(tokens[:1, :3])[0, 2:], **EXACT)


def test_a_growing_cache_doubles_its_room(config: ModelConfig, model: GPT, tokens: Tensor) -> None:
    cache = GrowingCache(config, batch=3, capacity=1, dtype=DOUBLE)
    rooms = []
    with torch.inference_mode():
        for token in tokens.split(1, dim=1):
            model(token, cache)
            rooms.append(cache.capacity)
    assert rooms == [1, 2, 4, 4, *[8] * 4, *[16] * 8]


def test_what_inference_mode_has_read_can_be_gone_on_with_outside(
    model: GPT, config: ModelConfig, tokens: Tensor
) -> None:
    with torch.inference_mode():
        cache = GrowingCache(config, batch=3, capacity=2, dtype=DOUBLE)
        model(tokens[:, :5], cache)
        cache.select([2, 1])
    logits = model(tokens[[2, 1], 5:7], cache)
    torch.testing.assert_close(logits, model(tokens[[2, 1], :7])[:, 5:], **EXACT)


def test_there_is_no_mask_only_where_the_fused_kernel_is_right(config: ModelConfig) -> None:
    cache = StaticCache(config, batch=2, capacity=9)
    k = torch.zeros(2, config.kv_heads, 3, config.head_width)
    masks = []
    for new in (3, 2, 1):
        masks.append(cache.layer(0).append(k[:, :, :new], k[:, :, :new])[2])
        cache.advance(new)
    assert masks[0] is None and masks[1] is not None and masks[2] is None
    cache.keep([6, 5])
    assert cache.layer(0).append(k[:, :, :1], k[:, :, :1])[2] is not None


def test_no_query_is_left_without_anything_to_see(model: GPT, config: ModelConfig, tokens: Tensor) -> None:
    cache = StaticCache(config, batch=3, capacity=16, dtype=DOUBLE)
    with torch.inference_mode():
        model(tokens[:, :3], cache)
        cache.keep([3, 0, 1])
        assert model(tokens[:, :4], cache).isfinite().all()


def test_a_full_memory_is_said_in_one_line(config: ModelConfig, model: GPT, tokens: Tensor) -> None:
    cache = StaticCache(config, batch=3, capacity=8, dtype=DOUBLE)
    with torch.inference_mode():
        model(tokens[:, :6], cache)
        with pytest.raises(ConfigError, match=r"^9 tokens do not fit into a cache of 8; take a larger one$"):
            model(tokens[:, :3], cache)
    growing = GrowingCache(config, batch=1, capacity=8, dtype=DOUBLE)
    growing.keep([10])
    with pytest.raises(ConfigError, match=r"^17 tokens do not fit into a context of 16; give fewer, or the newest"):
        model(tokens[:1, :7], growing)
    with pytest.raises(ConfigError, match=r"^17 tokens do not fit into a context of 16"):
        NoCache(config, 1, torch.device("cpu")).positions(17)


@pytest.mark.parametrize("read", [0, 4])
def test_other_rows_than_a_cache_remembers_are_refused(
    config: ModelConfig, model: GPT, tokens: Tensor, read: int
) -> None:
    cache = StaticCache(config, batch=3, capacity=8, dtype=DOUBLE)
    with torch.inference_mode():
        model(tokens[:, :read], cache)
        with pytest.raises(ConfigError, match=r"^1 rows do not fit a cache of 3; give one for each$"):
            model(tokens[:1, :2], cache)
    for lengths in ([1], [2, -1, 3]):
        with pytest.raises(ConfigError, match=r"are no lengths of 3 rows; give one for each, zero or more$"):
            cache.keep(lengths)
    assert cache.lengths == [read] * 3
