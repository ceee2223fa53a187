"""The camera convention of the whole library, and the only place that implements it.

World: right-handed, z up. Camera: OpenCV, x right, y down, z forward.
`w2c = [R|t]` takes world points to camera points: `x_cam = R x_world + t`.
Pixels: `u` right, `v` down, in pixels; the image spans [0, width] × [0, height] and the
center of the top-left pixel is (0.5, 0.5).
Perspective: `u = fx x/z + cx`. Orthographic: `u = fx x + cx`, with `fx` in pixels per
world unit. Depth is the camera's z in both cases, not the length of the ray.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError

Projection = Literal["perspective", "orthographic"]


def _exact(method: Callable[..., Any]) -> Callable[..., Any]:
    """Keeps a method's products of matrices out of autocast: in bfloat16, pixels would be off."""

    @functools.wraps(method)
    def exact(self: Cameras, *args: Any, **kwargs: Any) -> Any:
        with torch.autocast(self.K.device.type, enabled=False):
            return method(self, *args, **kwargs)

    return exact


@dataclass(frozen=True, eq=False)
class Cameras:
    """A set of cameras that share an image size and a projection.

    K: intrinsics, in pixels.
    w2c: world to camera, `[R|t]`.
    height, width: of the image, in pixels.
    projection: "perspective" or "orthographic".
    `==` compares all numbers and gives a bool; sets are hashed by their size and projection.
    Raises InputError for anything but dense tensors of finite numbers on a real device.

    Example:
        >>> import torch
        >>> from mvdiff.cameras import ring
        >>> cameras = ring(16, elevation=30, size=256)
        >>> cameras.K.shape, cameras.w2c.shape
        (torch.Size([16, 3, 3]), torch.Size([16, 3, 4]))
        >>> pixels, depth = cameras.project(torch.zeros(1, 3))  # the origin, in every camera
        >>> pixels.shape, depth.shape
        (torch.Size([16, 1, 2]), torch.Size([16, 1]))
        >>> pixels[0].round().tolist()
        [[128.0, 128.0]]
    """

    K: Float[Tensor, "view 3 3"]
    w2c: Float[Tensor, "view 3 4"]
    height: int
    width: int
    projection: Projection = "perspective"

    def __post_init__(self) -> None:
        check_dense("cameras' K", self.K)
        check_dense("cameras' w2c", self.w2c)
        if self.K.shape[1:] != (3, 3) or self.w2c.shape != (self.K.shape[0], 3, 4):
            raise InputError(
                "cameras need K of shape (view, 3, 3) and w2c of shape (view, 3, 4); "
                f"got {tuple(self.K.shape)} and {tuple(self.w2c.shape)}"
            )
        if self.projection not in ("perspective", "orthographic"):
            raise InputError(
                f"projection must be 'perspective' or 'orthographic', got '{self.projection}'"
            )
        for name, side in (("height", self.height), ("width", self.width)):
            if isinstance(side, bool) or not isinstance(side, int) or side < 1:
                raise InputError(f"cameras need a whole {name} of 1 pixel or more, got {side!r}")
        if not (torch.isfinite(self.K).all() and torch.isfinite(self.w2c).all()):
            raise InputError("cameras contain NaN or infinite numbers: check poses and intrinsics")

    def __len__(self) -> int:
        return self.K.shape[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cameras):
            return NotImplemented
        own = self.height, self.width, self.projection
        return (
            own == (other.height, other.width, other.projection)
            and same_tensor(self.K, other.K)
            and same_tensor(self.w2c, other.w2c)
        )

    def __hash__(self) -> int:
        return hash((len(self), self.height, self.width, self.projection))

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Cameras:
        """The chosen cameras, always as a set: `cameras[3]` has length 1."""
        chosen = as_view_index(index)
        return replace(self, K=self.K[chosen], w2c=self.w2c[chosen])

    def to(self, *args: object, **kwargs: object) -> Cameras:
        """Move or cast the tensors; arguments as for `Tensor.to`."""
        return replace(self, K=self.K.to(*args, **kwargs), w2c=self.w2c.to(*args, **kwargs))

    @staticmethod
    def cat(sets: list[Cameras]) -> Cameras:
        """One set from several of equal size and projection."""
        first = sets[0]
        for other in sets[1:]:
            if (other.height, other.width, other.projection) != (
                first.height,
                first.width,
                first.projection,
            ):
                raise InputError("cannot join cameras of different image size or projection")
        K, w2c = torch.cat([s.K for s in sets]), torch.cat([s.w2c for s in sets])
        return replace(first, K=K, w2c=w2c)

    def resize(self, height: int, width: int | None = None) -> Cameras:
        """The same cameras for images of another size (a latent's, say)."""
        width = height if width is None else width
        scale = self.K.new_tensor([width / self.width, height / self.height, 1.0])
        return replace(self, K=self.K * scale[:, None], height=height, width=width)

    @property
    def R(self) -> Float[Tensor, "view 3 3"]:
        """World-to-camera rotations; rows are the camera's right, down and forward."""
        return self.w2c[:, :, :3]

    @property
    def t(self) -> Float[Tensor, "view 3"]:
        return self.w2c[:, :, 3]

    @property
    @_exact
    def centers(self) -> Float[Tensor, "view 3"]:
        """Camera centers in the world."""
        return -torch.einsum("vji,vj->vi", self.R, self.t)

    @property
    def c2w(self) -> Float[Tensor, "view 4 4"]:
        """Camera to world, 4×4, OpenCV axes."""
        bottom = self.w2c.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(self), 1, 4)
        return torch.linalg.inv(torch.cat([self.w2c, bottom], dim=1))

    @property
    def fov_y(self) -> float:
        """Vertical field of view of the first camera, degrees (perspective only)."""
        return math.degrees(2 * math.atan(self.height / 2 / float(self.K[0, 1, 1])))

    @_exact
    def project(
        self, points: Float[Tensor, "*points 3"]
    ) -> tuple[Float[Tensor, "view *points 2"], Float[Tensor, "view *points"]]:
        """World points into every camera: pixel coordinates and depth.

        For perspective cameras, points with depth ≤ 0 are behind the camera; their pixel
        coordinates mean nothing and must be masked by the caller.
        """
        flat = points.reshape(-1, 3)
        cam = torch.einsum("vij,pj->vpi", self.R, flat) + self.t[:, None]
        depth = cam[..., 2]
        if self.projection == "perspective":
            cam = cam / _away_from_zero(depth)[..., None]
        uv = torch.einsum("vij,vpj->vpi", self.K[:, :2, :2], cam[..., :2])
        uv = uv + self.K[:, None, :2, 2]
        shape = (len(self), *points.shape[:-1])
        return uv.reshape(*shape, 2), depth.reshape(shape)

    @_exact
    def unproject(
        self, uv: Float[Tensor, "view *points 2"], depth: Float[Tensor, "view *points"]
    ) -> Float[Tensor, "view *points 3"]:
        """Pixel coordinates at a depth, camera by camera, to world points."""
        shape = uv.shape
        uv, depth = uv.reshape(len(self), -1, 2), depth.reshape(len(self), -1, 1)
        inverse = torch.linalg.inv(self.K[:, :2, :2])
        xy = torch.einsum("vij,vpj->vpi", inverse, uv - self.K[:, None, :2, 2])
        if self.projection == "perspective":
            xy = xy * depth
        cam = torch.cat([xy, depth], dim=-1) - self.t[:, None]
        return torch.einsum("vji,vpj->vpi", self.R, cam).reshape(*shape[:-1], 3)

    def pixel_grid(self, offset: float = 0.5) -> Float[Tensor, "height width 2"]:
        """(u, v) of every pixel; `offset=0.5` gives pixel centers."""
        v, u = torch.meshgrid(
            torch.arange(self.height, dtype=self.K.dtype, device=self.K.device) + offset,
            torch.arange(self.width, dtype=self.K.dtype, device=self.K.device) + offset,
            indexing="ij",
        )
        return torch.stack([u, v], dim=-1)

    def rays(
        self, offset: float = 0.5
    ) -> tuple[Float[Tensor, "view height width 3"], Float[Tensor, "view height width 3"]]:
        """One ray a pixel: origins and unit directions in the world.

        Perspective rays start at the camera's center, orthographic ones on the plane of
        depth 0.
        """
        uv = self.pixel_grid(offset).expand(len(self), -1, -1, -1)
        zero = uv.new_zeros(uv.shape[:-1])
        if self.projection == "orthographic":
            origins = self.unproject(uv, zero)
            directions = self.R[:, None, None, 2].expand_as(origins)
            return origins, directions
        origins = self.centers[:, None, None].expand(*uv.shape[:-1], 3)
        directions = self.unproject(uv, zero + 1) - origins
        return origins, torch.nn.functional.normalize(directions, dim=-1)

    def pluecker(self, offset: float = 0.5) -> Float[Tensor, "view 6 height width"]:
        """Plücker coordinates of every pixel's ray: direction d, then moment o × d."""
        origins, directions = self.rays(offset)
        moment = torch.linalg.cross(origins, directions)
        return torch.cat([directions, moment], dim=-1).permute(0, 3, 1, 2)


def check_dense(name: str, value: object) -> None:
    """Raise InputError unless a value is a dense tensor that holds numbers."""
    if not isinstance(value, Tensor):
        raise InputError(f"{name} must be a torch tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_meta:
        kind = "a meta tensor, which holds no numbers" if value.is_meta else "a sparse tensor"
        raise InputError(f"{name} must be a dense tensor, got {kind}")


def as_view_index(index: object) -> Any:
    """An index along the axis of views that keeps it: slices and tensors as they are, numbers as
    lists. Raises InputError for anything else."""
    if isinstance(index, Integral):
        return [int(index)]
    if isinstance(index, list | tuple | range) and all(isinstance(i, Integral) for i in index):
        return list(index)
    if isinstance(index, slice | Tensor | np.ndarray):
        return index
    raise InputError(f"views are chosen by a number, a slice or a list of numbers, got {index!r}")


def same_tensor(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same shape, type and numbers, on whatever devices."""
    return a is b or (a.dtype == b.dtype and torch.equal(a.detach().cpu(), b.detach().cpu()))


def _away_from_zero(depth: Tensor, eps: float = 1e-9) -> Tensor:
    """Depth with |depth| ≥ eps, sign kept, so that a division stays finite."""
    return torch.where(depth.abs() < eps, torch.full_like(depth, eps), depth)
