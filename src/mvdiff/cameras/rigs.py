"""Sets of cameras around the object. A rig is a function of its numbers and the picture's size.

The first camera's azimuth and distance are those of the input picture, wherever the others stand
(see `denoiser/joint.py`): in every rig, `azimuth` says where the front is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import ConfigError
from ..registry import Registry
from .camera import Cameras, Projection

RIGS = Registry("rig")

#: Field of view of the published cameras: a 35 mm lens on a 32 mm sensor, f = 280 at 256².
FOV_35MM = math.degrees(2 * math.atan(16 / 35))
#: Turns of the Fibonacci lattice, degrees: 360 · (1 − 1/golden ratio).
GOLDEN_ANGLE = 180.0 * (3.0 - math.sqrt(5.0))
#: More cameras than this are a typing error.
_MAX_COUNT = 100_000


def look_at(
    azimuth: Sequence[float],
    elevation: Sequence[float],
    *,
    distance: float | Sequence[float] = 1.5,
    fov: float = FOV_35MM,
    size: int = 256,
    projection: Projection = "perspective",
) -> Cameras:
    """Cameras that look at the origin, z up.

    azimuth: degrees, counter-clockwise seen from +z; 0 lies on the +x axis.
    elevation: degrees in [-90, 90] above the xy plane.
    distance: to the origin, world units; of all cameras, or one each.
    fov: degrees. For orthographic cameras it fixes the scale: they show, at the origin's
        depth, what a perspective camera of this field of view would show.
    size: image side in pixels.
    Raises ConfigError on numbers out of range.
    """
    if len(azimuth) != len(elevation):
        raise ConfigError(
            f"expected as many azimuths as elevations, got {len(azimuth)} and {len(elevation)}"
        )
    for e in elevation:
        if not -90 <= e <= 90:  # also catches NaN
            raise ConfigError(f"elevation must lie in [-90, 90] degrees, got {e}")
    if not all(math.isfinite(a) for a in azimuth):
        raise ConfigError(f"azimuths must be finite numbers of degrees, got {list(azimuth)}")
    several = isinstance(distance, Sequence)
    distances = list(distance) if several else [float(distance)] * len(azimuth)
    if len(distances) != len(azimuth):
        raise ConfigError(
            f"expected one distance, or as many as azimuths, got {len(distances)} distances and "
            f"{len(azimuth)} azimuths"
        )
    if not (all(0 < d < math.inf for d in distances) and 0 < fov < 180 and size > 0):
        raise ConfigError(
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
    d = torch.tensor(distances, dtype=torch.float64)
    t = torch.stack([zero, zero, d], dim=-1)
    focal = zero + size / 2 / math.tan(math.radians(fov) / 2)
    if projection == "orthographic":
        focal = focal / d
    K = torch.tensor([[0, 0, size / 2], [0, 0, size / 2], [0, 0, 1]], dtype=torch.float64)
    K = K.repeat(len(a), 1, 1)
    K[:, 0, 0] = K[:, 1, 1] = focal
    return Cameras(
        K=K.float(),
        w2c=torch.cat([R, t[..., None]], dim=-1).float(),
        height=size,
        width=size,
        projection=projection,
    )


@RIGS.register("ring")
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
    _check_count("ring", count)
    azimuths = [azimuth + 360.0 * i / count for i in range(count)]
    return look_at(
        azimuths,
        [elevation] * count,
        distance=distance,
        fov=fov,
        size=size,
        projection=projection,
    )


@RIGS.register("epidiff")
def epidiff(
    count: int = 16,
    elevation: float = 30.0,
    *,
    azimuth: float = 0.0,
    distance: float = 1.5,
    fov: float = FOV_35MM,
    size: int = 256,
    projection: Projection = "perspective",
) -> Cameras:
    """A ring whose azimuths are cut off to whole degrees: 0, 22, 45, 67, …

    The defaults are EpiDiff's cameras (meta_info/transforms_ele30.json of huanngzh/EpiDiff): its
    odd views stand half a degree beside SyncDreamer's.
    The arguments are those of `ring`.
    """
    _check_count("ring", count)
    azimuths = [azimuth + float(360 * i // count) for i in range(count)]
    return look_at(
        azimuths, [elevation] * count, distance=distance, fov=fov, size=size, projection=projection
    )


@RIGS.register("alternating")
def alternating(
    count: int,
    elevation: Sequence[float],
    *,
    azimuth: float = 0.0,
    distance: float = 1.5,
    fov: float = FOV_35MM,
    size: int = 256,
    projection: Projection = "perspective",
) -> Cameras:
    """`count` cameras evenly around the object whose elevations take turns.

    elevation: degrees, of cameras 0, 1, …, then from the start again. Zero123++ makes 6 views at
        [20, -10] (version 1.2) or [30, -20] (1.1).
    azimuth: degrees of the first camera. The rest as in `look_at`.
    """
    _check_count("alternating rig", count)
    elevations = _numbers("elevation", elevation, None)
    if not elevations:
        raise ConfigError("rig 'alternating' needs at least one elevation, got an empty list")
    return look_at(
        [azimuth + 360.0 * i / count for i in range(count)],
        [elevations[i % len(elevations)] for i in range(count)],
        distance=distance,
        fov=fov,
        size=size,
        projection=projection,
    )


@RIGS.register("spiral")
def spiral(
    count: int,
    elevation: Sequence[float],
    turns: float,
    *,
    azimuth: float = 0.0,
    distance: float = 1.5,
    fov: float = FOV_35MM,
    size: int = 256,
    projection: Projection = "perspective",
) -> Cameras:
    """`count` cameras that climb (or sink) evenly while they go round.

    elevation: [first, last], degrees. turns: how often they go round; negative is clockwise.
    azimuth: degrees of the first camera. The rest as in `look_at`.
    """
    _check_count("spiral", count)
    first, last = _range("spiral", elevation)
    steps = [i / count for i in range(count)]
    climb = [i / max(count - 1, 1) for i in range(count)]
    return look_at(
        [azimuth + 360.0 * turns * s for s in steps],
        [first + (last - first) * s for s in climb],
        distance=distance,
        fov=fov,
        size=size,
        projection=projection,
    )


@RIGS.register("sphere")
def sphere(
    count: int,
    elevation: Sequence[float],
    *,
    azimuth: float = 0.0,
    distance: float = 1.5,
    fov: float = FOV_35MM,
    size: int = 256,
    projection: Projection = "perspective",
) -> Cameras:
    """`count` cameras spread evenly over the band of a sphere between two elevations.

    The Fibonacci lattice: equal steps of height, turned by the golden angle each. The first
    camera is the one nearest the band's first elevation.
    elevation: [first, last], degrees. azimuth: degrees of the first camera. The rest as in
        `look_at`.
    """
    _check_count("sphere", count)
    low, high = (math.sin(math.radians(e)) for e in _range("sphere", elevation))
    heights = [low + (high - low) * (i + 0.5) / count for i in range(count)]
    return look_at(
        [(azimuth + GOLDEN_ANGLE * i) % 360 for i in range(count)],
        [math.degrees(math.asin(h)) for h in heights],
        distance=distance,
        fov=fov,
        size=size,
        projection=projection,
    )


@RIGS.register("custom")
def custom(
    azimuth: Sequence[float],
    elevation: float | Sequence[float] | None = None,
    distance: float | Sequence[float] | None = None,
    *,
    fov: float = FOV_35MM,
    size: int = 256,
    projection: Projection = "perspective",
) -> Cameras:
    """Cameras wherever you say; the first one's azimuth and distance are the input picture's.

    azimuth: degrees, one a camera.
    elevation: degrees, of all cameras or one each; None: 30, the published ring's.
    distance: world units, of all cameras or one each; None: 1.5, likewise.
    The rest as in `look_at`.
    """
    azimuths = _numbers("azimuth", azimuth, None)
    if not azimuths:
        raise ConfigError("rig 'custom' needs at least one azimuth, got an empty list")
    count = len(azimuths)
    return look_at(
        azimuths,
        _numbers("elevation", 30.0 if elevation is None else elevation, count),
        distance=_numbers("distance", 1.5 if distance is None else distance, count),
        fov=fov,
        size=size,
        projection=projection,
    )


def _check_count(rig: str, count: int) -> None:
    if not isinstance(count, Integral) or isinstance(count, bool) or count < 1:
        raise ConfigError(f"a {rig} needs at least 1 camera, got count={count}")
    if count > _MAX_COUNT:
        raise ConfigError(f"a {rig} has at most {_MAX_COUNT} cameras, got count={count}")


def _range(rig: str, elevation: Any) -> tuple[float, float]:
    found = _numbers("elevation", elevation, None)
    if len(found) != 2:
        raise ConfigError(f"rig '{rig}' needs elevation=[first,last] in degrees, got {elevation}")
    for e in found:
        if not -90 <= e <= 90:
            raise ConfigError(f"elevation must lie in [-90, 90] degrees, got {e}")
    return found[0], found[1]


def _numbers(what: str, given: Any, count: int | None) -> list[float]:
    """A list as it is, one number repeated; ConfigError unless there are `count` of them."""
    several = isinstance(given, Sequence) and not isinstance(given, str)
    values = list(given) if several else [given] * (count or 1)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"rig.{what} must be a number or a list of numbers, got {given}")
    if count is not None and len(values) != count:
        raise ConfigError(
            f"rig.{what} must be one number or one a camera: got {len(values)} for {count} azimuths"
        )
    return [float(value) for value in values]


def is_ring(cameras: Cameras) -> bool:
    """Whether the cameras stand evenly around z, in order, at one elevation and distance."""
    azimuth, elevation, distance = to_spherical(cameras)
    even = torch.arange(len(cameras), device=azimuth.device) * (2 * math.pi / len(cameras))
    off = (azimuth - azimuth[0] - even + math.pi) % (2 * math.pi) - math.pi
    spread = max(float(x.max() - x.min()) for x in (elevation, distance))
    return float(off.abs().max()) < 2e-3 and spread < 2e-3


def to_spherical(
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


def input_cameras(
    rig: Cameras,
    elevation: Float[Tensor, "picture"],
    azimuth: Float[Tensor, "picture"] | None = None,
) -> Cameras:
    """Where input pictures were taken from, one camera a picture, on the rig's device.

    Their distance, intrinsics and size are those of the rig's view 0, the convention of this
    library. elevation: their own, degrees. azimuth: theirs beyond view 0's, degrees,
    counter-clockwise seen from above; default 0.
    """
    front, _, distance = to_spherical(rig)
    turn = torch.zeros_like(elevation) if azimuth is None else azimuth
    at = look_at(
        [float(torch.rad2deg(front[0])) + degrees for degrees in turn.tolist()],
        elevation.tolist(),
        distance=float(distance[0]),
        size=rig.height,
        projection=rig.projection,
    ).to(rig.K.device)
    return Cameras(rig.K[:1].expand_as(at.K), at.w2c, rig.height, rig.width, rig.projection)
