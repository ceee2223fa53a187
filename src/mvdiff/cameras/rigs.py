"""Sets of cameras around the object: rings, and single cameras from angles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import MvdiffError
from .camera import Cameras, Projection

#: Field of view of the published cameras: a 35 mm lens on a 32 mm sensor, f = 280 at 256².
FOV_35MM = math.degrees(2 * math.atan(16 / 35))


def look_at(
    azimuth: Sequence[float],
    elevation: Sequence[float],
    *,
    distance: float = 1.5,
    fov: float = FOV_35MM,
    size: int = 256,
    projection: Projection = "perspective",
) -> Cameras:
    """Cameras on a sphere that look at the origin, z up.

    azimuth: degrees, counter-clockwise seen from +z; 0 lies on the +x axis.
    elevation: degrees in [-90, 90] above the xy plane.
    distance: to the origin, world units.
    fov: degrees. For orthographic cameras it fixes the scale: they show, at the origin's
        depth, what a perspective camera of this field of view would show.
    size: image side in pixels.
    Raises MvdiffError on numbers out of range.
    """
    if len(azimuth) != len(elevation):
        raise MvdiffError(
            f"expected as many azimuths as elevations, got {len(azimuth)} and {len(elevation)}"
        )
    for e in elevation:
        if not -90 <= e <= 90:  # also catches NaN
            raise MvdiffError(f"elevation must lie in [-90, 90] degrees, got {e}")
    if not all(math.isfinite(a) for a in azimuth):
        raise MvdiffError(f"azimuths must be finite numbers of degrees, got {list(azimuth)}")
    if not (distance > 0 and 0 < fov < 180 and size > 0):
        raise MvdiffError(
            "cameras need distance > 0, 0 < fov < 180 and size > 0; "
            f"got distance={distance}, fov={fov}, size={size}"
        )
    a = torch.deg2rad(torch.tensor(list(azimuth), dtype=torch.float64))
    e = torch.deg2rad(torch.tensor(list(elevation), dtype=torch.float64))
    zero = torch.zeros_like(a)
    right = torch.stack([-a.sin(), a.cos(), zero], dim=-1)
    down = torch.stack([e.sin() * a.cos(), e.sin() * a.sin(), -e.cos()], dim=-1)
    forward = -torch.stack([a.cos() * e.cos(), a.sin() * e.cos(), e.sin()], dim=-1)
    R = torch.stack([right, down, forward], dim=1)
    t = torch.stack([zero, zero, zero + distance], dim=-1)
    focal = size / 2 / math.tan(math.radians(fov) / 2)
    if projection == "orthographic":
        focal /= distance
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=torch.float64)
    return Cameras(
        K=K.expand(len(a), 3, 3).float(),
        w2c=torch.cat([R, t[..., None]], dim=-1).float(),
        height=size,
        width=size,
        projection=projection,
    )


def ring(
    count: int = 16,
    elevation: float = 30.0,
    *,
    azimuth: float = 0.0,
    distance: float = 1.5,
    fov: float = FOV_35MM,
    size: int = 256,
    projection: Projection = "perspective",
) -> Cameras:
    """`count` cameras evenly around the object at one elevation.

    The defaults are SyncDreamer's 16 target views (arXiv 2309.03453, section 4).
    azimuth: degrees of the first camera. The rest as in `look_at`.
    """
    if count < 1:
        raise MvdiffError(f"a ring needs at least 1 camera, got count={count}")
    azimuths = [azimuth + 360.0 * i / count for i in range(count)]
    return look_at(
        azimuths,
        [elevation] * count,
        distance=distance,
        fov=fov,
        size=size,
        projection=projection,
    )


def spherical(
    cameras: Cameras,
) -> tuple[Float[Tensor, "view"], Float[Tensor, "view"], Float[Tensor, "view"]]:
    """Azimuth, elevation (radians) and distance of cameras that look at the origin.

    Read from the forward axis, so that cameras straight above keep an azimuth.
    """
    forward, down = cameras.R[:, 2], cameras.R[:, 1]
    elevation = torch.atan2(-forward[:, 2], -down[:, 2])
    right = cameras.R[:, 0]
    azimuth = torch.atan2(-right[:, 0], right[:, 1])
    return azimuth, elevation, cameras.centers.norm(dim=-1)
