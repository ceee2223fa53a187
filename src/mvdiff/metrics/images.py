"""Pictures against pictures: colors in [0, 1], on white where they had alpha."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ..errors import InputError
from .checks import check_comparable

#: Equal pictures have an infinite PSNR; it is cut off here, so that means stay finite.
MAX_PSNR = 100.0


def psnr(
    pred: Float[Tensor, "view 3 height width"], truth: Float[Tensor, "view 3 height width"]
) -> float:
    """Peak signal-to-noise ratio, dB: over pixels and channels, then the mean over views.

    Higher is better; at most `MAX_PSNR`. Raises InputError when shapes differ, on NaN, and on
    colors outside [0, 1].
    """
    return float(view_psnr(pred, truth).mean())


def view_psnr(
    pred: Float[Tensor, "view 3 height width"], truth: Float[Tensor, "view 3 height width"]
) -> Float[Tensor, "view"]:
    """`psnr` of every view."""
    check_comparable(pred, truth)
    error = (pred - truth).square().flatten(1).mean(dim=1)
    return -10 * error.clamp(min=10 ** (-MAX_PSNR / 10)).log10()


def ssim(
    pred: Float[Tensor, "view 3 height width"],
    truth: Float[Tensor, "view 3 height width"],
    *,
    border: bool = True,
) -> float:
    """Structural similarity (Wang et al., 2004; Gaussian window of 11 pixels, sigma 1.5).

    The mean over pixels, channels and views, for colors of range 1; 1 for equal pictures.
    border: also count the 5 pixels at the border, whose windows are completed by reflection.
        White borders are equal in both pictures and raise the figure; the published protocol
        leaves them out.
    Raises InputError when shapes differ, on NaN, on colors outside [0, 1], and for pictures
    smaller than the window.
    """
    return float(view_ssim(pred, truth, border=border).mean())


def view_ssim(
    pred: Float[Tensor, "view 3 height width"],
    truth: Float[Tensor, "view 3 height width"],
    *,
    border: bool = True,
) -> Float[Tensor, "view"]:
    """`ssim` of every view."""
    from kornia.metrics import ssim as kornia_ssim

    check_comparable(pred, truth)
    if min(pred.shape[-2:]) < 11:
        raise InputError(
            f"SSIM needs pictures of at least 11 pixels a side, got {tuple(pred.shape[-2:])}"
        )
    padding = "same" if border else "valid"
    return kornia_ssim(pred, truth, window_size=11, padding=padding).flatten(1).mean(dim=1)
