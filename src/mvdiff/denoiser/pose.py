"""Pose component: how the cameras of the views reach the network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..attention.base import ATTENTION, PairwiseAttention
from ..attention.encodings import CameraEncoding, CaPE4, CaPE6, PRoPE
from ..cameras.cache import CameraCache
from ..cameras.camera import Cameras
from ..cameras.rigs import to_spherical
from ..errors import ConfigError
from ..registry import Registry

if TYPE_CHECKING:
    from .unet import MultiViewUNet

POSES = Registry("pose")

_rays = CameraCache()


@dataclass(frozen=True)
class PoseFeatures:
    """What a pose encoder gives the network; None where it gives nothing there.

    token: four numbers beside the image's embedding in the context token; None: zeros.
    time: added to the UNet's embedding of the noise level.
    maps: what is added to the features of a block of the UNet, see `MultiViewUNet.forward`.
    encoding: of queries and keys in view attention, see `PairwiseAttention`.
    """

    token: Float[Tensor, "batch view 4"] | None = None
    time: Float[Tensor, "batch view time"] | None = None
    maps: Callable[[str, int, int], Tensor] | None = None
    encoding: CameraEncoding | None = None


def join_poses(first: PoseFeatures, second: PoseFeatures) -> PoseFeatures:
    """Tokens and time embeddings of one set of views followed by those of another."""
    pairs = ((first.token, second.token), (first.time, second.time))
    return PoseFeatures(*(None if pair[0] is None else torch.cat(pair, dim=1) for pair in pairs))


class PoseEncoder(nn.Module, ABC):
    """Encodes the poses of the target views.

    reads_elevation: whether the input image's elevation changes what it gives.
    acts_in_blocks: whether it gives `maps` or an `encoding`, which the clean reference view
        (`reference=view`) cannot have.

    Example:
        >>> import torch
        >>> from mvdiff.cameras import ring
        >>> from mvdiff.denoiser.pose import POSES
        >>> encoder = POSES["camera_matrix"](time_dim=64)
        >>> relative = torch.zeros(1, 4, 4)
        >>> encoder(relative, ring(4), ring(1)).time.shape
        torch.Size([1, 4, 64])
    """

    reads_elevation: bool = True
    acts_in_blocks: bool = False

    def connect(self, unet: MultiViewUNet | None) -> None:
        """Called once with the UNet that the features go to: make layers for its blocks, or raise
        ConfigError where the poses cannot reach it."""

    @abstractmethod
    def forward(
        self,
        relative: Float[Tensor, "batch view 4"],
        cameras: Cameras,
        input_cameras: Cameras,
    ) -> PoseFeatures:
        """Features of every view.

        relative: (elevation of the input − of the target, sine and cosine of the target's azimuth
            minus the front's, 0), radians.
        cameras: of the views, shared by the batch, or batch · view of them, object by object.
        input_cameras: of each object's first input image.
        """

    def of_reference(self, input_cameras: Cameras) -> PoseFeatures:
        """Features of the clean reference view among the noisy ones (`reference=view`).

        By default those of a target at the input image's camera.
        """
        same = input_cameras.R.new_tensor([0.0, 0.0, 1.0, 0.0]).expand(len(input_cameras), 1, 4)
        return self(same, input_cameras, input_cameras)


@POSES.register("token")
class TokenPose(PoseEncoder):
    """Four numbers beside the image's embedding (Zero123, arXiv 2303.11328, section 3.2).

    first: the elevation's change, radians: "input-target" (the input's minus the target's, as
        Zero123 learned it), or "target-input" (as EpiDiff's released code has it).
    fourth: the fourth number: "none" is 0 (SyncDreamer); "distance" the target's distance minus
        the input's, world units (Zero123, Zero123-XL); "polar" the input's polar angle in radians,
        whatever the target (Stable-Zero123).
    """

    def __init__(self, time_dim: int, fourth: str = "none", first: str = "input-target") -> None:
        super().__init__()
        for setting, value, choices in (
            ("fourth", fourth, ("none", "distance", "polar")),
            ("first", first, ("input-target", "target-input")),
        ):
            if value not in choices:
                raise ConfigError(
                    f"unknown pose.{setting} '{value}'; choose from {', '.join(choices)}"
                )
        self.fourth, self.first = fourth, first

    def forward(
        self,
        relative: Float[Tensor, "batch view 4"],
        cameras: Cameras,
        input_cameras: Cameras,
    ) -> PoseFeatures:
        if self.first == "target-input":
            relative = relative * relative.new_tensor([-1.0, 1.0, 1.0, 1.0])
        if self.fourth == "none":
            return PoseFeatures(token=relative)
        _, elevation, distance = to_spherical(input_cameras)
        if self.fourth == "polar":
            fourth = (math.pi / 2 - elevation)[:, None].expand(relative.shape[:2])
        else:
            targets = to_spherical(cameras)[2].reshape(-1, relative.shape[1])
            fourth = targets - distance[:, None]
        return PoseFeatures(token=torch.cat([relative[..., :3], fourth[..., None]], dim=-1))


@POSES.register("camera_matrix")
class CameraMatrixPose(PoseEncoder):
    """A network's embedding of each camera's matrix, added to that of the noise level.

    MVDream (arXiv 2308.16512, section 3.2, and its released code): 16 numbers, the camera-to-world
    matrix row by row, with OpenGL axes (right, up, backward), z up, the front at +x and unit
    distance; two linear layers with SiLU between them.

    The clean reference view, where there is one, has 16 zeros (ImageDream, arXiv 2312.02201).

    time_dim: of the UNet's embedding of the noise level.
    """

    reads_elevation = False

    def __init__(self, time_dim: int) -> None:
        super().__init__()
        self.net = _embedding_mlp(16, time_dim)

    def forward(
        self,
        relative: Float[Tensor, "batch view 4"],
        cameras: Cameras,
        input_cameras: Cameras,
    ) -> PoseFeatures:
        front = to_spherical(input_cameras)[0]
        matrices = camera_matrices(cameras).reshape(-1, relative.shape[1], 4, 4)
        turned = _turn_about_z(-front).to(matrices)[:, None] @ matrices
        dtype = self.net[0].weight.dtype
        return PoseFeatures(time=self.net(turned.flatten(-2).to(dtype)))

    def of_reference(self, input_cameras: Cameras) -> PoseFeatures:
        zeros = self.net[0].weight.new_zeros(len(input_cameras), 1, 16)
        return PoseFeatures(time=self.net(zeros))


@POSES.register("none")
class NoPose(PoseEncoder):
    """The network is not told where the cameras stand."""

    reads_elevation = False

    def __init__(self, time_dim: int) -> None:
        super().__init__()

    def forward(
        self,
        relative: Float[Tensor, "batch view 4"],
        cameras: Cameras,
        input_cameras: Cameras,
    ) -> PoseFeatures:
        return PoseFeatures()


@POSES.register("sincos")
class SinCosPose(PoseEncoder):
    """Sines and cosines of each view's angles, embedded and added to the noise level's embedding.

    Wonder3D (arXiv 2310.15008, as in its released code): of five numbers (0, polar
    angle of the view minus that of the input, azimuth minus that of the input, is a normal map, is
    a color picture), in radians, the five sines and then the five cosines; two linear layers with
    SiLU between them. The views here are color pictures: the last two numbers are 0 and 1.

    time_dim: of the UNet's embedding of the noise level.
    """

    def __init__(self, time_dim: int) -> None:
        super().__init__()
        self.net = _embedding_mlp(10, time_dim)

    def forward(
        self,
        relative: Float[Tensor, "batch view 4"],
        cameras: Cameras,
        input_cameras: Cameras,
    ) -> PoseFeatures:
        dtype = self.net[0].weight.dtype
        return PoseFeatures(time=self.net(sines_and_cosines(relative).to(dtype)))


@POSES.register("plucker")
class PluckerPose(PoseEncoder):
    """Plücker coordinates of every pixel's ray, projected and added to the features of all blocks.

    Six numbers a pixel, direction d and moment o × d of its ray (Sitzmann et al., Light Field
    Networks, arXiv 2106.02634, section 3; as a camera's input map in LVSM, arXiv 2410.17242), in
    the world turned about z so that the input image's camera stands at azimuth 0. Each block of
    the UNet has a 1×1 convolution of its own from rays at its resolution to its channels.
    """

    acts_in_blocks = True

    def __init__(self, time_dim: int) -> None:
        super().__init__()
        self.to_block = nn.ModuleDict()

    def connect(self, unet: MultiViewUNet | None) -> None:
        """Make a projection for each block of the UNet, zero at first: it changes nothing."""
        if unet is None:
            raise ConfigError(
                "pose 'plucker' adds rays to the UNet's features, and here is no UNet: choose "
                "another unet, or pose=none"
            )
        for site, channels in unet.block_channels.items():
            self.to_block[site] = nn.Conv2d(6, channels, 1)
            nn.init.zeros_(self.to_block[site].weight)
            nn.init.zeros_(self.to_block[site].bias)

    def forward(
        self,
        relative: Float[Tensor, "batch view 4"],
        cameras: Cameras,
        input_cameras: Cameras,
    ) -> PoseFeatures:
        batch, views = relative.shape[:2]
        turn = _turn_about_z(-to_spherical(input_cameras)[0])[:, None, :3, :3]

        def maps(site: str, height: int, width: int) -> Tensor:
            rays = _rays(
                (height, width), cameras, lambda cameras: cameras.resize(height, width).pluecker()
            )
            rays = rays.unflatten(0, (-1, views)).unflatten(2, (2, 3))
            rays = torch.einsum(
                "bvij,bvnjhw->bvnihw", turn.to(rays), rays.expand(batch, -1, *rays.shape[2:])
            )
            projection = self.to_block[site]
            return projection(rays.flatten(2, 3).flatten(0, 1).to(projection.weight.dtype))

        return PoseFeatures(maps=maps)


class EncodedPose(PoseEncoder):
    """Poses in the queries and keys of view attention: no parameters, no other way in.

    encoding: of the cameras.
    """

    acts_in_blocks = True

    def __init__(self, encoding: CameraEncoding) -> None:
        super().__init__()
        self.encoding = encoding

    def connect(self, unet: MultiViewUNet | None) -> None:
        """Raise ConfigError unless every view attention compares queries and keys across cameras
        and has heads that hold the encoding's blocks."""
        slots = {} if unet is None else unet.slots
        name = self.encoding.name
        if not slots:
            raise ConfigError(
                f"pose '{name}' acts in view attention, and this model has none: choose an "
                "attention (attention=joint), or another pose (pose=token)"
            )
        for slot in slots.values():
            if not isinstance(slot, PairwiseAttention):
                variant = next(
                    (n for n in ATTENTION if ATTENTION[n] is type(slot)), type(slot).__name__
                )
                raise ConfigError(
                    f"pose '{name}' acts on queries and keys of different cameras, which attention "
                    f"'{variant}' does not compare: choose attention=joint, "
                    "crossview, rowwise, epipolar or epipolar_mask, or another pose (pose=token)"
                )
            self.encoding.check(slot.head_channels, slot.variant)

    def forward(
        self,
        relative: Float[Tensor, "batch view 4"],
        cameras: Cameras,
        input_cameras: Cameras,
    ) -> PoseFeatures:
        return PoseFeatures(encoding=self.encoding)


@POSES.register("prope")
class PropePose(EncodedPose):
    """Relative projections between cameras and rotations by pixel, see `PRoPE` (2507.10496)."""

    def __init__(self, time_dim: int, base: float = 100.0) -> None:
        super().__init__(PRoPE(base))


@POSES.register("cape")
class CapePose(EncodedPose):
    """Relative poses of cameras, see `CaPE6` and `CaPE4` (EscherNet, arXiv 2402.03908).

    dof: 6 for any poses, 4 for cameras that look at the origin. near, far: see `CaPE4`; without
        effect on dof=6.
    """

    def __init__(self, time_dim: int, dof: int = 6, near: float = 1.5, far: float = 2.2) -> None:
        if dof not in (4, 6):
            raise ConfigError(f"pose.dof of pose 'cape' must be 4 or 6, got {dof}")
        super().__init__(CaPE6() if dof == 6 else CaPE4(near, far))


def _embedding_mlp(inputs: int, time_dim: int) -> nn.Sequential:
    """Numbers of a camera → what is added to the noise level's embedding: zeros at first."""
    net = nn.Sequential(nn.Linear(inputs, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim))
    nn.init.zeros_(net[-1].weight)
    nn.init.zeros_(net[-1].bias)
    return net


def sines_and_cosines(relative: Float[Tensor, "batch view 4"]) -> Float[Tensor, "batch view 10"]:
    """Wonder3D's ten numbers of color views, from relative angles as `PoseEncoder` gets them."""
    polar, sine, cosine = relative[..., 0], relative[..., 1], relative[..., 2]
    zero, one = torch.zeros_like(polar), torch.ones_like(polar)
    sines = [zero, polar.sin(), sine, zero, one.sin()]
    cosines = [one, polar.cos(), cosine, one, one.cos()]
    return torch.stack(sines + cosines, dim=-1)


def camera_matrices(cameras: Cameras) -> Float[Tensor, "camera 4 4"]:
    """Camera-to-world matrices with OpenGL axes, their translation scaled to length 1."""
    rotation = cameras.R.mT * cameras.R.new_tensor([1.0, -1.0, -1.0])
    center = -cameras.R.mT @ cameras.t[..., None]
    center = center / (center.norm(dim=-2, keepdim=True) + 1e-8)
    last = center.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(center), 1, 4)
    return torch.cat([torch.cat([rotation, center], dim=-1), last], dim=-2)


def _turn_about_z(angle: Float[Tensor, "batch"]) -> Float[Tensor, "batch 4 4"]:
    turn = torch.eye(4, dtype=angle.dtype, device=angle.device).repeat(len(angle), 1, 1)
    turn[:, 0, 0] = turn[:, 1, 1] = angle.cos()
    turn[:, 1, 0], turn[:, 0, 1] = angle.sin(), -angle.sin()
    return turn
