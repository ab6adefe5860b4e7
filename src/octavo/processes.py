"""The processes of one training: alone, or as many as torchrun started, which do the same on parts of their own."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from octavo.errors import OctavoError, PeerError, RunError, UserError

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")
CONNECT = timedelta(minutes=10)  # until all have come; a GPU's exchanges, which nobody is late for, take no longer
PATIENCE = timedelta(days=2)  # the others wait while the first reads a long text; torchrun ends those of a lost one
LET_GO = 2.0  # seconds until a thread that still holds what was exchanged is waited for no longer
LOST = ("gloo", "NCCL", "Connection", "TCPStore", "ProcessGroup", "Socket")  # words of PyTorch's errors about others
SAID = "octavo: why"  # under this name the store of all knows whether one of them has said why it ends


@dataclass(frozen=True)
class Processes:
    """This process among those that train one model together; every method is to be called by all of them."""

    rank: int = 0
    size: int = 1
    local: int = 0  # its number on its machine, and that of its GPU

    @property
    def first(self) -> bool:
        """Whether it is this one that writes and shows."""
        return self.rank == 0

    def summed(self, value: float) -> float:
        """The sum of what each of them has, in float64."""
        return float(value) if self.size == 1 else self._reduced([float(value)], "SUM")[0]

    def any(self, wish: bool) -> bool:
        """Whether at least one of them wishes so."""
        return wish if self.size == 1 else self._reduced([float(wish)], "MAX")[0] > 0

    def told(self, text: str = "") -> str:
        """What the first one says."""
        if self.size == 1:
            return text
        import torch.distributed

        content = torch.frombuffer(bytearray(text.encode() or b"\0"), dtype=torch.uint8)
        length = torch.tensor([len(text.encode())])
        torch.distributed.broadcast(length, 0)
        heard = content if self.first else torch.empty(max(1, int(length)), dtype=torch.uint8)
        torch.distributed.broadcast(heard, 0)
        found = bytes(heard.tolist())[: int(length)].decode()
        let_go(length, heard)
        return found

    def gathered(self, part: "Tensor", rows: Sequence[tuple[int, int]]) -> "Tensor":
        """Parts put together in the first process, of which each has the rows that `rows` says; the others keep theirs.

        No more than the whole is ever held, and nothing by those who only send.
        """
        import torch.distributed

        if not self.first:
            sent = part.detach()  # nobody else holds this one
            if sent.numel():
                torch.distributed.send(sent, 0)
            let_go(sent)
            return part
        whole = part.new_empty((rows[-1][1], *part.shape[1:]))
        places = [whole[start:stop] for start, stop in rows]
        places[0].copy_(part)
        for rank, place in enumerate(places[1:], 1):
            if place.numel():
                torch.distributed.recv(place, rank)
        let_go(*places)
        return whole

    def agree(self) -> None:
        """Go on when all are here; raises `PeerError` where one has failed."""
        if self.any(False):
            raise PeerError("another process of this training failed; what was saved before is untouched")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Something that all of them do, or none: where one fails, the others learn of it when next they `agree`.

        The last time is at its end. Nothing else may be exchanged within.
        """
        try:
            yield
        except PeerError:
            raise
        except Exception:
            self.any(True)
            raise
        self.agree()

    @contextmanager
    def by_itself(self) -> Iterator[None]:
        """What another than the first does after that one has: a mistake that it meets is its alone, and it tells it.

        Raises `OctavoError` for what would be a user's mistake.
        """
        try:
            yield
        except UserError as error:
            if self.first:
                raise
            raise OctavoError(f"process {self.rank}: {error}") from error

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """What the first one does, and after it the others: a mistake of all is told once, one of another by it."""
        with self.together():
            done = [work()] if self.first else []
        with self.together(), self.by_itself():
            return done[0] if done else work()

    def _reduced(self, values: list[float], how: str) -> list[float]:
        import torch.distributed

        found = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(found, getattr(torch.distributed.ReduceOp, how))
        let_go(found)
        return [float(value) for value in found.tolist()]


def let_go(*exchanged: "Tensor") -> None:
    """Wait until no thread of PyTorch holds these any more.

    A thread that is the last to hold one asks for Python to forget it, and where Python is at its end by then, that
    aborts the process  (PyTorch issue 190489). An exchange is often the last thing that a process does.
    """
    end = time.monotonic() + LET_GO
    while any(tensor._use_count() > 1 for tensor in exchanged) and time.monotonic() < end:  # type: ignore[attr-defined]
        time.sleep(0.0005)


ALONE = Processes()


def started_by_torchrun() -> bool:
    """Whether this process is one of several."""
    return os.environ.get("WORLD_SIZE", "") not in ("", "0", "1")


def check_torchrun() -> None:
    """Raise `RunError` where something else has set what torchrun tells its processes, or some of it."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        value = os.environ.get(name, "")
        if not (value if name == "MASTER_ADDR" else value.isdecimal()):
            size = os.environ["WORLD_SIZE"]
            raise RunError(f"WORLD_SIZE is {size} and {name} is {value!r}; start with torchrun, or unset WORLD_SIZE")


def first_here() -> bool:
    """Whether this process is alone, or the first of several: the one that speaks."""
    return int(os.environ.get("RANK", "0")) == 0 or not started_by_torchrun()


def first_of_machine() -> bool:
    """Whether this process is alone, or the first of those on its machine: the one that speaks of what all meet."""
    return not started_by_torchrun() or int(os.environ.get("RANK", "0")) % beside_here() == 0


def started_by() -> str:
    """What starts as many processes as there are now, as it is typed."""
    if not started_by_torchrun():
        return "octavo"
    size = int(os.environ["WORLD_SIZE"])
    nodes = "" if beside_here() == size else f"--nnodes {size // beside_here()} … "
    return f"torchrun {nodes}--nproc-per-node {beside_here()} -m octavo"


def beside_here() -> int:
    """How many processes of this training are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that torchrun started, connected; `ALONE` where it did not.

    Raises `OctavoError` where another one is lost or does not come, and `RunError` where this PyTorch cannot connect
    processes, or they were not started by torchrun.
    """
    if not started_by_torchrun():
        yield ALONE
        return
    check_torchrun()
    import torch.distributed

    if not torch.distributed.is_available():
        raise RunError("this PyTorch cannot connect processes; train with one, without torchrun")
    processes = Processes(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    with naming_the_lost(processes):
        if processes.local < torch.cuda.device_count():
            torch.cuda.set_device(processes.local)
        kinds = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(kinds, timeout=CONNECT)
        world: Any = torch.distributed.group.WORLD
        world._get_backend(torch.device("cpu"))._set_default_timeout(PATIENCE)
        try:
            yield processes
        except OctavoError as error:
            if not isinstance(error, PeerError) and (not isinstance(error, UserError) or first_of_machine()):
                _tell_the_store()  # for it is said
            raise
        torch.distributed.destroy_process_group()


def _tell_the_store() -> None:
    """Let the others know that this process says why it ends, before they see that it is gone."""
    from torch.distributed.distributed_c10d import _get_default_store

    with suppress(RuntimeError):  # the store may be gone, too
        _get_default_store().set(SAID, "")


def _is_said() -> bool:
    from torch.distributed.distributed_c10d import _get_default_store

    try:
        return _get_default_store().check([SAID])
    except (RuntimeError, ValueError):  # there is none, or none any more
        return False


@contextmanager
def naming_the_lost(processes: Processes) -> Iterator[None]:
    """What PyTorch says when another process is gone becomes one line, or none where that one has said why."""
    import torch.distributed

    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and not any(word in str(error) for word in LOST):
            raise
        here = f"process {processes.rank} of {processes.size}"
        if "out of memory" in str(error):
            raise OctavoError(
                f"{here} has no memory left for what it exchanges with the others; the last checkpoint is intact, "
                "train with a smaller --batch, --context, --width or --layers"
            ) from error
        if _is_said():
            raise PeerError("another process of this training has said why it ends") from error
        if not torch.distributed.is_initialized():
            raise OctavoError(
                f"{here}: not all processes of this training have come; start as many as that, with the same words"
            ) from error
        raise OctavoError(
            f"{here}: another process of this training is gone; the last checkpoint is intact, go on with --resume"
        ) from error
