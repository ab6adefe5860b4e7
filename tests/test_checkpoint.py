"""The exact state of a training: what is put back is what was saved, and another model's state is refused."""

import re
from pathlib import Path

import pytest
import torch

from octavo.checkpoint import restore, save_checkpoint, save_snapshot, snapshot_steps
from octavo.config import ModelConfig, TrainConfig
from octavo.disk import seal
from octavo.errors import DamagedError
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.saved import checkpoint_folder
from octavo.step import training_step

CONFIG = ModelConfig(dialect="modern", vocab_size=11, context=8, layers=1, heads=2, width=16)


def trained(config: ModelConfig = CONFIG) -> tuple[GPT, list[torch.optim.Optimizer]]:
    torch.manual_seed(0)
    model = GPT(config)
    optimizers = make_optimizers(model, TrainConfig(steps=9, batch=2))
    tokens = torch.randint(11, (2, 8))
    for _ in range(3):  # at first the projections into the stream are zero, and little has a gradient
        training_step(model, optimizers, [(tokens, tokens)], rate=1.0, clip=1.0)
    return model, optimizers


def test_what_is_put_back_is_what_was_saved_each_tensor_in_its_own_dtype(tmp_path: Path) -> None:
    model, optimizers = trained()
    folder = save_checkpoint(tmp_path, 1, model, optimizers, {})
    other = GPT(CONFIG)
    others = make_optimizers(other, TrainConfig(steps=9, batch=2))
    restore(folder, other, others)
    before, after = ({w: o.state[w] for o in both for w in o.state} for both in (optimizers, others))
    for (name, weight), again in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(weight, again), name
        one, two = before[weight], after[again]
        assert one.keys() == two.keys() and one, name
        assert all(torch.equal(one[key], two[key]) and one[key].dtype == two[key].dtype for key in one), name


def test_no_saved_tensor_can_be_left_out(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model, optimizers = trained()
    folder = save_checkpoint(tmp_path, 1, model, optimizers, {})
    path = folder / "state.safetensors"
    state = {name: tensor.clone() for name, tensor in load_file(path).items()}  # they may be the file that is changed
    assert sum(name.startswith("optimizer.") for name in state) > 20
    for name in state:
        save_file({other: tensor for other, tensor in state.items() if other != name}, path)
        other = GPT(CONFIG)
        with pytest.raises(DamagedError, match=re.escape(name.removeprefix("model."))):
            restore(folder, other, make_optimizers(other, TrainConfig(steps=9, batch=2)))


def test_another_models_state_is_refused(tmp_path: Path) -> None:
    model, optimizers = trained()
    folder = save_checkpoint(tmp_path, 1, model, optimizers, {})
    deeper = GPT(ModelConfig(dialect="modern", vocab_size=11, context=8, layers=2, heads=2, width=16))
    with pytest.raises(DamagedError, match=r"step-1 holds another model: blocks\.1\..* do not match"):
        restore(folder, deeper, [])
    wider = GPT(ModelConfig(dialect="modern", vocab_size=12, context=8, layers=1, heads=2, width=16))
    with pytest.raises(DamagedError, match=r"holds embed\.weight in another shape than the model's \(12, 16\)"):
        restore(folder, wider, [])
    with pytest.raises(DamagedError, match=r"step-1 holds another optimizer's state: optimizer\..* do not match$"):
        restore(folder, model, make_optimizers(model, TrainConfig(steps=9, batch=2, optimizer="adamw")))


def test_a_state_that_is_no_safetensors_is_one_line(tmp_path: Path) -> None:
    model, optimizers = trained()
    folder = save_checkpoint(tmp_path, 1, model, optimizers, {})
    (folder / "state.safetensors").write_bytes(b"\xff" * 64)
    seal(folder)
    with pytest.raises(DamagedError, match=r"state\.safetensors cannot be read"):
        restore(checkpoint_folder(tmp_path, 1), model, optimizers)


def test_snapshots_stay_under_their_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = trained()
    save_snapshot(tmp_path, 1, model)
    size = (tmp_path / "snapshots" / "step-1.safetensors").stat().st_size
    monkeypatch.setattr("octavo.checkpoint.SNAPSHOT_BYTES", 2.5 * size)
    for step in (2, 3, 4):
        save_snapshot(tmp_path, step, model)
    assert len(list((tmp_path / "snapshots").iterdir())) == 2


def test_snapshots_are_taken_at_about_16_steps_from_the_first_to_the_last() -> None:
    assert snapshot_steps(1) == [1]
    steps = snapshot_steps(5000)
    assert len(steps) == 16 and steps[0] == 1 and steps[-1] == 5000
