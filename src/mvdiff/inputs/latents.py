"""Latents slot: pictures ↔ what the denoiser works on."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import MvdiffError
from ..registry import Registry

LATENTS = Registry("latents")


class Latents(nn.Module, ABC):
    """Encodes RGBA pictures in [0, 1], colours composited on white.

    channels: of a latent. factor: picture side / latent side.
    clip: bound of a latent's values, when they have one (samplers clip clean pictures to it).
    """

    channels: int
    factor: int
    clip: float | None = None

    @abstractmethod
    def encode(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> Float[Tensor, "batch channel h w"]: ...

    @abstractmethod
    def decode(
        self, latent: Float[Tensor, "batch channel h w"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch 1 height width"] | None]:
        """Colours on white and, where the latents carry it, alpha; in [0, 1] but not clamped."""


@LATENTS.register("pixel-shuffle")
class PixelShuffle(Latents):
    """Patches of pixels moved into the channels: no weights, exactly invertible.

    patch: side of a patch. alpha: also model the opacity, so that views come with masks.
    """

    clip = 1.0

    def __init__(self, patch: int = 4, alpha: bool = True) -> None:
        super().__init__()
        self.factor, self.alpha = patch, alpha
        self.channels = (4 if alpha else 3) * patch**2

    def encode(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> Float[Tensor, "batch channel h w"]:
        height, width = rgba.shape[-2:]
        if height % self.factor or width % self.factor:
            raise MvdiffError(
                f"pictures of {width}×{height} cannot be cut into patches of {self.factor}: choose "
                "a size that is a multiple of it"
            )
        planes = rgba if self.alpha else rgba[:, :3]
        return F.pixel_unshuffle(planes * 2 - 1, self.factor)

    def decode(
        self, latent: Float[Tensor, "batch channel h w"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch 1 height width"] | None]:
        planes = (F.pixel_shuffle(latent, self.factor) + 1) / 2
        return planes[:, :3], planes[:, 3:] if self.alpha else None


def check_finite(latent: Tensor) -> Tensor:
    """The latent itself; MvdiffError when it holds NaN or infinities."""
    if not torch.isfinite(latent).all():
        raise MvdiffError(
            "the denoiser produced NaN: its weights are broken, or the precision is too low "
            "(try precision=fp32)"
        )
    return latent
