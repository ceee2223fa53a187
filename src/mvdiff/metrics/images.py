"""Pictures against pictures: colours in [0, 1], on white where they had alpha."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import MvdiffError

#: Equal pictures have an infinite PSNR; it is cut off here, so that means stay finite.
MAX_PSNR = 100.0


def psnr(
    pred: Float[Tensor, "view 3 height width"], truth: Float[Tensor, "view 3 height width"]
) -> float:
    """Peak signal-to-noise ratio, dB: over pixels and channels, then the mean over views.

    Higher is better; at most `MAX_PSNR`. Raises MvdiffError when shapes differ or on NaN.
    """
    _comparable(pred, truth)
    error = (pred - truth).square().flatten(1).mean(dim=1)
    return float((-10 * error.clamp(min=10 ** (-MAX_PSNR / 10)).log10()).mean())


def ssim(
    pred: Float[Tensor, "view 3 height width"], truth: Float[Tensor, "view 3 height width"]
) -> float:
    """Structural similarity (Wang et al., 2004; Gaussian window of 11 pixels, sigma 1.5).

    The mean over pixels, channels and views; 1 for equal pictures. Raises MvdiffError when
    shapes differ, on NaN, and for pictures smaller than the window.
    """
    from kornia.metrics import ssim as kornia_ssim

    _comparable(pred, truth)
    if min(pred.shape[-2:]) < 11:
        raise MvdiffError(
            f"SSIM needs pictures of at least 11 pixels a side, got {tuple(pred.shape[-2:])}"
        )
    return float(kornia_ssim(pred, truth, window_size=11).mean())


def _comparable(pred: Tensor, truth: Tensor) -> None:
    if pred.shape != truth.shape or pred.ndim != 4:
        raise MvdiffError(
            "pictures to compare must share one shape (view, 3, height, width); got "
            f"{tuple(pred.shape)} and {tuple(truth.shape)}"
        )
    if not (torch.isfinite(pred).all() and torch.isfinite(truth).all()):
        raise MvdiffError("the pictures contain NaN or infinite numbers: nothing to compare")
