"""What a GPU can do besides: compiled blocks, and products of float32 matrices by units made for shorter numbers.

The rest is there on any device: matrices in bfloat16 around weights in float32 (`objective`), optimizers whose whole
update is one kernel (`optim`), and the fused attention of PyTorch, which on a GPU is the flash kernel [Dao 2022]
wherever numbers are of half precision, and a memory-efficient one elsewhere.
"""

import importlib.util
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from octavo.model import GPT


def compiles(device: str) -> bool:
    """Whether blocks are compiled there: on a GPU that PyTorch's compiler writes kernels for.

    >>> compiles("cpu")
    False
    """
    return device == "cuda" and importlib.util.find_spec("triton") is not None


def compile_blocks(model: GPT) -> None:
    """Compile each block by itself: all are one program, whatever the number of layers, and compiled once.

    Only for learning. What is read or written besides comes in other shapes, each of which would be compiled anew.
    """
    for block in model.blocks:
        block.compile()
        block._compiled_call_impl = partial(_learning, block, block._compiled_call_impl)


def _learning(block: nn.Module, compiled: Any, *given: Any) -> Tensor:
    return compiled(*given) if torch.is_grad_enabled() else block._call_impl(*given)


def quick_products(device: torch.device) -> None:
    """Let a GPU multiply float32 matrices with ten bits of each number (TF32): all that is left to float32 there is."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
