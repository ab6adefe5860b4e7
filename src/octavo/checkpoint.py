"""The exact state of a training, in folders `checkpoints/step-N/`: weights, optimizer, and how far it had come."""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from octavo import toml
from octavo.config import ModelConfig
from octavo.disk import aside, drafted_at, make_folder, replace_file, saving, sync, write_folder
from octavo.errors import DamagedError, RunError, SaveError
from octavo.imagined import embody, imagine
from octavo.model import GPT
from octavo.parallel import Spread
from octavo.parts import Parts, parts_of
from octavo.saved import (
    FACTS,
    checkpoint_folder,
    read_facts,
    snapshot_file,
    snapshots,
    steps_saved,
    target_folder,
)
from octavo.shards import STATE, Shards, shard_name
from octavo.tensors_file import Described, write_tensors
from octavo.tokenizers import Tokenizer, load_tokenizer

SNAPSHOT_BYTES = 1_000_000_000
HEADER = 100_000  # bytes of a file besides its weights, at most
MUON, ADAMW = ("momentum_buffer",), ("step", "exp_avg", "exp_avg_sq")  # what an optimizer remembers of a weight
SHAPED = {"momentum_buffer", "exp_avg", "exp_avg_sq"}  # as the weight is
NO_NUMBERS = ("nan", "inf", "-inf")


def forget(run: Path, step: int) -> None:
    """Remove the state after this step."""
    for folder in (aside(target_folder(run, step)), target_folder(run, step)):
        if folder.exists():
            shutil.rmtree(folder)


def forget_after(run: Path, step: int) -> None:
    """Remove the states after later steps, and their weights. Raises `SaveError` where the disk takes no changes."""
    with saving(run):
        for later in steps_saved(run):
            if later > step:
                forget(run, later)
        for later in snapshots(run):
            if later > step:
                snapshot_file(run, later).unlink(missing_ok=True)


def save_checkpoint(
    run: Path,
    step: int,
    model: GPT,
    optimizers: Sequence[torch.optim.Optimizer],
    facts: Mapping[str, Any],
    spread: Spread | None = None,
) -> Path:
    """Write the whole state after `step`; when this returns, it is on the disk. Raises `SaveError`.

    Of a model in parts each process writes a file with its own, and the first one all the rest. Nothing is copied by
    those that write nothing.
    """
    spread = spread or Spread(model)
    processes, target = spread.processes, target_folder(run, step)
    state = {name: tensor.detach() for name, tensor in _state(spread, optimizers)}
    file = shard_name(processes.rank, processes.size) if spread.way == "fsdp" else STATE

    def write_own(folder: Path) -> None:
        processes.agree()  # until here the folder was not there
        if processes.first or spread.way == "fsdp":
            save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, folder / file)
            if not processes.first:  # whose files are synced where they are sealed
                sync(folder / file)
        processes.agree()

    def write(folder: Path) -> None:
        write_own(folder)
        (folder / FACTS).write_text(json.dumps({"step": step, **_spelled(facts)}, indent=1) + "\n")

    with processes.together(), saving(target):
        check_finite(state, step)
        if processes.first:
            write_folder(target, write, size=sum(tensor.nbytes for tensor in state.values()))
        else:
            write_own(drafted_at(target))
    return target


def _spelled(value: Any) -> Any:
    """A number that is none by its name, which JSON can hold: a step that came to no finite loss is due like any other.

    >>> _spelled({"due": {"train_loss": float("nan"), "lr": 0.5}})
    {'due': {'train_loss': 'nan', 'lr': 0.5}}
    """
    if isinstance(value, Mapping):
        return {name: _spelled(one) for name, one in value.items()}
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def _unspelled(facts: dict[str, Any]) -> dict[str, Any]:
    """The same facts with such numbers again, where all are numbers."""
    figures = {name: facts[name] for name in ("due", "best") if isinstance(facts.get(name), dict)}
    for name, values in figures.items():
        facts[name] = {key: float(value) if value in NO_NUMBERS else value for key, value in values.items()}
    return facts


def check_finite(state: Mapping[str, Tensor], step: int) -> None:
    """Raise `SaveError` where a number is none: it would never learn again.

    Each tensor is looked through where it is; its extremes take no memory, and are none where one of them is none.
    """
    for name, tensor in state.items():
        if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise SaveError(f"{name} is not finite after step {step}, and is not saved; earlier checkpoints are intact")


def room_needed(parameters: int, *, adamw: bool) -> int:
    """Bytes that a training of so many parameters takes on the disk, at most: states, best weights, snapshots."""
    state = 4 * parameters * (3 if adamw else 2) + parameters  # AdamW's own weights beside Muon's are few
    kept = 5  # the newest two, the best, the plateau's, and one being written
    return kept * state + 2 * 4 * parameters + min(SNAPSHOT_BYTES, 16 * 2 * parameters)


def _state(spread: Spread, optimizers: Sequence[torch.optim.Optimizer]) -> Iterator[tuple[str, Tensor]]:
    names: dict[Tensor, str] = {weight: name for name, weight in spread.weights.items()}
    yield from ((f"model.{name}", weight) for name, weight in spread.weights.items())
    for optimizer in optimizers:
        for weight, values in optimizer.state.items():
            for key, value in values.items():
                yield f"optimizer.{names[weight]}.{key}", value.reshape(value.shape)


def newest_valid(
    run: Path, *, before: int | None = None, on_damage: Callable[[str], None]
) -> tuple[int, dict[str, Any]]:
    """The newest step whose files are whole (and is not later than `before`), and its facts.

    A damaged one is passed over and named to `on_damage`; raises `RunError` where none is left.
    """
    for step in steps_saved(run):
        if before is not None and step > before:
            continue
        try:
            return step, _unspelled(read_facts(checkpoint_folder(run, step)))
        except DamagedError as error:
            on_damage(f"{error}; going on from an earlier checkpoint")
    if before is not None:
        raise RunError(
            f"{run} kept no state from before its rate fell, "
            "from which it could be trained longer; train anew with --out"
        )
    raise RunError(f"{run} has no checkpoint to go on from; train anew with --force")


def restore(
    folder: Path, model: GPT, optimizers: Sequence[torch.optim.Optimizer], spread: Spread | None = None
) -> None:
    """Put the saved tensors back, each in its own dtype, and of each the rows that this process has.

    Raises `DamagedError` where names or shapes do not fit.
    """
    spread = spread or Spread(model)
    owners = {weight: optimizer for optimizer in optimizers for g in optimizer.param_groups for weight in g["params"]}
    with Shards(folder) as shards:
        _check_names(folder, shards.shapes, spread, owners)
        with torch.no_grad():
            for name, weight in spread.weights.items():
                weight.copy_(shards.rows(f"model.{name}", *spread.rows(name)))
        for name in shards.shapes:  # not through load_state_dict, which casts to the parameter's dtype
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                parameter, key = rest.rsplit(".", 1)
                weight = spread.weights[parameter]
                owners[weight].state[weight][key] = shards.rows(name, *spread.rows(parameter)).to(weight.device)


def _check_names(
    folder: Path, found: Mapping[str, torch.Size], spread: Spread, owners: Mapping[Tensor, torch.optim.Optimizer]
) -> None:
    weights = {f"model.{name}": shape for name, shape in spread.shapes.items()}
    saved = {name: shape for name, shape in found.items() if name.startswith("model.")}
    if saved.keys() != weights.keys():
        odd = {name.removeprefix("model.") for name in saved.keys() ^ weights.keys()}
        raise DamagedError(f"{folder} holds another model: {_few(odd)} do not match")
    for name, shape in weights.items():
        if saved[name] != shape:
            short = name.removeprefix("model.")
            raise DamagedError(f"{folder} holds {short} in another shape than the model's {tuple(shape)}")
    expected = {
        f"optimizer.{name}.{key}": spread.shapes[name] if key in SHAPED else torch.Size()
        for name, weight in spread.weights.items()
        for key in (ADAMW if isinstance(owners.get(weight), torch.optim.AdamW) else MUON)
    }
    others = {name: shape for name, shape in found.items() if name not in saved}
    if others and others != expected:  # there is none before the first step
        odd = {name for name in {*others, *expected} if others.get(name) != expected.get(name)}
        raise DamagedError(f"{folder} holds another optimizer's state: {_few(odd)} do not match")


def _few(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:3])


def prune(run: Path, keep: Collection[int]) -> None:
    """Remove all checkpoints but the newest two and those named."""
    steps = steps_saved(run)
    for step in steps[2:]:
        if step not in keep:
            with suppress(OSError):
                forget(run, step)


def snapshots_kept(count: int) -> int:
    """How many snapshots of so many parameters are kept: of a large model few, of a very large one none.

    >>> [snapshots_kept(count) for count in (1_500_000, 124_000_000, 1_500_000_000)]
    [16, 4, 0]
    """
    return min(16, SNAPSHOT_BYTES // (2 * count + HEADER))


def snapshot_steps(steps: int, count: int = 16) -> list[int]:
    """About `count` steps from 1 to `steps`, evenly spaced in the logarithm: early learning is fast.

    >>> snapshot_steps(1000, 4), snapshot_steps(1000, 1)
    ([1, 10, 100, 1000], [1000])
    """
    if count < 2:
        return [steps][:count]
    return sorted({round(steps ** (index / (count - 1))) for index in range(count)})


def save_snapshot(run: Path, step: int, model: GPT | Parts) -> None:
    """Keep the weights of this step in bfloat16, as long as all snapshots together stay under 1 GB."""
    folder, weights = run / "snapshots", parts_of(model).weights
    described = {
        name: Described(torch.bfloat16, tuple(weight.shape))
        for name, weight in imagine(model.config).named_parameters()
    }
    size = sum(kept.size for kept in described.values())

    def write(path: Path) -> None:
        write_tensors(path, described, lambda name: weights[name].detach())

    def room() -> bool:
        return size + sum(path.stat().st_size for path in folder.iterdir()) <= SNAPSHOT_BYTES

    with saving(folder):
        make_folder(folder)
        while len(kept := snapshots(run)) > 1 and not room():  # the end was moved: the last of all is worth more
            snapshot_file(run, kept[-1]).unlink()
        if room():
            replace_file(snapshot_file(run, step), write, size=size)


def open_kept(run: Path, step: int | None = None) -> tuple[GPT, Tokenizer]:
    """A run's model, in float32, as it was after a step of its training or when it was kept last, and its tokenizer.

    Raises `RunError` where there are no such weights, and what `load_snapshot` raises.
    """
    kept = snapshots(run)
    if step is None and not kept:
        raise RunError(f"{run} has no weights yet; wait for the first")
    if step is not None and step not in kept:
        raise RunError(f"{run} kept no weights of step {step}; there are {', '.join(map(str, kept)) or 'none'}")
    return load_snapshot(run, kept[-1] if step is None else step, toml.load(run).model), load_tokenizer(run)


def load_snapshot(run: Path, step: int, config: ModelConfig) -> GPT:
    """The model as it was after a step, in float32.

    Raises `DamagedError` where what was kept is of another model, or nothing.
    """
    path = snapshot_file(run, step)
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise DamagedError(f"{path} cannot be read: {error}") from error
    model = imagine(config)
    expected = {name: weight.shape for name, weight in model.named_parameters()}
    if {name: weight.shape for name, weight in state.items()} != expected:
        raise DamagedError(f"{path} holds another model's weights; octavo.toml describes {len(expected)} others")
    return embody(model, {name: weight.float() for name, weight in state.items()}).eval()
