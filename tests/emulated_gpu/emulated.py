"""Every kernel of a GPU that is not there, computed on the CPU, in the same memory.

The GPU's memory is the host's (`runtime.c`). So each operation of PyTorch on tensors of the GPU becomes the same
operation on tensors of the CPU that lie in the same place, and what is new is copied to memory of the GPU. All else is
PyTorch's own: its allocator and what that does where memory ends, gradients by the threads of each GPU, streams,
pinned memory. Tensors of two devices that meet are an error, as they are on a GPU.

What is recorded as a CUDA graph is a list of operations, with the numbers that the processor gave them, to be done
again in the same places. While it is recorded, nothing is done: that is, it is undone in the end. To wait for a number
meanwhile is an error.

Several processes with a GPU each exchange through Gloo what they would through NCCL. There is no compiler of kernels:
what the tests compile is compiled as far as operations, and a training of its own accord compiles nothing.
"""

import atexit
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

aten = torch.ops.aten
# memory itself and views of it need no kernel
OWN = {
    "_fused_sdp_choice",
    "_pin_memory",
    "_reshape_alias",
    "as_strided",
    "empty.memory_format",
    "empty_strided",
    "is_pinned",
    "is_set_to",
    "record_stream",
    "resize_",
    "set_",
    "set_.source_Storage",
    "set_.source_Storage_storage_offset",
    "set_.source_Tensor",
    "unfold",
    "view",
    "view_as_complex",
    "view_as_real",
}
MEETING = {"copy_", "index.Tensor", "index_put_", "_index_put_impl_"}  # may be given tensors of a CPU, too
Operation = Callable[..., Any]


class Recorded:
    """What one CUDA graph does: operations, and where on the GPU their results belong."""

    def __init__(self) -> None:
        self.operations: list[tuple[Operation, Any, Any, list[Tensor], set[int]]] = []
        self.undo: list[tuple[Tensor, Tensor]] = []

    def keep(self, tensors: Iterator[Tensor]) -> None:
        """Remember what is there before it is written over."""
        for tensor in tensors:
            place = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
            self.undo.append((place, place.clone()))

    def end(self) -> None:
        for place, was in reversed(self.undo):
            place.copy_(was)
        self.undo.clear()

    def again(self) -> None:
        for operation, args, words, places, known in self.operations:
            places_left = iter(places)
            for result in tensors_in(operation(*args, **words)):
                if id(result) not in known:
                    next(places_left).copy_(result)


recording: Recorded | None = None


class Graph(torch.cuda.CUDAGraph):
    """A CUDA graph, whose kernels are operations."""

    def capture_begin(self, *args: Any, **words: Any) -> None:
        global recording
        super().capture_begin(*args, **words)
        recording = Recorded()

    def capture_end(self) -> None:
        global recording
        if recording is not None:
            recording.end()
            self.recorded, recording = recording, None
        super().capture_end()

    def replay(self) -> None:
        self.recorded.again()


def tensors_in(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map(lambda x: found.append(x) if isinstance(x, Tensor) else None, value)
    return found


def on_the_cpu(tensor: Tensor) -> Tensor:
    """The same numbers in the same memory, as a tensor of the CPU; what is empty may still grow."""
    memory = tensor.untyped_storage()
    if not memory.nbytes():
        return torch.empty(tensor.size(), dtype=tensor.dtype)
    storage = torch._C._construct_storage_from_data_pointer(memory.data_ptr(), torch.device("cpu"), memory.nbytes())
    return torch.empty(0, dtype=tensor.dtype).set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())


class Call:
    """One operation on tensors of the GPU."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.device = torch.device("cuda", torch.cuda.current_device())
        self.given: dict[int, tuple[Tensor, Tensor, torch.Size]] = {}  # by the tensor of the CPU
        self.places: list[Tensor] = []

    def taken(self, value: Any) -> Any:
        """An argument as the CPU takes it."""
        if isinstance(value, torch.device):
            return torch.device("cpu")
        if isinstance(value, torch.Generator) and value.device.type == "cuda":
            return torch.Generator().manual_seed(value.initial_seed())
        if not isinstance(value, Tensor):
            return value
        if not value.is_cuda:
            if value.dim() and self.name not in MEETING:
                raise RuntimeError(f"{self.name}: a tensor of the CPU among those of a GPU, {tuple(value.shape)}")
            return value
        if self.given and value.device != self.device and self.name not in MEETING:
            raise RuntimeError(f"{self.name}: tensors of {self.device} and of {value.device}")
        self.device = value.device
        there = on_the_cpu(value)
        self.given[id(there)] = there, value, there.size()
        return there

    def returned(self, value: Any) -> Any:
        """A result as a tensor of the GPU: one that was given, perhaps grown, or a new one."""
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self.given:
            new = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device=self.device)
            self._put(value, new)
            return new
        _, there, size = self.given[id(value)]
        if value.size() != size:
            there.resize_(value.size())
            self._put(value, there)
        return there

    def _put(self, value: Tensor, there: Tensor) -> None:
        place = on_the_cpu(there)
        place.copy_(value)
        self.places.append(place)

    def known(self) -> set[int]:
        """The tensors that an operation writes where they are."""
        return {key for key, (there, _, size) in self.given.items() if there.size() == size}


def kernel_of(name: str, operation: Any) -> Operation:
    """The kernel of an operation."""
    mutable, computed = operation._schema.is_mutable, COMPUTED.get(name, operation)
    makes = any(argument.name == "device" for argument in operation._schema.arguments)

    def kernel(*args: Any, **words: Any) -> Any:
        call = Call(name)
        here, here_words = tree_map(call.taken, args), tree_map(call.taken, words)
        if not call.given and not makes:
            return computed(*here, **here_words)
        if recording is not None and name == "_local_scalar_dense":
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        if recording is not None and mutable:
            recording.keep(tensor for tensor, _, _ in call.given.values() if tensor.untyped_storage().nbytes())
        found = computed(*here, **here_words)
        result = tree_map(call.returned, found)
        if name == "_local_scalar_dense":
            return found
        if recording is not None:
            recording.operations.append((computed, here, here_words, call.places, call.known()))
        return result

    return kernel


def looked_back(q: Tensor, k: Tensor, v: Tensor, bias: Any, dropout: float, causal: bool, scale: Any) -> Any:
    return aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, dropout, causal, attn_mask=bias, scale=scale)


def flash(q: Any, k: Any, v: Any, dropout: float = 0.0, causal: bool = False, mask: bool = False, **words: Any) -> Any:
    found, sums = looked_back(q, k, v, None, dropout, causal, words.get("scale"))
    seed = torch.empty(0, dtype=torch.int64)
    return found, sums, None, None, q.size(2), k.size(2), seed, seed.clone(), torch.empty(0)


def flash_backward(
    grad: Any,
    q: Any,
    k: Any,
    v: Any,
    found: Any,
    sums: Any,
    _a: Any,
    _b: Any,
    _c: Any,
    _d: Any,
    *rest: Any,
    **words: Any,
) -> Any:
    backward = aten._scaled_dot_product_flash_attention_for_cpu_backward
    return backward(grad, q, k, v, found, sums, *rest[:2], scale=words.get("scale"))


def efficient(
    q: Any, k: Any, v: Any, bias: Any, sums: bool, dropout: float = 0.0, causal: bool = False, **words: Any
) -> Any:
    seed = torch.empty((), dtype=torch.int64)
    return *looked_back(q, k, v, bias, dropout, causal, words.get("scale")), seed, seed.clone()


def efficient_backward(
    grad: Any, q: Any, k: Any, v: Any, bias: Any, found: Any, sums: Any, *rest: Any, **words: Any
) -> Any:
    _, _, dropout, _, causal = (*rest, False)[:5]
    backward = aten._scaled_dot_product_flash_attention_for_cpu_backward
    return *backward(grad, q, k, v, found, sums, dropout, causal, attn_mask=bias, scale=words.get("scale")), None


def rms_norm(x: Tensor, shape: list[int], weight: Tensor | None, epsilon: float | None) -> tuple[Tensor, Tensor]:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    least = torch.finfo(wide.dtype).eps if epsilon is None else epsilon
    scale = (wide.square().mean(tuple(range(-len(shape), 0)), keepdim=True) + least).rsqrt()
    return (wide * scale * (1 if weight is None else weight)).to(x.dtype), scale


def rms_norm_backward(
    grad: Tensor, x: Tensor, shape: list[int], scale: Tensor, weight: Tensor | None, wanted: list[bool]
) -> tuple[Tensor, Tensor | None]:
    inner, outer = tuple(range(-len(shape), 0)), tuple(range(x.dim() - len(shape)))
    normed, wide = x.to(scale.dtype) * scale, grad.to(scale.dtype)
    of_weight = None if weight is None or not wanted[1] else (wide * normed).sum(outer).to(weight.dtype)
    of_normed = wide * (1 if weight is None else weight)
    of_x = scale * (of_normed - normed * (of_normed * normed).mean(inner, keepdim=True))
    return of_x.to(x.dtype), of_weight


def product_in(start: Tensor, one: Tensor, other: Tensor, kind: torch.dtype, *, out: Tensor, **words: Any) -> Tensor:
    return torch.addmm(start.to(kind), one.to(kind), other.to(kind), out=out, **words)


COMPUTED: dict[str, Operation] = {  # what has no kernel for a CPU
    "_scaled_dot_product_flash_attention": flash,
    "_scaled_dot_product_flash_attention_backward": flash_backward,
    "_scaled_dot_product_efficient_attention": efficient,
    "_scaled_dot_product_efficient_attention_backward": efficient_backward,
    "_fused_rms_norm": rms_norm,
    "_fused_rms_norm_backward": rms_norm_backward,
    "addmm.dtype_out": product_in,
}


def begin() -> None:
    """Put the kernels in the place of PyTorch's own, for as long as this Python runs."""
    sys.modules["triton"] = None  # type: ignore[assignment]
    library = torch.library.Library("aten", "IMPL", "CUDA")
    names = {name.removeprefix("aten::") for name in torch._C._dispatch_get_registrations_for_dispatch_key("CUDA")}
    for name in sorted(name for name in (names | {"copy_"}) - OWN if "::" not in name):
        packet, _, overload = name.partition(".")
        operation = getattr(getattr(aten, packet, None), overload or "default", None)
        if operation is not None:
            library.impl(name, kernel_of(name, operation), allow_override=True)
    KEPT.append(library)
    atexit.register(time.sleep, 0.2)  # threads that make gradients let go of what is Python's after the last one
    torch.cuda.CUDAGraph = torch.cuda.graphs.CUDAGraph = Graph  # type: ignore[misc]
    torch.backends.cuda.enable_cudnn_sdp(False)
    compile_module, connect = torch.nn.Module.compile, torch.distributed.init_process_group

    def compiled(self: torch.nn.Module, *args: Any, **words: Any) -> None:
        compile_module(self, *args, **{"backend": "aot_eager", **words})

    def connected(backend: str | None = None, *args: Any, **words: Any) -> None:
        connect(backend and backend.replace("nccl", "gloo"), *args, **words)

    torch.nn.Module.compile = compiled  # type: ignore[method-assign]
    torch.distributed.init_process_group = connected


KEPT: list[Any] = []  # what is registered is registered while somebody has it
