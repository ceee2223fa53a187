"""Held-out objects: the model's views against the truth, beside three baselines.

    python benchmarks/held_out.py data=DIR [weights=FILE] [steps=8] [objects=N] [name=NAME]
                                  [photos=1,2,4] [meshes=DIR] [mesh_objects=24] [override …]

DIR is a folder of `mvdiff render`; its "val" objects are used, the "train" objects serve the
nearest-neighbor baseline. Figures are means over objects of means over the 16 views, on white:
PSNR, SSIM, and how well the silhouettes agree (hull IoU). One sample an object, no picking.
photos: input pictures an object; the further ones stand opposite (2) or a quarter turn apart (4).
meshes: the folder the data were rendered from; then the meshes that `hull` makes of the views
are compared with the true ones, beside the hull of the true views. Chamfer distances are in world
units (the object's box has a diagonal of 1), by the published protocol's points.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from origin import origin
from rich.console import Console
from rich.progress import track
from rich.table import Table

import mvdiff
from mvdiff.cameras.rigs import to_spherical
from mvdiff.data.augment import Augment
from mvdiff.data.dataset import Batch, RenderedDataset
from mvdiff.data.meshes import find_meshes, load_mesh, normalize_to_rig
from mvdiff.metrics import hull_iou, psnr, ssim
from mvdiff.metrics.geometry import chamfer
from mvdiff.pipeline import SamplerConfig, decode_views, denoise_views, views_at_once
from mvdiff.views.views import Views
from mvdiff.visualization import contact_sheet

RESULTS = Path(__file__).parent / "results"


def nearest(batch: Batch, train: RenderedDataset, side: int = 16) -> list[tuple[int, int]]:
    """For each photo, the training picture most like it: (object, index of its input)."""

    def small(rgba: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(rgba, size=(side, side), mode="area").flatten(1)

    photos = small(batch.photo)
    best = torch.full((len(photos),), float("inf"))
    where = [(0, 0)] * len(photos)
    for start in track(range(0, len(train), 64), "nearest training pictures"):
        index = list(range(start, min(start + 64, len(train))))
        for roll in range(train.view_count):
            there = small(train.batch(index, roll=roll).photo)
            distance = torch.cdist(photos, there)
            low, at = distance.min(dim=1)
            for i in (low < best).nonzero().flatten().tolist():
                best[i], where[i] = low[i], (index[int(at[i])], roll)
    return where


def figures(results: list[Views], batch: Batch) -> dict[str, float]:
    """Mean figures of one method over all objects."""
    truth = batch.views[:, :, :3]
    rows = [
        (psnr(v.rgb, t), ssim(v.rgb, t), hull_iou(v)) for v, t in zip(results, truth, strict=True)
    ]
    return dict(zip(("psnr", "ssim", "hull_iou"), np.mean(rows, axis=0).tolist(), strict=True))


def generate(
    model: mvdiff.pipeline.MultiViewPipeline,
    sampler: SamplerConfig,
    data: RenderedDataset,
    index: list[int],
    photos: int,
) -> list[Views]:
    """Views of every object, from `photos` pictures spread evenly around it."""
    results: list[Views] = []
    places = [k * data.view_count // photos for k in range(photos)]
    still = Augment.none().sample_params(np.random.default_rng(0), data.view_count)
    net, own = model.denoiser, torch.tensor(index)
    at_once = views_at_once(net, None)
    for some in track(own.split(8), f"{sampler.steps} steps, {photos} photos"):
        batch = data.assemble(
            some.tolist(), [replace(still, extra_views=tuple(places[1:]))] * len(some)
        )
        if batch.more is None:
            condition = net.condition(batch.photo, batch.elevation)
        else:
            degrees = torch.rad2deg(to_spherical(net.rig)[0])[places]
            condition = net.condition(
                torch.cat([batch.photo[:, None], batch.more.photos], dim=1),
                torch.cat([batch.elevation[:, None], batch.more.elevation], dim=1),
                degrees.expand(len(some), -1),
            )
        latents = denoise_views(net, sampler, condition, some.tolist(), at_once)
        results += [decode_views(net, latent) for latent in latents]
    return results


def mesh_figures(
    generated: list[Views], truth: list[Views], names: list[str], folder: str
) -> dict[str, float]:
    """Chamfer distances to the true meshes, of the hulls of generated and of true views."""
    paths = {path.stem: path for path in find_meshes(folder)}
    rows = []
    for name, mine, true in track(list(zip(names, generated, truth, strict=True)), "meshes"):
        mesh = normalize_to_rig(load_mesh(paths[name]))
        try:
            made = [mvdiff.reconstruct(v, "hull", ["texture_size=none"]) for v in (mine, true)]
        except mvdiff.MvdiffError:  # views without a common body
            continue
        surfaces = [trimesh.Trimesh(m.vertices, m.faces, process=False) for m in made]
        rows.append([chamfer(surface, mesh) for surface in surfaces])
    own, floor = np.array(rows).T
    return {
        "chamfer": float(own.mean()),
        "chamfer_median": float(np.median(own)),
        "chamfer_of_true_views": float(floor.mean()),
        "chamfer_of_true_views_median": float(np.median(floor)),
        "meshes": len(rows),
        "without_mesh": len(names) - len(rows),
    }


def main() -> None:
    """Run, print the table, write JSON and a contact sheet."""
    args = dict(a.split("=", 1) for a in sys.argv[1:])
    data, name = Path(args.pop("data")), args.pop("name", "tiny")
    steps = [int(s) for s in args.pop("steps", "8").split(",")]
    count, meshes = int(args.pop("objects", 0)), args.pop("meshes", None)
    photos = [int(p) for p in args.pop("photos", "1").split(",")]
    mesh_objects = int(args.pop("mesh_objects", 24))
    model = mvdiff.load(overrides=[f"{k}={v}" for k, v in args.items()])
    held_out, train = RenderedDataset(data, "val"), RenderedDataset(data, "train")
    index = list(range(len(held_out)))[: count or None]
    batch = held_out.batch(index)
    rig = model.denoiser.rig
    n = len(rig)

    def from_rgba(rgba: torch.Tensor) -> Views:
        return Views.from_white(rgba[:, :3], rgba[:, 3:], rig)

    rows: dict[str, dict[str, float]] = {}
    truth = [from_rgba(v) for v in batch.views]
    rows["truth"] = {"hull_iou": figures(truth, batch)["hull_iou"]}
    white = torch.ones_like(batch.views[0, :, :3])
    rows["white"] = {"psnr": float(np.mean([psnr(white, v[:, :3]) for v in batch.views]))}
    rows["copy of the input"] = figures(
        [from_rgba(p.expand(n, -1, -1, -1)) for p in batch.photo], batch
    )
    near = [from_rgba(train.batch([o], roll=r).views[0]) for o, r in nearest(batch, train)]
    rows["nearest training object"] = figures(near, batch)
    shown: list[Views] = []
    for count in steps:
        sampler = SamplerConfig(
            model.sampler.scheduler, count, model.sampler.eta, model.sampler.guidance
        )
        for pictures in photos:
            start = time.perf_counter()
            results = generate(model, sampler, held_out, index, pictures)
            seconds = (time.perf_counter() - start) / len(index)
            title = f"model, {count} steps" + (f", {pictures} photos" if pictures > 1 else "")
            rows[title] = {**figures(results, batch), "seconds": seconds}
            if meshes and pictures == 1:
                pick = [i for i in index if held_out.sources[i] == "mesh"]
                pick = [pick[k] for k in np.linspace(0, len(pick) - 1, mesh_objects).astype(int)]
                rows[title] |= mesh_figures(
                    [results[i] for i in pick], [truth[i] for i in pick],
                    [batch.names[i] for i in pick], meshes,
                )  # fmt: skip
            if pictures == 1:
                shown = results

    table = Table("method", "PSNR (dB)", "SSIM", "hull IoU", "s/object", "Chamfer", "true views'")
    for method, row in rows.items():
        cells = [
            f"{row[k]:.4f}"[:6] if k in row else "-"
            for k in ("psnr", "ssim", "hull_iou", "seconds", "chamfer", "chamfer_of_true_views")
        ]
        table.add_row(method, *cells)
    Console().print(table)
    record = {
        "objects": len(index),
        "rows": rows,
        "overrides": args,
        **origin(model.denoiser.device.type),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"held_out_{name}.json").write_text(json.dumps(record, indent=1))
    pick = np.linspace(0, len(index) - 1, min(12, len(index))).round().astype(int)
    sheet = [row[::2] for i in pick for row in (truth[i], shown[i])]
    labels = [label for i in pick for label in (batch.names[i], "generated")]
    contact_sheet(sheet, f"outputs/held_out_{name}.png", row_labels=labels)
    print(f"wrote {RESULTS}/held_out_{name}.json and outputs/held_out_{name}.png")


if __name__ == "__main__":
    main()
