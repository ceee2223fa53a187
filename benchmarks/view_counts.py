"""One set of weights, other cameras: how good are 8, 24 or 32 views, and views off the ring?

    python benchmarks/view_counts.py data=DIR weights=FILE [counts=8,16,24,32] [objects=24]
        [name=meanvar] [override …]

DIR is a folder of `mvdiff render`, FILE weights trained with volume=meanvar on its ring of 16.
Held-out objects are sampled with every rig, with the same seeds. PSNR compares the views that a
rig shares with the ring; off the ring, the truth is the folder's input pictures, whose elevations
are random: their cameras are given as a free rig. Hull IoU and photometric error need no truth.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from origin import origin
from rich.console import Console
from rich.progress import track
from rich.table import Table

import mvdiff
from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.data.dataset import Batch, RenderedDataset
from mvdiff.metrics import hull_iou, photometric_error, psnr
from mvdiff.pipeline import MultiViewPipeline, generate_views
from mvdiff.preprocessing.elevation import check_elevation
from mvdiff.utils.files import write_text
from mvdiff.views.views import Views

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Sample with every rig, print the table and write JSON."""
    args = dict(a.split("=", 1) for a in sys.argv[1:])
    data, name = Path(args.pop("data")), args.pop("name", "meanvar")
    counts = [int(n) for n in args.pop("counts", "8,16,24,32").split(",")]
    objects = int(args.pop("objects", 24))
    model = mvdiff.load(overrides=["volume=meanvar", *(f"{k}={v}" for k, v in args.items())])
    held_out = RenderedDataset(data, "val")
    index = np.linspace(0, len(held_out) - 1, min(objects, len(held_out))).round().astype(int)
    batch = held_out.batch(index.tolist())
    size = batch.views.shape[-1]
    rows = {}
    for count in counts:
        rig = ring(count, size=size)
        found = [sample(model, rig, batch, i) for i in track(range(len(index)), f"{count} views")]
        shared = math.gcd(count, 16)
        truth = batch.views[:, :: 16 // shared, :3]
        rows[f"{count} views"] = figures(
            found, [v.rgb[:: count // shared] for v in found], list(truth)
        )
    found, truth = [], []
    for i, row in enumerate(track(index.tolist(), "off the ring")):
        elevation = [check_elevation(e) for e in held_out[row].input_elevation]
        rig = look_at([22.5 * k for k in range(16)], elevation, size=size)
        found.append(sample(model, rig, batch, i))
        inputs = [held_out.batch([row], roll=k).photo[0] for k in range(16)]
        truth.append(torch.stack(inputs)[:, :3])
    rows["16 views, elevations -10° to 40°"] = figures(found, [v.rgb for v in found], truth)
    white = [psnr(torch.ones_like(t), t) for t in batch.views[:, :, :3]]
    rows["white"] = {"psnr": float(np.mean(white))}
    show(rows, len(index))
    settings = {"objects": len(index), **args, "weights": Path(args.get("weights", "")).name}
    record = {"settings": settings, "rows": rows, **origin()}
    write_text(RESULTS / f"view_counts_{name}.json", json.dumps(record, indent=1))


def sample(model: MultiViewPipeline, rig: Cameras, batch: Batch, i: int) -> Views:
    """Object i of the batch, seen by the rig."""
    model.denoiser.rig = rig
    some = slice(i, i + 1)
    return generate_views(
        model.denoiser, model.sampler, batch.photo[some], batch.elevation[some], [i]
    )[0]


def figures(
    found: list[Views], seen: list[torch.Tensor], truth: list[torch.Tensor]
) -> dict[str, float]:
    """Means over objects. seen: the pictures that have a truth."""
    pairs = zip(seen, truth, strict=True)
    return {
        "psnr": float(np.mean([psnr(a, b) for a, b in pairs])),
        "hull_iou": float(np.mean([hull_iou(v) for v in found])),
        "photometric": float(np.nanmean([photometric_error(v) for v in found])),
    }


def show(rows: dict[str, dict[str, float]], count: int) -> None:
    """The table on the terminal."""
    table = Table(title=f"{count} held-out objects, one sample each")
    for column in ("cameras", "PSNR (dB)", "hull IoU", "photometric ×100"):
        table.add_column(column, justify="left" if column == "cameras" else "right")
    for name, row in rows.items():
        cells = [f"{row['psnr']:.2f}"]
        if "hull_iou" in row:
            cells += [f"{row['hull_iou']:.3f}", f"{100 * row['photometric']:.2f}"]
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    with torch.no_grad():
        main()
