"""Which of several results agrees best with its picture and with itself; no ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .cameras.camera import Cameras
from .cameras.rigs import input_cameras
from .inputs.photo import Photo
from .metrics.photometric import photometric_error
from .metrics.silhouettes import hull_iou
from .views import Views

#: What a colour difference of 1 costs, in units of silhouette agreement. Set by hand: in
#: benchmarks/ranking.py no weight made a measurable difference.
COLOUR = 2.0


def score_sample(views: Views, photo: Photo, elevation: float) -> dict[str, float]:
    """How well views agree with each other and with the picture they were made from.

    elevation: of the picture, degrees; it joins the views as one more, seen from there.
    Returns `hull_iou` (of the silhouettes, the picture's among them, in [0, 1], higher is
    better), `photometric` (of the colours, in [0, 1], lower is better) and `score`, which adds
    them up (higher is better). No learned weights are involved.
    """
    joined = with_photo(views, photo, elevation)
    silhouettes = hull_iou(joined)
    colours = photometric_error(joined)
    worst = colours if colours == colours else 1.0  # nothing to compare: the views are empty
    return {
        "hull_iou": silhouettes,
        "photometric": colours,
        "score": silhouettes - COLOUR * worst,
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


def with_photo(views: Views, photo: Photo, elevation: float) -> Views:
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
