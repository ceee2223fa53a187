"""A rendered folder of colored balls and the settings of a sweep that takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.tiny_recipe import TOY, ball_views
from mvdiff.cameras.rigs import look_at, ring
from mvdiff.views.views import Views

VIEWS, SIZE, TRAIN, VAL = 4, 16, 6, 3
SMALL = [word for word in TOY if not word.startswith(("size=", "sampler.steps"))]
#: a model of some thousand weights, four views of 16², two denoising steps
WORDS = [
    *SMALL, f"size={SIZE}", "sampler.steps=2", "objects=2", "samples=2", "train.batch_size=2",
    "train.views=2", "train.warmup=1", "train.precision=fp32", "log_every=1", "device=cpu",
    "profile_seconds=0",
]  # fmt: skip


def _tinted(views: Views, i: int) -> Views:
    return Views(views.images.roll(i, dims=1), views.alpha, views.cameras)


def write_balls(root: Path) -> Path:
    """Balls of several sizes and colors, as `mvdiff render` writes objects."""
    objects = []
    for i in range(TRAIN + VAL):
        radius = 0.25 + 0.03 * i
        inputs = look_at([360 / VIEWS * k for k in range(VIEWS)], [10.0 + k for k in range(VIEWS)],
                         size=SIZE)  # fmt: skip
        folder = root / f"ball{i}"
        _tinted(ball_views(ring(VIEWS, size=SIZE), radius), i).save(folder / "target")
        _tinted(ball_views(inputs, radius), i).save(folder / "input")
        split = "train" if i < TRAIN else "val"
        objects.append({"name": f"ball{i}", "split": split, "source": "shape", "family": "ball"})
    (root / "index.json").write_text(json.dumps({"version": 1, "size": SIZE, "objects": objects}))
    return root
