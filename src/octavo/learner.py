"""A model, its optimizers, and the batches that it learns from, one step at a time."""

from itertools import pairwise

import torch

from octavo.config import RunConfig
from octavo.data import Batches, Prepared
from octavo.data.batches import cuts
from octavo.errors import OctavoError
from octavo.making import make_model
from octavo.optim import make_optimizers
from octavo.processes import ALONE, Processes
from octavo.randomness import seed_for
from octavo.spreading import Parallel, spread_over
from octavo.step import Batch, StepResult, training_step


class Learner:
    """What learns, in one process or as one of several. What it does is a function of the step and of the seed."""

    def __init__(
        self, config: RunConfig, prepared: Prepared, processes: Processes = ALONE, parallel: Parallel = "auto"
    ) -> None:
        train = config.train
        self.config, self.prepared, self.processes = config, prepared, processes
        self.dtype = getattr(torch, train.dtype)
        boundary = None if train.pack is None else prepared.tokenizer.end_of_text
        self.spread = spread_over(processes, make_model(config), config, parallel, boundary)
        self.model, self.device = self.spread.model, self.spread.device
        self.optimizers = make_optimizers(self.model, train, self.spread.weights, self.spread.matrices)
        self.batches = Batches(prepared.train.tokens, config.window, train.batch, train.seed)

    def learn(self, step: int, micro_batches: int, rate: float) -> StepResult | None:
        """One step, after so many, from a batch in so many pieces, at this part of the peak rate.

        Nothing, and the weights as they were, where the memory of a GPU is too small for it.
        """
        train, rank, size = self.config.train, self.processes.rank, self.processes.size
        count = min(micro_batches, train.batch // size)  # of every process
        pieces = [self._rows(step, *cut) for cut in list(pairwise(cuts(train.batch, count * size)))[rank::size]]
        seeds = [seed_for("dropout", train.seed, step, piece, rank) for piece in range(len(pieces))]
        try:
            return training_step(
                self.model,
                self.optimizers,
                pieces,
                rate=rate,
                clip=train.clip,
                seeds=seeds,
                spread=self.spread,
            )
        except torch.OutOfMemoryError:
            if size > 1:
                raise OctavoError(
                    f"process {rank} has not enough memory for {len(pieces[0][0])} rows of {self.config.window} "
                    "tokens; the last checkpoint is intact, train with --parallel fsdp or a smaller --batch"
                ) from None
            return None

    def _rows(self, step: int, start: int, stop: int) -> Batch:
        tokens, targets = self.batches.rows(step, start, stop)
        return torch.from_numpy(tokens).to(self.device), torch.from_numpy(targets).to(self.device)
