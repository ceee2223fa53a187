"""Which of several results agrees best with its picture and with itself; no ground truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..cameras.camera import Cameras
from ..cameras.rigs import input_cameras
from ..errors import MvdiffError
from ..metrics.hull_iou import hull_iou
from ..metrics.photometric import photometric_error
from ..preprocessing.photo import PreparedImage
from ..views import Views

#: What a color difference of 1 costs, in units of silhouette agreement. Set by hand: in
#: benchmarks/ranking.py no weight made a measurable difference.
COLOR = 2.0


@dataclass(frozen=True)
class Sample:
    """One of several results for a picture.

    seed: the views are `generate(…, seed=seed)`'s.
    scores: see `score_sample`; `distance` to the mean of all samples where there are 3 or more.
        None where a score cannot be had.
    """

    views: Views
    seed: int
    scores: dict[str, float | None]


def rank(
    views: Sequence[Views], seeds: Sequence[int], photo: PreparedImage | None, elevation: float
) -> list[Sample]:
    """The samples of a picture, the best first.

    Of three or more, the nearest to their mean is the best, which on held-out objects is nearer to
    the truth, too (benchmarks/ranking.py); of two, the one that agrees better with the picture.
    photo, elevation: the picture and its camera's elevation, degrees. photo is None for views
        that were made from a text.
    """
    several = len(views) > 2
    apart: Sequence[float | None] = distances(views) if several else [None] * len(views)
    samples = []
    for each, seed, distance in zip(views, seeds, apart, strict=True):
        scores = finite_scores(each, photo, elevation)
        samples.append(Sample(each, seed, {**scores, "distance": distance}))
    return sorted(samples, key=lambda sample: (sort_key(sample.scores), sample.seed))


def finite_scores(
    views: Views, photo: PreparedImage | None, elevation: float
) -> dict[str, float | None]:
    """`score_sample`, None for what is not finite; nothing where too few views can be scored."""
    try:
        scores = score_sample(views, photo, elevation)
    except MvdiffError:
        return {}
    return {key: value if math.isfinite(value) else None for key, value in scores.items()}


def sort_key(scores: dict[str, float | None]) -> float:
    """Smaller is better: the distance to the mean, else the score."""
    distance, score = scores.get("distance"), scores.get("score")
    if distance is not None:
        return distance
    return math.inf if score is None else -score


def score_sample(views: Views, photo: PreparedImage | None, elevation: float) -> dict[str, float]:
    """How well views agree with each other and with the picture they were made from.

    photo: None where the views were made from a text. elevation: of the picture, degrees; it
        joins the views as one more, seen from there.
    Returns `hull_iou` (of the silhouettes, the picture's among them, in [0, 1], higher is
    better), `photometric` (of the colors, in [0, 1], lower is better) and `score`, which adds
    them up (higher is better). No learned weights are involved.
    """
    joined = views if photo is None else with_photo(views, photo, elevation)
    silhouettes = hull_iou(joined)
    colors = photometric_error(joined)
    worst = colors if colors == colors else 1.0  # nothing to compare: the views are empty
    return {
        "hull_iou": silhouettes,
        "photometric": colors,
        "score": silhouettes - COLOR * worst,
    }


def distances(samples: Sequence[Views]) -> list[float]:
    """How far each of several results is from the mean of all, in [0, 1].

    Root mean square over all views' pixels on white. The nearer a sample of a distribution is to
    its mean, the smaller is its expected squared distance from any other sample, the truth among
    them.
    """
    pictures = torch.stack([views.rgb.cpu() for views in samples])
    apart = (pictures - pictures.mean(dim=0)).square().flatten(1).mean(dim=1).sqrt()
    return apart.tolist()


def with_photo(views: Views, photo: PreparedImage, elevation: float) -> Views:
    """The views and, last, the picture as a view from its own camera."""
    cameras = views.cameras.to("cpu")
    its = input_cameras(cameras, torch.tensor([elevation]))
    together = Cameras(
        torch.cat([cameras.K, its.K]),
        torch.cat([cameras.w2c, its.w2c]),
        cameras.height,
        cameras.width,
        cameras.projection,
    )
    rgb = torch.cat([views.rgb, photo.rgb[None].cpu()])
    alpha = torch.cat([views.mask, photo.alpha[None].cpu()])
    return Views.from_white(rgb, alpha, together)
