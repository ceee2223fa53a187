"""All figures of one object's views in one flat row, and those of the truth and the controls."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from ..metrics import Lpips, corrupt, hull_iou, photometric_error, self_consistency
from ..metrics.checks import check_views
from ..metrics.images import view_psnr, view_ssim
from ..views import Views


def score_views(
    views: Views,
    truth: Views | None = None,
    *,
    lpips: Lpips | None = None,
    consistency: bool = True,
) -> dict[str, float]:
    """One object's views in figures: agreement with the truth, if given, and among themselves.

    Returns means over views, in this order:
        psnr (dB), ssim, and with weights lpips: view i on white against the truth's view i;
            only when `truth` is given.
        hull_iou: see `metrics.hull_iou`.
        photometric, self_chamfer, self_psnr: see `consistency_scores`; unless turned off.
    NaN stands for what too few views (2, 3, and 4 are needed) cannot tell. Nothing here is random.
    Raises MvdiffError when numbers or sizes of views differ from the truth's, and for pictures
    too small for SSIM (11 pixels) or LPIPS (16).
    """
    check_views(views)
    out: dict[str, float] = {}
    if truth is not None:
        check_views(truth, "the truth")
        scores = picture_scores(views.rgb, truth.rgb, lpips)
        out |= {key: float(score.mean()) for key, score in scores.items()}
    out["hull_iou"] = hull_iou(views) if len(views) > 1 else math.nan
    return out | (consistency_scores(views) if consistency else {})


def consistency_scores(views: Views) -> dict[str, float]:
    """photometric, self_chamfer and self_psnr, which need no truth.

    See `metrics.photometric_error` and `self_consistency`; NaN where there are too few views.
    """
    few = {"self_chamfer": math.nan, "self_psnr": math.nan}
    return {
        "photometric": photometric_error(views) if len(views) > 2 else math.nan,
        **(self_consistency(views) if len(views) > 3 else few),
    }


def measured(scores: Mapping[str, float]) -> dict[str, float]:
    """The figures that are not NaN."""
    return {key: score for key, score in scores.items() if not math.isnan(score)}


def control_scores(
    truth: Views, *, seed: int = 0, lpips: Lpips | None = None, consistency: bool = True
) -> dict[str, dict[str, float]]:
    """The rows without which a table of `score_views` cannot be read.

    Returns rows as `score_views` gives them: "truth" scores the truth itself, the best that can
    be asked for; "shifted", "rolled" and "tinted" score it with the defects of
    `metrics.corrupted`. A figure that is alike in a defect's row and the truth's does not see
    that defect on this object.
    seed: of the defects. Raises MvdiffError for fewer than 4 views.
    """
    rows = {"truth": truth, **corrupt(truth, seed=seed)}
    return {
        name: score_views(views, truth, lpips=lpips, consistency=consistency)
        for name, views in rows.items()
    }


def picture_scores(
    pred: Float[Tensor, "view 3 height width"],
    truth: Float[Tensor, "view 3 height width"],
    lpips: Lpips | None,
) -> dict[str, Float[Tensor, "view"]]:
    """PSNR, SSIM and, with weights, LPIPS of every view.

    SSIM counts whole windows only, as published, for colors of range 1 (the published
    script takes each pair's own range, which is 1 wherever black meets white).
    """
    out = {"psnr": view_psnr(pred, truth), "ssim": view_ssim(pred, truth, border=False)}
    return out if lpips is None else out | {"lpips": lpips(pred, truth)}
