"""Where the object can be, as far as its cameras tell."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras.camera import Cameras
from ..errors import ReconstructionError

#: Cameras that look past the origin by less than this share of their distance look at it.
_AT_ORIGIN = 1e-3


def scene_cube(cameras: Cameras, bound: float | None = None) -> tuple[Float[Tensor, "3"], float]:
    """Center and half side, in world units, of the cube that is searched for the object.

    bound: half side of a cube around the origin. None: around the point that the cameras look at
    (the origin, where a camera has that point behind it), as wide as the pictures show it there:
    along their wider side, in the narrowest camera.
    Raises ReconstructionError when the cameras look at no common point.
    """
    if bound is not None:
        return torch.zeros(3), bound
    cameras = cameras.to("cpu", torch.float32)
    for center in (look_at_point(cameras), torch.zeros(3)):
        _, depth = cameras.project(center[None])
        half = cameras.K.new_tensor([cameras.width, cameras.height]) / 2
        sides = half / torch.stack([cameras.K[:, 0, 0], cameras.K[:, 1, 1]], dim=-1)
        if cameras.projection == "perspective":
            sides = sides * depth
        least = sides.amin(dim=0)
        if (least > 0).all() and math.isfinite(wide := float(least.amax())):
            return center, wide
    raise ReconstructionError(
        "the cameras do not look at a common point, so the object's place is unknown: mend the "
        "poses, or move the scene to the origin and give reconstructor.bound, half the side of "
        "the cube that holds it"
    )


def look_at_point(cameras: Cameras) -> Float[Tensor, "3"]:
    """The point nearest to the rays through all pictures' centers, world units.

    Where parallel rays leave it open, and where it is as good as the origin, the origin.
    """
    cameras = cameras.to("cpu", torch.float64)
    middle = cameras.K.new_tensor([cameras.width / 2, cameras.height / 2]).expand(len(cameras), 2)
    zero = middle.new_zeros(len(cameras))
    near = cameras.unproject(middle[:, None], zero[:, None])[:, 0]
    if cameras.projection == "perspective":
        near = cameras.centers
    far = cameras.unproject(middle[:, None], zero[:, None] + 1)[:, 0]
    along = torch.nn.functional.normalize(far - near, dim=-1)
    across = torch.eye(3).to(along) - along[:, :, None] * along[:, None]
    matrix = across.sum(dim=0) + 1e-6 * len(cameras) * torch.eye(3).to(along)
    point = torch.linalg.solve(matrix, (across @ near[..., None]).sum(dim=0))[:, 0]
    distance = cameras.project(point[None])[1].abs().mean()
    return point.float() if point.norm() > _AT_ORIGIN * distance else torch.zeros(3)


def move_cameras_back(cameras: Cameras) -> Cameras:
    """Orthographic cameras moved back along their axes until they stand before the object.

    Their pictures stay the same: where along its axis such a camera stands means nothing, but rays
    begin there. Perspective cameras stay where they are.
    """
    if cameras.projection == "perspective":
        return cameras
    center, half = scene_cube(cameras)
    _, depth = cameras.project(center.to(cameras.K)[None])
    radius, depth = 3**0.5 * half, depth[:, 0]
    if (depth >= radius).all():
        return cameras
    w2c = cameras.w2c.clone()
    # farther than need be, since what is found may be larger
    w2c[:, 2, 3] += torch.where(depth < radius, 2 * radius - depth, 0.0)
    return replace(cameras, w2c=w2c)
