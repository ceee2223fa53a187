"""Held-out objects: the model's views against the truth, beside three baselines.

    python benchmarks/held_out.py data=DIR [weights=FILE] [steps=8] [objects=N] [override …]

DIR is a folder of `mvdiff render`; its "val" objects are used, the "train" objects serve the
nearest-neighbour baseline. Figures are means over objects of means over the 16 views, on white:
PSNR, SSIM, and how well the silhouettes agree (hull IoU). One sample an object, no picking.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import mvdiff
from mvdiff.commands.writing import versions
from mvdiff.data.dataset import Batch, MultiViewSet
from mvdiff.gallery import contact_sheet
from mvdiff.metrics import hull_iou, psnr, ssim
from mvdiff.pipeline import Sampler, generate_views
from mvdiff.views import Views

RESULTS = Path(__file__).parent / "results"


def nearest(batch: Batch, train: MultiViewSet, side: int = 16) -> list[tuple[int, int]]:
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


def main() -> None:
    """Run, print the table, write JSON and a contact sheet."""
    args = dict(a.split("=", 1) for a in sys.argv[1:])
    data, name = Path(args.pop("data")), args.pop("name", "tiny")
    steps = [int(s) for s in args.pop("steps", "8").split(",")]
    count = int(args.pop("objects", 0))
    model = mvdiff.load(overrides=[f"{k}={v}" for k, v in args.items()])
    held_out, train = MultiViewSet(data, "val"), MultiViewSet(data, "train")
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
        sampler = Sampler(model.sampler.scheduler, count, model.sampler.eta, model.sampler.guidance)
        results: list[Views] = []
        start = time.perf_counter()
        for some in track(torch.arange(len(index)).split(8), f"{count} steps"):
            results += generate_views(
                model.denoiser, sampler, batch.photo[some], batch.elevation[some], some.tolist()
            )
        seconds = (time.perf_counter() - start) / len(index)
        rows[f"model, {count} steps"] = {**figures(results, batch), "seconds": seconds}
        shown = results

    table = Table("method", "PSNR (dB)", "SSIM", "hull IoU", "s/object")
    for method, row in rows.items():
        cells = [
            f"{row[k]:.3f}" if k in row else "-" for k in ("psnr", "ssim", "hull_iou", "seconds")
        ]
        table.add_row(method, *cells)
    Console().print(table)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    record = {
        "objects": len(index),
        "rows": rows,
        "overrides": args,
        "versions": versions(),
        "device": str(model.denoiser.device),
        "commit": commit.stdout.strip(),
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
