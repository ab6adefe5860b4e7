"""The report on a run, for the page: made in the background when it is first asked for, and remembered."""

from collections.abc import AsyncIterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request

from octavo.config import Device
from octavo.errors import OctavoError
from octavo.events import Event, Preparing
from octavo.saved import written_at
from octavo.server.page.learning import run_of
from octavo.server.refused import RefusedError
from octavo.server.strict import REFUSALS, StrictRoute

STAGES = 6  # or seven, that a report goes through, one after the other; none is much longer than the others


@dataclass
class Making:
    """A report on its way."""

    written: int = 0  # when the weights were that it is of
    stage: str = ""
    stages: int = 0
    share: float = 0.0
    made: Future[dict[str, Any]] | None = None
    told: bool = False
    wanted: bool = True

    def hear(self, event: Event) -> None:
        """How far it has come. Raises `CancelledError` where nobody waits for it any more."""
        if not self.wanted:
            raise CancelledError
        if isinstance(event, Preparing):
            self.stages += event.what != self.stage
            self.stage, self.share = event.what, event.done / max(event.total, 1)

    @property
    def progress(self) -> float:
        """From 0 to 1, and never backwards."""
        return min((max(self.stages - 1, 0) + self.share) / STAGES, 0.99)


class Reports:
    """The reports of a service, one made at a time, and one for each run."""

    def __init__(self, device: Device = "auto") -> None:
        self.device = device
        self._made: dict[Path, Making] = {}
        self._worker = ThreadPoolExecutor(1, "octavo report")

    def of(self, run: Path) -> dict[str, Any]:
        """A run's report, or how far it has come.

        One that is on its way is told when it is made, and whether better weights have come meanwhile: a training may
        write them sooner than a report is made. Who asks again then has another one made.

        Raises `RefusedError` with the reason where there can be none.
        """
        written = written_at(run)
        making = self._made.get(run)
        if making is None or (making.told and making.written != written):
            making = self._made[run] = Making()
            making.made = self._worker.submit(make, run, making, self.device)
        if making.made is None or not making.made.done():
            return {
                "ready": False,
                "progress": making.progress,
                "stage": making.stage,
                "report": None,
                "earlier": False,
            }
        making.told, earlier = True, making.written != written
        try:
            report = making.made.result()
        except Exception as error:  # whatever it is, it is for who asked
            del self._made[run]  # to be tried again when it is asked for again
            raise refusal(error) from error
        return {"ready": True, "progress": 1.0, "stage": "", "report": report, "earlier": earlier}

    def close(self) -> None:
        """Begin no other, and have the one that is being made end: the interpreter would wait for all of them."""
        for making in self._made.values():
            making.wanted = False
        self._worker.shutdown(wait=False, cancel_futures=True)


def refusal(error: Exception) -> RefusedError:
    """What is said of a report that failed, in one sentence."""
    if isinstance(error, OctavoError):
        return RefusedError(400, str(error))
    reason = next(iter(str(error).splitlines()), "")[:200].rstrip(".") or type(error).__name__
    return RefusedError(500, f"the report could not be made: {reason}; ask for it again to have another try")


def make(run: Path, making: Making, device: Device) -> dict[str, Any]:
    """The report itself; what makes it is loaded only now."""
    from octavo.report import report

    making.written = written_at(run)  # only now, for others may have been made before it
    return report(run, device=device, on_event=making.hear).to_dict()


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    """No report is begun once the service ends."""
    try:
        yield
    finally:
        app.state.reports.close()


router = APIRouter(route_class=StrictRoute, responses=REFUSALS, lifespan=life)


@router.get("/page/report")
async def show_report(request: Request, model: Annotated[str | None, Query(max_length=256)] = None) -> dict[str, Any]:
    """How good a run is, as octavo report says it."""
    reports: Reports = request.app.state.reports
    return reports.of(run_of(request, model))
