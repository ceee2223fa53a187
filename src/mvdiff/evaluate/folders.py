"""Which result belongs to which truth: folders of objects, samples, views, meshes, depth maps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..cameras import ring
from ..errors import MvdiffError
from ..metrics import Lpips
from ..views import Views, read_images
from .protocol import evaluate_mesh, evaluate_views
from .report import mean

MESH_SUFFIXES = (".glb", ".obj", ".ply", ".stl")
#: Where views and meshes lie in an object's folder.
_PLACES = ("", "views", "target")

#: Called with an object's name, how many objects are done, and of how many.
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Found:
    """What there is of one object: views (a folder or a file), a mesh, a folder of depth maps."""

    views: Path | None = None
    mesh: Path | None = None
    depth: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.views or self.mesh or self.depth)


def evaluate_folder(
    pred: str | Path,
    truth: str | Path,
    *,
    rotate_z: float | Mapping[str, float] = 0.0,
    normalise_truth: bool = False,
    resize: bool = False,
    lpips: Lpips | None = None,
    iou: bool = True,
    told: Told | None = None,
) -> dict[str, Any]:
    """Figures of every object in `pred` that `truth` has too, paired by name.

    Both are one object (a folder, a mesh file, a strip PNG), or a folder of objects: subfolders,
    or mesh files such as `cup.glb`. An object's folder holds views (transforms.json, meta.pkl,
    or the published ring's 000.png…015.png) and a mesh (`mesh.glb`, .obj, .ply, .stl), in
    itself or in its `views/` or `target/`; or several samples in `sample-0/`, `sample-1/`…, whose
    figures are averaged. True depth maps (000-depth.png…, 256², as published) serve the Chamfer
    distance where they are.
    rotate_z: degrees for all true meshes, or for each by object name.
    told: called before each object.
    The rest as in `evaluate_views` and `evaluate_mesh`.
    Returns {"objects": {name: means over samples}, "samples": {name: {sample: figures}},
    "mean": means over objects, "missing": {"truth": names, "pred": names}, "failed": {name:
    sentence}}.
    Raises MvdiffError when nothing pairs up, and when no pair can be compared.
    """
    pred, truth = Path(pred).expanduser(), Path(truth).expanduser()
    for path, which in ((pred, "predictions"), (truth, "truth")):
        if not path.exists():
            raise MvdiffError(f"nothing at '{path}': expected a folder or file of {which}")
    pairs, missing = _pairs(pred, truth)
    if not pairs:
        raise MvdiffError(
            f"nothing to compare between '{pred}' and '{truth}': expected objects of the same "
            "names, each with views (transforms.json or meta.pkl) or a mesh (mesh.glb)"
        )
    if isinstance(rotate_z, Mapping):
        _check_angles(rotate_z, pairs)
    samples: dict[str, dict[str, dict[str, float]]] = {}
    failed: dict[str, str] = {}
    for i, (name, (folder, true)) in enumerate(pairs.items()):
        if told is not None:
            told(name, i, len(pairs))
        angle = rotate_z.get(name, 0.0) if isinstance(rotate_z, Mapping) else rotate_z
        options = {"rotate_z": angle, "normalise_truth": normalise_truth, "iou": iou}
        for sample, found in _samples(folder).items():
            label = f"{name}/{sample}" if sample else name
            try:
                figures = _figures(found, true, resize, lpips, options)
            except MvdiffError as error:
                failed[label] = str(error)
                continue
            if figures:
                samples.setdefault(name, {})[sample or "sample-0"] = figures
            else:
                failed[label] = "one side has only views and the other only a mesh"
    if not samples:
        name, reason = next(iter(failed.items()))
        more = f" (and {len(failed) - 1} more failed)" if len(failed) > 1 else ""
        raise MvdiffError(f"{name}: {reason}{more}")
    objects = {
        name: {"samples": len(rows), **mean(rows.values())} for name, rows in samples.items()
    }
    return {
        "objects": objects,
        "samples": samples,
        "mean": mean(objects.values()),
        "missing": missing,
        "failed": failed,
    }


def find(path: Path) -> Found:
    """The views, the mesh and the depth maps of one object, at most one of each."""
    if path.is_file():
        is_mesh = path.suffix.lower() in MESH_SUFFIXES
        return Found(mesh=path) if is_mesh else Found(views=path)
    places = [path / place for place in _PLACES]
    meshes = [p / f"mesh{suffix}" for p in places for suffix in MESH_SUFFIXES]
    return Found(
        views=next((p for p in places if _has_views(p)), None),
        mesh=next((p for p in meshes if p.is_file()), None),
        depth=next((p for p in places if (p / "015-depth.png").is_file()), None),
    )


def _figures(
    found: Found, true: Found, resize: bool, lpips: Lpips | None, options: dict[str, Any]
) -> dict[str, float]:
    out: dict[str, float] = {}
    if found.views and true.views:
        views = _load_views(found.views), _load_views(true.views)
        out |= evaluate_views(*views, resize=resize, lpips=lpips)
    if found.mesh and true.mesh:
        depth = None if true.depth is None else read_depths(true.depth)
        out |= evaluate_mesh(found.mesh, true.mesh, depth=depth, **options)
    return out


def read_depths(folder: Path) -> Float[Tensor, "16 256 256"] | None:
    """Published depth PNGs as depths in world units, 0 where invalid; None at other sizes.

    `depth = value / 65535 · 1.8 + 0.6`, valid between 0.63 and 2.37.
    """
    planes = []
    for i in range(16):
        try:
            with Image.open(folder / f"{i:03d}-depth.png") as picture:
                planes.append(np.array(picture))
        except (OSError, SyntaxError) as error:
            raise MvdiffError(
                f"cannot read the depth map '{folder / f'{i:03d}-depth.png'}': {error}"
            ) from error
    if any(plane.shape != (256, 256) for plane in planes):
        warnings.warn(
            f"the depth maps in '{folder}' are not 256×256: the true mesh's surface is used",
            stacklevel=2,
        )
        return None
    depth = np.stack(planes).astype(np.float64) / 65535 * 1.8 + 0.6
    return torch.from_numpy(np.where((depth > 0.63) & (depth < 2.37), depth, 0)).float()


def _pairs(pred: Path, truth: Path) -> tuple[dict[str, tuple[Path, Found]], dict[str, list[str]]]:
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
    return any(_samples(path).values())


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


def _samples(path: Path) -> dict[str, Found]:
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


def _load_views(path: Path) -> Views:
    if path.is_dir() and not any((path / n).is_file() for n in ("transforms.json", "meta.pkl")):
        try:
            with Image.open(path / "000.png") as first:
                size = first.width
        except OSError as error:
            raise MvdiffError(f"cannot read the view '{path / '000.png'}': {error}") from error
        return read_images([path / f"{i:03d}.png" for i in range(16)], ring(size=size))
    return Views.load(path)


def _check_angles(rotate_z: Mapping[str, float], names: Mapping[str, Any]) -> None:
    unknown = [name for name in rotate_z if name not in names]
    if unknown:
        raise MvdiffError(
            f"rotate_z names '{unknown[0]}', which is not among the objects: {', '.join(names)}"
        )
