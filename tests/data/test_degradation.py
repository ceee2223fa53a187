"""Degraded photos: what each defect does, and that objects stay in place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mvdiff.data.augment import Augment
from mvdiff.data.degradation import ImageDegradation
from mvdiff.errors import MvdiffError

GREEN, CLEAN = (0.0, 1.0, 0.0), 95


def square() -> torch.Tensor:
    """A dark red square on white, 32²."""
    photo = torch.ones(4, 32, 32)
    photo[3] = 0
    photo[:, 8:24, 8:24] = torch.tensor([0.4, 0.1, 0.1, 1.0]).view(4, 1, 1)
    return photo


def test_a_wide_cut_out_brings_the_old_background_along() -> None:
    degraded = ImageDegradation(edge=1.0, background=GREEN, blur=0, quality=CLEAN)(square())
    assert degraded[3].sum() == 18**2
    assert degraded[3, 7, 12] == 1
    red, green, blue = degraded[:3, 7, 12]
    assert green > 0.6
    assert max(red, blue) < 0.4  # JPEG mixes neighbors' colors a little
    assert degraded[:3, 2, 2].min() > 0.98


def test_a_narrow_cut_out_eats_the_edge_and_leaves_white() -> None:
    degraded = ImageDegradation(edge=-1.0, background=GREEN, blur=0, quality=CLEAN)(square())
    assert degraded[3].sum() == 14**2
    assert degraded[:3, 8, 12].min() > 0.9
    half = ImageDegradation(edge=-0.5, background=GREEN, blur=0, quality=CLEAN)(square())
    assert half[3, 8, 12] == pytest.approx(0.5)


def test_blur_softens_edges_and_keeps_the_mass() -> None:
    degraded = ImageDegradation(edge=0, background=GREEN, blur=0.8, quality=CLEAN)(square())
    assert 0.5 < degraded[3, 8, 16] < 0.9
    assert degraded[3].sum() == pytest.approx(16**2, rel=1e-4)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    for axis in (rows, columns):
        assert (degraded[3] * axis).sum() / degraded[3].sum() == pytest.approx(15.5, abs=1e-3)


def test_jpeg_changes_more_at_low_quality_and_never_the_mask() -> None:
    torch.manual_seed(0)
    photo = square()
    photo[:3, 8:24, 8:24] = torch.rand(3, 16, 16)
    errors = []
    for quality in (95, 40):
        degraded = ImageDegradation(edge=0, background=GREEN, blur=0, quality=quality)(photo)
        assert torch.equal(degraded[3], photo[3])
        errors.append(float((degraded[:3] - photo[:3]).abs().mean()))
    assert 0 < errors[0] < errors[1] / 1.5


def test_the_requested_share_is_degraded_within_the_limits() -> None:
    augment = Augment(degrade_prob=0.3, mask_jitter=0.5, blur_sigma=0.6, jpeg_quality=50)
    params = [augment.sample_params(np.random.default_rng(i), 16).degradation for i in range(2000)]
    some = [d for d in params if d is not None]
    assert len(some) / len(params) == pytest.approx(0.3, abs=0.03)
    assert -0.5 <= min(d.edge for d in some) < -0.4
    assert 0.4 < max(d.edge for d in some) <= 0.5
    assert max(d.blur for d in some) <= 0.6
    assert min(d.quality for d in some) in (50, 51)
    assert Augment.none().sample_params(np.random.default_rng(0), 16).degradation is None
    assert not Augment(mirror=0, color_prob=0, shift=0, scale=0, degrade_prob=0.1).rotation_only


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(MvdiffError, match="jpeg_quality must lie in"):
        Augment(jpeg_quality=0)
    with pytest.raises(MvdiffError, match="degrade_prob must lie in"):
        Augment(degrade_prob=1.5)
