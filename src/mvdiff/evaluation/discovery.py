"""What lies where: objects, samples, views, meshes and depth maps in folders, and their pairs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import ring
from ..mesh_readers import SUFFIXES as MESH_SUFFIXES
from ..utils.images import open_image
from ..views.views import Views, load_images

#: Where views and meshes lie in an object's folder.
_PLACES = ("", "views", "target")


@dataclass(frozen=True)
class ObjectFiles:
    """What there is of one object: views (a folder or a file), a mesh, a folder of depth maps."""

    views: Path | None = None
    mesh: Path | None = None
    depth: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.views or self.mesh or self.depth)


def find(path: Path) -> ObjectFiles:
    """The views, the mesh and the depth maps of one object, at most one of each."""
    if path.is_file():
        is_mesh = path.suffix.lower() in MESH_SUFFIXES
        return ObjectFiles(mesh=path) if is_mesh else ObjectFiles(views=path)
    places = [path / place for place in _PLACES]
    meshes = [p / f"mesh{suffix}" for p in places for suffix in MESH_SUFFIXES]
    return ObjectFiles(
        views=next((p for p in places if _has_views(p)), None),
        mesh=next((p for p in meshes if p.is_file()), None),
        depth=next((p for p in places if (p / "015-depth.png").is_file()), None),
    )


def load_views(path: Path) -> Views:
    """Views in any known form, also the published ring's pictures without a camera file."""
    if path.is_dir() and not any((path / n).is_file() for n in ("transforms.json", "meta.pkl")):
        with open_image(path / "000.png") as first:
            size = first.width
        return load_images([path / f"{i:03d}.png" for i in range(16)], ring(size=size))
    return Views.load(path)


def read_depths(folder: Path) -> Float[Tensor, "16 256 256"] | None:
    """Published depth PNGs as depths in world units, 0 where invalid; None at other sizes.

    `depth = value / 65535 · 1.8 + 0.6`, valid between 0.63 and 2.37.
    """
    planes = []
    for i in range(16):
        with open_image(folder / f"{i:03d}-depth.png") as picture:
            planes.append(np.array(picture))
    if any(plane.shape != (256, 256) for plane in planes):
        warnings.warn(
            f"the depth maps in '{folder}' are not 256×256: the true mesh's surface is used",
            stacklevel=2,
        )
        return None
    depth = np.stack(planes).astype(np.float64) / 65535 * 1.8 + 0.6
    return torch.from_numpy(np.where((depth > 0.63) & (depth < 2.37), depth, 0)).float()


def find_pairs(
    pred: Path, truth: Path
) -> tuple[dict[str, tuple[Path, ObjectFiles]], dict[str, list[str]]]:
    """Objects on both sides: where the prediction lies, and what the truth has."""
    if _is_object(pred) and _is_object(truth):
        name = pred.parent.name if pred.name.startswith("sample-") else pred.stem
        return {name: (pred, find(truth))}, {"truth": [], "pred": []}
    ours, theirs = _objects(pred), _objects(truth)
    pairs = {name: (ours[name], find(theirs[name])) for name in ours if name in theirs}
    return pairs, {
        "truth": [name for name in ours if name not in theirs],
        "pred": [name for name in theirs if name not in ours],
    }


def _is_object(path: Path) -> bool:
    return any(find_samples(path).values())


def _objects(path: Path) -> dict[str, Path]:
    """Objects of a folder by name: subfolders with results first, then lone mesh files."""
    if path.is_file():
        return {path.stem: path}
    here = sorted(path.iterdir())
    out = {p.name: p for p in here if p.is_dir() and _is_object(p)}
    for p in here:
        if p.is_file() and p.suffix.lower() in MESH_SUFFIXES:
            out.setdefault(p.stem, p)
    return out


def find_samples(path: Path) -> dict[str, ObjectFiles]:
    """Every sample by its folder's name; "" for results that lie in the object's own folder."""
    own = find(path)
    if own or path.is_file():
        return {"": own}
    folders = sorted(path.glob("sample-*"), key=lambda p: (len(p.name), p.name))
    return {p.name: found for p in folders if p.is_dir() and (found := find(p))}


def _has_views(folder: Path) -> bool:
    listed = any((folder / name).is_file() for name in ("transforms.json", "meta.pkl"))
    return listed or _is_published_ring(folder)


def _is_published_ring(folder: Path) -> bool:
    """000.png to 015.png and no 016.png: what the published renderer writes."""
    there = [(folder / f"{i:03d}.png").is_file() for i in (0, 15, 16)]
    return there == [True, True, False]
