"""The radiance slot's interface."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float, Int
from torch import Tensor, nn

from ..cameras.camera import Cameras
from ..registry import Registry

RADIANCE = Registry("radiance")


class RadianceField(nn.Module, ABC):
    """Decodes the world volume into density and color and renders views of it.

    Views of one field agree by construction, which views that a network draws one by one do not.
    Where the denoiser predicts clean latents, the rendering is its first guess, and the UNet adds
    what is missing (denoising by rendering: Viewset Diffusion, arXiv 2306.07881).

    Example:
        >>> import torch
        >>> from mvdiff.cameras import ring
        >>> from mvdiff.latents.autoencoders import LATENTS
        >>> from mvdiff.radiance import RADIANCE
        >>> latents, cameras = LATENTS["pixel_shuffle"](patch=4), ring(4, size=8)
        >>> field = RADIANCE["voxels"](
        ...     channels=16, latents=latents, bound=0.5, radius=0.5, planes=8
        ... )
        >>> volume = torch.rand(2, 16, 8, 8, 8)  # batch, channel, depth, height, width
        >>> photos = torch.rand(2, 1, latents.channels, 8, 8)
        >>> grid = field.decode(volume, photos, cameras[[0, 0]])
        >>> views = field.render(grid, cameras, index=torch.tensor([0, 2]))
        >>> views.shape  # batch, view, channel, height, width
        torch.Size([2, 2, 64, 8, 8])
    """

    @abstractmethod
    def decode(
        self,
        volume: Float[Tensor, "batch channel depth height width"],
        photos: Float[Tensor, "batch photo latent row column"],
        cameras: Cameras,
    ) -> Float[Tensor, "batch value d h w"]:
        """Raw density (the first value) and colors; axes z, y, x over the world volume.

        photos: clean latents of the input pictures. cameras: theirs, batch · photo of them.
        """

    @abstractmethod
    def render(
        self,
        grid: Float[Tensor, "batch value d h w"],
        cameras: Cameras,
        index: Int[Tensor, "view"] | Int[Tensor, "batch view"],
    ) -> Float[Tensor, "batch view channel height width"]:
        """Latents of the views at `index`: the same of every object, or a row an object.

        grid: from `decode`. cameras: of the whole rig, at the latents' resolution.
        """

    def forward(
        self,
        volume: Float[Tensor, "batch channel depth height width"],
        photos: Float[Tensor, "batch photo latent row column"],
        photo_cameras: Cameras,
        cameras: Cameras,
        index: Int[Tensor, "view"] | Int[Tensor, "batch view"],
    ) -> Tensor:
        """Both, one after the other."""
        return self.render(self.decode(volume, photos, photo_cameras), cameras, index)
