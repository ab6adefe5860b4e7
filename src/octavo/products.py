"""x Wᵀ + b for weights that no longer change, laid out for the processor: whole, in float16, or in eight bits."""

import warnings
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

TILE = 64  # rows that a GPU multiplies at a time where all are to be multiplied alike
PACKED_FROM = 2**18  # numbers in a float32 matrix; a packed product takes longer to call, and a smaller one is quick


class Product(nn.Module):
    """x Wᵀ + b, or GELU of it, added to something or not, with W packed where that is known to be quicker."""

    wide = False  # whether it reads and gives float32, whatever its weights are

    def __init__(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None = None, *, gelu: bool = False
    ) -> None:
        super().__init__()
        self.weight, self.bias, self.gelu = weight.detach(), None if bias is None else bias.detach(), gelu
        worth = weight.dtype == torch.bfloat16 or weight.numel() >= PACKED_FROM
        self.packed = worth and weight.device.type == "cpu" and packs(weight.dtype)
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, 16)
        elif weight.device.type == "cpu":  # one row is multiplied with columns sooner than with rows
            self.weight = self.weight.t().contiguous()

    def __call__(self, x: Tensor, stream: Tensor | None = None) -> Tensor:
        return self.forward(x, stream)  # nobody listens: PyTorch would look for those who do at every call

    def forward(
        self, x: Float[Tensor, "*rows in"], stream: Float[Tensor, "*rows out"] | None = None
    ) -> Float[Tensor, "*rows out"]:
        if self.packed:
            return packed_product(x, self.weight, self.bias, self.gelu, stream)
        if x.device.type != "cpu":
            return self.finish(self.linear(x), stream)
        y = x @ self.weight
        return self.finish(y if self.bias is None else y + self.bias, stream)

    def linear(self, x: Tensor) -> Tensor:
        """x Wᵀ + b where the weights stay as they are."""
        return F.linear(x, self.weight, self.bias)

    def finish(self, y: Tensor, stream: Tensor | None) -> Tensor:
        """What comes behind x Wᵀ + b."""
        y = F.gelu(y, approximate="tanh") if self.gelu else y
        return y if stream is None else y + stream


class TiledProduct(Product):
    """The same, always so many rows at a time: by how many there are, a GPU would choose other ways to sum up."""

    def linear(self, x: Tensor) -> Tensor:
        rows = x.size(-2)
        tiles = F.pad(x, (0, 0, 0, -rows % TILE)).split(TILE, -2)
        return torch.cat([F.linear(tile, self.weight, self.bias) for tile in tiles], -2)[..., :rows, :]


class WideProduct(Product):
    """The same with weights of half precision held as float32, for processors that multiply nothing else as soon.

    Twice the memory; without units for bfloat16 a text is read far sooner, and more exactly.
    """

    wide = True

    def __init__(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None = None, *, gelu: bool = False
    ) -> None:
        super().__init__(weight.detach().float(), None if bias is None else bias.detach().float(), gelu=gelu)


class HalfProduct(Product):
    """The same with bfloat16 weights held as float16, in which the processor reads one row sooner.

    A float16 number has three bits more of what a bfloat16 one has eight, so in its range nothing is lost; a matrix
    that is not in its range stays as it was. What is multiplied is brought into the range and back: none overflows.
    """

    wide = True

    def __init__(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None = None, *, gelu: bool = False
    ) -> None:
        lengths = torch.linalg.vector_norm(weight.detach(), dim=-1, dtype=torch.float32)
        half = weight.detach().half()
        fits = torch.linalg.vector_norm(half, dim=-1, dtype=torch.float32).allclose(lengths, rtol=2**-10, atol=0)
        self.halved = fits and float(lengths.max()) * weight.size(-1) ** 0.5 < torch.finfo(torch.float16).max
        if self.halved:
            nn.Module.__init__(self)
            self.weight, self.bias, self.gelu = half, None if bias is None else bias.detach().float(), gelu
        else:
            super().__init__(weight, bias, gelu=gelu)

    def forward(
        self, x: Float[Tensor, "*rows in"], stream: Float[Tensor, "*rows out"] | None = None
    ) -> Float[Tensor, "*rows out"]:
        if not self.halved:
            y = super().forward(x.bfloat16()).float()
            return y if stream is None else y + stream
        y = self._one(x) if x.numel() == x.size(-1) else self._many(x)
        return self.finish(y if self.bias is None else y + self.bias, stream)

    def _one(self, x: Tensor) -> Tensor:
        largest = torch.linalg.vector_norm(x, torch.inf, -1, keepdim=True).clamp_min_(1e-30)
        return F.linear((x / largest).half(), self.weight) * largest

    def _many(self, x: Tensor) -> Tensor:
        # many rows take long in float16; by way of float32, bfloat16 is made in half the time
        return F.linear(x.bfloat16(), self.weight.float().bfloat16()).float()


class EightBitProduct(Product):
    """The same with eight bits a weight and one scale for each row of W, max |W| / 127; x is rounded to eight bits too.

    A quarter of float32 is fetched for a token. A small matrix stays whole, for eight bits would take longer there.
    Raises `RuntimeError` where this PyTorch cannot.
    """

    wide = True

    def __init__(
        self, weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None = None, *, gelu: bool = False
    ) -> None:
        weight, bias = weight.detach().float(), None if bias is None else bias.detach().float()
        # without this instruction two products of eight bits are summed in sixteen, and may overflow
        self.whole, self.narrow = weight.numel() < PACKED_FROM, not torch.cpu._is_vnni_supported()
        if self.whole:
            super().__init__(weight, bias, gelu=gelu)
        else:
            nn.Module.__init__(self)
            self.weight, self.bias, self.gelu = in_eight_bits(weight, bias), None, gelu

    def forward(
        self, x: Float[Tensor, "*rows in"], stream: Float[Tensor, "*rows out"] | None = None
    ) -> Float[Tensor, "*rows out"]:
        if self.whole:
            return super().forward(x, stream)
        return self.finish(torch.ops.quantized.linear_dynamic(x, self.weight, self.narrow), stream)


def in_eight_bits(weight: Float[Tensor, "out in"], bias: Float[Tensor, " out"] | None) -> Any:
    """A matrix of whole numbers, the scales of its rows, and what is added behind, as the product wants them."""
    scales = weight.abs().amax(-1).clamp_min_(1e-30) / 127
    whole = (weight / scales[:, None]).round_().to(torch.int8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that tensors of this type will go one day
        held = torch._make_per_channel_quantized_tensor(whole, scales, torch.zeros(len(scales), dtype=torch.long), 0)
        return torch.ops.quantized.linear_prepack(held, bias)


def packed_product(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, gelu: bool = False, stream: Tensor | None = None
) -> Tensor:
    """What `Product` says, in one step: operations that PyTorch's compiler uses, and promises to nobody."""
    operation = torch.ops.mkldnn._linear_pointwise
    if stream is not None:
        return operation.binary(x, stream, weight, bias, "add")
    return operation.default(x, weight, bias, "gelu" if gelu else "none", [], "tanh" if gelu else "")


@cache
def packs(dtype: torch.dtype) -> bool:
    """Whether this PyTorch, on this processor, packs matrices of this type, and gives the right products with them."""
    if dtype not in (torch.float32, torch.bfloat16):
        return False
    x, weight = torch.eye(4, 32, dtype=dtype), torch.linspace(-3, 3, 1024).view(32, 32).to(dtype)
    y = F.linear(x, weight)
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 16)
        found = [packed_product(x, packed), packed_product(x, packed, stream=x), packed_product(x, packed, gelu=True)]
    except (AttributeError, RuntimeError, TypeError):  # gone, or changed
        return False
    expected = [y, y + x, F.gelu(y, approximate="tanh")]
    return all(torch.allclose(ours, theirs, 0.02, 0.02) for ours, theirs in zip(found, expected, strict=True))


@cache
def evenly() -> bool:
    """Whether one row is multiplied to the same bits by however many threads: in PyTorch 2.11 some share a long sum."""
    if not packs(torch.float32):
        return True
    packed = torch.ops.mkldnn._reorder_linear_weight(torch.linspace(-3, 3, 192 * 768).view(192, 768), 16)
    x, threads = torch.linspace(-1, 1, 768)[None], torch.get_num_threads()
    try:
        found = []
        for many in (1, 2):
            torch.set_num_threads(many)
            found.append(packed_product(x, packed))
    finally:
        torch.set_num_threads(threads)
    return torch.equal(*found)


@cache
def halves() -> bool:
    """Whether one row is read in float16 here by an instruction for it, with sums in float32.

    Half a million products of 1/256 sum to 2048 in float32; in float16 they would stay at 8.
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not packs(torch.bfloat16):
        return False
    x = torch.full((1, 2**15), 2.0**-4, dtype=torch.float16)
    return bool((F.linear(x, x.expand(8, -1).contiguous()) == 2.0**7).all())


@cache
def counts_in_eight_bits() -> bool:
    """Whether this PyTorch, on this processor, multiplies in eight bits, and gives the right products."""
    weight, x = torch.linspace(-3, 3, 1024).view(32, 32), torch.linspace(-1, 1, 96).view(3, 32)
    try:
        found = EightBitProduct(weight.repeat(max(1, PACKED_FROM // weight.numel()), 1))(x)[:, : len(weight)]
    except (AttributeError, RuntimeError, TypeError):  # gone, or changed
        return False
    return torch.allclose(found, F.linear(x, weight), 0.05, 0.2)
