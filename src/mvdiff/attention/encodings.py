"""Cameras encoded in queries, keys and values, so that attention depends on relative poses.

An encoding gives every token t an invertible matrix D_t that depends on its camera and its pixel:

    q′ᵢ = D_iᵀ q_i,   k′ⱼ = D_j⁻¹ k_j,   so that the logits are   q_iᵀ (D_i D_j⁻¹) k_j

and, where values take part (GTA: Miyato et al., arXiv 2310.10375),

    o_i = D_i Σⱼ a_ij D_j⁻¹ v_j .

D is block-diagonal: the blocks repeat along the channels of a head. Where the blocks of cameras
are P_i = (camera i from world), a motion G of the world makes P_i G⁻¹ of them, and P_i P_j⁻¹ stays.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..cameras.camera import Cameras
from ..errors import ConfigError


@dataclass(frozen=True)
class Tokens:
    """Where tokens stand: in which view, at which pixel of the feature map.

    Both broadcast against the tokens' axes, (*batch, head, token); `view` may be a single number.
    view: position of the token's camera among the cameras at hand.
    column, row: of the pixel's center in a map of the attention's resolution, 0 for the first
        pixel; between pixels for tokens that are sampled or means of several.
    """

    view: Int[Tensor, "..."]
    column: Float[Tensor, "..."]
    row: Float[Tensor, "..."]


def pixel_tokens(views: int, height: int, width: int, like: Tensor) -> Tokens:
    """The pixels of all views as tokens in the order (view, row, column).

    like: a tensor of the device and the precision for positions.
    """
    count = height * width
    dtype = like.dtype if like.dtype == torch.float64 else torch.float32
    index = torch.arange(views * count, device=like.device)
    pixel = index % count
    row = torch.div(pixel, width, rounding_mode="floor")
    return Tokens(index // count, (pixel % width).to(dtype), row.to(dtype))


@dataclass(frozen=True)
class MatrixBlocks:
    """4 × 4 blocks along `channels` channels: D and its inverse, for every token."""

    channels: int
    matrix: Float[Tensor, "... 4 4"]
    inverse: Float[Tensor, "... 4 4"]

    def apply(self, x: Tensor, how: str) -> Tensor:
        # rows from the left: x D^T is D x
        matrix = {"D": self.matrix.mT, "D^T": self.matrix, "D^-1": self.inverse.mT}[how]
        return (x.unflatten(-1, (-1, 4)) @ matrix).flatten(-2)


@dataclass(frozen=True)
class RotationBlocks:
    """Rotations by `angle` in planes of two channels: D = R(angle) [cos −sin; sin cos].

    interleaved: planes of neighboring channels (0, 1), (2, 3), …; otherwise channel i of the first
        half with channel i of the second one.
    """

    channels: int
    angle: Float[Tensor, "... plane"]
    interleaved: bool

    def apply(self, x: Tensor, how: str) -> Tensor:
        cos, sin = self.angle.cos(), self.angle.sin()
        if how != "D":  # the transposed and the inverse of a rotation are one
            sin = -sin
        pairs = x.unflatten(-1, (-1, 2) if self.interleaved else (2, -1))
        axis = -1 if self.interleaved else -2
        first, second = pairs.unbind(axis)
        turned = (cos * first - sin * second, sin * first + cos * second)
        return torch.stack(turned, dim=axis).flatten(-2)


Blocks = Sequence[MatrixBlocks | RotationBlocks]


class CameraEncoding(ABC):
    """Gives the blocks of D for tokens.

    name: of the pose variant, for messages. multiple: divides the channels of a head.
    values: whether values and results are encoded, too.
    """

    name: str
    multiple: int
    values: bool

    @abstractmethod
    def blocks(self, cameras: Cameras, tokens: Tokens, width: int) -> Blocks:
        """D of every token, for heads of `width` channels.

        cameras: of the views at hand, at any resolution.
        """

    def check(self, width: int, variant: str) -> None:
        """Raise ConfigError unless heads of `width` channels hold whole blocks.

        variant: of the attention, for the message.
        """
        if width % self.multiple:
            raise ConfigError(
                f"pose '{self.name}' needs heads whose channels are a multiple of {self.multiple}, "
                f"but those of attention '{variant}' have {width}: change attention.heads or the "
                "UNet's width"
            )


def transform(x: Float[Tensor, "*batch channel"], blocks: Blocks, how: str) -> Tensor:
    """Tokens times D, Dᵀ or D⁻¹ ("D", "D^T", "D^-1"), in at least float32; their type is kept."""
    exact = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        parts = x.to(exact).split([b.channels for b in blocks], dim=-1)
        made = [b.apply(part, how) for b, part in zip(blocks, parts, strict=True)]
        return torch.cat(made, dim=-1).to(x.dtype)


class PRoPE(CameraEncoding):
    """PRoPE, projective positional encoding (Li et al., arXiv 2507.10496).

    D_t = diag(I ⊗ P̃_i, RoPE(column), RoPE(row)) on d/2, d/4 and d/4 of a head's d channels.
    P̃_i is the 4 × 4 projection matrix of the token's camera, image from world: [K_i 0; 0 1] times
    the world-to-camera matrix, with K in units of the picture's sides and (0, 0) at its center, as
    in the authors' code. Values and results are encoded, too (GTA's form). The rotations have the
    frequencies base^(−m / (d/8)) per pixel of the feature map, m = 0, …, d/8 − 1.

    Orthographic cameras are not in the paper: their image (u, v) = f (x, y) + c, so that c stands
    in the column of the translation.

    base: of the frequencies.
    """

    name, multiple, values = "prope", 8, True

    def __init__(self, base: float = 100.0) -> None:
        if not (math.isfinite(base) and base > 0):
            raise ConfigError(f"pose 'prope' needs a base of frequencies above 0, got {base}")
        self.base = base

    def blocks(self, cameras: Cameras, tokens: Tokens, width: int) -> Blocks:
        matrices = projection_matrices(cameras)
        count = width // 8
        steps = torch.arange(count, dtype=tokens.row.dtype, device=tokens.row.device) / count
        frequencies = self.base**-steps
        return (
            _per_token(width // 2, matrices, tokens),
            RotationBlocks(width // 4, tokens.column[..., None] * frequencies, interleaved=False),
            RotationBlocks(width // 4, tokens.row[..., None] * frequencies, interleaved=False),
        )


class CaPE6(CameraEncoding):
    """CaPE, camera positional encoding, with 6 degrees of freedom (EscherNet, arXiv 2402.03908).

    q′ = (I ⊗ P⁻¹) q and k′ = (I ⊗ Pᵀ) k with the world-to-camera matrix P (4 × 4, world units) on
    all channels: D = I ⊗ P⁻ᵀ, and the logits are qᵀ (P_j P_i⁻¹)ᵀ k. Values are left alone. The axes
    are OpenCV's: others are a constant change of the channels, which the weights can learn.
    """

    name, multiple, values = "cape", 4, False

    def blocks(self, cameras: Cameras, tokens: Tokens, width: int) -> Blocks:
        return (_per_token(width, torch.linalg.inv(_w2c(cameras)).mT, tokens),)


class CaPE4(CameraEncoding):
    """CaPE, camera positional encoding, with 4 degrees of freedom (EscherNet, arXiv 2402.03908).

    For cameras that look at the origin. Four quarters of a head's channels are rotated by the
    polar angle (from +z), the azimuth, π (ln r − ln near) / (ln far − ln near) with the distance r
    clipped to [near, far], and 0: D = R(−angle), neighboring channels together. The logits depend
    on differences of angles: they stay when all cameras turn about z, but not under other motions.

    near, far: distances, world units.
    """

    name, multiple, values = "cape", 8, False

    def __init__(self, near: float, far: float) -> None:
        if not 0 < near < far < math.inf:
            raise ConfigError(f"pose 'cape' needs 0 < near < far, got near={near} and far={far}")
        self.near, self.far = near, far

    def blocks(self, cameras: Cameras, tokens: Tokens, width: int) -> Blocks:
        x, y, z = cameras.centers.unbind(-1)
        across = torch.hypot(x, y)
        distance = torch.hypot(across, z).clamp(self.near, self.far)
        share = (distance / self.near).log() / math.log(self.far / self.near)
        angles = [torch.atan2(across, z), torch.atan2(y, x), math.pi * share, torch.zeros_like(x)]
        planes = torch.stack(angles, dim=-1).repeat_interleave(width // 8, dim=-1)
        return (RotationBlocks(width, -planes[tokens.view], interleaved=True),)


def projection_matrices(cameras: Cameras) -> Float[Tensor, "camera 4 4"]:
    """Image from world, 4 × 4: the picture spans [−½, ½]² whatever its size; depth is kept."""
    sides = cameras.K.new_tensor([cameras.width, cameras.height])
    lifted = torch.eye(4, dtype=cameras.K.dtype, device=cameras.K.device)
    lifted = lifted.repeat(len(cameras), 1, 1)
    lifted[:, :2, :2] = cameras.K[:, :2, :2] / sides[:, None]
    column = 3 if cameras.projection == "orthographic" else 2
    lifted[:, :2, column] = cameras.K[:, :2, 2] / sides - 0.5
    with torch.autocast(lifted.device.type, enabled=False):
        return lifted @ _w2c(cameras)


def _w2c(cameras: Cameras) -> Float[Tensor, "camera 4 4"]:
    last = cameras.w2c.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(cameras), 1, 4)
    return torch.cat([cameras.w2c, last], dim=1)


def _per_token(channels: int, matrices: Tensor, tokens: Tokens) -> MatrixBlocks:
    inverse = torch.linalg.inv(matrices)
    return MatrixBlocks(channels, matrices[tokens.view], inverse[tokens.view])
