"""Folders of results against folders of truth: figures of every object that both have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError, MvdiffError
from ..metrics import Lpips, diversity
from .discovery import ObjectFiles, find_pairs, find_samples, load_views, read_depths
from .protocol import evaluate_mesh, evaluate_views
from .report import mean
from .scores import control_scores, measured

#: Called with an object's name, how many objects are done, and of how many.
Told = Callable[[str, int, int], None]


def evaluate_folder(
    pred: str | Path,
    truth: str | Path,
    *,
    rotate_z: float | Mapping[str, float] = 0.0,
    normalize_reference: bool = False,
    resize: bool = False,
    lpips: Lpips | None = None,
    iou: bool = True,
    consistency: bool = False,
    controls: bool = False,
    seed: int = 0,
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
    consistency: also how well views agree among themselves (`consistency_scores`), and how much
        samples of one object differ (`metrics.diversity`).
    controls: also the figures of the true views themselves and of spoilt ones
        (`control_scores`). seed: of how they are spoilt.
    told: called before each object.
    The rest as in `evaluate_views` and `evaluate_mesh`.
    Returns {"objects": {name: means over samples}, "samples": {name: {sample: figures}},
    "mean": means over objects, "missing": {"truth": names, "pred": names}, "failed": {name:
    sentence}}, and with controls {"controls": {row: means over objects}, "object_controls":
    {name: {row: figures}}, "uncontrolled": {name: sentence}}; and where the IoU of meshes that
    have a Chamfer distance could not be measured {"without_iou": {name: sentence}}.
    Raises InputError when nothing pairs up, and when no pair can be compared.
    """
    pred, truth = Path(pred).expanduser(), Path(truth).expanduser()
    for path, which in ((pred, "predictions"), (truth, "truth")):
        if not path.exists():
            raise InputError(f"nothing at '{path}': expected a folder or file of {which}")
    pairs, missing = find_pairs(pred, truth)
    if not pairs:
        raise InputError(
            f"nothing to compare between '{pred}' and '{truth}': expected objects of the same "
            "names, each with views (transforms.json or meta.pkl) or a mesh (mesh.glb)"
        )
    if isinstance(rotate_z, Mapping):
        _check_angles(rotate_z, pairs)
    wanted = _Wanted(normalize_reference, resize, lpips, iou, consistency, controls, seed)
    found = _Figures()
    for i, (name, (folder, true)) in enumerate(pairs.items()):
        if told is not None:
            told(name, i, len(pairs))
        angle = rotate_z.get(name, 0.0) if isinstance(rotate_z, Mapping) else rotate_z
        _measure(name, find_samples(folder), true, angle, wanted, found)
    if not found.samples:
        name, reason = next(iter(found.failed.items()))
        more = f" (and {len(found.failed) - 1} more failed)" if len(found.failed) > 1 else ""
        raise InputError(f"{name}: {reason}{more}")
    return found.report(missing, controls)


@dataclass(frozen=True)
class _Wanted:
    """What is measured, and how; see `evaluate_folder`."""

    normalize_reference: bool
    resize: bool
    lpips: Lpips | None
    iou: bool
    consistency: bool
    controls: bool
    seed: int


@dataclass
class _Figures:
    """What has been measured so far, by object's name."""

    samples: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    diversity: dict[str, float] = field(default_factory=dict)
    controls: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    uncontrolled: dict[str, str] = field(default_factory=dict)
    without_iou: dict[str, str] = field(default_factory=dict)

    def report(self, missing: dict[str, list[str]], controls: bool) -> dict[str, Any]:
        """What `evaluate_folder` returns."""
        objects = {
            name: {"samples": len(rows), **mean(rows.values())}
            | ({"diversity": self.diversity[name]} if name in self.diversity else {})
            for name, rows in self.samples.items()
        }
        out = {
            "objects": objects,
            "samples": self.samples,
            "mean": mean(objects.values()),
            "missing": missing,
            "failed": self.failed,
        }
        if self.without_iou:
            out["without_iou"] = self.without_iou
        if controls:
            names = dict.fromkeys(row for rows in self.controls.values() for row in rows)
            out["controls"] = {
                row: mean(rows[row] for rows in self.controls.values()) for row in names
            }
            out["object_controls"] = self.controls
            out["uncontrolled"] = self.uncontrolled
        return out


def _measure(
    name: str,
    samples: Mapping[str, ObjectFiles],
    true: ObjectFiles,
    angle: float,
    wanted: _Wanted,
    found: _Figures,
) -> None:
    """One object's samples against the truth, into `found`."""
    views = []
    for sample, place in samples.items():
        label = f"{name}/{sample}" if sample else name
        try:
            figures = _figures(
                place, true, angle, wanted, partial(found.without_iou.__setitem__, label)
            )
            if wanted.consistency and len(samples) > 1 and place.views:
                views.append(load_views(place.views))
        except MvdiffError as error:
            found.failed[label] = str(error)
            continue
        if figures:
            found.samples.setdefault(name, {})[sample or "sample-0"] = figures
        else:
            found.failed[label] = "one side has only views and the other only a mesh"
    if name not in found.samples:
        return
    if len(views) > 1 and len(views[0]) > 1:
        try:
            found.diversity[name] = diversity(views)
        except MvdiffError as error:
            found.failed[f"the diversity of {name}"] = str(error)
    if wanted.controls and true.views:
        options = {"lpips": wanted.lpips, "consistency": wanted.consistency, "seed": wanted.seed}
        try:
            rows = control_scores(load_views(true.views), **options)
        except MvdiffError as error:
            found.uncontrolled[name] = str(error)
            return
        found.controls[name] = {row: measured(scores) for row, scores in rows.items()}


def _figures(
    found: ObjectFiles,
    true: ObjectFiles,
    angle: float,
    wanted: _Wanted,
    left_out: Callable[[str], None],
) -> dict[str, float]:
    out: dict[str, float] = {}
    if found.views and true.views:
        out |= evaluate_views(
            load_views(found.views),
            load_views(true.views),
            resize=wanted.resize,
            lpips=wanted.lpips,
            consistency=wanted.consistency,
        )
    if found.mesh and true.mesh:
        out |= evaluate_mesh(
            found.mesh,
            true.mesh,
            depth=None if true.depth is None else read_depths(true.depth),
            rotate_z=angle,
            normalize_reference=wanted.normalize_reference,
            iou=wanted.iou,
            left_out=left_out,
        )
    return out


def _check_angles(rotate_z: Mapping[str, float], names: Mapping[str, Any]) -> None:
    unknown = [name for name in rotate_z if name not in names]
    if unknown:
        raise InputError(
            f"rotate_z names '{unknown[0]}', which is not among the objects: {', '.join(names)}"
        )
