"""3×3 convolutions with 2.25 times fewer multiplications, for CPUs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

#: Fewer tiles or channels than this are not worth the transforms (benchmarks/NOTES.md).
LEAST_TILES, LEAST_CHANNELS = 128, 320
#: Tiles and weights at a time, so that both stay in a core's cache.
TILES, WEIGHTS = 512, 2**18


class WinogradConv2d(nn.Conv2d):
    """`nn.Conv2d` that takes `winograd` where it is faster: float32 on a CPU, no gradients.

    Everything else, and small or odd maps, is computed as ever.
    """

    winograd = True

    def forward(self, input: Tensor) -> Tensor:  # nn.Conv2d's name
        if self.winograd and self._worth(input):
            return winograd(input, self.weight, self.bias)
        return super().forward(input)

    def _worth(self, x: Tensor) -> bool:
        height, width = x.shape[-2:]
        return (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and x.ndim == 4
            and not (height % 2 or width % 2)
            and len(x) * height * width >= 4 * LEAST_TILES
            and min(self.in_channels, self.out_channels) >= LEAST_CHANNELS
        )


def use_winograd(module: nn.Module) -> None:
    """Let the plain 3×3 convolutions of a module, wherever they are, be computed that way.

    Weights, names and gradients stay what they were.
    """
    for part in module.modules():
        plain = type(part) is nn.Conv2d and part.kernel_size == (3, 3) and part.groups == 1
        if (
            plain
            and part.stride == part.dilation == part.padding == (1, 1)
            and part.padding_mode == "zeros"
        ):
            part.__class__ = WinogradConv2d


def winograd(
    x: Float[Tensor, "batch channel height width"],
    weight: Float[Tensor, "out channel 3 3"],
    bias: Float[Tensor, "out"] | None = None,
) -> Float[Tensor, "batch out height width"]:
    """3×3 convolution with zeros around, by minimal filtering F(2×2, 3×3).

    Every 2×2 results take 16 products instead of 36 (Lavin and Gray, arXiv 1509.09308,
    section 4.1); float32's error stays that of the plain sum. Height and width must be even.
    """
    batch, channels, height, width = x.shape
    rows, columns, outputs = height // 2, width // 2, len(weight)
    views = max(1, TILES // (rows * columns))
    block = max(1, WEIGHTS // channels)
    # few enough views to need every weight once: then block by block, in the cache
    whole = None if batch <= views else _weights(weight)
    out = x.new_empty(batch, outputs, rows, 2, columns, 2)
    for some, found in zip(x.split(views), out.split(views), strict=True):
        tiles = _tiles(some)
        for start in range(0, outputs, block):
            part = slice(start, start + block)
            kernel = _weights(weight[part]) if whole is None else whole[:, part]
            product = torch.bmm(kernel, tiles)
            product = product.view(4, 4, -1, len(some), rows, columns)
            added = None if bias is None else bias[part, None, None, None]
            _results(product, added, found[:, part].transpose(0, 1))
    return out.view(batch, outputs, height, width)


def _weights(weight: Tensor) -> Float[Tensor, "16 out channel"]:
    """G w Gᵀ, with G = [1 0 0; ½ ½ ½; ½ -½ ½; 0 0 1]."""
    taps = rearrange(weight, "o c i j -> i j o c").contiguous()
    kernel = weight.new_empty(4, 4, *weight.shape[:2])
    for target, row in zip(kernel, _spread(taps), strict=True):
        for place, values in zip(target, _spread(row), strict=True):
            place.copy_(values)
    return kernel.flatten(0, 1)


def _spread(taps: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """G times three taps along the first axis."""
    outer, middle = (taps[0] + taps[2]).mul_(0.5), taps[1] * 0.5
    return taps[0], outer + middle, outer - middle, taps[2]


def _tiles(x: Float[Tensor, "view channel height width"]) -> Float[Tensor, "16 channel tile"]:
    """Bᵀ d B of every 4×4 patch, with Bᵀ = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]."""
    views, channels, height, width = x.shape
    padded = F.pad(x, (1, 1, 1, 1)).transpose(0, 1)
    # patches begin at every other column and row: sort those apart, so that all else is contiguous
    even, odd = padded[..., 0::2].contiguous(), padded[..., 1::2].contiguous()
    result = x.new_empty(4, 4, channels, views, height // 2, width // 2)
    a, b, c, d = even[..., :-1], odd[..., :-1], even[..., 1:], odd[..., 1:]
    for column, values in enumerate((a - c, b + c, c - b, b - d)):
        even, odd = values[:, :, 0::2], values[:, :, 1::2]
        e, f, g, h = even[:, :, :-1], odd[:, :, :-1], even[:, :, 1:], odd[:, :, 1:]
        torch.sub(e, g, out=result[0, column])
        torch.add(f, g, out=result[1, column])
        torch.sub(g, f, out=result[2, column])
        torch.sub(f, h, out=result[3, column])
    return result.view(16, channels, -1)


def _results(
    product: Float[Tensor, "4 4 out view row column"],
    bias: Tensor | None,
    out: Float[Tensor, "out view row 2 column 2"],
) -> None:
    """Aᵀ m A into `out`, with Aᵀ = [1 1 1 0; 0 1 -1 -1]."""
    total, difference = product[1] + product[2], product[1] - product[2]
    for row, m in enumerate((total.add_(product[0]), difference.sub_(product[3]))):
        left, right = (m[1] + m[2]).add_(m[0]), (m[1] - m[2]).sub_(m[3])
        for column, values in enumerate((left, right)):
            out[:, :, :, row, :, column] = values if bias is None else values.add_(bias)
