"""Embedder slot: the input picture → one vector for the UNet's cross-attention."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from ..registry import Registry

EMBEDDERS = Registry("embedder")


class Embedder(nn.Module, ABC):
    """Embeds RGBA pictures in [0, 1], colours on white. dim: of the embedding."""

    dim: int

    @abstractmethod
    def forward(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> Float[Tensor, "batch embedding"]: ...


@EMBEDDERS.register("conv")
class ConvEmbedder(Embedder):
    """Four strided convolutions and a mean: small enough to train with the rest.

    dim: of the embedding, a multiple of 8. width: channels after the first convolution.
    """

    def __init__(self, dim: int = 256, width: int = 32) -> None:
        super().__init__()
        self.dim = dim
        widths = [width, 2 * width, 4 * width, dim]
        layers: list[nn.Module] = []
        channels = 4
        for out in widths:
            layers += [
                nn.Conv2d(channels, out, 3, stride=2, padding=1),
                nn.GroupNorm(8, out),
                nn.SiLU(),
            ]
            channels = out
        self.net = nn.Sequential(*layers)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> Float[Tensor, "batch embedding"]:
        return self.out(self.net(rgba * 2 - 1).mean(dim=(-2, -1)))
