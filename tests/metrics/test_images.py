"""PSNR and SSIM against known values."""

from __future__ import annotations

import pytest
import torch

from mvdiff.errors import MvdiffError
from mvdiff.metrics import psnr, ssim
from mvdiff.metrics.images import MAX_PSNR, check_comparable, view_psnr, view_ssim


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


def test_means_are_those_of_the_views(picture):
    noisy = (picture + 0.1 * torch.rand_like(picture)).clamp(0, 1)
    assert psnr(noisy, picture) == pytest.approx(float(view_psnr(noisy, picture).mean()))
    assert view_psnr(noisy, picture)[1] == pytest.approx(psnr(noisy[1:2], picture[1:2]))
    assert ssim(noisy, picture) == pytest.approx(float(view_ssim(noisy, picture).mean()))


def test_ssim_without_border_counts_whole_windows_only(picture):
    """Against the definition, computed window by window."""
    noisy = (picture + 0.2 * torch.rand_like(picture)).clamp(0, 1)
    at = torch.arange(11) - 5.0
    line = torch.exp(-(at**2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2
    total = []
    for v in range(3):
        for i in range(0, 22, 7):
            for j in range(0, 22, 7):
                a, b = noisy[v, 0, i : i + 11, j : j + 11], picture[v, 0, i : i + 11, j : j + 11]
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                ab = (window * (a - ma) * (b - mb)).sum()
                top = (2 * ma * mb + 1e-4) * (2 * ab + 9e-4)
                value = top / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
                cut = (v, slice(0, 1), slice(i, i + 11), slice(j, j + 11))
                one = (x[cut][None].expand(1, 3, -1, -1) for x in (noisy, picture))
                total.append((float(value), ssim(*one, border=False)))
    for expected, got in total:
        assert got == pytest.approx(expected, abs=1e-4)
    framed = [torch.nn.functional.pad(x, [20] * 4, value=1.0) for x in (noisy, picture)]
    assert ssim(*framed) > ssim(*framed, border=False)


@pytest.mark.parametrize("scale", [255.0, -1.0])
def test_other_ranges_are_refused(picture, scale):
    with pytest.raises(MvdiffError, match=r"colors must lie in \[0, 1\]"):
        psnr(picture * scale, picture)


def test_bad_pictures_are_refused(picture):
    with pytest.raises(MvdiffError, match="share one shape"):
        check_comparable(picture, picture[:2])
    with pytest.raises(MvdiffError, match="NaN"):
        psnr(picture * float("nan"), picture)
    with pytest.raises(MvdiffError, match="at least 11"):
        ssim(picture[..., :8, :8], picture[..., :8, :8])
