"""Who reads what in the next step: those that write first, then prompts in the order in which they came.

A prompt is read in pieces, so that nobody who is writing waits long. Where memory runs out, the text that came last
waits again; what it had written is read once more later, and it goes on as if nothing had been.
"""

from collections import deque
from dataclasses import dataclass, field

from octavo.server.engine.memory import Memory, Slot
from octavo.server.engine.sequence import Sequence

ROWS = 256  # tokens of prompts in a step, and so many fewer as there are texts that write
LEAST = 32  # tokens of prompts that are read however many write
ALONE = 512  # and where nobody does


@dataclass
class Scheduler:
    """The texts on their way, in the order in which they came, and those that wait to be."""

    memory: Memory
    most: int  # texts on their way at once
    active: list[Sequence] = field(default_factory=list)
    waiting: deque[Sequence] = field(default_factory=deque)
    refused: list[Sequence] = field(default_factory=list)  # for which all the memory there is was not enough

    def plan(self) -> list[tuple[Sequence, int]]:
        """The texts of the next step, and how many tokens of each are read."""
        self._drop_cancelled()
        self._admit()
        planned = [(sequence, 1) for sequence in self.active if sequence.writing]
        room = max(LEAST, ROWS - len(planned)) if planned else ALONE
        for sequence in self.active:
            if not sequence.writing and room:
                count = min(room, sequence.unread)
                planned.append((sequence, count))
                room -= count
        planned = self._with_room(planned)
        self.memory.gather([one.slot for one, _ in planned if one.slot is not None and one.writing])
        return planned

    def end(self, sequence: Sequence) -> None:
        """Let a text go; what is remembered of its beginning stays a while."""
        self.active.remove(sequence)
        if sequence.slot is not None and sequence.start == 0:
            self.memory.leave(sequence.slot, sequence.text)
        elif sequence.slot is not None:
            self.memory.give(sequence.slot)
        sequence.slot = None

    def _drop_cancelled(self) -> None:
        if any(sequence.cancelled for sequence in self.waiting):
            self.waiting = deque(sequence for sequence in self.waiting if not sequence.cancelled)
        for sequence in [sequence for sequence in self.active if sequence.cancelled]:
            self.end(sequence)

    def _admit(self) -> None:
        for sequence in list(self.waiting):
            if len(self.active) >= self.most:
                return
            twin = next((one for one in self.active if one.prompt is sequence.prompt), None)
            if twin is not None and twin.unread > 1:
                continue  # what it is reading will be copied in a moment
            try:
                slot = self._slot(sequence, twin)
            except Exception:  # it ends with those that are active: if it waited on, this would be tried for ever
                self._take_in(sequence)
                raise
            if slot is None:
                return
            sequence.slot, sequence.reused = slot, slot.known
            self._take_in(sequence)

    def _take_in(self, sequence: Sequence) -> None:
        self.active.append(sequence)  # first: whoever counts both from outside must not find room that is none
        self.waiting.remove(sequence)

    def _slot(self, sequence: Sequence, twin: Sequence | None) -> Slot | None:
        """Memory for a text, with as much of its beginning as others have read; `None` where there is none."""
        if sequence.told < len(sequence.prompt):
            return self.memory.take(1)
        if twin is not None and twin.slot is not None and twin.start == sequence.start:
            slot = self.memory.take(sequence.unread)
            if slot is not None:  # what either has written since the prompt is its own
                alike = max(0, len(sequence.prompt) - sequence.start)
                slot.take_from(twin.slot, min(twin.known, sequence.unread - 1, alike))
            return slot
        window = sequence.window
        return self.memory.find(window) or self.memory.take(len(window)) or self.memory.take(1)

    def _with_room(self, planned: list[tuple[Sequence, int]]) -> list[tuple[Sequence, int]]:
        """Those of a plan that there is memory for, once the ones that came last were made to wait."""
        for sequence, count in planned:
            while sequence.slot is not None:
                slot = self.memory.grow(sequence.slot, sequence.known + count)
                if slot is not None:
                    sequence.slot = slot
                    break
                self._make_wait(self.active[-1])
        return [(sequence, count) for sequence, count in planned if sequence.slot is not None]

    def _make_wait(self, sequence: Sequence) -> None:
        assert sequence.slot is not None  # it was active
        self.memory.give(sequence.slot)
        sequence.slot = None
        (self.waiting.appendleft if len(self.active) > 1 else self.refused.append)(sequence)
        self.active.remove(sequence)
