"""One object to its images: the work of a worker process."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ...cameras import Cameras, look_at, to_spherical
from ...errors import MvdiffError
from ...utils.files import atomic
from .manifest import NAME as OBJECT_RECORD
from .manifest import ObjectRecord, describe_pictures, describe_sources
from .settings import RenderSettings

#: Depth PNGs: depth = value / 65535 · DEPTH_RANGE + (distance − DEPTH_RANGE / 2); 0 is nothing.
#: At distance 1.5 these are the published files' numbers.
DEPTH_RANGE = 1.8
#: Every axis of a copy is multiplied by exp(u), u uniform in ±STRETCH: 0.7 to 1.4.
STRETCH = 0.35


@dataclass(frozen=True)
class Job:
    """One object to render: everything a worker process needs."""

    name: str
    source: Literal["mesh", "shape"]
    family: str
    split: str
    path: str
    shape_seed: int
    stretch_index: int = 0
    """0: the object itself. From 1 on: a copy, stretched."""


def render_object(out: Path, job: Job, settings: RenderSettings) -> str | None:
    """Render one object into its folder; the reason when it cannot be rendered."""
    from ...rendering import Raycaster, Shading
    from ..meshes import load_mesh, normalize_to_rig, stretched

    folder = out / job.name
    mark_incomplete(folder)
    record = ObjectRecord()
    try:
        if job.source == "mesh":
            mesh_folder = Path(job.path).parent
            before = describe_sources([job.path], mesh_folder)
            mesh = load_mesh(job.path, up=settings.up)
            # hashed before it was read: a file replaced meanwhile differs the next time
            record.sources = before + describe_sources(mesh.metadata["files"][1:], mesh_folder)
            record.notes = mesh.metadata["notes"]
        else:
            from ..procedural import make_shape

            mesh = make_shape(job.family, job.shape_seed)
        if job.stretch_index:
            rng = np.random.default_rng([settings.seed, zlib.crc32(job.name.encode()), 1])
            mesh = stretched(mesh, np.exp(rng.uniform(-STRETCH, STRETCH, size=3)))
        raycaster = Raycaster(normalize_to_rig(mesh, settings.normalization))
    except MvdiffError as error:
        return str(error)
    except Exception as error:  # a broken file must not stop the others
        return f"{type(error).__name__}: {error}"
    rng = np.random.default_rng([settings.seed, zlib.crc32(job.name.encode())])
    shading = Shading(
        light=(*rng.uniform(-0.7, 0.7, size=2), 1.0), ambient=float(rng.uniform(0.5, 0.65))
    )
    sets = {"target": settings.rig}
    if settings.num_inputs:
        elevation = rng.uniform(*settings.input_elevation, size=len(settings.rig))
        sets["input"] = _photo_cameras(settings.rig, elevation[: settings.num_inputs].tolist())
    for part, cameras in sets.items():
        picture = raycaster.render(cameras, supersample=settings.supersample, shading=shading)
        if settings.depth:
            _save_depth(folder / part, picture.depth, rig_distance(settings.rig))
        if settings.normals:
            _save_normals(folder / part, picture.normals)
        picture.views(cameras).save(folder / part)
    record.pictures, record.digest = describe_pictures(folder, list(sets))
    record.write(folder)
    return None


def mark_incomplete(folder: Path) -> None:
    """Take an object's folder out of use, before its pictures change."""
    for name in (OBJECT_RECORD, "target/transforms.json", "input/transforms.json"):
        (folder / name).unlink(missing_ok=True)


def _photo_cameras(rig: Cameras, elevation: list[float]) -> Cameras:
    """Cameras at the azimuths and distances of the rig's first views, at these elevations (°)."""
    azimuth, _, distance = (x[: len(elevation)] for x in to_spherical(rig))
    at = torch.rad2deg(azimuth).tolist()
    cameras = look_at(at, elevation, distance=distance.tolist(), size=rig.width)
    return Cameras(rig.K[: len(elevation)], cameras.w2c, rig.height, rig.width, rig.projection)


def rig_distance(rig: Cameras) -> float:
    """Mean distance of the rig's cameras to the origin, world units."""
    return float(to_spherical(rig)[2].mean())


def _save_depth(folder: Path, depth: torch.Tensor, distance: float) -> None:
    from PIL import Image

    value = (depth.double() - (distance - DEPTH_RANGE / 2)) / DEPTH_RANGE * 65535
    value = torch.where(depth > 0, value.round().clamp(1, 65535), torch.zeros_like(value))
    for i, plane in enumerate(value.numpy().astype(np.uint16)):
        with atomic(folder / f"{i:03d}-depth.png") as part:
            Image.fromarray(plane).save(part)


def _save_normals(folder: Path, normals: torch.Tensor) -> None:
    from PIL import Image

    seen = normals.norm(dim=1, keepdim=True) > 0
    pixels = (((normals + 1) / 2 * 255).round() * seen).byte().permute(0, 2, 3, 1)
    for i, plane in enumerate(pixels.numpy()):
        with atomic(folder / f"{i:03d}-normal.png") as part:
            Image.fromarray(np.ascontiguousarray(plane)).save(part)
