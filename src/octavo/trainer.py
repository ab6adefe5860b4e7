"""The training loop: it yields what happens, and keeps the run's folder such that it can be stopped and gone on."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from octavo.checkpoint import (
    checkpoint_folder,
    newest_valid,
    prune,
    restore,
    save_checkpoint,
    save_snapshot,
    snapshot_steps,
    steps_saved,
)
from octavo.config import RunConfig
from octavo.data import Batches, Prepared
from octavo.data.batches import cuts
from octavo.disk import write_file
from octavo.errors import OctavoError, RunError
from octavo.evaluation import GLANCE, VALIDATION, Evaluation, examine, held_out
from octavo.events import Evaluated, Event, Finished, Note, Sampled, Saved, Stepped
from octavo.generation import generate
from octavo.journal import Journal
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.randomness import seed_for
from octavo.run import save
from octavo.schedule import Schedule
from octavo.step import Batch, StepResult, training_step

SAMPLE_TOKENS = 160
MOVED, TOLD = 0.02, 0.1  # shares of the steps by which the end is moved, and by which that is worth a line
FAILURES = 3  # steps in a row that came to no finite number, until the training gives up


class Trainer:
    """One training of one model in one folder. Iterate over `events()`; `stop()` ends it after the step it is in."""

    def __init__(self, config: RunConfig, prepared: Prepared, run: Path) -> None:
        self.config, self.prepared, self.run = config, prepared, run
        train = config.train
        self.device, self.dtype = torch.device(train.device), getattr(torch, train.dtype)
        self.model = make_model(config).to(self.device)
        self.optimizers = make_optimizers(self.model, train)
        self.schedule = Schedule.planned(train.steps, warmup=train.warmup, decay=train.decay)
        self.batches = Batches(prepared.train.tokens, config.model.context, train.batch, train.seed)
        self.held_out = held_out(prepared)
        self.journal = Journal(run)
        self.step, self.seconds, self.minutes = 0, 0.0, train.minutes
        self.micro_batches = train.micro_batches
        self.best: Evaluation | None = None
        self.stopping = False
        self._failures = 0

    def stop(self) -> None:
        """Ask the training to end after the step it is in, with everything saved."""
        self.stopping = True

    def events(self) -> Iterator[Event]:
        """Train until the last step, or until asked to stop. Raises `SaveError` when the disk does not take more."""
        self._clock = time.monotonic() - self.seconds
        self._mark = (self.step, self.seconds)
        try:
            if self.step == 0:
                yield from self._look()
            while self.step < self.schedule.steps and not self.stopping:
                yield from self._advance()
            if self.stopping and self.step not in steps_saved(self.run):
                if self.best is not None and self.best.step == 0:  # what was learned is better than nothing, unmeasured
                    save(self.model, self.prepared.tokenizer, self.run)
                yield from self._save()
            yield self._finished()
        finally:
            self.journal.close()

    def _advance(self) -> Iterator[Event]:
        result = self._learn()
        if result is None:
            yield from self._halve()
            return
        stepped = self._stepped(result)
        yield stepped
        if self.step in snapshot_steps(self.schedule.steps):
            save_snapshot(self.run, self.step, self.model)
        line = {name: value for name, value in asdict(stepped).items() if name not in ("steps", "remaining")}
        looks = self._comes(self.config.train.eval_every)
        for event in self._look(stepped) if looks else ():
            if isinstance(event, Evaluated):
                line |= {name: getattr(event, name) for name in VALIDATION}
            yield event
        self.journal.metrics(line)
        if looks or self._comes(self.config.train.save_every):
            yield from self._replan()
            yield from self._save()

    def _comes(self, every: int) -> bool:
        """Whether what is done every so many steps, and after the last one, is to be done now."""
        return self.step % every == 0 or self.step == self.schedule.steps

    def _learn(self) -> StepResult | None:
        """One step; nothing, and the weights as they were, where the memory of a GPU is too small for it."""
        train = self.config.train
        pieces = [self._rows(start, stop) for start, stop in pairwise(cuts(train.batch, self.micro_batches))]
        seeds = [seed_for("dropout", train.seed, self.step, piece, 0) for piece in range(len(pieces))]
        rate = self.schedule.rate(self.step)
        try:
            result = training_step(
                self.model, self.optimizers, pieces, rate=rate, clip=train.clip, dtype=self.dtype, seeds=seeds
            )
        except torch.OutOfMemoryError:
            return None
        self.step += 1
        self.seconds = time.monotonic() - self._clock
        self._count_failures(result)
        return result

    def _halve(self) -> Iterator[Event]:
        """Read each batch in pieces half as large from now on: on the disk before it takes effect."""
        batch, where = self.config.train.batch, self.config.train.device
        if self.micro_batches >= batch:
            raise OctavoError(
                f"{where} has not enough memory to learn from one row of {self.config.model.context} tokens; "
                "the last checkpoint is intact, train with a smaller --context, --width or --layers"
            )
        self.model.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.micro_batches = min(2 * self.micro_batches, batch)
        yield Note(
            f"{where} ran out of memory: from step {self.step} on a batch is read in {self.micro_batches} pieces"
        )
        yield from self._save()

    def _count_failures(self, result: StepResult) -> None:
        self._failures = 0 if result.used else self._failures + 1
        if self._failures >= FAILURES:
            raise OctavoError(
                f"{FAILURES} steps in a row came to no finite loss (step {self.step}); the last checkpoint is intact, "
                f"train again with a smaller --lr than {self.config.train.lr:g}"
            )

    def _rows(self, start: int, stop: int) -> Batch:
        tokens, targets = self.batches.rows(self.step, start, stop)
        return torch.from_numpy(tokens).to(self.device), torch.from_numpy(targets).to(self.device)

    def _stepped(self, result: StepResult) -> Stepped:
        train, steps = self.config.train, self.schedule.steps
        per_step = train.batch * self.config.model.context
        since, then = self._mark
        pace = max(self.seconds - then, 1e-9) / (self.step - since)  # seconds a step, since the last evaluation
        return Stepped(
            step=self.step,
            steps=steps,
            seconds=round(self.seconds, 3),
            tokens=self.step * per_step,
            lr=train.lr * self.schedule.rate(self.step - 1),
            train_loss=result.loss,
            grad_norm=result.grad_norm,
            tokens_per_second=round(per_step / pace, 1),
            remaining=(steps - self.step) * pace,
        )

    def _look(self, stepped: Stepped | None = None) -> Iterator[Event]:
        """Read the held-out text, write a sample, and keep the weights if they are the best so far."""
        part = self.held_out if self.step else self.held_out.head(GLANCE)
        evaluated = examine(self.model, part, step=self.step, dtype=self.dtype)
        improved = self.best is None or evaluated.val_loss < self.best.val_loss
        if improved:
            self.best = evaluated
            save(self.model, self.prepared.tokenizer, self.run)
        self.seconds = time.monotonic() - self._clock
        yield Evaluated(
            **asdict(evaluated),
            steps=self.schedule.steps,
            seconds=self.seconds,
            best=improved,
            train_loss=stepped.train_loss if stepped else None,
            remaining=stepped.remaining if stepped else 0.0,
        )
        if stepped:
            yield self._sample()

    def _sample(self) -> Sampled:
        tokenizer = self.prepared.tokenizer
        never = (*tokenizer.forbidden, *([] if tokenizer.end_of_text is None else [tokenizer.end_of_text]))
        start = [token for token in tokenizer.encode("\n") if token not in never]
        tokens = [
            step.tokens[0]
            for step in generate(
                self.model,
                start or [0],
                max_new_tokens=SAMPLE_TOKENS,
                temperature=0.8,
                seed=seed_for("sample", self.config.train.seed, self.step),
                forbidden=never,
            )
        ]
        text = tokenizer.decode([token for token in tokens if token is not None])
        self.journal.sample({"step": self.step, "text": text})
        return Sampled(self.step, text)

    def _replan(self) -> Iterator[Event]:
        """Where the end is a time, fit the number of steps to the pace seen: recorded with the state saved next."""
        minutes, (since, then) = self.minutes, self._mark
        self.seconds = time.monotonic() - self._clock
        pace = (self.seconds - then) / max(1, self.step - since)
        self._mark = (self.step, self.seconds)
        if minutes is None or self.step >= self.schedule.steps:
            return
        steps = max(self.step + 1, self.step + round((60 * minutes - self.seconds) / pace))
        moved = abs(steps - self.schedule.steps) / self.schedule.steps
        if moved > TOLD:
            yield Note(f"{steps} steps fit into the time, not {self.schedule.steps}: the end is moved")
        if moved > MOVED:
            self.schedule = self.schedule.replanned(self.step, steps, self.config.train.decay)

    def _save(self) -> Iterator[Event]:
        write_file(self.run / "loss.svg", self.journal.picture())
        facts = {
            "seconds": self.seconds,
            "minutes": self.minutes,
            "micro_batches": self.micro_batches,
            "schedule": asdict(self.schedule),
            "best": None if self.best is None else asdict(self.best),
            "text_sha256": self.prepared.text_sha256,
            "fingerprint": self.prepared.fingerprint,
        }
        self.journal.sync()
        where = save_checkpoint(self.run, self.step, self.model, self.optimizers, facts)
        prune(self.run, self._kept())
        yield Saved(self.step, where)

    def _kept(self) -> set[int]:
        plateau = [step for step in steps_saved(self.run) if step <= self.schedule.falls_from]
        return {*plateau[:1], self.best.step if self.best else 0}

    def restore(self, *, before: int | None = None) -> list[Note]:
        """Go back to the newest state that is whole; without any, to the beginning. What was found is told."""
        notes: list[Note] = []
        if not steps_saved(self.run):
            self.journal.cut(0)
            return [Note("no checkpoint yet: starting from the first step")]
        step, facts = newest_valid(self.run, before=before, on_damage=lambda line: notes.append(Note(line)))
        restore(checkpoint_folder(self.run, step), self.model, self.optimizers)
        self._adopt(step, facts)
        return notes

    def _adopt(self, step: int, facts: dict[str, Any]) -> None:
        if facts["text_sha256"] != self.prepared.text_sha256:
            raise RunError(f"the text is not the one that {self.run} was trained on; bring that back, or train anew")
        self.step, self.seconds, self.minutes = step, facts["seconds"], facts["minutes"]
        self.micro_batches = facts["micro_batches"]
        self.schedule = Schedule(**facts["schedule"])
        self.best = Evaluation(**facts["best"]) if facts["best"] else None
        self.journal.cut(step)

    def rewind(self) -> list[Note]:
        """Go back to the newest state from before the rate fell; the best weights stay the best."""
        best = self.best
        notes = self.restore(before=self.schedule.falls_from)
        self.best = best
        return notes

    def prolong(self, steps: int, minutes: float | None) -> Iterator[Event]:
        """Move the end to `steps` in all, or to `minutes` from now; on the disk before it takes effect."""
        self.minutes = None if minutes is None else self.seconds / 60 + minutes
        self.schedule = self.schedule.replanned(self.step, steps, self.config.train.decay)
        for step in steps_saved(self.run):  # of the way that is not taken any more; the best weights stay
            if step > self.step:
                shutil.rmtree(checkpoint_folder(self.run, step))
        yield from self._save()

    def _finished(self) -> Finished:
        assert self.best is not None  # every training begins with an evaluation, and every resumed one remembers it
        return Finished(
            run=self.run,
            step=self.step,
            steps=self.schedule.steps,
            seconds=self.seconds,
            best_step=self.best.step,
            val_loss=self.best.val_loss,
            val_nats_per_character=self.best.val_nats_per_character,
            val_bits_per_byte=self.best.val_bits_per_byte,
            reason="done" if self.step >= self.schedule.steps else "stopped",
            forecast=self._forecast(),
        )

    def _forecast(self) -> tuple[float, float] | None:
        """What was expected of this training, where it has come to the end that was planned."""
        train, loss, within = self.config.train, self.config.train.forecast, self.config.train.forecast_within
        planned = self.minutes == train.minutes and (self.minutes is not None or self.schedule.steps == train.steps)
        if loss is None or within is None or not planned or self.step < self.schedule.steps:
            return None
        return loss, within


def make_model(config: RunConfig) -> GPT:
    """The model of a run before its first step: random numbers from the seed, and from nothing else."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("weights", config.train.seed))
        return GPT(config.model, dropout=config.train.dropout)
