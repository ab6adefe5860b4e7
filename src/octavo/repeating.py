"""Training steps that are all alike, each told to a GPU in two calls.

A step of a small model is a thousand small kernels, and to launch them takes many times as long as to run them. So,
after a few steps of the same shapes, one is recorded: one recording makes the gradient of a batch, another updates the
weights, or, where that gradient came to no number, leaves them as they are. The loss is looked at meanwhile. Recorded
steps come to the same bits as those before them.
"""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from octavo.accelerated import Glance, Recording, records
from octavo.optim import update_unless
from octavo.parallel import Spread
from octavo.step import Batch, StepResult, learn_from, set_rate, training_step

PLAIN = 3  # steps before one is recorded: in them kernels are compiled and chosen, and optimizers take their memory
MOST = 8  # pieces of a batch: where there are more, each is large


class Repeated:
    """The steps of one training, by way of recordings where that helps."""

    def __init__(self, spread: Spread, optimizers: Sequence[torch.optim.Optimizer], clip: float) -> None:
        self.spread, self.optimizers, self.clip = spread, optimizers, clip
        self.begin_anew()
        self.works = records(spread.device) and spread.way is None

    def begin_anew(self) -> None:
        """Forget what was recorded, with the memory it takes."""
        self.shapes: list[torch.Size] = []
        self.plain = 0
        self.gradient: Recording | None = None
        self.update: Recording | None = None
        self.glance = Glance(self.spread.device)
        self.spread.forget_gradients()

    def give_up(self) -> None:
        """Take the steps one by one from now on."""
        self.begin_anew()
        self.works = False

    @property
    def recorded(self) -> bool:
        """Whether there are recordings, which keep memory of their own."""
        return self.gradient is not None

    def step(self, pieces: Sequence[Batch], *, rate: float, seeds: Sequence[int]) -> StepResult:
        """`training_step`, with the same words and the same bits."""
        if not self.works or not self._repeat(pieces):
            return self._plainly(pieces, rate, seeds)
        if self.gradient is None or self.update is None:
            self._record(pieces)
        if self.gradient is None or self.update is None:
            return self._plainly(pieces, rate, seeds)
        for place, piece in zip(self.pieces, pieces, strict=True):
            place[0].copy_(piece[0])
            place[1].copy_(piece[1])
        if seeds and self.spread.model.dropout.p > 0:
            torch.manual_seed(seeds[0])
        set_rate(self.optimizers, rate)
        self.glance.take(self.gradient())
        self.update()  # told before the processor waits for the loss: the GPU has something to do meanwhile
        *losses, norm = self.glance.seen()
        loss = sum(losses)
        return StepResult(loss, norm, isfinite(loss) and isfinite(norm))

    def _plainly(self, pieces: Sequence[Batch], rate: float, seeds: Sequence[int]) -> StepResult:
        return training_step(
            self.spread.model, self.optimizers, pieces, rate=rate, clip=self.clip, seeds=seeds, spread=self.spread
        )

    def _repeat(self, pieces: Sequence[Batch]) -> bool:
        """Whether steps of these shapes have come often enough; a recording has one seed for what dropout hides."""
        if len(pieces) > (1 if self.spread.model.dropout.p > 0 else MOST):
            return False
        shapes = [tokens.shape for tokens, _ in pieces]
        if shapes != self.shapes:
            self.begin_anew()
            self.shapes = shapes
        self.plain += 1
        return self.plain > PLAIN

    def _record(self, pieces: Sequence[Batch]) -> None:
        self.pieces = [(tokens.clone(), wanted.clone()) for tokens, wanted in pieces]
        try:
            self.gradient = Recording(self._gradient, self.spread.device)
            self.update = Recording(self._update, self.spread.device, after=self.gradient)
        except RuntimeError:  # a recording has memory of its own, which may not be there; it only saves time
            self.give_up()
        self.spread.forget_gradients()

    def _gradient(self) -> Tensor:
        self.spread.forget_gradients()
        losses, norm = learn_from(self.spread, self.pieces, self.clip)
        told = torch.stack([*losses, norm.to(losses[0].dtype)])
        self.unusable = told.isfinite().all().logical_not().float()
        return told

    def _update(self) -> Tensor:
        update_unless(self.unusable, self.optimizers)
        return self.unusable  # there is nothing to be told
