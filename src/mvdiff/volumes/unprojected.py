"""What volumes made of lifted views share: encoding, lifting, the 3D U-Nets, the frusta.

Variants differ in how the views' features become one number of channels.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from ..cameras.camera import Cameras
from ..errors import ConfigError
from .base import Frusta, Volume, VolumeInputs
from .frustum_net import FrustumNet
from .unet3d import GROUPS, UNet3D
from .unprojection import grid_points, lift


class ViewEncoder(nn.Module):
    """2D features of one noisy view, with time and pose added in every block (section 4.1).

    inputs: latent channels. features: channels out. width: of the blocks; default: as many.
    finer: the features' side / the latents' side.
    """

    def __init__(
        self,
        inputs: int,
        features: int,
        time_dim: int,
        pose_dim: int,
        blocks: int = 3,
        width: int | None = None,
        finer: int = 1,
    ) -> None:
        super().__init__()
        width = width or features
        self.stem = nn.Conv2d(inputs, width, 3, padding=1)
        self.time = nn.ModuleList(nn.Linear(time_dim, width) for _ in range(blocks))
        self.pose = nn.ModuleList(nn.Linear(pose_dim, width) for _ in range(blocks))
        self.blocks = nn.ModuleList(
            nn.Sequential(*_norm_conv(width, width), *_norm_conv(width, width))
            for _ in range(blocks)
        )
        self.out = nn.Sequential(*_norm_conv(width, features * finer**2))
        if finer > 1:
            self.out.append(nn.PixelShuffle(finer))

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        time: Float[Tensor, "batch time"],
        pose: Float[Tensor, "batch pose"],
    ) -> Float[Tensor, "batch feature h w"]:
        x = self.stem(x)
        for embed_time, embed_pose, block in zip(self.time, self.pose, self.blocks, strict=True):
            x = x + block(x + (embed_time(time) + embed_pose(pose))[:, :, None, None])
        return self.out(x)


def _norm_conv(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.GroupNorm(GROUPS, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)]


class UnprojectedVolume(Volume):
    """Views are encoded, lifted into the world and joined; a 3D U-Net works on the result.

    latent_channels: of the noisy views.
    views: how many there are; only variants with `any_views = False` are bound to it.
    side, bound: the grid has side³ points over [-bound, bound]³, world units.
    features: channels of one view's features.
    dims, level_blocks: of the 3D U-Net, see `UNet3D`.
    frustum_dims, planes, radius, frustum_blocks: see `FrustumNet`.
    photo_features: > 0 also lifts the input pictures, each through its own camera, beside the
        noisy views, into so many channels: their mean (pixel-aligned conditioning and average
        pooling as in pixelNeRF, arXiv 2012.02190; not in the published model, which has 0).
    view_width, photo_width: channels inside the encoders of noisy views and photos; default: as
        many as their features.
    finer: the lifted features' side / the latents' side.
    offset: of pixel centers; the published weights expect 0, 0.5 is exact.
    known_geometry: remember where the grid projects to, as in `FrustumNet`.
    """

    known_geometry = True

    def __init__(
        self,
        *,
        latent_channels: int,
        views: int,
        side: int,
        bound: float,
        features: int,
        dims: Sequence[int],
        frustum_dims: Sequence[int],
        planes: int,
        radius: float,
        time_dim: int,
        pose_dim: int = 4,
        level_blocks: int = 2,
        frustum_blocks: int = 1,
        photo_features: int = 0,
        view_width: int | None = None,
        photo_width: int | None = None,
        finer: int = 1,
        offset: float = 0.5,
    ) -> None:
        super().__init__()
        self._check(side, planes, dims, frustum_dims, bound, radius)
        self.views, self.side, self.bound, self.offset = views, side, bound, offset
        self.finer, self.channels = finer, dims[0]
        given = (time_dim, pose_dim, 3)
        self.encoder = ViewEncoder(latent_channels, features, *given, view_width, finer)
        self.photo_encoder = (
            ViewEncoder(latent_channels, photo_features, *given, photo_width, finer)
            if photo_features
            else None
        )
        self.features, self.photo_features = features, photo_features
        self.net = UNet3D(
            self.joined_channels(features) + photo_features,
            dims,
            time_dim,
            level_blocks=level_blocks,
        )
        self.frustum_net = FrustumNet(
            dims[0],
            frustum_dims,
            planes,
            radius,
            bound,
            time_dim,
            pose_dim,
            frustum_blocks,
            offset,
        )
        self.frustum_channels = self.frustum_net.channels

    def _check(
        self,
        side: int,
        planes: int,
        dims: Sequence[int],
        frustum_dims: Sequence[int],
        bound: float,
        radius: float,
    ) -> None:
        if not dims or not frustum_dims or not (0 < bound < math.inf and 0 < radius < math.inf):
            raise ConfigError(
                f"volume '{self.name}' needs at least one level in dims and frustum_dims, and "
                f"bound and radius > 0; got {list(dims)}, {list(frustum_dims)}, {bound}, {radius}"
            )
        coarsest, thinnest = 2 ** (len(dims) - 1), 2 ** (len(frustum_dims) - 1)
        if side < 1 or planes < 1 or side % coarsest or planes % thinnest:
            raise ConfigError(
                f"volume '{self.name}' halves its grid {len(dims) - 1} times: side must be a "
                f"multiple of {coarsest}, and planes a multiple of {thinnest}, got side {side} "
                f"and planes {planes}"
            )

    @abstractmethod
    def joined_channels(self, features: int) -> int:
        """Channels that `join` makes of so many a view."""

    def views_of(self, channels: int) -> int | None:
        """How many views weights for so many joined channels are for; None: not told by that."""
        return None

    @abstractmethod
    def join(
        self,
        features: Float[Tensor, "batch view channel height width"],
        cameras: Cameras,
        points: Float[Tensor, "plane row column 3"],
    ) -> Float[Tensor, "batch joined plane row column"]:
        """Lift the views' features to the grid's points and make one volume of them."""

    @property
    def grid_name(self) -> tuple[int, float] | None:
        """What `lift` knows the grid's points as; None where they are to be projected anew."""
        if not self.known_geometry or torch.is_grad_enabled():
            return None
        return self.side, self.bound

    def encode(self, inputs: VolumeInputs) -> Float[Tensor, "batch view feature height width"]:
        """Features of every noisy view."""
        views = inputs.latents.shape[1]
        features = self.encoder(
            rearrange(inputs.latents, "b v ... -> (b v) ..."),
            repeat(inputs.time, "b t -> (b v) t", v=views),
            rearrange(inputs.pose, "b v e -> (b v) e"),
        )
        return rearrange(features, "(b v) ... -> b v ...", v=views)

    def build(self, inputs: VolumeInputs) -> Float[Tensor, "batch channel depth height width"]:
        points = grid_points(self.side, self.bound, inputs.latents)
        side = inputs.cameras.height * self.finer
        lifted = self.join(self.encode(inputs), inputs.cameras.resize(side), points)
        if self.photo_encoder is not None:
            features = self._photo_features(inputs)
            cameras = inputs.photo_cameras.resize(side)
            photos = lift(features, cameras, points, self.offset, known_as=self.grid_name)
            lifted = torch.cat([lifted, photos.mean(dim=1)], dim=1)
        return self.net(lifted, inputs.time)[0]

    def _photo_features(
        self, inputs: VolumeInputs
    ) -> Float[Tensor, "batch photo feature height width"]:
        batch, count = inputs.photos.shape[:2]
        features = self.photo_encoder(
            rearrange(inputs.photos, "b p ... -> (b p) ..."),
            repeat(inputs.time, "b t -> (b p) t", p=count),
            inputs.pose.new_zeros(batch * count, inputs.pose.shape[-1]),
        )
        return rearrange(features, "(b p) ... -> b p ...", p=count)

    def frusta(
        self,
        volume: Float[Tensor, "batch channel depth height width"],
        cameras: Cameras,
        time: Float[Tensor, "batch time"],
        pose: Float[Tensor, "batch view pose"],
    ) -> Frusta:
        return self.frustum_net(volume, cameras, time, pose)
