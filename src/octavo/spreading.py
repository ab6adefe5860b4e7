"""Which way a model goes into several processes: as a copy in each where that fits, else in parts."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from octavo.accelerated import quick_products
from octavo.config import RunConfig
from octavo.errors import ConfigError, OctavoError
from octavo.making import computing_as_planned, imagine_learner, make_model, prepare_to_learn, weights_of
from octavo.memory import free_memory
from octavo.parallel import Replicated, Sharded, Spread, Way
from octavo.parts import Parts
from octavo.probing import Room
from octavo.processes import Processes, beside_here

Parallel = Literal["auto", "ddp", "fsdp"]


def spread_over(
    processes: Processes,
    config: RunConfig,
    parallel: Parallel,
    boundary: int | None = None,
    start: Parts | None = None,
) -> Spread:
    """Make a model where it learns, of random numbers or of the weights that it goes on from.

    In parts, a process has no more of a large one than its own and a single whole weight at any time. `boundary` is the
    token between documents that do not see each other.

    Raises `ConfigError` where a global batch does not go round, `OctavoError` where a GPU is too small for the model.
    """
    train = config.train
    dtype, device = getattr(torch, train.dtype), torch.device(train.device)
    if processes.size == 1:
        with holding(device):
            return Spread(prepare_to_learn(make_model(config, start), config), dtype, boundary=boundary)
    check_rows(train.batch, processes)
    with processes.together(), processes.by_itself():
        check_gpus(train.device)
    if device.type == "cuda":
        device = torch.device("cuda", processes.local)
    way = way_for(parallel, config, processes)
    with holding(device):
        if way == "ddp":
            with processes.together(), processes.by_itself():
                model = make_model(config, start)
            return Replicated(prepare_to_learn(model, config, device), dtype, processes, boundary)
        quick_products(device)
        over = Sharded(computing_as_planned(imagine_learner(config), config), dtype, processes, device, boundary)
        with processes.together(), processes.by_itself():
            over.fill(weights_of(config, start))
        return over


@contextmanager
def holding(device: torch.device) -> Iterator[None]:
    """What a training holds from step to step goes to a device; where that is too small, one line says so."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise OctavoError(
            f"{device} has not enough memory for the weights and what their optimizer remembers; what was saved is "
            "untouched, free some of it, or use several processes with --parallel fsdp"
        ) from None


def check_rows(batch: int, processes: Processes) -> None:
    """Raise `ConfigError` where not every process has a row of a batch to learn from."""
    if batch < processes.size:
        raise ConfigError(
            f"a batch of {batch} rows does not go round {processes.size} processes; "
            f"start fewer, or give --batch {processes.size}"
        )


def check_gpus(device: str) -> None:
    """Raise `ConfigError` where not every process on this machine has a device of its own."""
    if device == "mps":
        raise ConfigError("a Mac's GPU is for one process; give --device cpu, or train without torchrun")
    gpus = torch.cuda.device_count()
    if device == "cuda" and not gpus:
        raise ConfigError("there is no GPU on this machine; start on machines that have one, or give --device cpu")
    if device != "cpu" and beside_here() > gpus > 0:
        raise ConfigError(
            f"{beside_here()} processes are too many for {gpus} GPUs; start {gpus} here, or give --device cpu"
        )


@dataclass(frozen=True)
class Team:
    """How several processes are to train one model."""

    processes: Processes
    parallel: Parallel = "auto"

    def rooms(self, device: str) -> list[Room]:
        """The memory that each has, with the model whole and in parts, as far as that was not decided."""
        beside = beside_here()
        if device != "cpu" and torch.cuda.is_available():
            check_gpus(device)
            gc.collect()  # a compiled block that was tried holds itself
            torch.cuda.empty_cache()  # what was tried before takes nothing of what is free
            free: int | None = torch.cuda.mem_get_info()[0]
        else:
            found = free_memory()
            free = None if found is None else found // beside
        ways = [False, True] if self.parallel == "auto" else [self.parallel == "fsdp"]
        return [Room(free, self.processes.size, in_parts) for in_parts in ways]


def way_for(parallel: Parallel, config: RunConfig, processes: Processes) -> Way:
    """The way asked for, else copies where the memory of the first process is enough for one."""
    if parallel != "auto":
        return parallel
    whole, _ = Team(processes, parallel).rooms(config.train.device)
    return "ddp" if processes.told("ddp" if whole.holds(config) else "fsdp") == "ddp" else "fsdp"
