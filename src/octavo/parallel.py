"""One model in several processes: a copy in each (DDP), or a part of every weight in each (FSDP2).

The model does not know. Whatever the way, a process learns from its own rows of the global batch, and the gradient that
it goes by is that of the whole batch.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor, nn

from octavo.assembling import Lent, Rows, Scattered, rows_of
from octavo.devices import free_on
from octavo.memory import give_back_soon
from octavo.model import GPT
from octavo.objective import Objective
from octavo.optim import Matrices
from octavo.parts import Parts
from octavo.processes import ALONE, Processes, beside_here

Way = Literal["ddp", "fsdp"]


class Spread:
    """A model in a process that has it whole and for itself."""

    way: Way | None = None
    gathered = False  # whether the weights of a model in parts, and their gradients, stay whole for all of a step

    def __init__(
        self,
        model: GPT,
        dtype: torch.dtype = torch.float32,
        processes: Processes = ALONE,
        boundary: int | None = None,
    ) -> None:
        self.model, self.processes, self.dtype = model, processes, dtype
        self.objective = Objective(model, dtype, boundary)
        self.objective.together = model.embed.weight.is_cuda and self.way is None  # others exchange gradients early
        self.shapes = {name: weight.shape for name, weight in model.named_parameters()}
        self.weights: dict[str, Tensor] = dict(model.named_parameters())  # what this process learns

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(iter(self.weights.values())).device

    def numerics(self) -> dict[str, Any]:
        """What decides the last bits of a number besides the machine: nothing, for a process that is alone."""
        return {} if self.way is None else {"processes": self.processes.size, "way": self.way}

    def rows(self, name: str) -> Rows:
        """Which rows of a weight this process has."""
        return 0, self.shapes[name][0]

    def surprise(self, tokens: Tensor, targets: Tensor, *, last: bool) -> Tensor:
        """The surprise about a piece; after the backward of the `last` one, gradients are those of all processes."""
        found: Tensor = self.objective(tokens, targets)
        return found

    def clip(self, limit: float) -> Tensor:
        """Shorten the gradient to `limit`, as long as it is longer, and say how long it was  [Pascanu 2013]."""
        return nn.utils.clip_grad_norm_(self.weights.values(), limit)

    def forget_gradients(self) -> None:
        """Make room, and begin anew."""
        self.model.zero_grad(set_to_none=True)

    @property
    def matrices(self) -> Matrices:
        """Where Muon finds its matrices whole."""
        return Matrices()

    def lend(self, work: Callable[[GPT | Parts], None]) -> None:
        """Have the first process do something with the whole model; where it fails, all fail."""
        with self.processes.together():
            if self.processes.first:
                work(self.model)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While much is read and nothing learned."""
        yield

    @contextmanager
    def speaking(self) -> Iterator[GPT | None]:
        """The model to write with, in each process that has to take part in it."""
        yield self.model if self.processes.first else None


def buffers_stay() -> dict[str, Any]:
    """That copies exchange no buffers, which are tables here, in this PyTorch's word for it: 2.13 has a new one."""
    known = signature(nn.parallel.DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


class Replicated(Spread):
    """A copy in each process, which learn from different rows and exchange their gradients  [Li 2020]."""

    way: Way = "ddp"

    def __init__(self, model: GPT, dtype: torch.dtype, processes: Processes, boundary: int | None = None) -> None:
        super().__init__(model, dtype, processes, boundary)
        device = model.embed.weight.device
        self.wrapped = nn.parallel.DistributedDataParallel(
            self.objective,
            device_ids=None if device.type == "cpu" else [device.index],
            gradient_as_bucket_view=True,
            **buffers_stay(),
        )

    def surprise(self, tokens: Tensor, targets: Tensor, *, last: bool) -> Tensor:
        with nullcontext() if last else self.wrapped.no_sync():
            found: Tensor = self.wrapped(tokens, targets)
            return found


class Sharded(Spread):
    """A part of every weight, its gradient and its optimizer's state in each process  [Rajbhandari 2020, section 5].

    Each block is put together when it is needed, and taken apart again. Where there is room for all of them at a time
    (`gathered`), that is done once a step, however many pieces it reads, and gradients are exchanged once. Optimizers
    see plain tensors, the rows that this process keeps, over the memory of PyTorch's own: what they do row by row they
    do as ever. Of a model that was imagined they hold nothing yet.
    """

    way: Way = "fsdp"

    def __init__(
        self,
        model: GPT,
        dtype: torch.dtype,
        processes: Processes,
        device: torch.device,
        boundary: int | None = None,
    ) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        super().__init__(model, dtype, processes, boundary)
        if device.type == "cpu":
            give_back_soon()  # blocks are put together and taken apart all the time
        half = dtype == torch.bfloat16
        policy = MixedPrecisionPolicy(dtype, torch.float32) if half else MixedPrecisionPolicy()
        mesh = init_device_mesh(device.type, (processes.size,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        self.objective.dtype = torch.float32  # the policy casts what it puts together
        fully_shard(self.objective, mesh=mesh, mp_policy=policy)
        if model.embed.weight.is_meta:
            self.objective.to_empty(device=device)
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(device, dtype if half else buffer.dtype))
        self.parts: dict[str, Any] = dict(model.named_parameters())
        self.weights = {name: nn.Parameter(part.detach().to_local()) for name, part in self.parts.items()}

    def surprise(self, tokens: Tensor, targets: Tensor, *, last: bool) -> Tensor:
        if not self.gathered:
            return super().surprise(tokens, targets, last=last)
        whole: Any = self.objective
        whole.set_requires_gradient_sync(last)
        whole.set_reshard_after_backward(last)
        with self._staying(True):
            return super().surprise(tokens, targets, last=last)

    @contextmanager
    def _staying(self, stays: bool) -> Iterator[None]:
        """Whether blocks stay put together after they were read."""
        blocks: list[Any] = list(self.model.blocks)
        for block in blocks:
            block.set_reshard_after_forward(not stays)
        try:
            yield
        finally:
            for block in blocks:
                block.set_reshard_after_forward(True)

    @torch.no_grad()
    def fill(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Keep this process's rows of whole weights, one after another."""
        for name, weight in weights:
            self.weights[name].copy_(weight[slice(*self.rows(name))])

    def rows(self, name: str) -> Rows:
        return rows_of(self.shapes[name][0], self.processes.rank, self.processes.size)

    def clip(self, limit: float) -> Tensor:
        for name, weight in self.weights.items():
            gradient = self.parts[name].grad
            weight.grad = None if gradient is None else gradient.to_local()
        gradients = [weight.grad for weight in self.weights.values() if weight.grad is not None]
        own = nn.utils.get_total_norm(gradients).item()
        norm = gradients[0].new_tensor(self.processes.summed(own**2) ** 0.5)
        nn.utils.clip_grads_with_norm_(self.weights.values(), limit, norm)
        return norm

    def forget_gradients(self) -> None:
        super().forget_gradients()
        for weight in self.weights.values():
            weight.grad = None

    @property
    def matrices(self) -> Matrices:
        shapes = {id(weight): self.shapes[name] for name, weight in self.weights.items()}
        return Scattered(shapes, self.processes)

    def lend(self, work: Callable[[GPT | Parts], None]) -> None:
        with self.processes.together():
            weights = Lent(self.parts, self.model, self.processes)
            if not self.processes.first:
                weights.help()
                return
            try:
                work(Parts(self.model.config, weights, torch.float32))
            finally:
                weights.end()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A block is put together each time that it reads, or stays so from the first time on where there is room."""
        blocks: list[Any] = list(self.model.blocks)
        with self._staying(self._room_for(sum(map(math.prod, self.shapes.values())) * self.dtype.itemsize)):
            try:
                yield
            finally:
                for block in blocks:
                    block.reshard()

    @contextmanager
    def speaking(self) -> Iterator[GPT | None]:
        """All of them read at the same time."""
        ends: Any = self.objective  # with what stands before and behind the blocks
        with self.reading():
            ends.unshard()
            try:
                yield self.model
            finally:
                ends.reshard()

    def _room_for(self, size: int) -> bool:
        """Whether each process has as much memory left, and as much again."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        free = free_on(self.device)
        share = beside_here() if self.device.type == "cpu" else 1
        return not self.processes.any(free is not None and free // share < 2 * size)
