"""The fitted distance field: accuracy, reproducibility, resuming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from helpers.dented_box import dented_box, floor_height

from mvdiff.cameras import look_at, ring
from mvdiff.errors import MvdiffError
from mvdiff.recon import Neus
from mvdiff.recon.hull_steps import HullSettings, build_visual_hull
from mvdiff.recon.neus.field import Field
from mvdiff.recon.neus.initialize import NormalizedBox, sdf_from_hull
from mvdiff.recon.neus.rays import gather_rays
from mvdiff.recon.neus.render import place_samples, weights
from mvdiff.views.views import Views

QUICK = {
    "steps": 75,
    "resolution": 32,
    "rays": 256,
    "samples": 8,
    "coarse": 16,
    "grid_levels": 2,
    "color_levels": (16,),
    "max_faces": 4000,
    "device": "cpu",
    "init_from_photohull": False,
}


def ball_field(radius: float) -> Field:
    box = NormalizedBox(torch.zeros(3), 1.0, torch.ones(3))
    base = box.points(32).norm(dim=-1) - radius
    return Field(
        base,
        box.half,
        levels=[4, 8],
        color_levels=[4],
        features=2,
        width=8,
        views=1,
        sharpness=60.0,
        seed=0,
    )


@pytest.fixture(scope="module")
def few(sphere_views) -> Views:
    return sphere_views[list(range(0, 24, 2))]


def test_weights_sum_to_the_opacity_of_the_crossing():
    distance = torch.linspace(0.3, -0.3, 64)[None]
    w = weights(distance, torch.tensor(100.0))
    assert w.sum() == pytest.approx(1.0, abs=1e-3)
    assert abs(int(w.argmax()) - 31) <= 1  # unbiased: heaviest where the distance is 0
    assert weights(distance.abs() + 0.2, torch.tensor(100.0)).sum() < 1e-3


def test_only_the_first_surface_is_seen():
    distance = torch.tensor([[0.2, -0.2, 0.2, -0.2]])
    w = weights(distance, torch.tensor(200.0))
    assert w[0, 0] == pytest.approx(1.0, abs=1e-3)
    assert w[0, 1:].sum() < 1e-3


def test_box_units_and_back():
    points = np.array([[-1.0, 0, 2], [3.0, 1, 3]], np.float32)
    box = NormalizedBox.around(points, 0.0)
    assert box.unit == pytest.approx(2.0)
    assert box.half.tolist() == [1.0, 0.25, 0.25]
    world = torch.from_numpy(points)
    assert torch.allclose(box.to_world(box.to_box(world)), world, atol=1e-6)
    assert box.shape(8) == [3, 3, 9]


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_rays_and_samples_meet_the_surface(photograph, projection):
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.3)
    views = photograph(ball, ring(6, 0.0, size=48, projection=projection))
    hull = build_visual_hull(
        views,
        HullSettings(resolution=48, max_outlier_views=0, min_component_ratio=0.0, trim_caps=False),
        lambda stage, done: None,
    )
    box, start = sdf_from_hull(hull.grid, margin=0.06, cells=32)
    rays = gather_rays(hull.views, box, start, band=0.03, size=384)
    solid = rays.opacity == 1
    assert solid.sum() == (views.alpha == 255).sum()  # no pixel of the object is lost
    assert len(rays) < 0.5 * views.alpha.numel()  # most of the background is skipped
    depth = place_samples(
        rays,
        start[None, None],
        box.half,
        torch.tensor(100.0),
        jitter=torch.full((len(rays), 32), 0.5),
        shift=torch.full((len(rays), 1), 0.5),
        count=9,
    )
    assert (depth.diff(dim=1) >= 0).all()
    points = rays.origin[:, None] + rays.direction[:, None] * depth[..., None]
    surface = box.to_world(points)[solid].norm(dim=-1) - 0.3
    assert surface.median().abs() < 0.02


def test_field_is_a_distance_and_levels_add_to_it():
    field = ball_field(0.5)
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    assert (field.distance(points) - (points.norm(dim=-1) - 0.5)).abs().max() < 0.03
    with torch.no_grad():
        field.levels[0].fill_(0.1)
        added = field.distance(points) - field.distance(points, [0.0, 1.0])
    assert (added - 0.1).abs().max() < 1e-6
    shape = [33, 33, 33]
    assert field.dense(shape).shape == (1, 1, 33, 33, 33)
    with torch.no_grad():
        assert field.dense(shape).mean() > field.dense(shape, [0.0, 1.0]).mean() + 0.09


def test_a_sphere_gets_its_radius_and_a_closed_surface(few):
    mesh = Neus(**QUICK | {"steps": 200})(few)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert abs(radius.mean() - 0.4) < 0.008
    assert radius.std() < 0.008
    assert mesh.to_trimesh().is_watertight
    red = mesh.vertices[:, 0] > 0.06
    assert np.abs(mesh.colors[red].astype(int) - [220, 30, 30]).mean() < 15


def test_hollows_of_the_photo_hull_are_kept(photograph):
    cameras = look_at([30.0 * i for i in range(12)], [50.0, 65.0] * 6, size=64)
    views = photograph(dented_box(), cameras)
    settings = QUICK | {"steps": 120, "lr": 1e-3, "resolution": 48}
    filled, hollow = (
        floor_height(Neus(**settings | {"init_from_photohull": h})(views)) for h in (False, True)
    )
    assert filled > 0.24
    assert hollow < filled - 0.04


def test_same_seed_same_mesh_other_seed_other_mesh(few):
    first, again = Neus(**QUICK)(few), Neus(**QUICK)(few)
    other = Neus(**QUICK, seed=1)(few)
    assert np.array_equal(first.vertices, again.vertices)
    assert not np.array_equal(first.vertices, other.vertices)


class Stop(Exception):
    pass


def test_resumed_fit_equals_an_unbroken_one(few, tmp_path):
    path = tmp_path / "fit.pt"
    fitting = Neus(**QUICK, checkpoint=path, checkpoint_every=25)

    def stop(stage: str, share: float) -> None:
        if stage.startswith("fitting 50/"):
            raise Stop

    with pytest.raises(Stop):
        fitting(few, progress=stop)
    assert torch.load(path, weights_only=True)["step"] == 25
    reported = []
    resumed = fitting(few, progress=lambda stage, share: reported.append(stage))
    assert [s.split()[1] for s in reported if s.startswith("fitting")] == ["50/75", "75/75"]
    unbroken = Neus(**QUICK)
    whole = unbroken(few)
    assert fitting.fitted["losses"] == unbroken.fitted["losses"]
    assert np.array_equal(resumed.vertices, whole.vertices)
    assert np.array_equal(resumed.colors, whole.colors)
    assert not list(tmp_path.glob(".part-*"))
    # a finished fit is not fitted again, and still says how it ended
    again = Neus(**QUICK, checkpoint=path, checkpoint_every=25)
    again(few)
    assert again.fitted == fitting.fitted
    # states from before losses were kept serve on
    state = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in state.items() if k not in ("losses", "seconds")}, path)
    assert np.array_equal(again(few).vertices, whole.vertices)
    assert again.fitted == {"steps": 75, "seconds": 0.0, "losses": {}}


def test_seconds_of_a_fit_count_from_its_first_run_on(few, tmp_path):
    path = tmp_path / "fit.pt"
    Neus(**QUICK, checkpoint=path, checkpoint_every=25)(few)
    state = torch.load(path, weights_only=True)
    assert 0 < state["seconds"] < 600
    torch.save(state | {"step": 50, "seconds": 1000.0}, path)
    resumed = Neus(**QUICK, checkpoint=path, checkpoint_every=25)
    resumed(few)
    assert resumed.fitted["seconds"] > 1000


def test_checkpoint_of_something_else_is_refused(few, tmp_path):
    path = tmp_path / "fit.pt"
    short = QUICK | {"steps": 25}
    Neus(**short, checkpoint=path)(few)
    with pytest.raises(MvdiffError, match="belongs to other views or settings"):
        Neus(**short, checkpoint=path)(few[list(range(6))])
    with pytest.raises(MvdiffError, match="belongs to other views or settings"):
        Neus(**short | {"steps": 50}, checkpoint=path)(few)
    path.write_bytes(b"broken")
    with pytest.raises(MvdiffError, match="cannot read the checkpoint"):
        Neus(**short, checkpoint=path)(few)


def test_progress_tells_steps_and_losses_that_fall(few):
    reported = []
    neus = Neus(**QUICK)
    neus(few, progress=lambda stage, share: reported.append((stage, share)))
    shares = [share for _, share in reported]
    assert shares == sorted(shares)
    assert reported[-1] == ("done", 1.0)
    words = [stage.split() for stage, _ in reported if stage.startswith("fitting")]
    assert [w[1] for w in words] == ["25/75", "50/75", "75/75"]
    losses = [dict(zip(w[2::2], map(float, w[3::2]), strict=True)) for w in words]
    assert all(list(row) == ["color", "mask", "eikonal"] for row in losses)
    assert losses[-1]["color"] < losses[0]["color"]
    assert losses[-1]["mask"] < 0.05
    assert neus.fitted["steps"] == 75
    assert neus.fitted["losses"] == pytest.approx(losses[-1], abs=6e-5)
    assert neus.fitted["seconds"] > 0


def test_drift_of_colors_and_a_wrong_view_do_not_ruin_the_shape(few):
    gain = torch.linspace(0.8, 1.2, len(few))[:, None, None, None]
    images = (few.images * gain).clamp(0, 255).byte()
    alpha = few.alpha.clone()
    alpha[4, :, :, :32] = 0
    mesh = Neus(**QUICK | {"steps": 250})(Views(images, alpha, few.cameras))
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert abs(radius.mean() - 0.4) < 0.012
    assert np.abs(radius - 0.4).max() < 0.06


@pytest.mark.parametrize(
    "setting",
    [
        {"steps": 0},
        {"resolution": 4},
        {"rays": 0},
        {"samples": 1},
        {"lr": float("nan")},
        {"huber_delta": 0.0},
        {"mask_weight": -1.0},
        {"max_image_side": 2},
        {"color_levels": ()},
        {"checkpoint_every": 0},
        {"max_faces": 1},
        {"device": "abacus"},
        {"device": "meta"},
    ],
)
def test_bad_settings_are_named(setting):
    with pytest.raises(MvdiffError, match=f"neus: {next(iter(setting))}"):
        Neus(**setting)
