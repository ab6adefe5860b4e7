"""Looking inside changes nothing, agrees with transformers, and what is taken apart sums to the whole."""

from collections import Counter
from collections.abc import Callable
from importlib import import_module
from itertools import takewhile
from math import log
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo import lens
from octavo.config import ModelConfig
from octavo.errors import ConfigError
from octavo.lens.heads import targets
from octavo.model import GPT
from octavo.run import save_model
from warm import Warm

TEXT = [3, 1, 4, 1, 5, 9, 2, 6, 3, 1, 4]


def hooks(model: GPT) -> int:
    return sum(len(part._forward_hooks) for part in model.modules())


def test_a_lens_changes_no_logit_by_a_bit(config: ModelConfig, random_model: Callable[..., GPT]) -> None:
    model = random_model(config, dtype=torch.float32)
    alone = model(torch.tensor([TEXT]))[0]
    seen = lens.trace(model, TEXT)
    assert torch.equal(seen.logits, alone)
    lens.logit_lens(seen), lens.head_kinds(seen), lens.contributions(seen, 3, 7)
    assert torch.equal(model(torch.tensor([TEXT]))[0], alone)
    assert hooks(model) == 0


def test_a_model_that_learns_goes_on_learning(config: ModelConfig, random_model: Callable[..., GPT]) -> None:
    drawn = random_model(config)
    model = GPT(config, dropout=0.5).double()
    model.load_state_dict(drawn.state_dict())
    model.blocks[0].eval()
    modes = [part.training for part in model.modules()]
    assert torch.equal(lens.trace(model, TEXT).logits, lens.trace(drawn, TEXT).logits)
    assert [part.training for part in model.modules()] == modes and hooks(model) == 0


def test_weights_are_those_that_the_model_uses(model: GPT) -> None:
    heard: list[Tensor] = []
    handles = [
        block.attention.heads.weights.register_forward_hook(lambda module, inputs, value: heard.append(value[0]))
        for block in model.blocks
    ]
    model(torch.tensor([TEXT]))
    for handle in handles:
        handle.remove()
    seen = lens.trace(model, TEXT)
    for layer, weights in enumerate(heard):
        torch.testing.assert_close(seen.weights(layer), weights, atol=1e-13, rtol=0)
        assert not seen.weights(layer).triu(1).any()


def test_weights_are_kept_for_who_asks_again_while_there_is_room(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = lens.trace(model, TEXT)
    monkeypatch.setattr(import_module("octavo.lens.trace"), "KEPT", seen.weights(0).nbytes)
    assert seen.weights(0) is seen.weights(0) and seen.weights(1) is not seen.weights(1)
    assert torch.equal(seen.weights(1), seen.weights(1))


@pytest.mark.parametrize("changes", [{}, {"0.1": 0.0, "1.feed_forward": 2.0}])
@pytest.mark.parametrize("other", [[3, 1, 4], [3, 1, 4, 7, 7], [*TEXT, 5], TEXT, [9]])
def test_a_text_is_read_from_where_it_is_another_than_the_last_one(
    model: GPT, changes: dict[str, float], other: list[int]
) -> None:
    known, whole = lens.trace(model, other, changes), lens.trace(model, TEXT, changes)
    begun = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(other, TEXT[:-1], strict=False))))
    read: list[int] = []
    handle = model.embed.register_forward_hook(lambda module, inputs, value: read.append(value.size(1)))
    seen = lens.trace(model, TEXT, changes, known)
    handle.remove()
    assert read == [len(TEXT) - begun] and torch.equal(seen.tokens, whole.tokens) and seen.changes == changes
    for name in ("stream", "queries", "keys", "values", "heads", "attention", "feed_forward"):
        for one, same in zip(getattr(seen, name), getattr(whole, name), strict=True):
            torch.testing.assert_close(one, same, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(seen.logits, whole.logits, atol=1e-12, rtol=1e-12)
    shares = lens.contributions(seen, 9, 3)
    assert sum(share.value for share in shares) == pytest.approx(seen.logits[9, 3].item(), abs=1e-10)
    halved = {**changes, "0": 0.5}  # which nothing was known of
    assert torch.equal(lens.trace(model, TEXT, halved, known).logits, lens.trace(model, TEXT, halved).logits)


@pytest.mark.parametrize("given", [np.array(TEXT, np.uint16), torch.tensor(TEXT), list(map(np.int64, TEXT))])
def test_ids_and_numbers_are_taken_in_whatever_they_come(model: GPT, given: Any) -> None:
    seen = lens.trace(model, given, {"0.1": np.float32(0.5)})
    assert torch.equal(seen.logits, lens.trace(model, TEXT, {"0.1": 0.5}).logits)
    assert lens.contributions(seen, np.int64(3), np.uint16(7)) == lens.contributions(seen, 3, 7)


def test_what_another_thread_reads_meanwhile_is_neither_heard_nor_changed(model: GPT) -> None:
    alone, plain, said = lens.trace(model, TEXT, {"0.1": 0.0}), model(torch.tensor([[5, 5]])), []

    def read_beside(tap: object, given: object, value: Tensor) -> None:
        if value.size(1) > 2:
            beside = Thread(target=lambda: said.append(model(torch.tensor([[5, 5]]))))
            beside.start()
            beside.join()

    handle = model.blocks[-1].stream.register_forward_hook(read_beside)
    seen = lens.trace(model, TEXT, {"0.1": 0.0})
    handle.remove()
    assert torch.equal(said[0], plain) and torch.equal(seen.logits, alone.logits)
    for one, other in zip([*seen.stream, *seen.keys], [*alone.stream, *alone.keys], strict=True):
        assert torch.equal(one, other)


COMPILED = """
from copy import deepcopy
import torch
from octavo import GPT, ModelConfig, lens

model, text = GPT(ModelConfig(vocab_size=9, context=16, layers=2, heads=2, width=8)), [3, 1, 4, 1, 5]
alone, without = lens.trace(model, text), lens.trace(model, text, {"0": 0})
assert not torch.equal(without.logits, alone.logits)
blocks = deepcopy(model)
blocks.blocks[0].compile(backend="eager")
with torch.no_grad():
    for compiled in (torch.compile(model, backend="eager"), blocks):
        compiled(torch.tensor([text]))
        assert torch.equal(lens.trace(compiled, text).stream[1], alone.stream[1])
        with lens.switched(compiled, {"0": 0}):
            assert torch.equal(compiled(torch.tensor([text]))[0], without.logits)
one, other = (lens.switched(blocks, {}) for _ in range(2))
one.__enter__(), other.__enter__()  # as two threads come and go
one.__exit__(None, None, None), other.__exit__(None, None, None)
assert "force_eager" not in str(torch._dynamo.eval_frame._stance)
"""


def test_a_compiled_model_is_heard_and_changed_as_it_was_before(warm: Warm) -> None:
    seen = warm.start(COMPILED)  # what checks the shapes would be compiled, too
    assert seen.wait() == 0, seen.errors


def test_transformers_sees_the_same(config: ModelConfig, model: GPT, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    save_model(model, tmp_path)
    peer: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64, attn_implementation="eager")
    told = peer.eval()(torch.tensor([TEXT]), output_attentions=True, output_hidden_states=True)
    seen = lens.trace(model, TEXT)
    for layer, weights in enumerate(told.attentions):
        torch.testing.assert_close(seen.weights(layer), weights[0].double(), atol=1e-5, rtol=0)
    *streams, last = (stream[0] for stream in told.hidden_states)  # the last one is normed
    for ours, theirs in zip(seen.stream, streams, strict=False):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    said = lens.logit_lens(seen, top=5)
    for layer, stream in enumerate([*streams, None]):
        base = getattr(peer, peer.base_model_prefix)
        normed = last if stream is None else (base.ln_f if config.biased else base.norm)(stream)
        shares = peer.lm_head(normed).softmax(-1)
        for position, choices in enumerate(said[layer].choices):
            best = shares[position].topk(5)
            assert [choice.id for choice in choices] == best.indices.tolist()
            assert [choice.probability for choice in choices] == pytest.approx(best.values.tolist(), abs=1e-5)


@pytest.mark.parametrize("changes", [{}, {"0": 0.5, "1.1": 0.0, "1.feed_forward": -2.0, "0.attention": 3.0}])
def test_the_parts_sum_to_the_logit(model: GPT, changes: dict[str, float]) -> None:
    seen = lens.trace(model, TEXT, changes)
    for position, token in ((0, 0), (4, 9), (10, 22)):
        shares = lens.contributions(seen, position, token)
        assert sum(share.value for share in shares) == pytest.approx(seen.logits[position, token].item(), abs=1e-10)
        names = [share.name for share in shares]
        assert len(set(names)) == len(names)
        heads = [name for name in names if name.split(".")[-1].isdigit()]
        assert len(heads) == model.config.layers * model.config.heads


@pytest.mark.parametrize("tap", ["attention_out", "feed_forward_out", "stream"])
def test_what_a_hook_put_in_has_its_share(model: GPT, tap: str) -> None:
    handle = getattr(model.blocks[1], tap).register_forward_hook(lambda part, given, value: value + 0.01)
    seen = lens.trace(model, TEXT)
    shares = lens.contributions(seen, 4, 9)
    handle.remove()
    assert sum(share.value for share in shares) == pytest.approx(seen.logits[4, 9].item(), abs=1e-10)
    assert [share.name for share in shares if "changed" in share.name] == ["1.changed"] * (tap != "feed_forward_out")


def test_a_head_that_is_off_says_nothing_in_the_sum(model: GPT) -> None:
    shares = {share.name: share.value for share in lens.contributions(lens.trace(model, TEXT, {"1.1": 0}), 5, 2)}
    assert shares["1.1"] == 0 != shares["1.0"]


def without(model: GPT, layer: int, head: int, factor: float) -> GPT:
    """Weights in which a head is so much louder: the columns of the output projection that read it."""
    width = model.config.head_width
    with torch.no_grad():
        model.blocks[layer].attention.mix.weight[:, head * width : (head + 1) * width] *= factor
    return model


@pytest.mark.parametrize("factor", [0.0, 0.5, -1.0])
def test_a_head_is_switched_as_if_its_weights_were_others(
    config: ModelConfig, random_model: Callable[..., GPT], factor: float
) -> None:
    other = without(random_model(config), 1, 1, factor)
    seen = lens.trace(random_model(config), TEXT, {"1.1": factor})
    torch.testing.assert_close(seen.logits, other(torch.tensor([TEXT]))[0], atol=1e-12, rtol=0)


def test_a_layer_that_is_off_adds_nothing_and_comes_back(model: GPT) -> None:
    alone = model(torch.tensor([TEXT]))
    with lens.switched(model, {"1": 0.0}):
        seen = lens.trace(model, TEXT)
        assert torch.equal(seen.stream[2], seen.stream[1])
    with lens.switched(model, {"1.attention": 0.0, "1.feed_forward": 0.0}):
        assert torch.equal(lens.trace(model, TEXT).logits, seen.logits)
    assert torch.equal(model(torch.tensor([TEXT])), alone) and hooks(model) == 0


def test_two_changes_of_heads_in_one_layer_both_count(model: GPT) -> None:
    both = lens.trace(model, TEXT, {"0.0": 0.0, "0.1": 0.0})
    assert not both.heads[0][:2].any()


def test_surprise_is_the_loss_in_bits(model: GPT) -> None:
    seen = lens.trace(model, TEXT)
    first, *rest = lens.surprises(seen, top=4)
    assert first.id == TEXT[0] and first.probability is None and first.surprise is None
    assert [read.id for read in rest] == TEXT[1:]
    assert seen.loss is not None
    assert sum(read.surprise or 0 for read in rest) * log(2) / len(rest) == pytest.approx(seen.loss, abs=1e-12)
    for read in rest:
        assert read.probability == pytest.approx(2 ** -(read.surprise or 0))
        assert [choice.probability for choice in read.alternatives] == sorted(
            (choice.probability for choice in read.alternatives), reverse=True
        )
    follows = model(torch.tensor([TEXT]))[0, -1].softmax(-1).topk(3)
    assert [choice.id for choice in lens.next_tokens(seen, 3)] == follows.indices.tolist()


def test_one_token_alone_has_no_loss_and_still_a_next_one(model: GPT) -> None:
    seen = lens.trace(model, [4])
    assert seen.loss is None and len(lens.surprises(seen)) == 1 and len(lens.next_tokens(seen)) == 5
    assert {head.kind for layer in lens.head_kinds(seen) for head in layer} == {"mixed"}


def test_what_came_has_its_probability_at_each_layer(model: GPT) -> None:
    seen = lens.trace(model, TEXT)
    said = lens.logit_lens(seen)
    assert [layer.layer for layer in said] == [0, 1, 2]
    assert said[-1].actual[:-1] == pytest.approx([read.probability for read in lens.surprises(seen)[1:]])
    assert all(layer.actual[-1] is None for layer in said)
    assert all(len(layer.choices) == len(TEXT) for layer in said)


def counted(tokens: list[int], kind: str, query: int) -> list[int]:
    """The places of a kind, looked for one by one."""
    found = {
        "previous": [query - 1],
        "first": [0],
        "itself": [query],
        "same": [key for key in range(query) if tokens[key] == tokens[query]],
        "induction": [key for key in range(1, query) if tokens[key - 1] == tokens[query]],
    }
    return found[kind] if query > 1 else []


@pytest.mark.parametrize("seed", range(5))
def test_places_are_those_that_a_search_finds(seed: int) -> None:
    tokens = np.random.default_rng(seed).integers(0, 4, 14).tolist()
    for kind, where in targets(torch.tensor(tokens)).items():
        assert [row.nonzero().flatten().tolist() for row in where] == [counted(tokens, kind, q) for q in range(14)]


def test_a_share_is_the_mean_weight_on_those_places(model: GPT) -> None:
    seen = lens.trace(model, TEXT)
    for layer, heads in enumerate(lens.head_kinds(seen)):
        weights = seen.weights(layer)
        for found in heads:
            for kind, share in found.shares.items():
                sums = [
                    sum(weights[found.head, query, key].item() for key in counted(TEXT, kind, query))
                    for query in range(len(TEXT))
                    if counted(TEXT, kind, query)
                ]
                assert share == pytest.approx(sum(sums) / len(sums), abs=1e-12)


def looking(kind: str) -> GPT:
    """A model whose one head does one thing: positions and tokens are numbers of its vectors of their own."""
    config = ModelConfig(vocab_size=8, context=16, layers=1, heads=1, width=24)
    model = GPT(config).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        for norm in (model.blocks[0].attention_norm, model.blocks[0].feed_forward_norm, model.norm):
            norm.weight.fill_(1.0)
        assert model.positions is not None
        model.embed.weight[:, :8] = torch.eye(8)
        model.positions.weight[:, 8:] = torch.eye(16)
        heads = model.blocks[0].attention.heads
        tokens, places = torch.arange(8), torch.arange(8, 24)
        if kind == "previous":
            heads.query.weight[places[:-1], places[1:]] = 50.0  # at t, ask for t - 1
            heads.key.weight[places, places] = 1.0
        elif kind == "itself":
            heads.query.weight[places, places] = 50.0
            heads.key.weight[places, places] = 1.0
        elif kind == "first":
            heads.query.weight[8, :] = 50.0
            heads.query.bias[8] = 500.0
            heads.key.weight[8, 8] = 1.0
        else:  # same
            heads.query.weight[tokens, tokens] = 50.0
            heads.key.weight[tokens, tokens] = 1.0
            heads.query.weight[places, places] = -50.0  # but not at itself
            heads.key.weight[places, places] = 1.0
    return model


@pytest.mark.parametrize("kind", ["previous", "itself", "first", "same"])
def test_a_head_is_called_what_it_does(kind: str) -> None:
    [[head]] = lens.head_kinds(lens.trace(looking(kind), [1, 2, 1, 2, 1, 2, 1, 2, 2, 1, 1, 2]))
    assert head.kind == kind, head.shares


def test_an_untrained_model_has_mixed_heads_alone() -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=23, context=32, layers=2, heads=4, width=16)).eval()
    tokens = torch.randint(23, (32,), generator=torch.Generator().manual_seed(1)).tolist()
    assert Counter(head.kind for layer in lens.head_kinds(lens.trace(model, tokens)) for head in layer) == {"mixed": 8}


def test_the_map_is_the_principal_components(model: GPT) -> None:
    found = lens.embedding_map(model)
    vectors = model.embed.weight.detach().numpy()
    u, s, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found.points.numpy()), np.abs(u[:, :2] * s[:2]), atol=1e-9)
    assert found.explained == pytest.approx(tuple((s**2 / (s**2).sum())[:2]))
    assert all(axis[axis.abs().argmax()] > 0 for axis in found.points.T)


def test_figures_of_weights_are_numpys(model: GPT) -> None:
    before = {name: weight.detach() * 0.5 for name, weight in model.named_parameters()}
    before["norm.weight"] = torch.zeros_like(before["norm.weight"])
    found = {matrix.name: matrix for matrix in lens.matrices(model, before)}
    for name, weight in model.named_parameters():
        value, figures = weight.detach().numpy(), found[name]
        assert figures.shape == value.shape
        assert (figures.mean, figures.deviation) == pytest.approx((value.mean(), value.std()))
        assert (figures.largest, figures.norm) == pytest.approx((np.abs(value).max(), np.linalg.norm(value)))
        assert figures.update == (None if name == "norm.weight" else pytest.approx(1.0))
    assert all(matrix.update is None for matrix in lens.matrices(model))


def test_a_notebook_shows_what_a_lens_returns(model: GPT) -> None:
    seen = lens.trace(model, TEXT)
    found = [lens.surprises(seen), lens.logit_lens(seen), lens.head_kinds(seen), lens.contributions(seen, 1, 2)]
    found += [lens.next_tokens(seen), lens.surprises(seen)[2:5], lens.head_kinds(seen)[0]]
    for rows in (*found, lens.matrices(model)):
        html = rows._repr_html_()
        count = sum(len(row) if isinstance(row, list) else 1 for row in rows)
        assert html.count("<tr>") == 1 + count and html.count("<th ") >= 2
    assert "11 tokens through 2 layers" in seen._repr_html_()
    assert "23 tokens on a map" in lens.embedding_map(model)._repr_html_()
    many = lens.Rows(lens.Choice(number, 0.5) for number in range(205))
    assert many._repr_html_().endswith("<p>… and 5 more</p>") and lens.Rows()._repr_html_() == "<pre>[]</pre>"


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda model: lens.trace(model, []), "the text has 0 tokens and the model sees 16; give 1 to 16"),
        (lambda model: lens.trace(model, [1] * 17), "the text has 17 tokens and the model sees 16; give 1 to 16"),
        (lambda model: lens.trace(model, [1, 23]), "id 23 is no token; the model knows 0 to 22"),
        (lambda model: lens.trace(model, torch.ones(1, 2)), "id [1.0, 1.0] is no token; the model knows 0 to 22"),
        (lambda model: lens.trace(model, [1.0]), "id 1.0 is no token; the model knows 0 to 22"),
        (lambda model: lens.trace(model, "abc"), "the text is 'abc'; give the ids of its tokens, which a tokenizer's"),
        (lambda model: lens.trace(model, None), "the text is None; give the ids of its tokens, which a tokenizer's"),
        (lambda model: lens.trace(model, [1]).weights(0.5), "there is no layer 0.5; the model has layers 0 to 1"),
        (
            lambda model: lens.next_tokens(lens.trace(model, [1]), -1),
            "top is -1; give how many of the likeliest tokens",
        ),
        (lambda model: lens.trace(model, [1], ["0.0"]), "changes are ['0.0']; give a number for each of some parts: {"),
        (lambda model: lens.parse(0, model), "0 is no part of a model; name a head (2.0), a block (2.attention, "),
        (lambda model: lens.trace(model, [1], {0: 0.0}), "2.feed_forward) or a layer (2), as a text"),
        (lambda model: lens.contributions(lens.trace(model, [1]), "a", 0), "there is no position 'a'; the text has 0"),
        (lambda model: lens.trace(model, [1]).weights(2), "there is no layer 2; the model has layers 0 to 1"),
        (
            lambda model: lens.parse("0.9", model),
            "there is no head 9 in layer 0; the model has layers 0 to 1 and heads 0 to",
        ),
        (lambda model: lens.parse("2", model), "there is no layer 2; the model has layers 0 to 1"),
        (lambda model: lens.parse("../0", model), "'../0' is no part of a model; name a head"),
        (lambda model: lens.parse("00.attention", model), "'00.attention' is no part of a model; name a head"),
        (lambda model: lens.parse("0.٣", model), "'0.٣' is no part of a model; name a head"),
        (
            lambda model: lens.trace(model, [1], {"0.0": float("nan")}),
            "0.0 is to be multiplied by nan; give a finite number, 0 switches it off",
        ),
        (lambda model: lens.trace(model, [1], {"0.0": True}), "0.0 is to be multiplied by True; give a finite"),
        (lambda model: lens.contributions(lens.trace(model, [1]), 1, 0), "there is no position 1; the text has 0 to 0"),
        (lambda model: lens.contributions(lens.trace(model, [1]), 0, 23), "id 23 is no token; the model knows 0 to 22"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(model: GPT, ask: Callable[[GPT], object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ask(model)
    assert said in str(caught.value) and hooks(model) == 0
