"""The training loop: it yields what happens, and keeps the run's folder such that it can be stopped and gone on."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path

from octavo.checkpoint import prune, save_checkpoint, save_snapshot, snapshot_steps, snapshots_kept
from octavo.claim import Claim
from octavo.config import RunConfig
from octavo.data import Part, Prepared
from octavo.errors import OctavoError
from octavo.evaluation import GLANCE, VALIDATION, examine, held_out, sample
from octavo.events import Evaluated, Event, Finished, Note, Sampled, Saved, Stepped
from octavo.journal import Journal, Unwritten, logged
from octavo.learner import Learner
from octavo.model import GPT
from octavo.numerics import numerics
from octavo.pace import Pace
from octavo.parts import Parts
from octavo.plain import as_dict
from octavo.processes import ALONE, Processes
from octavo.randomness import seed_for
from octavo.run import save
from octavo.saved import steps_saved
from octavo.scale import parameters
from octavo.schedule import Schedule
from octavo.spreading import Parallel
from octavo.standing import Standing

MOVED, TOLD = 0.02, 0.25  # shares of the steps by which the end is moved, and by which that is worth another line


class Trainer(Learner):
    """One training of one model in one folder. Iterate over `events()`; `stop()` ends it after the step it is in."""

    def __init__(
        self,
        config: RunConfig,
        prepared: Prepared,
        run: Path,
        processes: Processes = ALONE,
        parallel: Parallel = "auto",
        start: Parts | None = None,
    ) -> None:
        super().__init__(config, prepared, processes, parallel, start)
        self.run, train = run, config.train
        self.held_out = held_out(prepared, train.val_tokens)
        self.journal = Journal(run) if processes.first else Unwritten(run)
        self.at = Standing(
            schedule=Schedule.planned(train.steps, warmup=train.warmup, decay=train.decay),
            minutes=train.minutes,
            micro_batches=train.micro_batches,
            recompute=train.recompute,
            gathered=self.spread.gathered,
        )
        self.claim: Claim | None = None
        self.snapshots = snapshots_kept(parameters(config.model))
        self.stopping = self._ended = self._read = False

    def stop(self) -> None:
        """Ask the training to end after the step it is in, with everything saved."""
        self.stopping = True

    @property
    def over(self) -> bool:
        """Whether it has come to its end: all steps are done, and no evaluation is due that a stop interrupted."""
        return self.at.over

    def events(self) -> Iterator[Event]:
        """Train until the last step, or until asked to stop. Raises `SaveError` when the disk does not take more."""
        self._clock, self.pace = time.monotonic() - self.at.seconds, Pace()
        self._read, self._told = self.at.step >= self.config.train.eval_every, self.at.schedule.steps
        try:
            self.threads.use(self.at.threads)
            if self.at.due is not None:  # the evaluation that a stop interrupted comes first
                yield from self._examine(self.at.due)
            elif self.at.best is None or self.at.best.step == self.at.step == 0:  # a stop may have made that a glance
                self.at.best = None
                yield from self._look()
            yield from self._try_room()
            while self.at.step < self.at.schedule.steps and not self._ends():
                yield from self._advance()
            if self._ends() and not (self.at.due is None and self._known() and self._is_saved()):
                yield from self._save_unmeasured()
            yield self._finished()
        finally:
            self.threads.use(None)
            if self.claim is not None:
                self.claim.release()
            self.journal.close()

    def _ends(self) -> bool:
        """Whether the training was asked to stop, in whichever process: all of them end after the same step."""
        self._ended = self._ended or self.processes.any(self.stopping)
        return self._ended

    def _is_saved(self) -> bool:
        """Whether the state stands on the disk as the first process sees it, for others may see it later."""
        return bool(self.processes.told("yes" if self.at.step in steps_saved(self.run) else ""))

    def _advance(self) -> Iterator[Event]:
        result = self.learn(self.at.step, self.at.micro_batches, self.at.schedule.rate(self.at.step))
        if result is None:
            yield from self._take_less()
            return
        self.at.step += 1
        self.at.seconds = time.monotonic() - self._clock
        self.at.count_failures(result, self.config.train.lr)
        stepped = self.at.stepped(result, self.config, self.pace.seen(self.at.step, self.at.learning))
        yield stepped
        if self.at.step in snapshot_steps(self.at.schedule.steps, self.snapshots):
            self.spread.lend(lambda model: save_snapshot(self.run, self.at.step, model))
        if self._looks():
            yield from self._examine(stepped)
            return
        self.journal.metrics(logged(stepped))
        if self._comes(self.config.train.save_every):
            yield from self._replan()
            yield from self.save_state()
        elif self.at.step == self.at.schedule.level_until:  # from here more can be added to it
            yield from self.save_state()

    def _examine(self, stepped: Stepped) -> Iterator[Event]:
        """What follows a step after which the held-out text is read; where a stop interrupts that, it is still due."""
        self.at.due, line, begin = stepped, logged(stepped), time.monotonic()
        for event in self._look(stepped):
            if isinstance(event, Evaluated):
                line |= {name: getattr(event, name) for name in VALIDATION}
            yield event
        if self.at.due is None:
            self.journal.metrics(line)
            took = time.monotonic() - begin
            self.at.looked(took, look=took)
            yield from self._replan()
            yield from self.save_state()

    def _save_unmeasured(self) -> Iterator[Event]:
        """Save where a stop was asked for. What was learned before the first evaluation is better than nothing."""
        if not self._known():
            self.spread.lend(self._save)
        yield from self.save_state()

    def _save(self, model: GPT | Parts) -> None:
        save(model, self.prepared.tokenizer, self.run)

    def _known(self) -> bool:
        """Whether the best loss is of weights that know something: an untrained beginning does not."""
        begun = self.config.train.start is not None or self.at.step == 0
        return self.at.best is not None and (self.at.best.step > 0 or begun)

    def _comes(self, every: int) -> bool:
        """Whether what is done every so many steps, and after the last one, is to be done now."""
        return self.at.step % every == 0 or self.at.step == self.at.schedule.steps

    def _looks(self) -> bool:
        """Whether the held-out text is read now: not shortly before an end that is a time and has moved."""
        every, left = self.config.train.eval_every, self.at.schedule.steps - self.at.step
        return self._comes(every) and (self.at.minutes is None or not 0 < 2 * left < every)

    def _try_room(self) -> Iterator[Event]:
        """Of several processes, each tries its largest piece beforehand: within a step none could tell the others."""
        while self.processes.size > 1 and not self.fits(self.at.micro_batches):
            yield from self._take_less()

    def _take_less(self) -> Iterator[Event]:
        """Learn with less memory from now on, in smaller pieces or slower: on the disk before it takes effect."""
        where, pieces, gathered = self.config.train.device, self.at.micro_batches, self.at.gathered
        if not self.at.take_less(self.config.train.batch // self.processes.size):
            rows = self.most_rows(pieces)
            raise OctavoError(
                f"{where} has not enough memory to learn from {'one row' if rows == 1 else f'{rows} rows'} "
                f"of {self.config.window} tokens; "
                "the last checkpoint is intact, train with a smaller --context, --width or --layers"
            )
        self.take_less(recompute=self.at.recompute, gathered=self.at.gathered)
        halved = f"a batch is read in {self.at.micro_batches} pieces" + " by each process" * (self.processes.size > 1)
        how = halved if self.at.micro_batches > pieces else "each block is computed again on the way back"
        how = "weights are put together for each piece" if gathered else how
        yield Note(f"{where} ran out of memory: from step {self.at.step} on {how}")
        yield from self.save_state()

    def _look(self, stepped: Stepped | None = None) -> Iterator[Event]:
        """Read the held-out text, keep the weights if they are the best so far, and write a sample, unless stopped."""
        before = self.at.seconds
        read = partial(examine, step=self.at.step, window=self.config.window, spread=self.spread)
        for part, ends in self._read_of():
            evaluated = self.with_room(partial(read, self.model, part, stopped=ends))
            if evaluated is not None:
                break
        else:
            return
        took = time.monotonic() - self._clock - before
        self._read = self._read or self.at.step > 0
        improved = self.at.betters(evaluated, glanced=self.config.train.pairs is not None)
        if improved:
            self.at.best = evaluated
            self.spread.lend(self._save)
        self.at.seconds = time.monotonic() - self._clock
        if self.at.step == 0:  # of a part of the text perhaps; to save what was read takes as long for all of it
            passed, share = self.at.seconds - before, len(part.tokens) / len(self.held_out.tokens)
            self.at.looked(passed, look=passed + took / share - took)
        yield Evaluated(
            **asdict(evaluated),
            steps=self.at.schedule.steps,
            seconds=self.at.seconds,
            best=improved,
            train_loss=stepped.train_loss if stepped else None,
            remaining=stepped.remaining if stepped else 0.0,
        )
        if stepped is not None:
            yield from self._write()

    def _read_of(self) -> Iterator[tuple[Part, Callable[[], bool]]]:
        """What to read of the held-out text, and what stops that. Before the first step at least a glance is needed."""
        if self.at.step > 0 or self.config.train.start is not None:  # what was learned may be the best there is
            yield self.held_out, self._ends
        if self.at.step == 0:
            yield self.held_out.head(GLANCE), lambda: False

    def _write(self) -> Iterator[Event]:
        """The last of an evaluation, if no stop comes before its end: a sample."""
        text = self.with_room(self._sample)
        if text is not None:
            self.journal.sample({"step": self.at.step, "text": text})
            yield Sampled(self.at.step, text)
            self.at.due = None

    def _sample(self) -> str | None:
        """What the model writes; nothing where a stop comes before it has. Those that write together end together."""
        seed, text, alike = seed_for("sample", self.config.train.seed, self.at.step), None, self.spread.way == "fsdp"
        stopped = self._ends if alike else lambda: self.stopping
        with nullcontext() if alike else self.processes.together(), self.spread.speaking() as model:
            if model is not None:
                text = sample(model, self.prepared.tokenizer, seed, stopped)
        return json.loads(self.processes.told(json.dumps(text)))

    def _replan(self) -> Iterator[Event]:
        """Where the end is a time, fit the number of steps to the pace seen: recorded with the state saved next."""
        minutes, seen = self.at.minutes, (time.monotonic() - self._clock, self.at.besides, self.at.look)
        self.at.seconds, self.at.besides, self.at.look = json.loads(self.processes.told(json.dumps(seen)))
        left, every = 60 * (minutes or 0.0) - self.at.seconds, self.config.train.eval_every
        steps = self.pace.fitting(self.at.step, self.at.learning, left, every, self.at.look)
        if minutes is None or self.at.step >= self.at.schedule.steps:
            return
        most = self.config.train.most_steps if minutes == self.config.train.minutes else None  # nobody asked for more
        steps = min(steps, max(self.at.step + 1, most or steps))
        moved = abs(steps - self.at.schedule.steps) / self.at.schedule.steps
        if abs(steps - self._told) > TOLD * self._told:
            how = "slower" if steps < self._told else "faster"
            yield Note(f"{how} than expected: the end is moved to step {steps}, which fits into the time")
            self._told = steps
        if moved > MOVED:
            self.at.schedule = self.at.schedule.replanned(self.at.step, steps, self.config.train.decay)
        yield from self._beside_others()

    def _beside_others(self) -> Iterator[Event]:
        """Learn with no more threads than there are cores that others leave: recorded with the state saved next."""
        useful, before = self.useful_threads(), min(self.at.threads or self.threads.most, self.threads.most)
        if useful != before:
            self.at.threads = self.threads.use(useful)
            why = "other programs want cores" if useful < before else "cores are free again"
            yield Note(f"{why}: from step {self.at.step} on {useful} of {self.threads.most} threads learn")

    def save_state(self) -> Iterator[Event]:
        facts = {
            **self.at.facts(),
            "config": as_dict(self.config),
            "numerics": numerics(self.device, self.threads.most) | self.spread.numerics(),
            "text_sha256": self.prepared.text_sha256,
            "fingerprint": self.prepared.fingerprint,
        }
        with self.processes.together():
            self.journal.finish()
        where = save_checkpoint(self.run, self.at.step, self.model, self.optimizers, facts, self.spread)
        if self.processes.first:
            prune(self.run, self.at.kept(steps_saved(self.run)))
        yield Saved(self.at.step, where)

    def _finished(self) -> Finished:
        assert self.at.best is not None  # every training begins with an evaluation, and every resumed one remembers it
        return Finished(
            run=self.run,
            step=self.at.step,
            steps=self.at.schedule.steps,
            seconds=self.at.seconds,
            best_step=self.at.best.step,
            **{name: getattr(self.at.best, name) for name in VALIDATION},
            reason="done" if self.over else "stopped",
            evaluated=self._known() or not self._ended,
            read=self._read,
            forecast=self.at.forecast(self.config.train),
        )
