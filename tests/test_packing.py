"""Documents side by side in a row: none sees another, in training, in evaluation and after a stop."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import octavo
from octavo import toml, training
from octavo.cache import Documents
from octavo.config import Asked, ModelConfig, TrainConfig
from octavo.data import Part, windows
from octavo.errors import ConfigError
from octavo.events import Stepped
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.parallel import Spread
from octavo.report.readings import read
from octavo.step import Batch, evaluate, training_step
from test_nothing_lost import left, same
from texts import sentences

BOUNDARY = 0
LENGTHS = (5, 1, 3, 4, 3)  # of the documents of a row; together they fill the context


def documents(config: ModelConfig, seed: int = 1) -> list[torch.Tensor]:
    """Documents that each begin with the boundary, but for the first, which a row begins within."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randint(1, config.vocab_size, (length,), generator=generator) for length in LENGTHS]
    for document in drawn[1:]:
        document[0] = BOUNDARY
    return drawn


@pytest.mark.parametrize("heard", [False, True])
def test_a_document_in_a_packed_row_is_read_as_if_it_were_alone(model: GPT, config: ModelConfig, heard: bool) -> None:
    if heard:  # then the explicit formula is used
        for block in model.blocks:
            block.attention.heads.weights.register_forward_hook(lambda *_: None)
    rows = [documents(config, seed) for seed in (1, 2)]
    packed = torch.stack([torch.cat(row) for row in rows])
    found = model(packed, Documents(config, packed, BOUNDARY))
    for row, logits in zip(rows, found, strict=True):
        for document, part in zip(row, logits.split(LENGTHS), strict=True):
            assert (part - model(document[None])[0]).abs().max() < 1e-10
    assert (found - model(packed)).abs().max() > 1e-3  # which is not what they are where they see one another


def test_a_row_without_a_boundary_is_read_as_ever(model: GPT, config: ModelConfig, tokens: torch.Tensor) -> None:
    tokens = tokens.clamp(min=1)
    assert (model(tokens, Documents(config, tokens, BOUNDARY)) - model(tokens)).abs().max() < 1e-10
    cache = Documents(config, tokens, BOUNDARY)
    assert (cache.positions(config.context) == torch.arange(config.context)).all()
    with pytest.raises(ConfigError, match=f"{config.context + 1} tokens do not fit into a context of {config.context}"):
        cache.positions(config.context + 1)


def pieces_of(config: ModelConfig) -> tuple[list[Batch], list[Batch]]:
    """The same predictions packed in one row, and each document in a row of its own."""
    row = documents(config)
    packed = torch.cat(row)
    targets = torch.cat([packed[1:], torch.tensor([BOUNDARY])])
    alone = [(x[None], y[None]) for x, y in zip(row, targets.split(LENGTHS), strict=True)]
    return [(packed[None], targets[None])], alone


def test_a_step_on_a_packed_row_is_a_step_on_its_documents(
    config: ModelConfig, random_model: Callable[..., GPT]
) -> None:
    after = []
    for pieces, boundary in zip(pieces_of(config), (BOUNDARY, None), strict=True):
        model = random_model(config).train()
        optimizers = make_optimizers(model, TrainConfig(steps=1, batch=5, optimizer="adamw"))
        result = training_step(model, optimizers, pieces, rate=1.0, clip=1.0, spread=Spread(model, boundary=boundary))
        after.append((result, [weight.detach().clone() for weight in model.parameters()]))
    (one, these), (other, those) = after
    assert one.loss == pytest.approx(other.loss, rel=1e-12) and one.grad_norm == pytest.approx(
        other.grad_norm, rel=1e-9
    )
    assert all((a - b).abs().max() < 1e-9 for a, b in zip(these, those, strict=True))


def test_an_evaluation_lets_no_document_see_another(model: GPT, config: ModelConfig) -> None:
    packed, alone = pieces_of(config)
    assert evaluate(model, packed, torch.float64, BOUNDARY) == pytest.approx(evaluate(model, alone, torch.float64))
    assert evaluate(model, packed, torch.float64)[0] != pytest.approx(evaluate(model, alone, torch.float64)[0])


def write_documents() -> None:
    lines = [json.dumps({"text": sentences(3, seed=number)}) for number in range(80)]
    Path("many.jsonl").write_text("\n".join(lines))


ASKED = Asked(
    layers=1, heads=2, width=16, context=64, batch=4, steps=8, eval_every=3, pack="documents", shuffle="documents"
)


def test_a_packed_training_that_was_stopped_comes_to_the_same_bits(workplace: Path) -> None:
    write_documents()
    whole = training.begin(["many.jsonl"], ASKED, out="whole")
    assert whole.spread.objective.boundary == whole.prepared.tokenizer.end_of_text
    for _ in whole.events():
        pass
    stopped = training.begin(["many.jsonl"], ASKED, out="parts")
    for event in stopped.events():
        if isinstance(event, Stepped) and event.step == 4:
            stopped.stop()
    for _ in training.resume(Path("parts"), Asked()).events():
        pass
    assert same(left("whole", 8), left("parts", 8))
    config = toml.load(Path("whole"))
    assert (config.train.pack, config.data.shuffle) == ("documents", "documents")


def test_a_tokenizer_that_does_not_end_documents_cannot_keep_them_apart(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = octavo.train("text.txt", out="run", layers=1, heads=1, width=16, context=16, batch=2, steps=2)
    start = training.opened_start(Asked(start=str(run)), None)
    assert start is not None
    monkeypatch.setattr(start[1], "end_of_text", None)
    with pytest.raises(ConfigError, match="the tokenizer has no token that ends a document; leave --pack out"):
        training.plan_training(["text.txt"], Asked(pack="documents"), start=start)


def test_the_report_reads_as_the_evaluation_does(model: GPT, config: ModelConfig) -> None:
    tokens = torch.cat([torch.cat(documents(config, seed)) for seed in range(5)]).numpy()
    part = Part(tokens, len(tokens), len(tokens), 0, np.empty((0, 4), np.int64))
    batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in windows(tokens, 8, 4)]
    nats, count = evaluate(model, batches, torch.float64, BOUNDARY)
    found = read(model, part, 8, lambda event: None, BOUNDARY).nats
    assert (found.sum(), len(found)) == (pytest.approx(nats, rel=1e-5), count)
    assert read(model, part, 8, lambda event: None).nats.sum() != pytest.approx(nats, rel=1e-5)
