"""Elevation estimates: the crop, the network's outputs, and known views of a box."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mvdiff.cameras import look_at
from mvdiff.errors import MvdiffError
from mvdiff.preprocessing.elevation import (
    FILL,
    HIGH,
    LOW,
    SIDE,
    ElevationNet,
    crop,
    estimate_elevation,
    read_elevation,
)
from mvdiff.preprocessing.photo import PreparedImage
from mvdiff.rendering import Raycaster


def painted(left, top, right, bottom, size=48):
    picture = torch.ones(1, 4, size, size)
    picture[:, 3] = 0
    picture[:, :, top:bottom, left:right] = torch.tensor([0.2, 0.4, 0.6, 1.0])[:, None, None]
    return picture


@pytest.mark.parametrize("box", [(4, 10, 20, 42), (0, 0, 48, 12), (30, 31, 34, 33)])
@pytest.mark.parametrize("size", [48, 192])
def test_crop_centers_the_object_at_one_scale(box, size):
    scale = size // 48
    cut = crop(painted(*(scale * x for x in box), size=size))[0]
    inside = cut[3] > 0.5
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    tall, wide = len(rows), len(columns)
    assert max(tall, wide) == pytest.approx(FILL * SIDE, abs=1.5)
    assert tall / wide == pytest.approx((box[3] - box[1]) / (box[2] - box[0]), rel=0.12)
    assert (rows[0] + rows[-1]) / 2 == pytest.approx((SIDE - 1) / 2, abs=1)
    assert (columns[0] + columns[-1]) / 2 == pytest.approx((SIDE - 1) / 2, abs=1)
    # what lies around the object is white, and its own color is kept
    assert torch.allclose(cut[:3, 0, 0], torch.ones(3), atol=1e-5) or 0 in box[:2]
    middle = cut[:3, SIDE // 2, SIDE // 2]
    assert torch.allclose(middle, torch.tensor([0.2, 0.4, 0.6]), atol=1e-4)


def test_a_picture_without_object_stays_white():
    blank = painted(0, 0, 0, 0)
    white = torch.ones(1, 4, SIDE, SIDE)
    white[:, 3] = 0
    torch.testing.assert_close(crop(blank), white)


@pytest.mark.parametrize(
    ("numbers", "degrees", "spread"),
    [
        ((0.0, 0.0), 15.0, 25 * (math.log(2) + 0.02)),  # the middle of [-10, 40]
        ((1.0, -30.0), 40.0, 25 * 0.02),  # the upper end, as sure as it gets
        ((-1.0, 4.0), -10.0, 25 * (math.log1p(math.exp(4)) + 0.02)),
    ],
)
def test_the_networks_two_numbers_are_degrees_and_their_spread(numbers, degrees, spread):
    net = ElevationNet()
    head = net.out[-1]
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor(numbers))
    for calibration in (1.0, 1.5):
        net.calibration.fill_(calibration)
        mean, deviation = net(torch.rand(3, 4, SIDE, SIDE))
        assert mean.tolist() == pytest.approx([degrees] * 3, abs=1e-4)
        assert deviation.tolist() == pytest.approx([calibration * spread] * 3, rel=1e-5)


def test_estimates_stay_within_the_training_data(monkeypatch):
    photo = PreparedImage(*painted(10, 10, 30, 30)[0].split([3, 1]))
    for number, degrees in ((9.0, HIGH), (-9.0, LOW)):
        net = ElevationNet()
        with torch.no_grad():
            net.out[-1].weight.zero_()
            net.out[-1].bias.fill_(number)
        monkeypatch.setattr("mvdiff.preprocessing.elevation._shipped", lambda net=net: net)
        assert estimate_elevation(photo).degrees == degrees


def test_the_users_number_wins():
    photo = PreparedImage(*painted(10, 10, 30, 30)[0].split([3, 1]))
    said = read_elevation("12.5", photo)
    assert (said.degrees, said.spread, said.estimated) == (12.5, 0.0, False)
    for auto in (None, "auto"):
        assert read_elevation(auto, photo).estimated
    for wrong in (True, "high", 91, math.nan):
        with pytest.raises(MvdiffError, match="elevation must be a number of degrees"):
            read_elevation(wrong, photo)


def test_elevations_of_a_box_seen_from_three_heights():
    """A box in three colors, rendered from known cameras; no training object is a plain box."""
    import trimesh

    box = trimesh.creation.box((0.5, 0.35, 0.3))
    colors = np.array([(200, 60, 60), (60, 60, 200), (230, 230, 120)])
    box.visual.face_colors = colors[np.abs(box.face_normals).argmax(axis=1)]
    caster = Raycaster(box)
    found = []
    for degrees in (0.0, 20.0, 38.0):
        cameras = look_at([30.0], [degrees], size=96)
        views = caster.render(cameras, supersample=2).views(cameras)
        estimate = estimate_elevation(PreparedImage(views.rgb[0], views.mask[0]))
        assert estimate.estimated
        assert estimate.spread > 0
        assert LOW <= estimate.degrees <= HIGH
        found.append(estimate.degrees)
    assert found[0] < found[1] < found[2]
    assert max(abs(a - b) for a, b in zip(found, (0, 20, 38), strict=True)) < 12
