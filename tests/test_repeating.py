"""Steps that are recorded are steps: what a GPU would do, done on a CPU by recordings that do their work again."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from octavo import reading, repeating, replayed
from octavo.config import ModelConfig, TrainConfig
from octavo.generation import generate
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.parallel import Spread
from octavo.repeating import PLAIN, Repeated
from octavo.step import Batch, StepResult

Models = Callable[..., GPT]


class Again:
    """Work that is done at each call, and not when it is told."""

    told: list["Again"] = []

    def __init__(self, work: Callable[[], Tensor], device: torch.device, after: "Again | None" = None) -> None:
        self.work, self.calls = work, 0
        self.told.append(self)

    def __call__(self) -> Tensor:
        self.calls += 1
        return self.work()


@pytest.fixture(autouse=True)
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[Again]:
    Again.told = []
    for module in (repeating, replayed):
        monkeypatch.setattr(module, "Recording", Again)
    for module in (repeating, reading):
        monkeypatch.setattr(module, "records", lambda device: True)
    return Again.told


def learner(model: GPT, dropout: float = 0.0) -> Repeated:
    train = TrainConfig(steps=1, batch=4, optimizer="muon" if model.config.rotary else "adamw", dropout=dropout)
    optimizers = make_optimizers(model, train)
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = torch.tensor(group["initial_lr"])  # as on a GPU
    return Repeated(Spread(model), optimizers, clip=1.0)


def batch(config: ModelConfig, step: int, rows: int = 4) -> Batch:
    tokens = torch.randint(config.vocab_size, (rows, 9), generator=torch.Generator().manual_seed(step))
    return tokens[:, :-1], tokens[:, 1:]


def taken(repeated: Repeated, batches: list[list[Batch]]) -> list[StepResult]:
    return [
        repeated.step(pieces, rate=1 / (1 + step), seeds=list(range(step, step + len(pieces))))
        for step, pieces in enumerate(batches)
    ]


def both(
    config: ModelConfig, make: Models, batches: list[list[Batch]], dropout: float = 0.0
) -> tuple[list[StepResult], list[StepResult]]:
    """The same steps as they are and recorded, after which the weights must be the same."""
    models = [make(config).train() for _ in range(2)]
    for model in models:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
    plain, recorded = (learner(model, dropout) for model in models)
    plain.works = False
    found = taken(plain, batches), taken(recorded, batches)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)
    return found


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_recorded_steps_come_to_the_same_bits(
    config: ModelConfig, random_model: Models, recordings: list[Again], dropout: float
) -> None:
    plain, recorded = both(config, random_model, [[batch(config, step)] for step in range(9)], dropout)
    assert plain == recorded
    assert [one.calls for one in recordings] == [9 - PLAIN, 9 - PLAIN]


def test_pieces_are_recorded_together_unless_each_hides_something_else(
    config: ModelConfig, random_model: Models, recordings: list[Again]
) -> None:
    batches = [[batch(config, step, 1), batch(config, 50 + step, 3)] for step in range(6)]
    plain, recorded = both(config, random_model, batches)
    assert plain == recorded and len(recordings) == 2
    recordings.clear()
    plain, recorded = both(config, random_model, batches, 0.2)
    assert plain == recorded and not recordings


def test_what_has_another_shape_is_recorded_anew(
    config: ModelConfig, random_model: Models, recordings: list[Again]
) -> None:
    sizes = [4] * 5 + [2] * 5 + [4] * 2
    plain, recorded = both(config, random_model, [[batch(config, n, rows)] for n, rows in enumerate(sizes)])
    assert plain == recorded
    assert [one.calls for one in recordings] == [2, 2, 2, 2]


def test_a_recorded_step_that_comes_to_no_number_changes_nothing(config: ModelConfig, random_model: Models) -> None:
    model = random_model(config).train()
    repeated = learner(model)
    taken(repeated, [[batch(config, step)] for step in range(5)])
    place, told = model.norm.weight.detach(), model.norm.weight.detach().clone()
    before = remembered(repeated)
    place.fill_(math.nan)
    assert not repeated.step([batch(config, 8)], rate=1.0, seeds=[0]).used
    place.copy_(told)
    for one, other in zip(before, remembered(repeated), strict=True):
        assert torch.equal(one, other)
    assert repeated.step([batch(config, 8)], rate=1.0, seeds=[0]).used
    assert not all(torch.equal(one, other) for one, other in zip(before, remembered(repeated), strict=True))


def remembered(repeated: Repeated) -> list[Tensor]:
    """The weights, and all that the optimizers know of them."""
    weights = list(repeated.spread.model.parameters())
    states = [optimizer.state[weight] for optimizer in repeated.optimizers for weight in optimizer.state]
    return [value.detach().clone() for value in [*weights, *(kept for state in states for kept in state.values())]]


def test_where_there_is_no_memory_for_a_recording_the_steps_go_on_without(
    config: ModelConfig, random_model: Models, recordings: list[Again], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(repeating, "Recording", none)
    plain, recorded = both(config, random_model, [[batch(config, step)] for step in range(6)])
    assert plain == recorded


@pytest.mark.parametrize("stop", [[], [7, 3]])
def test_what_is_written_by_replaying_is_what_is_written(
    config: ModelConfig, random_model: Models, recordings: list[Again], monkeypatch: pytest.MonkeyPatch, stop: list[int]
) -> None:
    """Rows of different lengths, which go beyond the context, and of which some end."""
    model, knobs = random_model(config), {"max_new_tokens": 40, "temperature": 0.0, "stop": stop}
    replaying = list(generate(model, [[1, 2, 3], [4], [5, 6]], **knobs))
    assert recordings
    monkeypatch.setattr(reading, "records", lambda device: False)
    plain = list(generate(model, [[1, 2, 3], [4], [5, 6]], **knobs))
    assert [step.tokens for step in replaying] == [step.tokens for step in plain]
    for one, other in zip(replaying, plain, strict=True):
        for logprob, other_logprob in zip(one.logprobs, other.logprobs, strict=True):
            assert logprob == (other_logprob and pytest.approx(other_logprob, rel=1e-9))


def test_what_cannot_be_recorded_is_written_all_the_same(
    config: ModelConfig, random_model: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def none(*_: Any) -> None:
        asked.append(1)
        raise torch.OutOfMemoryError

    model, knobs = random_model(config), {"max_new_tokens": 12, "temperature": 0.0}
    monkeypatch.setattr(replayed, "Recording", none)
    tried = list(generate(model, [[1, 2, 3], [4]], **knobs))
    assert len(asked) == 1  # what does not fit is not tried at every token
    monkeypatch.setattr(reading, "records", lambda device: False)
    assert tried == list(generate(model, [[1, 2, 3], [4]], **knobs))


def test_a_model_that_somebody_listens_to_is_not_recorded(
    config: ModelConfig, random_model: Models, recordings: list[Again]
) -> None:
    model, heard = random_model(config), []
    handle = model.stream.register_forward_hook(lambda *given: heard.append(given))
    list(generate(model, [[1, 2]], max_new_tokens=10, temperature=0))
    handle.remove()
    assert len(heard) >= 10 and not recordings
