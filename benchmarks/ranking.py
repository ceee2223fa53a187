"""Does what ranks samples know which one is nearer to the truth?

    python benchmarks/ranking.py data=DIR [split=val] [objects=32] [samples=6] [steps=4]
        [weights=FILE] [name=tiny]

DIR is a folder of `mvdiff render`. For each object `samples` results are drawn; the PSNR of the
one nearest to their mean is compared with the mean of all PSNR and with the best there is, and so
is that of the one with the best score (`ranking.score_sample`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from origin import origin
from rich.console import Console
from rich.progress import track
from rich.table import Table

import mvdiff
from mvdiff.data.dataset import RenderedDataset
from mvdiff.evaluation.ranking import COLOR, distances, score_sample
from mvdiff.metrics import psnr
from mvdiff.pipeline import SamplerConfig, generate_views
from mvdiff.preprocessing.photo import PreparedImage
from mvdiff.utils.files import write_text

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Draw, score, print the table and write JSON."""
    args = dict(a.split("=", 1) for a in sys.argv[1:])
    data, split = Path(args.pop("data")), args.pop("split", "val")
    count, samples = int(args.pop("objects", 32)), int(args.pop("samples", 6))
    steps, name = int(args.pop("steps", 4)), args.pop("name", "tiny")
    model = mvdiff.load(overrides=[f"{k}={v}" for k, v in args.items()])
    objects = RenderedDataset(data, split)
    index = np.linspace(0, len(objects) - 1, min(count, len(objects))).round().astype(int)
    batch = objects.batch(index.tolist())
    how = SamplerConfig(model.sampler.scheduler, steps)
    rows = []
    for i in track(range(len(index)), "objects"):
        photo = PreparedImage(batch.photo[i, :3], batch.photo[i, 3:])
        elevation = float(batch.elevation[i])
        row, made = [], []
        for seed in range(samples):
            views = generate_views(
                model.denoiser, how, batch.photo[i][None], batch.elevation[i][None], [seed]
            )[0]
            scores = score_sample(views, photo, elevation)
            row.append({"psnr": psnr(views.rgb, batch.views[i, :, :3]), **scores})
            made.append(views)
        row = [{**r, "distance": d} for r, d in zip(row, distances(made), strict=True)]
        rows.append(row)
    found = summary(rows)
    table = Table(title=f"{len(rows)} objects ({split}), {samples} samples, {steps} steps")
    for column in ("", "PSNR (dB)"):
        table.add_column(column, justify="right" if column else "left")
    for key in ("mean", "first", "last", "best"):
        table.add_row(key, f"{found[key]:.2f}")
    Console().print(table)
    print(
        f"first − mean {found['gain']:+.3f} ± {found['gain_error']:.3f} dB (standard error over "
        f"objects), correlation within objects {found['correlation']:.2f}; by score instead of "
        f"distance {found['gain_of_score']:+.3f} ± {found['gain_of_score_error']:.3f} dB"
    )
    for color, gain in found["gain_by_color"].items():
        print(f"  color weight {color}: {gain:+.3f} dB")
    for weight, gain in found["gain_by_distance"].items():
        print(f"  {weight} × score − distance: {gain:+.3f} dB")
    record = {"settings": {"split": split, "samples": samples, "steps": steps, "color": COLOR},
              "summary": found, "rows": rows, **origin()}  # fmt: skip
    write_text(RESULTS / f"ranking_{name}.json", json.dumps(record, indent=1))


def summary(rows: list[list[dict[str, float]]]) -> dict:
    """Means over objects: of all samples, the first, last and best one; and their relation.

    correlation: of nearness and PSNR, both without their object's mean.
    gain_by_color: first − mean when colors weigh so much.
    """

    def table(key: str) -> np.ndarray:
        return np.array([[sample[key] for sample in row] for row in rows])

    quality, score = table("psnr"), table("score")
    distance = table("distance")
    silhouettes, colors = table("hull_iou"), np.nan_to_num(table("photometric"), nan=1.0)

    def picked(score: np.ndarray, first: bool = True) -> np.ndarray:
        place = score.argmax(axis=1) if first else score.argmin(axis=1)
        return quality[np.arange(len(rows)), place]

    gains, near = (picked(by) - quality.mean(axis=1) for by in (score, -distance))

    def error(gain: np.ndarray) -> float:
        return float(gain.std(ddof=1) / len(rows) ** 0.5) if len(rows) > 1 else 0.0

    centered = [x - x.mean(axis=1, keepdims=True) for x in (quality, -distance)]
    return {
        "mean": float(quality.mean()),
        "first": float(picked(-distance).mean()),
        "last": float(picked(-distance, first=False).mean()),
        "best": float(quality.max(axis=1).mean()),
        "gain": float(near.mean()),
        "gain_error": error(near),
        "gain_of_score": float(gains.mean()),
        "gain_of_score_error": error(gains),
        "correlation": float(np.corrcoef(*[x.ravel() for x in centered])[0, 1]),
        "gain_by_distance": {
            w: float((picked(w * score - distance) - quality.mean(axis=1)).mean())
            for w in (0, 0.03, 0.1, 0.3, 1)
        },
        "gain_by_color": {
            w: float((picked(silhouettes - w * colors) - quality.mean(axis=1)).mean())
            for w in (0, 0.5, 1, 2, 4, 8, 1000)
        },
    }


if __name__ == "__main__":
    with torch.no_grad():
        main()
