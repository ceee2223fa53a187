"""The tiny recipe at toy size with random weights, and pictures to feed it."""

from __future__ import annotations

import functools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from mvdiff import builders
from mvdiff.cameras import Cameras, ring
from mvdiff.config.compose import compose
from mvdiff.training.checkpointing import save_weights
from mvdiff.views.views import Views

#: overrides that keep the recipe's structure, two levels of everything; sizes differ from each
#: other, so that axes cannot be mistaken for one another
TOY = [
    "size=32",
    "rig.count=4",
    "latents.patch=4",
    "sizes.time_dim=16",
    "sizes.context_dim=16",
    "sizes.volume_side=12",
    "sizes.volume_dims=[8,16]",
    "sizes.view_features=8",
    "sizes.photo_features=8",
    "sizes.view_width=16",
    "sizes.photo_width=24",
    "sizes.frustum_dims=[16,24]",
    "sizes.planes=6",
    "embedder.dim=16",
    "embedder.width=8",
    "unet.width=16",
    "unet.groups=8",
    "sampler.steps=3",
]

#: overrides that bring a large part to toy size, or that a part requires
TOY_PARTS = {
    "attention=rowwise": ["rig.projection=orthographic", "rig.elevation=0"],
    "unet=sd15": [
        "unet.mults=[1,2]",
        "unet.blocks=1",
        "unet.attention_levels=[1]",
        "unet.heads=4",
        "unet.slots=[mid,up2]",
    ],
    "unet=sd21": [
        "unet.mults=[1,2]",
        "unet.blocks=1",
        "unet.attention_levels=[1]",
        "unet.head_width=4",
        "unet.slots=[mid,up2]",
    ],
    "latents=vae": ["latents.widths=[8,16,16,24]", "latents.blocks=1", "latents.groups=4"],
    "embedder=clip": [
        "embedder.dim=24",
        "embedder.width=32",
        "embedder.layers=2",
        "embedder.heads=2",
        "embedder.size=28",
    ],
    "embedder=openclip": [
        "embedder.dim=24",
        "embedder.layers=1",
        "embedder.heads=2",
        "embedder.size=28",
    ],
    "context=text_image": [
        "context.width=16",
        "context.layers=1",
        "context.heads=2",
        "context.head_width=8",
        "context.image_count=3",
    ],
}

#: settings of the recipe's own variant that the other variant does not have
TOY_WITHOUT = {
    "embedder=openclip": ("embedder.width",),
    "embedder=none": ("embedder.dim", "embedder.width"),
    "unet=none": ("unet.width", "unet.groups"),
    "latents=vae": ("latents.patch",),
}


@functools.lru_cache(maxsize=256)
def toy_config(*overrides: str, command: str = "generate") -> Any:
    """The composed config at toy size; not to be changed."""
    needed = {"generate": ["image=none"], "train": ["data=none"]}.get(command, [])
    toy = [o for o in TOY if command == "generate" or not o.startswith("sampler")]
    toy += [o for override in overrides for o in TOY_PARTS.get(override, [])]
    mine = {o.partition("=")[0] for o in overrides}
    mine.update(*(TOY_WITHOUT.get(override, ()) for override in overrides))
    if "rig=custom" in overrides:  # counts its list
        mine.add("rig.count")
    return compose(command, [*needed, *(o for o in toy if o.split("=")[0] not in mine), *overrides])


def randomize(module: nn.Module) -> nn.Module:
    """Set every parameter to random values seeded by its name, scaled by the fan-in."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            r = torch.randn(p.shape, generator=generator)
            if p.ndim > 1:
                p.copy_(r * 0.7 / p[0].numel() ** 0.5)
            else:
                p.copy_(1 + 0.1 * r if name.endswith("weight") else 0.1 * r)
    return module


def toy_model(*overrides: str) -> Any:
    """A toy denoiser whose every weight matters, in eval mode."""
    return randomize(builders.build_model(toy_config(*overrides))).eval().requires_grad_(False)


def toy_weights(path: Path, *overrides: str) -> Path:
    """Weights of `toy_model` as the command line reads them."""
    return save_weights(toy_model(*overrides).state_dict(), path)


def picture(size: int = 48, color: tuple[int, int, int] = (200, 60, 40)) -> Image.Image:
    """A disc with a stripe on a transparent ground."""
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.ellipse((size // 6, size // 6, size * 5 // 6, size * 5 // 6), fill=(*color, 255))
    draw.rectangle((size // 3, size // 2, size * 2 // 3, size * 5 // 8), fill=(20, 40, 90, 255))
    return image


def photos(count: int, size: int = 32) -> Tensor:
    """Random RGBA pictures in [0, 1]: (count, 4, size, size)."""
    generator = torch.Generator().manual_seed(7)
    return torch.rand(count, 4, size, size, generator=generator)


def ball_views(cameras: Cameras | None = None, radius: float = 0.35, alpha: bool = True) -> Views:
    """What cameras see of a ball at the origin whose color depends on the direction."""
    cameras = ring(8, size=48) if cameras is None else cameras
    origins, directions = cameras.rays()
    along = -(origins * directions).sum(-1)
    off = origins + along[..., None] * directions
    inside = radius**2 - off.square().sum(-1)
    hit = origins + (along - inside.clamp(min=0).sqrt())[..., None] * directions
    mask = (inside > 0).float()[:, None]
    rgb = (0.5 + hit / radius * 0.4).clamp(0, 1).permute(0, 3, 1, 2)
    rgb = rgb * mask + 1 - mask
    return Views.from_white(rgb, mask if alpha else None, cameras)


def pixels(image: Image.Image | Path | str) -> np.ndarray:
    """A picture's bytes as an array."""
    if not isinstance(image, Image.Image):
        with Image.open(image) as opened:
            return np.array(opened)
    return np.array(image)


def toy_args(weights: Path, *more: str) -> list[str]:
    """Settings of `mvdiff generate` for the toy model, without a mesh."""
    said = ["device=cpu", "reconstructor=none", "elevation=20"]
    return [*TOY, f"weights={weights}", *said, *more]
