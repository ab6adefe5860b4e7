"""The training that a page belongs to: how it stands, and what the page may wish of it."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from octavo.server.refused import RefusedError

PATIENCE = 10.0  # seconds that a wish has to come true, before it is told how things stand
State = Literal["preparing", "running", "waiting", "finished"]
Say = Callable[[Mapping[str, Any]], None]


@dataclass
class Training:
    """What the training's process last said of itself. `say` carries words to it, each a line of JSON."""

    say: Say
    run: Path | None = None
    fingerprint: str | None = None
    state: State = "preparing"
    watchers: int = 0

    @property
    def running(self) -> bool:
        """Whether it takes steps now."""
        return self.state == "running"

    def hear(self, words: Mapping[str, Any]) -> None:
        """What its process says."""
        self.run = Path(words["run"]) if "run" in words else self.run
        self.fingerprint = words.get("fingerprint", self.fingerprint)
        self.state = words.get("state", self.state)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Somebody looks on."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        self.watchers += more
        self.say({"watchers": self.watchers})

    async def stop(self) -> bool:
        """Have it end after its step, saved, and give whether it still runs. Raises `RefusedError` before it runs."""
        self._check_begun()
        return await self._wish("stop", self.running)

    async def resume(self) -> bool:
        """Have it go on, and give whether it does. Raises `RefusedError` before it has begun and after its end."""
        self._check_begun()
        if self.state == "finished":
            raise RefusedError(
                409, "the training has come to its end; go on with octavo train --resume and --minutes", code="finished"
            )
        return await self._wish("resume", not self.running)

    def _check_begun(self) -> None:
        if self.state == "preparing":
            raise RefusedError(409, "the training has not begun yet; wait until it takes steps", code="preparing")

    async def _wish(self, word: str, needed: bool) -> bool:
        """Say it and wait until it is so."""
        if not needed:
            return self.running
        before, end = self.state, asyncio.get_running_loop().time() + PATIENCE
        self.say({"wish": word})
        while self.state == before and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
        return self.running
