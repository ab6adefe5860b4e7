"""One training step is a function of the global batch, however it is cut, and a tiny model learns by it."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from octavo.cache import GrowingCache
from octavo.config import ModelConfig, RunConfig, TrainConfig
from octavo.data import Batches
from octavo.loss import IGNORED, cross_entropy
from octavo.making import make_model
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.schedule import Schedule
from octavo.step import Batch, evaluate, training_step
from octavo.tokenizers import SimpleTokenizer
from texts import sentences

Models = Callable[..., GPT]


def batch_of(config: ModelConfig, rows: int, seed: int = 0) -> Batch:
    text = torch.randint(config.vocab_size, (rows, config.context + 1), generator=torch.Generator().manual_seed(seed))
    targets = text[:, 1:].clone()
    targets[0, 5:] = IGNORED  # so that pieces differ in how many targets they have
    return text[:, :-1], targets


def cut(batch: Batch, lengths: Sequence[int]) -> list[Batch]:
    return list(zip(*(part.split(list(lengths)) for part in batch), strict=True))


# law 7


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("lengths", [[4, 4], [1] * 8, [3, 5]])
def test_micro_batches_equal_the_large_batch(
    config: ModelConfig, random_model: Models, optimizer: str, lengths: list[int]
) -> None:
    train = TrainConfig(steps=3, batch=8, optimizer=optimizer, lr=0.01)
    models = [random_model(config, deviation=0.1) for _ in range(2)]
    learners = [make_optimizers(model, train) for model in models]
    for step in range(3):
        batch = batch_of(config, 8, seed=step)
        whole = training_step(models[0], learners[0], [batch], rate=1.0, clip=1.0)
        pieces = training_step(models[1], learners[1], cut(batch, lengths), rate=1.0, clip=1.0)
        assert pieces.loss == pytest.approx(whole.loss, rel=1e-12)
        assert pieces.grad_norm == pytest.approx(whole.grad_norm, rel=1e-12)
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        # a bias on all keys changes no softmax: its gradient is rounding alone, which Adam makes as large as any other
        assert name.endswith("key.bias") or (one - other).abs().max() < 1e-12, name
    tokens = batch_of(config, 2, seed=9)[0]
    torch.testing.assert_close(models[0](tokens), models[1](tokens), rtol=0, atol=1e-11)


# law 8


@pytest.mark.parametrize(
    ("dialect", "optimizer", "rate"), [("gpt2", "adamw", 0.01), ("modern", "muon", 0.02), ("modern", "adamw", 0.01)]
)
def test_a_tiny_model_learns_one_sentence_and_recites_it(dialect: str, optimizer: str, rate: float) -> None:
    sentence = "a book folded to fit the hand, and read in one sitting."
    letters = sorted(set(sentence))
    text = torch.tensor([[letters.index(letter) for letter in sentence]])
    config = ModelConfig(dialect=dialect, vocab_size=len(letters), context=64, layers=2, heads=2, width=32)
    torch.manual_seed(0)
    model = GPT(config)
    learners = make_optimizers(model, TrainConfig(steps=60, batch=1, optimizer=optimizer, lr=rate))
    for _ in range(60):
        result = training_step(model, learners, [(text[:, :-1], text[:, 1:])], rate=1.0, clip=1.0)
    assert result.loss < 0.5
    assert recite(model, text[:, :1], len(sentence)) == text[0].tolist()


def recite(model: GPT, beginning: Tensor, length: int) -> list[int]:
    """The most probable continuation, one token at a time, remembering the rest."""
    cache = GrowingCache(model.config, batch=1, capacity=1)
    said = beginning[0].tolist()
    with torch.inference_mode():
        while len(said) < length:
            said.append(int(model(torch.tensor([said[-1:]]), cache)[0, -1].argmax()))
    return said


# the step


def test_the_gradient_is_that_of_the_mean_over_all_targets(config: ModelConfig, random_model: Models) -> None:
    model, plain = random_model(config), random_model(config)
    tokens, targets = batch_of(config, 4)
    counted = targets != IGNORED
    surprise = -plain(tokens).log_softmax(-1).gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    mean = surprise[counted].mean()
    mean.backward()
    norm = torch.cat([weight.grad.flatten() for weight in plain.parameters()]).norm()
    result = training_step(model, [], cut((tokens, targets), [1, 3]), rate=1.0, clip=math.inf)
    assert result.loss == pytest.approx(mean.item(), rel=1e-12)
    assert result.grad_norm == pytest.approx(norm.item(), rel=1e-12)


def test_a_step_moves_by_the_rate_that_is_asked_for(config: ModelConfig, random_model: Models) -> None:
    model = random_model(config)
    (learner,) = make_optimizers(model, TrainConfig(steps=1, batch=1, optimizer="adamw", lr=0.01, weight_decay=0.0))
    before = model.embed.weight.detach().clone()
    training_step(model, [learner], [batch_of(config, 2)], rate=0.5, clip=1.0)
    assert (model.embed.weight - before).abs().max().item() == pytest.approx(0.005, rel=1e-3)  # Adam's first step
    assert all(group["initial_lr"] == 0.01 for group in learner.param_groups)
    assert all(weight.grad is None for weight in model.parameters())


def test_a_long_gradient_is_cut_to_length(config: ModelConfig, random_model: Models) -> None:
    model = random_model(config)
    learner = torch.optim.SGD([{"params": list(model.parameters()), "initial_lr": 1.0}], lr=1.0)
    before = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    result = training_step(model, [learner], [batch_of(config, 2)], rate=1.0, clip=0.25)
    assert result.grad_norm > 0.25
    moved = nn.utils.parameters_to_vector(model.parameters()) - before
    assert moved.norm().item() == pytest.approx(0.25, rel=1e-4)


def test_a_loss_that_is_not_finite_leaves_the_weights_as_they_were(config: ModelConfig, random_model: Models) -> None:
    model = random_model(config)
    learners = make_optimizers(model, TrainConfig(steps=1, batch=1))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    handle = model.stream.register_forward_hook(lambda _module, _inputs, value: value * math.inf)
    assert not training_step(model, learners, [batch_of(config, 2)], rate=1.0, clip=1.0).used
    handle.remove()
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert training_step(model, learners, [batch_of(config, 2)], rate=1.0, clip=1.0).used


def test_dropout_is_drawn_from_the_seed_of_its_piece() -> None:
    config = ModelConfig(vocab_size=11, context=8, layers=1, heads=2, width=8)
    losses = []
    for seeds in ([1, 2], [1, 2], [1, 3]):
        torch.manual_seed(0)
        model = GPT(config, dropout=0.3).double()
        torch.rand(len(losses))  # whatever was drawn before
        losses.append(training_step(model, [], cut(batch_of(config, 4), [2, 2]), rate=1.0, clip=1.0, seeds=seeds).loss)
    assert losses[0] == losses[1] != losses[2]


def test_a_step_in_bfloat16_is_near_that_of_float32(config: ModelConfig, random_model: Models) -> None:
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        model = random_model(config, dtype=torch.float32)
        results.append(training_step(model, [], [batch_of(config, 4)], rate=1.0, clip=1.0, dtype=dtype))
        assert model.embed.weight.dtype == torch.float32
    assert results[1].loss != results[0].loss == pytest.approx(results[1].loss, rel=0.02)


# reading held-out text


def test_evaluation_sums_over_all_targets_and_learns_nothing(config: ModelConfig, random_model: Models) -> None:
    model = random_model(config).train()
    batch = batch_of(config, 5)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    nats, count = evaluate(model, cut(batch, [2, 3]))
    assert count == int((batch[1] != IGNORED).sum())
    assert nats == pytest.approx(cross_entropy(model(batch[0]), batch[1]).item(), rel=1e-12)
    assert model.training and all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def test_evaluation_leaves_dropout_out_and_puts_the_mode_back_after_a_failure(config: ModelConfig) -> None:
    model = GPT(config, dropout=0.5)
    batch = batch_of(config, 2)
    assert evaluate(model, [batch]) == evaluate(model, [batch])
    with pytest.raises(IndexError):
        evaluate(model, [(batch[0] + config.vocab_size, batch[1])])
    assert model.training


def test_a_loss_is_summed_in_float32_at_least() -> None:
    logits = torch.zeros(1, 4, 8, dtype=torch.bfloat16)
    targets = torch.tensor([[0, 1, 2, IGNORED]])
    assert cross_entropy(logits, targets).dtype == torch.float32
    assert cross_entropy(logits.double(), targets).item() == pytest.approx(3 * math.log(8), rel=1e-12)


GOLDEN = {  # of every tenth step, in nats per token
    "modern": "2.867796068 2.448250613 2.219882704 1.940801120 1.615489452 "
    "1.527072492 1.402978012 1.353718417 1.125394497 1.233554700",
    "gpt2": "3.310225760 3.294706916 3.197633740 3.125589828 3.150169089 "
    "3.096760867 3.065214819 3.131887411 3.038867530 2.966053407",
}


@pytest.mark.parametrize("dialect", GOLDEN)
def test_a_hundred_steps_in_float64_come_to_the_losses_that_they_always_came_to(dialect: Any) -> None:
    text = sentences(200)
    tokenizer = SimpleTokenizer(text)
    model = ModelConfig(dialect=dialect, vocab_size=tokenizer.vocab_size, layers=2, heads=2, width=16, context=16)
    optimizer: Any = "muon" if dialect == "modern" else "adamw"
    train = TrainConfig(steps=100, batch=4, optimizer=optimizer, weight_decay=0.1, dtype="float64")
    learner = make_model(RunConfig(model=model, train=train)).double()
    draw = np.random.default_rng(0)  # processors draw PyTorch's numbers by different roads, which differ in float32
    with torch.no_grad():
        for weight in learner.parameters():
            weight.copy_(torch.from_numpy(draw.normal(weight.dim() == 1, 0.1, tuple(weight.shape))))
    optimizers = make_optimizers(learner, train)
    schedule = Schedule.planned(train.steps, warmup=train.warmup, decay=train.decay)
    batches = Batches(np.array(tokenizer.encode(text), np.uint16), model.context, train.batch, train.seed)
    losses = []
    for step in range(train.steps):
        tokens, targets = map(torch.from_numpy, batches.rows(step, 0, train.batch))
        result = training_step(
            learner, optimizers, [(tokens, targets)], rate=schedule.rate(step), clip=1.0, dtype=torch.float64
        )
        losses.append(result.loss)
    assert losses[9::10] == pytest.approx([float(loss) for loss in GOLDEN[dialect].split()], rel=0, abs=1e-6)
