"""Latents slot: pictures ↔ what the denoiser works on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import ConfigError
from ..registry import Registry

LATENTS = Registry("latents")


class LatentCodec(nn.Module, ABC):
    """Encodes RGBA pictures in [0, 1], colors composited on white.

    channels: of a latent. factor: picture side / latent side.
    clip: bound of a latent's values, when they have one (samplers clip clean pictures to it).
    patch: side of the pixels' patch that a latent's channels hold; 1 when they are no pixels.
    alpha: whether opacity in [-1, 1] is the last plane of each pixel.

    Example:
        >>> import torch
        >>> from mvdiff.latents.autoencoders import LATENTS
        >>> latents = LATENTS["pixel_shuffle"](patch=4)
        >>> latent = latents.encode(torch.rand(2, 4, 64, 64))
        >>> latent.shape
        torch.Size([2, 64, 16, 16])
        >>> color, alpha = latents.decode(latent)
        >>> color.shape, alpha.shape
        (torch.Size([2, 3, 64, 64]), torch.Size([2, 1, 64, 64]))
    """

    channels: int
    factor: int
    clip: float | None = None
    patch: int = 1
    alpha: bool = False

    @abstractmethod
    def encode(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> Float[Tensor, "batch channel h w"]: ...

    def condition(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> Float[Tensor, "batch channel h w"]:
        """The latent of an input picture, as it is laid beside the noisy views."""
        return self.encode(rgba)

    @abstractmethod
    def decode(
        self, latent: Float[Tensor, "batch channel h w"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch 1 height width"] | None]:
        """Colors on white and, where the latents carry it, alpha; in [0, 1] but not clamped."""


@LATENTS.register("pixel_shuffle")
class PixelUnshuffleCodec(LatentCodec):
    """Patches of pixels moved into the channels: no weights, exactly invertible.

    patch: side of a patch. alpha: also model the opacity, so that views come with masks.
    """

    clip = 1.0

    def __init__(self, patch: int = 4, alpha: bool = True) -> None:
        super().__init__()
        self.factor = self.patch = patch
        self.alpha = alpha
        self.channels = (4 if alpha else 3) * patch**2

    def encode(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> Float[Tensor, "batch channel h w"]:
        height, width = rgba.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ConfigError(
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


@LATENTS.register("vae")
class VAE(LatentCodec):
    """Stable Diffusion 1.x's autoencoder (arXiv 2112.10752): 4 channels, an eighth of the side.

    Its weights come from a checkpoint; views come without masks.

    channels: of a latent. widths: channels by level; the map halves between levels.
    blocks: residual blocks a level. groups: of every GroupNorm.
    scale: makes latents about unit normal.
    condition: what an input picture's latent is: "unscaled_mean" of the posterior, as Zero123's
        weights expect it; "unscaled_sample" of it, as EpiDiff's code takes; or a "sample", scaled,
        as ImageDream's weights expect it.

    condition_scale: what a posterior's value is multiplied with to be an input picture's latent.
    """

    def __init__(
        self,
        *,
        channels: int,
        widths: Sequence[int],
        blocks: int,
        groups: int,
        scale: float,
        condition: str = "unscaled_mean",
    ) -> None:
        from diffusers import AutoencoderKL

        super().__init__()
        choices = ("unscaled_mean", "unscaled_sample", "sample")
        if condition not in choices:
            raise ConfigError(
                f"unknown latents.condition '{condition}'; choose from {', '.join(choices)}"
            )
        self.sampled_condition = condition != "unscaled_mean"
        self.condition_scale = scale if condition == "sample" else 1.0
        self.channels, self.factor, self.scale = channels, 2 ** (len(widths) - 1), scale
        self.net = AutoencoderKL(
            latent_channels=channels,
            block_out_channels=tuple(widths),
            layers_per_block=blocks,
            norm_num_groups=groups,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
        )
        self.net.enable_slicing()  # picture by picture: sixteen at once would take gigabytes

    def posterior(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> tuple[Float[Tensor, "batch channel h w"], Float[Tensor, "batch channel h w"]]:
        """Mean and log-variance of the latent, unscaled.

        Raises ConfigError for sides that are no multiple of `factor`.
        """
        height, width = rgba.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ConfigError(
                f"pictures of {width}×{height} have no latents of a {self.factor}th of the side: "
                f"choose a size that is a multiple of {self.factor}"
            )
        posterior = self.net.encode(rgba[:, :3] * 2 - 1).latent_dist
        return posterior.mean, posterior.logvar

    def encode(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> Float[Tensor, "batch channel h w"]:
        return self.posterior(rgba)[0] * self.scale

    def condition(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> Float[Tensor, "batch channel h w"]:
        """The posterior's mean, unscaled; or a sample of it, see `condition` of the class.

        Zero123's code samples the posterior; the mean makes a seed mean one result. A
        sample is drawn with a fixed seed, for the same reason.
        """
        mean, logvar = self.posterior(rgba)
        if not self.sampled_condition:
            return mean
        noise = self.condition_noise(mean[0]).to(mean)
        return self.condition_scale * (mean + (logvar / 2).exp() * noise)

    def condition_noise(self, latent: Float[Tensor, "channel h w"]) -> Float[Tensor, "channel h w"]:
        """The unit noise of a sampled posterior: always the same numbers for a size."""
        return torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))

    def scaled_sample(
        self,
        mean: Float[Tensor, "batch channel h w"],
        logvar: Float[Tensor, "batch channel h w"],
        noise: Float[Tensor, "*batch channel h w"],
    ) -> Float[Tensor, "batch channel h w"]:
        """A sample of a posterior, from unit normal noise, about unit normal itself."""
        return self.scale * (mean + (logvar / 2).exp() * noise)

    def decode(
        self, latent: Float[Tensor, "batch channel h w"]
    ) -> tuple[Float[Tensor, "batch 3 height width"], Float[Tensor, "batch 1 height width"] | None]:
        return (self.net.decode(latent / self.scale).sample + 1) / 2, None


def check_finite(latent: Tensor) -> Tensor:
    """The latent itself; ConfigError when it holds NaN or infinities."""
    if not torch.isfinite(latent).all():
        raise ConfigError(
            "the denoiser produced NaN: its weights are broken, or the precision is too low "
            "(try precision=fp32)"
        )
    return latent
