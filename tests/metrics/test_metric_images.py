"""PSNR and SSIM against values known beforehand."""

from __future__ import annotations

import inspect

import pytest
import torch

from mvdiff.errors import MvdiffError
from mvdiff.metrics import psnr, ssim
from mvdiff.metrics.images import MAX_PSNR


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_equal_pictures(picture):
    assert psnr(picture, picture) == MAX_PSNR
    assert ssim(picture, picture) == pytest.approx(1, abs=1e-5)


def test_psnr_is_averaged_over_views_not_over_errors():
    truth = torch.full((2, 3, 16, 16), 0.5)
    pred = truth.clone()
    pred[0] += 0.1
    pred[1] += 0.01
    assert psnr(pred, truth) == pytest.approx((20 + 40) / 2, abs=1e-3)


def test_psnr_agrees_with_kornia(picture):
    from kornia.metrics import psnr as kornia_psnr

    noisy = (picture + 0.05 * torch.randn_like(picture)).clamp(0, 1)
    expected = torch.stack([kornia_psnr(a, b, 1.0) for a, b in zip(noisy, picture, strict=True)])
    assert psnr(noisy, picture) == pytest.approx(float(expected.mean()), abs=1e-4)


def test_ssim_falls_with_blur_more_than_with_brightness(picture):
    blurred = torch.nn.functional.avg_pool2d(picture, 5, stride=1, padding=2)
    brighter = picture * 0.9 + 0.1
    assert ssim(blurred, picture) < 0.5 < 0.85 < ssim(brighter, picture) < 1


def test_bad_pictures_are_refused(picture):
    # Unwrapped, since the shape checker of the test run would speak first.
    with pytest.raises(MvdiffError, match="share one shape"):
        inspect.unwrap(psnr)(picture, picture[:2])
    with pytest.raises(MvdiffError, match="NaN"):
        psnr(picture * float("nan"), picture)
    with pytest.raises(MvdiffError, match="at least 11"):
        ssim(picture[..., :8, :8], picture[..., :8, :8])
