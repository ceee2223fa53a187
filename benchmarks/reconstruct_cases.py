"""Objects whose shape is known, views of them, and what a generative model does to views."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import trimesh
from scipy import ndimage

from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.data.meshes import find_meshes, load_mesh
from mvdiff.data.meshes import normalize_to_rig as fit
from mvdiff.evaluation.folders import read_depths
from mvdiff.metrics.geometry import (
    chamfer_floor,
    inside,
    normalize_to_unit_box,
    published_depths,
    unproject_depths,
)
from mvdiff.recon import Mesh
from mvdiff.rendering import Raycaster
from mvdiff.views.views import Views, load_images

#: Cameras that no reconstructor gets: azimuths between those of the ring, other heights.
UNSEEN = (
    [11.25 + 45.0 * i for i in range(8)],
    [0.0, 15.0, 45.0, 60.0, 0.0, 15.0, 45.0, 60.0],
)
#: Which disturbances make up each kind of defect.
DEFECTS = {
    "clean": (),
    "drift": ("drift",),
    "edges": ("edges",),
    "generated": ("drift", "edges"),
    "wrong": ("drift", "edges", "wrong"),
}


@dataclass(frozen=True)
class Object:
    """What is known of an object.

    mesh: the true surface. points: what the published cameras see of it, one a pixel.
    ring: views of the published 16 cameras. unseen: views of other cameras; None when the
        truth has no colors to render them with.
    """

    name: str
    mesh: trimesh.Trimesh
    points: np.ndarray
    ring: Views
    unseen: Views | None

    @cached_property
    def inside(self) -> np.ndarray:
        """The true volume on the grid of the IoU."""
        return inside(self.mesh)

    @cached_property
    def floor(self) -> float:
        """The Chamfer distance that the true surface itself typically gets."""
        return chamfer_floor(self.points)

    def given(self, count: int) -> Views:
        """`count` of the 16 views, evenly around."""
        return self.ring[list(range(0, 16, 16 // count))]

    def held_out(self, count: int) -> Views | None:
        """Views that are not given: rendered ones, or what is left of the 16."""
        if self.unseen is not None:
            return self.unseen
        left = sorted(set(range(16)) - set(range(0, 16, 16 // count)))
        return self.ring[left] if left else None


def chosen(meshes: Path, count: int = 20, seed: int = 0) -> list[str]:
    """Names of objects, drawn by a fixed seed: no picking."""
    names = [path.stem for path in find_meshes(meshes)]
    drawn = np.random.default_rng(seed).choice(names, min(count, len(names)), replace=False)
    return sorted(str(name) for name in drawn)


def load_object(name: str, shared: Path, size: int) -> Object:
    """The chicken with its published pictures and depth maps, or a rendered mesh."""
    if name == "chicken":
        return _chicken(shared / "data" / "chicken", size)
    mesh = fit(load_mesh(shared / "meshes" / f"{name}.glb"))
    caster = Raycaster(mesh)

    def shoot(cameras: Cameras) -> Views:
        return caster.render(cameras, supersample=3).views(cameras)

    points = unproject_depths(*published_depths(mesh))
    return Object(name, mesh, points, shoot(ring(size=size)), shoot(look_at(*UNSEEN, size=size)))


def _chicken(folder: Path, size: int) -> Object:
    scan = Mesh.load(folder / "mesh.obj").to_trimesh()
    depth = read_depths(folder)
    views = load_images([folder / f"{i:03d}.png" for i in range(16)], ring(size=256))
    return Object(
        "chicken",
        normalize_to_unit_box(scan, rotate_z=-270),
        unproject_depths(depth, ring(size=256)),
        views if size == 256 else views.resize(size),
        None,
    )


def stranger(name: str, shared: Path) -> str:
    """The object whose picture stands in for a wrong view of `name`: the next of the list."""
    names = ["chicken", *chosen(shared / "meshes")]
    return names[(names.index(name) + 1) % len(names)] if name in names else names[0]


def wrong_view(name: str, count: int) -> int:
    """Which of `count` views is the wrong one; never the first."""
    return 1 + zlib.crc32(f"wrong/{name}/{count}".encode()) % (count - 1)


def spoil(
    views: Views, defects: str, name: str, other: Views | None = None, seed: int = 0
) -> Views:
    """Views with the kind of defects that generated ones have; the same for every reconstructor.

    drift: each view's colors are scaled by 1 ± 0.06 and moved by ± 0.03 a channel (standard
        deviations).
    edges: each view is warped by a smooth random field, up to 2 pixels (at side 256) each way.
    wrong: one view, not the first, shows the object `other` instead.
    "generated" has the first two, "wrong" all three.
    """
    rng = np.random.default_rng([seed, zlib.crc32(f"{name}/{len(views)}".encode())])
    rgb, mask, kinds = views.rgb, views.mask, DEFECTS[defects]
    if "drift" in kinds:
        shape = (len(views), 3, 1, 1)
        gain = torch.from_numpy(rng.normal(1, 0.06, shape)).float()
        shift = torch.from_numpy(rng.normal(0, 0.03, shape)).float()
        rgb = torch.where(mask > 0, (rgb - (1 - mask)) * gain + shift * mask + 1 - mask, rgb)
    if "edges" in kinds:
        rgba = _warp(torch.cat([rgb.clamp(0, 1), mask], dim=1), rng)
        rgb, mask = rgba[:, :3], rgba[:, 3:]
    if "wrong" in kinds and other is not None:
        at = wrong_view(name, len(views))
        rgb, mask = rgb.clone(), mask.clone()
        rgb[at], mask[at] = other.rgb[at], other.mask[at]
    return Views.from_white(rgb, mask, views.cameras)


def _warp(rgba: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    n, _, height, width = rgba.shape
    pixel = width / 256
    field = rng.normal(size=(n, 2, height, width))
    field = ndimage.gaussian_filter(field, (0, 0, 8 * pixel, 8 * pixel), mode="wrap")
    field = (field / field.std() * pixel).clip(-2 * pixel, 2 * pixel)
    moved = torch.from_numpy(field).float().permute(0, 2, 3, 1) * torch.tensor(
        [2 / width, 2 / height]
    )
    still = torch.nn.functional.affine_grid(
        torch.eye(2, 3).expand(n, -1, -1), [n, 1, height, width], align_corners=False
    )
    return torch.nn.functional.grid_sample(
        rgba, still + moved, padding_mode="border", align_corners=False
    )
