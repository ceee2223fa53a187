"""Embedder slot: the input picture → a vector, or tokens, for the UNet's cross-attention."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ..errors import ConfigError
from ..registry import Registry

EMBEDDERS = Registry("embedder")

#: of OpenAI's training pictures, colors in [0, 1]
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def normalize_clip(rgb: Float[Tensor, "batch 3 s s"]) -> Float[Tensor, "batch 3 s s"]:
    """Colors in [0, 1] as CLIP's and OpenCLIP's image towers read them."""
    mean, std = (torch.tensor(x).to(rgb)[:, None, None] for x in (CLIP_MEAN, CLIP_STD))
    return (rgb - mean) / std


class Embedder(nn.Module, ABC):
    """Embeds RGBA pictures in [0, 1], colors on white.

    dim: of the embedding. tokens: whether a picture gets several vectors, not one.

    Example:
        >>> import torch
        >>> from mvdiff.denoiser.embedders import EMBEDDERS, Embedder
        >>> @EMBEDDERS.register("mean-color")
        ... class MeanColor(Embedder):
        ...     dim = 4
        ...
        ...     def forward(self, rgba):
        ...         return rgba.mean(dim=(2, 3))
        >>> MeanColor()(torch.rand(2, 4, 64, 64)).shape
        torch.Size([2, 4])
    """

    dim: int
    tokens: bool = False

    @abstractmethod
    def forward(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> Float[Tensor, "batch *embedding"]: ...


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


@EMBEDDERS.register("clip")
class ClipEmbedder(Embedder):
    """CLIP's image tower (arXiv 2103.00020), prepared as Zero123 and SyncDreamer do.

    Its weights come from a checkpoint.

    dim: of the projected embedding. width, layers, heads: of the transformer.
    patch: side of a patch. size: the picture's side inside, pixels.
    preparation: "zero123": resized in float, with corners aligned and no antialiasing; "clip": as
        CLIP's own image processor does, on 8 bits with antialiasing (EpiDiff).
    """

    def __init__(
        self,
        *,
        dim: int,
        width: int,
        layers: int,
        heads: int,
        patch: int,
        size: int,
        preparation: str = "zero123",
    ) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        super().__init__()
        if preparation not in ("zero123", "clip"):
            raise ConfigError(
                f"unknown embedder.preparation '{preparation}'; choose from zero123, clip"
            )
        self.dim, self.size, self.preparation = dim, size, preparation
        self.net = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=width,
                intermediate_size=4 * width,
                projection_dim=dim,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                patch_size=patch,
                image_size=size,
                hidden_act="quick_gelu",  # OpenAI's weights; exact GELU is another function
            )
        )

    def pixels(self, rgba: Float[Tensor, "batch 4 height width"]) -> Float[Tensor, "batch 3 s s"]:
        """What the tower reads: resized (see `preparation`) and normalized."""
        if self.preparation == "clip":
            small = torch.stack([_resize_8bit(rgb, self.size) for rgb in rgba[:, :3]])
        else:
            small = F.interpolate(
                rgba[:, :3], (self.size, self.size), mode="bicubic", align_corners=True
            )
        return normalize_clip(small)

    def forward(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> Float[Tensor, "batch embedding"]:
        return self.net(pixel_values=self.pixels(rgba)).image_embeds


@EMBEDDERS.register("openclip")
class OpenClipEmbedder(Embedder):
    """OpenCLIP's image tower: all tokens before its last block (ImageDream, arXiv 2312.02201).

    Its weights come from a checkpoint. The class token comes first; no final norm.

    dim: of a token. layers: blocks that are computed, one fewer than the published tower has.
    heads: of the transformer. patch: side of a patch. size: the picture's side inside, pixels.
    """

    tokens = True

    def __init__(self, *, dim: int, layers: int, heads: int, patch: int, size: int) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        super().__init__()
        self.dim, self.size = dim, size
        self.net = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=dim,
                intermediate_size=4 * dim,
                projection_dim=1,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                patch_size=patch,
                image_size=size,
                hidden_act="gelu",
            )
        )
        # what comes after the tokens is not computed
        self.net.visual_projection = nn.Identity()
        self.net.vision_model.post_layernorm = nn.Identity()

    def pixels(self, rgba: Float[Tensor, "batch 4 height width"]) -> Float[Tensor, "batch 3 s s"]:
        """What the tower reads: the shorter side resized, the middle, normalized.

        A picture of the tower's size stays as it is: `frame_imagedream` makes it as published.
        """
        rgb = rgba[:, :3]
        if rgb.shape[-2:] != (self.size, self.size):
            height, width = rgb.shape[-2:]
            scale = self.size / min(height, width)
            sides = (int(height * scale + 1e-6), int(width * scale + 1e-6))
            rgb = F.interpolate(rgb, sides, mode="bicubic", antialias=True).clamp(0, 1)
            top, left = (round((side - self.size) / 2) for side in sides)
            rgb = rgb[..., top : top + self.size, left : left + self.size]
        return normalize_clip(rgb)

    def forward(
        self, rgba: Float[Tensor, "batch 4 height width"]
    ) -> Float[Tensor, "batch token embedding"]:
        return self.net.vision_model(pixel_values=self.pixels(rgba)).last_hidden_state


@EMBEDDERS.register("none")
class NoEmbedder(Embedder):
    """The picture is not embedded: for models that take a text alone."""

    dim = 0

    def forward(self, rgba: Float[Tensor, "batch 4 height width"]) -> Float[Tensor, "batch 0"]:
        return rgba.new_zeros(len(rgba), 0)


def _resize_8bit(rgb: Float[Tensor, "3 height width"], size: int) -> Float[Tensor, "3 s s"]:
    """Square pictures of 8 bits, cut off and not rounded, resized bicubically by Pillow."""
    pixels = (((rgb.float() * 2 - 1) + 1) / 2 * 255).clamp(0, 255).byte().permute(1, 2, 0)
    image = Image.fromarray(pixels.cpu().numpy()).resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).to(rgb) / 255
