"""Augmentation keeps objects whole: geometry, background, and photo and targets alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from mvdiff.cameras.rigs import look_at, ring
from mvdiff.data.augment import Augment, AugmentParams, apply, permute_views
from mvdiff.errors import MvdiffError
from mvdiff.rendering import Raycaster

STILL = Augment.none().sample_params(np.random.default_rng(0), 4)


def draw(**change: object) -> AugmentParams:
    return AugmentParams(**{**STILL.__dict__, **change})


def objects(n: int = 2, views: int = 4, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 256, (n, views, 4, size, size), generator=random).byte()
    return targets, targets[:, 0].clone()


def asymmetric() -> trimesh.Trimesh:
    """A body with a nose, an ear on one side and a foot on the other, each of its color."""
    parts = []
    for extents, place, color in [
        ((0.4, 0.3, 0.5), (0, 0, 0), (90, 90, 200, 255)),
        ((0.2, 0.1, 0.1), (0.25, 0, 0.1), (220, 40, 40, 255)),
        ((0.1, 0.2, 0.1), (0, 0.2, 0.25), (40, 200, 40, 255)),
        ((0.15, 0.1, 0.1), (-0.1, -0.18, -0.25), (230, 200, 30, 255)),
    ]:
        part = trimesh.creation.box(extents)
        part.apply_translation(place)
        part.visual.face_colors = color
        parts.append(part)
    return trimesh.util.concatenate(parts)


def rgba(mesh: trimesh.Trimesh, cameras) -> torch.Tensor:
    seen = Raycaster(mesh).render(cameras, shading=None)
    return torch.cat([seen.color, seen.alpha], dim=1)


@pytest.mark.parametrize("roll", [0, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_reordered_views_are_those_of_the_turned_and_mirrored_object(
    roll: int, mirror: bool
) -> None:
    count, size = 16, 32
    elevations = torch.linspace(-10, 40, count).tolist()
    azimuths = [22.5 * i for i in range(count)]
    mesh = asymmetric()
    targets = rgba(mesh, ring(count, size=size))
    photos = rgba(mesh, look_at(azimuths, elevations, size=size))
    order = permute_views(count, roll, mirror)
    flip = (lambda x: x.flip(-1)) if mirror else (lambda x: x)

    changed = mesh.copy()
    turn = trimesh.transformations.rotation_matrix(-np.radians(22.5 * roll), [0, 0, 1])
    changed.apply_transform(turn)
    if mirror:
        changed.apply_transform(np.diag([1.0, -1, 1, 1]))
    truth = rgba(changed, ring(count, size=size))
    photo = rgba(changed, look_at([0], [elevations[order[0]]], size=size))

    def differing(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(((a.int() - b.int()).abs().amax(dim=-3) > 2).float().mean())

    # Rays along edges fall to either side after rounding; a wrong order differs in > 2 %.
    assert differing(flip(targets[order]), truth) < 0.002
    assert differing(flip(photos[order[0]]), photo[0]) < 0.002
    if roll or mirror:
        assert differing(targets, truth) > 0.02


def test_without_change_bytes_are_composited_on_white() -> None:
    targets, photos = objects()
    views, photo = apply(targets, photos, [STILL, STILL])
    x = targets.float() / 255
    torch.testing.assert_close(views[:, :, 3], x[:, :, 3])
    torch.testing.assert_close(views[:, :, :3], x[:, :, :3] * x[:, :, 3:] + 1 - x[:, :, 3:])
    assert torch.equal(photo, views[:, 0])
    assert targets.equal(objects()[0]), "the input must stay as it was"


def test_colors_change_alike_in_photo_and_targets_and_white_stays_white() -> None:
    targets, photos = objects()
    targets[:, :, 3, :2] = 0
    photos = targets[:, 0].clone()
    strong = Augment(roll=False, mirror=0, color_prob=1, shift=0, scale=0)
    params = [strong.sample_params(np.random.default_rng(i), 4) for i in range(2)]
    views, photo = apply(targets, photos, params)
    assert torch.equal(photo, views[:, 0])
    assert (views[:, :, :3, :2] == 1).all()
    torch.testing.assert_close(views[:, :, 3], targets[:, :, 3].float() / 255)
    assert ((views >= 0) & (views <= 1)).all()
    plain, _ = apply(targets, photos, [STILL, STILL])
    assert (views[:, :, :3] - plain[:, :, :3]).abs().mean() > 0.02
    alone, _ = apply(targets[1:], photos[1:], params[1:])
    assert torch.equal(alone[0], views[1]), "an object's change must not depend on its neighbors"


def test_permuting_swaps_channels_and_turning_hues_keeps_grays() -> None:
    only = {"roll": False, "mirror": 0, "color_prob": 1, "shift": 0, "scale": 0}
    off = {"saturation": 1, "gain": 1, "gamma": 1}
    seen = set()
    for i in range(60):
        d = Augment(**only, **off, hue=0, channel_shuffle_prob=1).sample_params(
            np.random.default_rng(i), 4
        )
        assert sorted(d.matrix.flatten().tolist()) == [0] * 6 + [1] * 3
        seen.add(tuple(d.matrix.argmax(1)))
    assert len(seen) == 5, "every order but the given one"
    d = Augment(**only, **off, hue=180, channel_shuffle_prob=0).sample_params(
        np.random.default_rng(1), 4
    )
    np.testing.assert_allclose(d.matrix @ [0.4, 0.4, 0.4], 0.4)
    assert np.abs(d.matrix - np.eye(3)).max() > 0.1
    np.testing.assert_allclose(d.matrix @ d.matrix.T, np.eye(3), atol=1e-12)


def test_the_photo_moves_right_and_down_and_brings_in_white() -> None:
    targets = torch.zeros(1, 4, 4, 16, 16, dtype=torch.uint8)
    photos = torch.zeros(1, 4, 16, 16, dtype=torch.uint8)
    photos[0, 3, 4, 6] = 255  # one black dot
    views, photo = apply(targets, photos, [draw(shift=(2 / 16, 3 / 16))])
    assert (photo[0, 3] > 1e-3).nonzero().tolist() == [[7, 8]]
    torch.testing.assert_close(photo[0, :, 7, 8], torch.tensor([0.0, 0, 0, 1]), atol=1e-3, rtol=0)
    assert (photo[0, :3].sum() - 3 * 255).abs() < 1e-2
    assert (views[:, :, :3] == 1).all(), "targets stay where they are"


def test_the_photo_grows_with_scale() -> None:
    photos = torch.zeros(1, 4, 32, 32, dtype=torch.uint8)
    photos[0, 3, 8:24, 8:24] = 255
    targets = photos[:, None].expand(1, 4, 4, 32, 32)
    _, photo = apply(targets, photos, [draw(scale=1.5)])
    assert float(photo[0, 3].sum()) == pytest.approx((16 * 1.5) ** 2, rel=0.03)


def test_draws_keep_their_bounds_and_depend_on_the_generator_alone() -> None:
    augment = Augment()
    params = [augment.sample_params(np.random.default_rng([0, 2, g]), 16) for g in range(400)]
    assert {d.roll for d in params} == set(range(16))
    assert 0.4 < np.mean([d.mirror for d in params]) < 0.6
    assert all(0.96 <= d.scale <= 1.04 for d in params)
    assert all(abs(s) <= 0.02 for d in params for s in d.shift)
    assert all(1 / 1.25 <= d.gamma <= 1.25 for d in params)
    assert 0.7 < np.mean([not np.array_equal(d.matrix, np.eye(3)) for d in params]) < 0.9
    again = augment.sample_params(np.random.default_rng([0, 2, 5]), 16)
    assert np.array_equal(again.matrix, params[5].matrix)
    assert (again.roll, again.shift) == (params[5].roll, params[5].shift)
    without = Augment(mirror=0).sample_params(np.random.default_rng([0, 2, 5]), 16)
    assert without.roll == params[5].roll, "switching one change off must leave the others alone"


@pytest.mark.parametrize(
    "wrong", [{"mirror": 1.5}, {"color_prob": -1}, {"gain": 0.5}, {"gamma": 0}]
)
def test_impossible_strengths_are_refused(wrong: dict) -> None:
    with pytest.raises(MvdiffError, match=next(iter(wrong))):
        Augment(**wrong)
