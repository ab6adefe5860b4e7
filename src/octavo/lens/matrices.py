"""What is in the weights themselves: a map of the embedding, and figures of every matrix."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from octavo.lens.shown import Rows
from octavo.model import GPT


@dataclass(frozen=True, eq=False)
class Map:
    """Every token as a point: its vector's two main directions, and the share of all differences that they tell."""

    points: Float[Tensor, "V 2"]
    explained: tuple[float, float]

    def _repr_html_(self) -> str:
        shares = " and ".join(f"{100 * share:.1f} %" for share in self.explained)
        return f"<p>{len(self.points)} tokens on a map whose directions tell {shares} of their differences</p>"


def embedding_map(model: GPT) -> Map:
    """The embedding's two principal components  [Pearson 1901].

    The points turn and mirror freely; here the largest coordinate of each is positive, so that maps can be compared.
    """
    vectors = model.embed.weight.detach().double()
    vectors = vectors - vectors.mean(0)
    values, axes = torch.linalg.eigh(vectors.T @ vectors)  # in ascending order
    axes = axes[:, -2:].flip(-1) if axes.size(1) > 1 else torch.nn.functional.pad(axes, (0, 1))
    points = vectors @ axes
    signs = points.gather(0, points.abs().argmax(0, keepdim=True)).sign()
    shares = (values.flip(0)[:2] / values.sum().clamp_min(1e-300)).clamp(0, 1).tolist()
    return Map(points * torch.where(signs == 0, 1, signs), (shares[0], shares[1] if len(shares) > 1 else 0.0))


@dataclass(frozen=True)
class Matrix:
    """The figures of one array of weights; `update` is how far it is from an earlier one, ‖W − W₀‖ / ‖W₀‖."""

    name: str
    shape: tuple[int, ...]
    mean: float
    deviation: float
    largest: float
    norm: float
    update: float | None = None


def matrices(model: GPT, before: Mapping[str, Tensor] | None = None) -> Rows[Matrix]:
    """Figures of all weights, and how far they have come from those `before` (a state by the model's own names)."""
    return Rows(_matrix(name, weight.detach(), (before or {}).get(name)) for name, weight in model.named_parameters())


def _matrix(name: str, weight: Tensor, before: Tensor | None) -> Matrix:
    wide = weight.double()
    norm = torch.linalg.vector_norm
    update = None
    if before is not None:
        start = before.double().to(wide.device)
        update = (norm(wide - start) / norm(start)).item() if start.any() else None
    deviation = wide.std(unbiased=False).item()
    return Matrix(
        name, tuple(weight.shape), wide.mean().item(), deviation, wide.abs().max().item(), norm(wide).item(), update
    )
