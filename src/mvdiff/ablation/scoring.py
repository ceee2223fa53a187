"""Held-out objects: sampled with the same noise under every variant, scored, and the controls."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cameras.camera import Cameras
from ..data.dataset import Batch, MultiViewDataset
from ..metrics import Lpips
from ..pipeline import SamplerConfig, generate_views
from ..utils.files import atomic
from ..views import Views
from .profiling import count_flops, peak_memory, timed

#: objects that are sampled several times, for the diversity
NUM_DIVERSITY_OBJECTS = 4
#: figures that say nothing of the truth itself
REFERENCE_METRICS = ("psnr", "ssim", "lpips")
#: (what is going on, how many objects are done, of how many)
ProgressCallback = Callable[[str, int, int], None]
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class SampledViews:
    """What a trained model makes of the held-out objects.

    views: one set per object. extra_samples: for the first objects, sets with other seeds, too.
    seconds, cpu_seconds: of a sample (all views of one object), median. flops: of a sample, as
    in `StepCosts`. memory: peak bytes above the start, the model itself not counted, or None.
    """

    views: list[Views]
    extra_samples: list[list[Views]]
    seconds: float
    cpu_seconds: float
    flops: int
    memory: int | None


def select_heldout(data: MultiViewDataset, count: int) -> Batch:
    """`count` objects, evenly spread over the set: the same ones for every variant."""
    count = min(count, len(data))
    return data.batch(np.linspace(0, len(data) - 1, count).round().astype(int).tolist())


def true_views(batch: Batch, rig: Cameras) -> list[Views]:
    """The objects as they were rendered."""
    return [Views.from_white(v[:, :3], v[:, 3:], rig) for v in batch.views]


def repeat_input_views(batch: Batch, rig: Cameras) -> list[Views]:
    """The input picture in place of every view: what a model that ignores cameras reaches."""
    pictures = [photo.expand(len(rig), -1, -1, -1) for photo in batch.photo]
    return [Views.from_white(p[:, :3], p[:, 3:], rig) for p in pictures]


def sample_objects(
    model: Any,
    sampler: SamplerConfig,
    batch: Batch,
    samples: int,
    progress: ProgressCallback | None = None,
) -> SampledViews:
    """Sample every object, one at a time; object i's noise has the seed i in every run.

    samples: of each of the first `NUM_DIVERSITY_OBJECTS` objects, with seeds of their own.
    """

    def draw(i: int, seed: int) -> Views:
        some = slice(i, i + 1)
        return generate_views(model, sampler, batch.photo[some], batch.elevation[some], [seed])[0]

    with peak_memory(model.device) as memory:
        draw(0, 0)
    with count_flops() as flops:
        draw(0, 0)
    views, clock, processor = [], [], []
    for i in range(len(batch)):
        with timed(model.device) as seconds:
            views.append(draw(i, i))
        clock.append(seconds()[0])
        processor.append(seconds()[1])
        if progress:
            progress("sampling", i + 1, len(batch))
    several = range(min(NUM_DIVERSITY_OBJECTS, len(batch))) if samples > 1 else ()
    more = [[views[i], *(draw(i, 1000 * k + i) for k in range(1, samples))] for i in several]
    return SampledViews(
        views, more, statistics.median(clock), statistics.median(processor), flops(), memory()
    )


def score(
    views: Sequence[Views],
    names: Sequence[str],
    truth: Sequence[Views] | None,
    progress: ProgressCallback | None = None,
    lpips: Lpips | None = None,
) -> Scores:
    """`evaluate.score_views` of every object, by its name. truth: for figures that need it."""
    from ..evaluation import score_views

    found: Scores = {}
    for i, (name, view) in enumerate(zip(names, views, strict=True)):
        found[name] = score_views(view, None if truth is None else truth[i], lpips=lpips)
        if progress:
            progress("scoring", i + 1, len(views))
    return found


def diversities(more: Sequence[list[Views]]) -> float | None:
    """How much samples of one object differ, the mean over objects; None without several."""
    from ..metrics import diversity

    return statistics.fmean(diversity(several) for several in more) if more else None


def means(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Each figure's mean over the objects that have it as a finite number."""
    keys = dict.fromkeys(key for row in scores.values() for key in row)
    out = {}
    for key in keys:
        values = [float(row[key]) for row in scores.values() if key in row]
        finite = [value for value in values if math.isfinite(value)]
        if finite:
            out[key] = statistics.fmean(finite)
    return out


def controls(
    batch: Batch, rig: Cameras, progress: ProgressCallback | None = None, lpips: Lpips | None = None
) -> dict[str, Scores]:
    """The floor and what must lie apart from it: {row of the table: scores by object}.

    The truth by itself; the truth corrupted in the ways of `metrics.corrupted` (from 4 views on),
    which a figure that measures anything must progress apart; and the input picture in place of
    every view.
    """
    from ..evaluation import control_scores, score_views

    found: dict[str, Scores] = {}
    pairs = zip(true_views(batch, rig), repeat_input_views(batch, rig), batch.names, strict=True)
    for i, (truth, copy, name) in enumerate(pairs):
        if len(rig) >= 4:
            broken = control_scores(truth, lpips=lpips)
            rows = {
                "truth": {k: v for k, v in broken["truth"].items() if k not in REFERENCE_METRICS}
            }
            rows |= {f"truth, {kind}": broken[kind] for kind in broken if kind != "truth"}
        else:
            rows = {"truth": score_views(truth)}
        rows["copy of the input"] = score_views(copy, truth, lpips=lpips)
        for row, figures in rows.items():
            found.setdefault(row, {})[name] = figures
        if progress:
            progress("scoring the truth and controls", i + 1, len(batch))
    return found


def save_views(path: Path, views: Sequence[Views], names: Sequence[str]) -> None:
    """Pictures of several objects as one file (RGB on white), for contact sheets."""
    pixels = torch.stack([(v.rgb * 255).round().byte() for v in views]).numpy()
    with atomic(path) as part, part.open("wb") as file:
        np.savez_compressed(file, pixels=pixels, names=np.array(names))


def load_views(path: Path) -> dict[str, np.ndarray] | None:
    """What `save_views` wrote, by object: (view, 3, height, width) bytes; None if unreadable."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return dict(zip(content["names"].tolist(), content["pixels"], strict=True))
    except (OSError, ValueError, KeyError):
        return None
