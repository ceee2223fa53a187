"""Data sets with a subset of evenly spaced views."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mvdiff.data.dataset import RenderedDataset
from mvdiff.data.view_subset import ViewSubset
from mvdiff.errors import MvdiffError


def test_every_second_view_and_its_input(rendered: Path) -> None:
    whole = RenderedDataset(rendered)
    half = ViewSubset(whole, 2)
    assert (half.view_count, half.size, half.names) == (2, whole.size, whole.names)
    assert half.fingerprint != whole.fingerprint
    for roll in (0, 1):
        a = whole.batch([3, 1], roll=2 * roll)
        b = half.batch([3, 1], roll=roll)
        assert torch.equal(a.views[:, ::2], b.views)
        assert torch.equal(a.photo, b.photo)
        assert torch.equal(a.elevation, b.elevation)
    assert torch.equal(half[3].targets, whole[3].targets[::2])
    assert torch.equal(half[3].input_elevation, whole[3].input_elevation[::2])


def test_an_uneven_share_is_refused(rendered: Path) -> None:
    with pytest.raises(MvdiffError, match="4 views cannot be thinned evenly to 3"):
        ViewSubset(RenderedDataset(rendered), 3)
