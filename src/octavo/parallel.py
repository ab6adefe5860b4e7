"""One model in several processes: a copy in each (DDP), or a part of every weight in each (FSDP2).

The model does not know. Whatever the way, a process learns from its own rows of the global batch, and the gradient that
it goes by is that of the whole batch.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor, nn

from octavo.devices import free_on
from octavo.memory import give_back_soon
from octavo.model import GPT
from octavo.objective import Objective
from octavo.optim import Matrices, orthogonalise
from octavo.parts import Parts
from octavo.processes import ALONE, Processes, beside_here

Way = Literal["ddp", "fsdp"]
Rows = tuple[int, int]


class Spread:
    """A model in a process that has it whole and for itself."""

    way: Way | None = None

    def __init__(
        self,
        model: GPT,
        dtype: torch.dtype = torch.float32,
        processes: Processes = ALONE,
        boundary: int | None = None,
    ) -> None:
        self.model, self.processes = model, processes
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

    Each block is put together when it is needed, and taken apart again. The optimizers see plain tensors, the rows that
    this process keeps, over the memory of PyTorch's own: what they do row by row they do as ever. Of a model that was
    imagined they hold nothing yet.
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
        self.dtype, half = dtype, dtype == torch.bfloat16
        policy = MixedPrecisionPolicy(dtype, torch.float32) if half else MixedPrecisionPolicy()
        mesh = init_device_mesh(device.type, (processes.size,))
        for block in model.blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        self.objective.dtype = torch.float32  # the policy casts what it puts together
        fully_shard(self.objective, mesh=mesh, mp_policy=policy)
        buffers = [(module, *named) for module in model.modules() for named in module.named_buffers(recurse=False)]
        if model.embed.weight.is_meta:
            self.objective.to_empty(device=device)
            if model.config.tied:
                model.unembed.weight = model.embed.weight
        for module, name, buffer in buffers:
            setattr(module, name, buffer.to(device, dtype if half else buffer.dtype))
        self.parts: dict[str, Any] = dict(model.named_parameters())
        self.weights = {name: nn.Parameter(part.detach().to_local()) for name, part in self.parts.items()}

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
    def speaking(self) -> Iterator[GPT | None]:
        """All read at the same time; a block is put together for each token anew, or stays so where there is room."""
        ends: Any = self.objective  # with what stands before and behind the blocks
        blocks: list[Any] = list(self.model.blocks)
        stays = self._room_for(sum(map(math.prod, self.shapes.values())) * self.dtype.itemsize)
        for block in blocks:
            block.set_reshard_after_forward(not stays)
        ends.unshard()
        try:
            yield self.model
        finally:
            for part in (ends, *blocks):
                part.reshard()
            for block in blocks:
                block.set_reshard_after_forward(True)

    def _room_for(self, size: int) -> bool:
        """Whether each process has as much memory left, and as much again."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        free = free_on(self.device)
        share = beside_here() if self.device.type == "cpu" else 1
        return not self.processes.any(free is not None and free // share < 2 * size)


class Lent(Mapping[str, Tensor]):
    """Whole weights, each put together in the first process when it asks for it, of what all others send."""

    def __init__(self, parts: Mapping[str, Any], model: GPT, processes: Processes) -> None:
        self.parts, self.names, self.processes = parts, list(model.state_dict()), processes

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        return self._sent(self.processes.told(name if name in self.parts else "embed.weight"))  # which it is tied to

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def help(self) -> None:
        """Take part in what the first one asks for, until it ends."""
        while name := self.processes.told():
            self._sent(name)

    def end(self) -> None:
        """Let the others go."""
        self.processes.told()

    def _sent(self, name: str) -> Tensor:
        part, size = self.parts[name], self.processes.size
        rows = [rows_of(part.shape[0], rank, size) for rank in range(size)]
        return self.processes.gathered(part.detach().to_local().cpu(), rows)


class Scattered(Matrices):
    """Matrices of which every process has some rows.

    Each is put together in one process, made orthogonal there, and its rows go back to where they belong: what came of
    each process's rows alone would be another update, that of several smaller matrices.
    """

    def __init__(self, shapes: Mapping[int, torch.Size], processes: Processes) -> None:
        self.shapes, self.processes = shapes, processes

    def shape(self, weight: Tensor) -> torch.Size:
        return self.shapes[id(weight)]

    def orthogonalise(self, parts: list[Tensor], shape: torch.Size, dtype: torch.dtype) -> list[Tensor]:
        size, columns = self.processes.size, shape[1]
        owned = [len(range(rank, len(parts), size)) for rank in range(size)]  # matrices, by who puts them together
        rows = [stop - start for start, stop in (rows_of(shape[0], rank, size) for rank in range(size))]
        kept, mine = rows[self.processes.rank], owned[self.processes.rank]
        sent, received = [count * kept * columns for count in owned], [mine * count * columns for count in rows]
        found = exchanged(torch.cat([torch.stack(parts)[rank::size].flatten() for rank in range(size)]), sent, received)
        pieces = [piece.view(mine, count, columns) for piece, count in zip(found.split(received), rows, strict=True)]
        made = orthogonalise(torch.cat(pieces, 1), dtype)
        back = exchanged(torch.cat([piece.flatten() for piece in made.split(rows, 1)]), received, sent)
        updates = torch.empty(len(parts), kept, columns, dtype=back.dtype, device=back.device)
        for rank, piece in enumerate(back.split(sent)):
            updates[rank::size] = piece.view(-1, kept, columns) if kept else updates[rank::size]
        return list(updates.unbind())


def exchanged(values: Tensor, sent: list[int], received: list[int]) -> Tensor:
    """Numbers for each process, so many each, for numbers from each."""
    found = values.new_empty(sum(received))
    torch.distributed.all_to_all_single(found, values, received, sent)
    return found


def rows_of(rows: int, rank: int, size: int) -> Rows:
    """Which rows of so many a process has: as PyTorch cuts them, the last ones may have fewer, or none.

    >>> [rows_of(10, rank, 4) for rank in range(4)]
    [(0, 3), (3, 6), (6, 9), (9, 10)]
    """
    most = -(-rows // size)
    return min(rank * most, rows), min((rank + 1) * most, rows)
