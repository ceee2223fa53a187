"""How much samples of one photo differ from each other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..views import Views
from .checks import check_comparable, check_views


def diversity(samples: Sequence[Views], *, skip: int = 1) -> float:
    """Mean difference of all pairs of samples of one photo; 0 when all are equal.

    The protocol of BicycleGAN (Zhu et al., "Toward multimodal image-to-image translation",
    2017), which averages a distance over pairs of samples of one input, with a distance that
    needs no learned weights: of every view, the root mean square difference of colors in
    [0, 1] on white, then the mean over views and pairs. What the photo shows should not differ
    and what it hides should, so this is no score by itself: read it beside the others.
    skip: this many first views are left out (view 0 lies nearest to the photo).
    Raises InputError for fewer than 2 samples, for samples of different sizes or numbers of
    views, and when no view is left.
    """
    for sample in samples:
        check_views(sample, "samples")
    if len(samples) < 2:
        raise InputError(f"diversity needs at least 2 samples of one photo, got {len(samples)}")
    if any(len(sample) <= skip for sample in samples):
        raise InputError(f"diversity leaves out the first {skip} of the views: none is left")
    pictures = [sample.rgb[skip:] for sample in samples]
    distances = []
    for a, b in itertools.combinations(pictures, 2):
        check_comparable(a, b)
        distances.append(float((a - b).square().flatten(1).mean(dim=1).sqrt().mean()))
    return float(np.mean(distances))
