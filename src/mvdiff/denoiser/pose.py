"""Pose component: how the cameras of the views reach the network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..cameras.camera import Cameras
from ..cameras.rigs import to_spherical
from ..errors import ConfigError
from ..registry import Registry

POSES = Registry("pose")


@dataclass(frozen=True)
class PoseFeatures:
    """What a pose encoder gives the network, per view; None where it gives nothing there.

    token: four numbers beside the image's embedding in the context token; None: zeros.
    time: added to the UNet's embedding of the noise level.
    """

    token: Float[Tensor, "batch view 4"] | None = None
    time: Float[Tensor, "batch view time"] | None = None


def join_poses(first: PoseFeatures, second: PoseFeatures) -> PoseFeatures:
    """The features of some views and of others, in this order."""
    pairs = ((first.token, second.token), (first.time, second.time))
    return PoseFeatures(*(None if pair[0] is None else torch.cat(pair, dim=1) for pair in pairs))


class PoseEncoder(nn.Module, ABC):
    """Encodes the poses of the target views.

    reads_elevation: whether the input image's elevation changes what it gives.

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
        self.net = nn.Sequential(nn.Linear(16, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim))
        nn.init.zeros_(self.net[-1].weight)  # a new one changes nothing at first
        nn.init.zeros_(self.net[-1].bias)

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
