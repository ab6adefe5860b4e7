"""What a GPU can do besides: compiled blocks, recorded steps, and float32 matrices in units made for shorter numbers.

The rest is there on any device: matrices in bfloat16 around weights in float32 (`objective`), optimizers whose whole
update is one kernel (`optim`), and the fused attention of PyTorch, which on a GPU is the flash kernel [Dao 2022]
wherever numbers are of half precision, and a memory-efficient one elsewhere.
"""

import threading
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from octavo.loss import has_triton
from octavo.model import GPT

RECORDING = threading.Lock()


def compiles(device: str) -> bool:
    """Whether blocks are compiled there: on a GPU that PyTorch's compiler writes kernels for.

    >>> compiles("cpu")
    False
    """
    return device == "cuda" and has_triton()


def compile_blocks(model: GPT) -> None:
    """Compile each block by itself: all are one program, whatever the number of layers, and compiled once.

    Each shape is compiled for itself, which makes quicker programs. Only for learning: what is read or written besides
    comes in many shapes.
    """
    for block in model.blocks:
        block.compile(dynamic=False)
        block._compiled_call_impl = partial(_learning, block, block._compiled_call_impl)


def _learning(block: nn.Module, compiled: Any, *given: Any) -> Tensor:
    return compiled(*given) if torch.is_grad_enabled() else block._call_impl(*given)


def records(device: torch.device) -> bool:
    """Whether work that comes again and again is recorded there."""
    return device.type == "cuda"


class Recording:
    """Work told to a GPU once, to be done again at each call: its result stands in the same place every time.

    A processor takes longer to launch many a small kernel than a GPU takes to run it, and a CUDA graph launches all of
    them at once. The work must have been done before, so that nothing is compiled or chosen while it is recorded. A
    recording that reads what an earlier one wrote comes `after` it, and shares its memory.
    """

    def __init__(self, work: Callable[[], Tensor], device: torch.device, after: "Recording | None" = None) -> None:
        self.graph = torch.cuda.CUDAGraph()
        pool = None if after is None else after.graph.pool()
        # other threads may go on, but not record anything of their own; what fails would leave its stream behind
        with RECORDING, torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
            stream = stream_for_recordings(torch.cuda.current_device())
            with torch.cuda.graph(self.graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                self.result = work()

    def __call__(self) -> Tensor:
        self.graph.replay()
        return self.result


class Glance:
    """Numbers that a GPU came to, for a processor that looks at them while the GPU goes on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.told = torch.empty(0)
        self.here = torch.cuda.Event() if device.type == "cuda" else None

    def take(self, numbers: Tensor) -> None:
        """Have them sent, before whatever the GPU is told next."""
        if self.here is None:
            self.told = numbers.clone()
            return
        if self.told.shape != numbers.shape:
            self.told = torch.empty_like(numbers, device="cpu", pin_memory=True)
        self.told.copy_(numbers, non_blocking=True)
        self.here.record(torch.cuda.current_stream(self.device))

    def seen(self) -> list[float]:
        """Wait until they are here."""
        if self.here is not None:
            self.here.synchronize()
        found: list[float] = self.told.tolist()
        return found


@cache
def stream_for_recordings(device: int) -> torch.cuda.Stream:
    """The stream of a GPU on which its work is recorded; one of another GPU would record nothing of it."""
    return torch.cuda.Stream(device)


def quick_products(device: torch.device) -> None:
    """Let a GPU multiply float32 matrices with ten bits of each number (TF32): all that is left to float32 there is."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
