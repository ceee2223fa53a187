"""A grid of density and color, rendered by emission and absorption."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..cameras.cache import CameraCache
from ..cameras.camera import Cameras
from ..cameras.frustum import frustum_points
from ..errors import ConfigError
from ..latents.autoencoders import LatentCodec
from ..volumes.unprojection import grid_points, lift, look_up
from .base import RADIANCE, RadianceField

GROUPS = 8
#: Density per world unit is DENSITY · softplus(raw - THIN): a new network's space is thin, so that
#: light passes and gradients reach every voxel.
DENSITY, THIN = 25.0, 3.0
#: What the head's results are multiplied by. Raw densities must move by several units from thin to
#: solid; small steps of the weights would take hundreds of updates for that.
GAIN = 10.0


@RADIANCE.register("voxels")
class VoxelField(RadianceField):
    """The volume's features become a finer grid of density and color (DVGO, arXiv 2111.11215).

    Raw values are interpolated and then made densities, which lets surfaces be sharper than the
    grid ("post-activation", section 4.1 there). Rays run through pixel centers; sections lie
    between depth planes, as in the frusta.

    channels: of the world volume. latents: their kind, pixels in patches or others.
    bound: half side of the world volume. planes, radius: depth planes and the half range they
        span, see `frustum_points`.
    split, features: every voxel becomes split³ of them, with so many features each.
    photo_head: > 0 lets the head, with so many channels, also see the input pictures' pixels where
        each fine voxel projects to (the mean of several pictures), and mix them into the voxel's
        color: c = (1 - g) · own + g · photo. Colors blended from source pictures are IBRNet's
        (arXiv 2102.13090, section 3.2). 0: colors come from the volume alone.
    visibility: let a picture's colors reach only voxels that its camera sees: the mixing is gated
        by the transmittance of the density between camera and voxel, and several pictures are
        weighted by it. Otherwise colors of the front reach hidden voxels of the back, too.
    coarser: the latents' pixels are so many times finer than the rendering, which is interpolated;
        latents that are no pixels are rendered as they are.
    offset: of pixel centers.
    known_geometry: remember the rays' points for cameras that come again.
    """

    known_geometry = True

    def __init__(
        self,
        *,
        channels: int,
        latents: LatentCodec,
        bound: float,
        radius: float,
        planes: int,
        features: int = 8,
        split: int = 2,
        coarser: int = 1,
        photo_head: int = 0,
        visibility: bool = False,
        offset: float = 0.5,
    ) -> None:
        super().__init__()
        if not channels:
            raise ConfigError(
                "radiance 'voxels' has nothing to render without a volume: choose one "
                "(volume=concat), or radiance=none"
            )
        finer = latents.patch // max(1, min(coarser, latents.patch))
        uneven = coarser < 1 or (coarser < latents.patch and latents.patch % coarser)
        if planes < 2 or split < 1 or uneven:
            raise ConfigError(
                "radiance 'voxels' needs planes >= 2, split >= 1, and coarser >= 1 that divides "
                f"the latents' patch of {latents.patch}, got {planes}, {split} and {coarser}"
            )
        self.bound, self.radius, self.planes = bound, radius, planes
        self.split, self.finer, self.offset = split, finer, offset
        self.patch, self.alpha = latents.patch, latents.alpha
        colors = latents.channels // latents.patch**2 - latents.alpha
        self.finer_features = nn.Sequential(
            nn.GroupNorm(GROUPS, channels),
            nn.SiLU(),
            nn.Conv3d(channels, features * split**3, 1),
        )
        self.visibility = visibility
        self.photo_head, self.scale = photo_head, getattr(latents, "scale", 1.0)
        layers: list[nn.Module] = [nn.SiLU()]
        if photo_head:
            pixel = colors + self.alpha
            layers.insert(0, nn.Conv3d(features + pixel, photo_head, 3, padding=1))
        values = 1 + colors + (photo_head > 0)
        self.head = nn.Sequential(*layers, nn.Conv3d(photo_head or features, values, 3, padding=1))
        nn.init.zeros_(self.head[-1].weight)
        nn.init.zeros_(self.head[-1].bias)
        self.background = nn.Parameter(torch.ones(colors))
        self._known = CameraCache(size=4)

    def decode(
        self,
        volume: Float[Tensor, "batch channel depth height width"],
        photos: Float[Tensor, "batch photo latent row column"],
        cameras: Cameras,
    ) -> Float[Tensor, "batch value d h w"]:
        n = self.split
        fine = rearrange(
            self.finer_features(volume),
            "b (c i j k) d h w -> b c (d i) (h j) (w k)",
            i=n,
            j=n,
            k=n,
        )
        if not self.photo_head:
            return self.head(fine) * GAIN
        lifted = self._lifted_photos(photos, cameras, fine)
        pixels = lifted.mean(dim=1)
        raw = self.head(torch.cat([fine, pixels], dim=1)) * GAIN
        density, own, gate = raw[:, :1], raw[:, 1:-1], raw[:, -1:].sigmoid()
        if self.visibility:
            visible = self._transmittance(density, cameras, photos.shape[1])
            pixels = ((lifted * visible).sum(dim=1) / (visible.sum(dim=1) + 1e-3)).to(own.dtype)
            gate = gate * visible.amax(dim=1)
        colors = torch.lerp(own, pixels[:, : own.shape[1]].to(own.dtype), gate.to(own.dtype))
        return torch.cat([density, colors], dim=1)

    def _lifted_photos(
        self, photos: Tensor, cameras: Cameras, like: Tensor
    ) -> Float[Tensor, "batch photo pixel d h w"]:
        """The input pictures at every fine voxel: colors, and opacity if they have it."""
        batch = len(photos)
        flat = F.pixel_shuffle(rearrange(photos, "b p ... -> (b p) ..."), self.patch)
        pixels = rearrange(flat * self.scale, "(b p) ... -> b p ...", b=batch)
        points = grid_points(like.shape[-1], self.bound, photos)
        lifted = lift(pixels, cameras.resize(pixels.shape[-1]), points, self.offset, "border")
        return lifted.to(like.dtype)

    def _transmittance(
        self, density: Float[Tensor, "batch 1 d h w"], cameras: Cameras, count: int
    ) -> Float[Tensor, "batch photo 1 d h w"]:
        """Share of light that passes from each voxel to each input's camera, in [0, 1].

        density: raw, on the fine grid. cameras: batch · photo of them, or as many as photos.
        Summed along the camera's own rays, as in `composite`, up to one voxel before each voxel,
        so that a surface does not hide itself.
        """
        batch, side = len(density), density.shape[-1]
        cameras = cameras.resize(side)
        points, lengths = self._rays(cameras)
        raw = look_up(density, points, self.bound, count)[:, :, 0]
        lengths = lengths.unflatten(0, (-1, count))
        depth = F.softplus(raw - THIN) * DENSITY * lengths
        before = rearrange(depth.cumsum(dim=2) - depth, "b p ... -> (b p) 1 ...")

        voxel = 2 * self.bound / (side - 1)
        uv, distance = cameras.project(grid_points(side, self.bound, density))
        center = cameras.t[:, 2, None, None, None]
        plane = (distance - voxel - center) / self.radius  # [-1, 1] from first to last plane
        pixel = (uv - self.offset) * 2 / (side - 1) - 1
        where = torch.cat([pixel, plane[..., None]], dim=-1).to(before.dtype)
        where = where.unflatten(0, (-1, count)).expand(batch, count, *where.shape[1:]).flatten(0, 1)
        optical = F.grid_sample(before, where, padding_mode="border", align_corners=True)
        return torch.exp(-optical).unflatten(0, (batch, count)).to(density.dtype)

    def render(
        self,
        grid: Float[Tensor, "batch value d h w"],
        cameras: Cameras,
        index: Int[Tensor, "view"] | Int[Tensor, "batch view"],
    ) -> Float[Tensor, "batch view channel height width"]:
        where = (self.planes, self.radius, self.bound, self.offset)
        fine = cameras.resize(cameras.height * self.finer)
        points, lengths = (
            self._known(where, fine, self._rays) if self.known_geometry else self._rays(fine)
        )
        some = index.flatten()
        samples = look_up(grid, points[some], self.bound, index.shape[-1])
        lengths = lengths[some].unflatten(0, (-1, index.shape[-1]))
        views = composite(samples[:, :, 0], samples[:, :, 1:], lengths, self.background)
        return self._latents(views if self.alpha else views[:, :, :-1])

    def _rays(self, cameras: Cameras) -> tuple[Tensor, Tensor]:
        """Sample points, and the sections' lengths: zero outside the world volume.

        Planes that would lie behind a camera lie at it, and no section is between them.
        """
        points = frustum_points(cameras, self.planes, self.radius, self.offset)
        section = (points[:, 1:] - points[:, :-1]).norm(dim=-1)
        section = torch.cat([section, section[:, -1:]], dim=1)
        inside = (points.abs() <= self.bound).all(dim=-1)
        return points, section * inside

    def _latents(
        self, views: Float[Tensor, "batch view plane height width"]
    ) -> Float[Tensor, "batch view latent h w"]:
        batch, scale = len(views), self.patch // self.finer
        flat = rearrange(views, "b v ... -> (b v) ...")
        if scale > 1:
            flat = F.interpolate(flat, scale_factor=scale, mode="bilinear")
        return rearrange(F.pixel_unshuffle(flat, self.patch), "(b v) ... -> b v ...", b=batch)


def composite(
    raw: Float[Tensor, "batch view plane height width"],
    colors: Float[Tensor, "batch view color plane height width"],
    lengths: Float[Tensor, "#batch view plane height width"],
    background: Float[Tensor, "color"],
) -> Float[Tensor, "batch view out height width"]:
    """Colors on the background, and opacity in [-1, 1] as the last plane.

    Each section absorbs 1 - exp(-density · length) of what is behind it (NeRF, arXiv
    2003.08934, equation 3).
    """
    depth = F.softplus(raw - THIN) * DENSITY * lengths  # optical
    passed = depth.cumsum(dim=2)
    weight = torch.exp(depth - passed) * -torch.expm1(-depth)
    clear = torch.exp(-passed[:, :, -1:])
    seen = (weight[:, :, None] * colors).sum(dim=3)
    return torch.cat([seen + clear * background[:, None, None], 1 - 2 * clear], dim=2)
