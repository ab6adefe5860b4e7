"""Optimizers: Muon for the matrices inside the blocks, AdamW for all else."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from inspect import unwrap
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from octavo.config import TrainConfig
from octavo.errors import ConfigError


def orthogonalise(matrices: Float[Tensor, "n rows columns"], dtype: torch.dtype) -> Float[Tensor, "n rows columns"]:
    """Bring all singular values of each matrix near 1 by five Newton-Schulz steps  [Jordan 2024].

    X ← a X + (b A + c A²) X with A = X Xᵀ, in `dtype`; the coefficients are steep at zero and only nearly settle.

    >>> q = orthogonalise(torch.randn(1, 4, 8, generator=torch.manual_seed(0)), torch.float32)[0]
    >>> bool((torch.linalg.svdvals(q) - 1).abs().max() < 0.4)
    True
    """
    tall = matrices.size(1) > matrices.size(2)
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        inner = torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, inner, x, beta=3.4445)
    return (x.mT if tall else x).to(matrices.dtype)


class Matrices:
    """Where the matrices are that Muon learns: here, and whole."""

    def shape(self, weight: Tensor) -> torch.Size:
        """The shape of the whole matrix."""
        return weight.shape

    def orthogonalise(self, parts: list[Tensor], shape: torch.Size, dtype: torch.dtype) -> list[Tensor]:
        """Make matrices of one shape orthogonal, together."""
        return list(orthogonalise(torch.stack(parts), dtype).unbind())


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is made orthogonal: each direction of a matrix learns as fast as any other.

    The mathematics of `torch.optim.Muon` (momentum 0.95 in Nesterov's form, update scaled by √max(1, rows / columns)),
    which multiplies one matrix after the other in bfloat16. Here matrices of one shape go together, in float32 where
    a processor has no bfloat16 units, which is many times faster there. Where its `found_inf` is 1, a step changes
    nothing.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        matrices: Matrices | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.matrices = matrices or Matrices()
        for weight in chain.from_iterable(group["params"] for group in self.param_groups):
            if weight.dim() != 2:
                raise ConfigError(f"Muon learns matrices, and a weight has {weight.dim()} dimensions; give it to AdamW")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[self.matrices.shape(weight)].append(weight)
            for shape, weights in by_shape.items():
                self._update(weights, shape, group)
        return loss

    def _update(self, weights: list[Tensor], shape: torch.Size, group: Mapping[str, Any]) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        momenta, rate = [self._momentum(weight) for weight in weights], group["lr"]
        if (unusable := getattr(self, "found_inf", None)) is not None:  # a momentum that meets itself stays as it is
            gradients = list(torch.where(unusable > 0, torch.stack(momenta), torch.stack(gradients)).unbind())
            rate = rate * (1 - unusable)
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov: look where it is going
        updates = self.matrices.orthogonalise(list(ahead), shape, newton_schulz_dtype(weights[0]))
        scale = max(1.0, shape[0] / shape[1]) ** 0.5
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        if isinstance(rate, Tensor):
            torch._foreach_mul_(updates, -rate * scale)
            torch._foreach_add_(weights, updates)
        else:
            torch._foreach_add_(weights, updates, alpha=-rate * scale)

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        return state["momentum_buffer"]


def newton_schulz_dtype(weight: Tensor) -> torch.dtype:
    """bfloat16 where matrix units multiply it natively, else float32; float64 for those who train in it."""
    if weight.dtype == torch.float64:
        return torch.float64
    return torch.bfloat16 if weight.device.type == "cuda" or has_bfloat16_units() else torch.float32


def has_bfloat16_units() -> bool:
    """Whether this processor multiplies bfloat16 matrices faster than float32 ones."""
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


class AdamW(torch.optim.AdamW):
    """PyTorch's own, whose step asks the compiler which gradients to keep: none, as in every step here."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        return unwrap(torch.optim.AdamW.step)(self, closure)


def update_unless(unusable: Float[Tensor, ""], optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """One step of each, but nothing at all where the number, on the device of the weights, is 1 and not 0.

    It is told to them as `torch.amp.GradScaler` does: nobody has to wait for the device to say whether it is.
    """
    for optimizer in optimizers:
        optimizer.found_inf = unusable  # type: ignore[attr-defined]
        try:
            optimizer.step()
        finally:
            delattr(optimizer, "found_inf")


def without_compiler() -> None:
    """Keep PyTorch's optimizers from loading its compiler, for a second or two, to be left out of what it compiles.

    Some of their methods ask it at their first call how to be left out; here they are told to stay as they are.
    """
    for name in ("__init__", "add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None and not hasattr(method, "__dynamo_disable"):
            method.__dynamo_disable = method


def make_optimizers(
    model: nn.Module,
    train: TrainConfig,
    weights: Mapping[str, Tensor] | None = None,
    matrices: Matrices | None = None,
) -> list[torch.optim.Optimizer]:
    """The optimizers of a recipe, each group with its peak rate in `initial_lr`.

    Matrices decay, vectors (norms, biases) do not. With Muon, AdamW keeps the embeddings and the output. What is
    learned is `weights` where a process has but some rows of the model's; `matrices` puts those together.
    """
    without_compiler()
    named = dict(model.named_parameters()) if weights is None else weights
    inner = {name for name, weight in named.items() if weight.dim() == 2 and name.startswith("blocks.")}
    vectors: list[Tensor] = [weight for weight in named.values() if weight.dim() < 2]
    outer: list[Tensor] = [weight for name, weight in named.items() if weight.dim() == 2 and name not in inner]
    hidden: list[Tensor] = [named[name] for name in named if name in inner]
    if train.optimizer == "adamw":
        return _on_a_gpu([_adamw([(outer + hidden, train.lr, train.weight_decay), (vectors, train.lr, 0.0)], 1e-10)])
    whole = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and name not in inner]
    tokens = max((weight.size(0) for weight in whole), default=1)
    rate = train.lr * (OUTER_RATE if train.pairs is None else COUNTED_RATE)
    optimizers = [
        Muon(hidden, lr=train.lr, weight_decay=train.weight_decay, momentum=MOMENTUM, matrices=matrices),
        _adamw(
            [(outer, rate, train.weight_decay), (vectors, rate, 0.0)],
            min(OUTER_EPSILON, 0.25 / tokens),
        ),
    ]
    for group in optimizers[0].param_groups:
        group["initial_lr"] = group["lr"]
    return _on_a_gpu(optimizers)


def _on_a_gpu(optimizers: list[torch.optim.Optimizer]) -> list[torch.optim.Optimizer]:
    """Where the weights are on a GPU, rates are numbers there: so an update can be recorded, and have another rate."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        device = group["params"][0].device
        if device.type == "cuda":
            group["lr"] = torch.tensor(group["initial_lr"], dtype=torch.float32, device=device)
            group["capturable"] = True
    return optimizers


def let_decay(optimizers: Iterable[torch.optim.Optimizer], weight_decay: float) -> None:
    """Let matrices decay so from the next step on, which is not recorded yet; vectors never do."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        if group["params"][0].dim() >= 2:
            group["weight_decay"] = weight_decay


def yet_to_take(optimizers: Iterable[torch.optim.Optimizer]) -> int:
    """The bytes that optimizers will take for what they remember of weights, and have not taken yet."""
    return sum(
        (1 if isinstance(optimizer, Muon) else 2) * weight.nbytes
        for optimizer in optimizers
        for group in optimizer.param_groups
        for weight in group["params"]
        if not optimizer.state.get(weight)
    )


MOMENTUM = 0.9  # Muon's usual 0.95 remembers too long for a training of a few thousand steps
OUTER_RATE = 0.3  # AdamW's rate beside Muon's
COUNTED_RATE = 0.075  # and where embedding and output begin with what was counted, so that most of it is kept
OUTER_EPSILON = 1e-4  # AdamW's: a token that does not come should not become the less likely the less likely it is


def _adamw(groups: list[tuple[list[Tensor], float, float]], epsilon: float) -> torch.optim.Optimizer:
    return AdamW(
        [
            {"params": params, "lr": lr, "initial_lr": lr, "weight_decay": decay}
            for params, lr, decay in groups
            if params
        ],
        betas=(0.9, 0.98),
        eps=epsilon,
        fused=True,
    )
