"""Rendering: analytic depths, colors of every kind, and the published depth maps."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.errors import MvdiffError
from mvdiff.rendering import Raycaster, Shading
from mvdiff.rendering.tracers import embree_tracer, numpy_tracer

BOTH = pytest.mark.parametrize("projection", ["perspective", "orthographic"])


def cube(side: float = 0.5, **kwargs: object) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(extents=[side] * 3)
    for name, value in kwargs.items():
        setattr(mesh.visual, name, value)
    return mesh


@pytest.fixture
def without_embree(monkeypatch):
    """As on a machine where embreex cannot be imported."""
    monkeypatch.setitem(sys.modules, "embreex", None)


def test_chicken_gives_the_published_depth_maps(shared_dir):
    folder = shared_dir / "data" / "chicken"
    mesh = trimesh.load(folder / "mesh.obj", force="mesh")
    mesh.apply_translation(-mesh.bounds.mean(axis=0))
    mesh.apply_scale(1 / mesh.extents.max())
    mesh.apply_transform(trimesh.transformations.rotation_matrix(np.radians(-270), [0, 0, 1]))
    depth = Raycaster(mesh).render(ring(size=256)).depth.numpy()
    stored = np.stack([np.array(Image.open(folder / f"{i:03d}-depth.png")) for i in range(16)])
    true = stored / 65535 * 1.8 + 0.6
    valid, hit = (true > 0.63) & (true < 2.37), depth > 0
    assert (valid & hit).sum() / (valid | hit).sum() >= 0.9999
    assert np.abs(true - depth)[valid & hit].mean() <= 2e-5


@BOTH
def test_depth_and_normals_of_a_facing_square(projection):
    # Seen from +x, the cube's near face is the plane x = 0.25, at depth 1.5 − 0.25.
    cameras = look_at([0], [0], size=32, projection=projection)
    r = Raycaster(cube()).render(cameras)
    hit = r.depth[0] > 0
    assert torch.allclose(r.depth[0][hit], torch.tensor(1.25), atol=1e-6)
    half = 280 / 8 * 0.25 / (1.25 if projection == "perspective" else 1.5)
    assert hit.sum() == (2 * int(half + 0.5)) ** 2
    assert torch.allclose(r.normals[0][:, hit], torch.tensor([[1.0], [0], [0]]), atol=1e-6)
    assert (r.normals[0][:, ~hit] == 0).all()


@BOTH
def test_depth_unprojects_onto_the_surface(projection):
    cameras = ring(5, elevation=20, size=24, projection=projection)
    r = Raycaster(trimesh.creation.icosphere(subdivisions=4, radius=0.4)).render(cameras)
    points = cameras.unproject(cameras.pixel_grid().expand(5, -1, -1, -1), r.depth)
    radius = points.norm(dim=-1)[r.depth > 0]
    assert len(radius) > 500
    assert radius.max() <= 0.4 + 1e-5
    assert radius.min() >= 0.4 * 0.99


@BOTH
def test_numpy_tracer_gives_the_same_pictures(projection, without_embree):
    mesh = trimesh.util.concatenate([trimesh.creation.icosphere(radius=0.3), cube(0.4)])
    mesh.visual.face_colors = np.random.default_rng(0).integers(0, 255, (len(mesh.faces), 3))
    cameras = ring(4, size=48, projection=projection)
    slow = Raycaster(mesh).render(cameras)
    sys.modules.pop("embreex", None)
    fast = Raycaster(mesh).render(cameras)
    same = (slow.depth - fast.depth).abs() < 1e-5
    assert same.float().mean() > 0.9995
    assert (slow.color == fast.color).float().mean() > 0.999
    assert (slow.alpha == fast.alpha).float().mean() > 0.9995


def test_tracers_agree_on_any_rays():
    pytest.importorskip("embreex")
    rng = np.random.default_rng(1)
    corners = trimesh.creation.torus(0.4, 0.15).triangles
    origins, way = rng.normal(size=(3000, 3)), rng.normal(size=(3000, 3))
    way = -origins + 0.3 * way
    (f, u, v), (g, x, y) = (build(corners)(origins, way) for build in (embree_tracer, numpy_tracer))
    assert 300 < (f >= 0).sum() < 3000
    assert (f == g).mean() > 0.998
    both = (f == g) & (f >= 0)
    np.testing.assert_allclose(u[both], x[both], atol=1e-4)
    np.testing.assert_allclose(v[both], y[both], atol=1e-4)


def test_supersampled_alpha_is_coverage_and_depth_stays_at_centers():
    cameras = ring(2, size=16)
    one = Raycaster(cube()).render(cameras)
    fine = Raycaster(cube()).render(cameras, supersample=4)
    assert torch.equal(one.depth, fine.depth)
    assert set(one.alpha.unique().tolist()) == {0, 255}
    assert len(fine.alpha.unique()) > 4
    exact = Raycaster(cube()).render(cameras.resize(128)).alpha.float().mean()
    assert abs(fine.alpha.float().mean() - exact) < 0.5


def test_faces_keep_their_colors_straight_at_the_edge():
    r = Raycaster(cube(face_colors=[200, 40, 90])).render(
        ring(3, size=20), supersample=3, shading=None
    )
    seen = r.alpha[:, 0] > 0
    partly = (r.alpha[:, 0] > 0) & (r.alpha[:, 0] < 255)
    assert partly.any()
    assert (r.color.permute(0, 2, 3, 1)[seen] == torch.tensor([200, 40, 90])).all()
    assert (r.color.permute(0, 2, 3, 1)[~seen] == 0).all()
    views = r.views(ring(3, size=20))
    assert torch.equal(views.images, r.color)


def test_vertex_colors_are_interpolated():
    mesh = trimesh.Trimesh(
        [[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0, 0.5]],
        [[0, 1, 2]],
        vertex_colors=[[255, 0, 0], [0, 255, 0], [0, 0, 255]],
    )
    r = Raycaster(mesh).render(look_at([0], [0], size=64), shading=None)
    color = r.color[0].permute(1, 2, 0)[r.depth[0] > 0].float()
    assert (color.sum(dim=1) - 255).abs().max() <= 2
    bottom_left = r.color[0][:, 32 + 46 // 2 - 1, 32 - 46 // 2 + 1]
    assert bottom_left[0] > 230


def textured_square(material: object) -> trimesh.Trimesh:
    visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], material=material)
    corners = [[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]]
    return trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)


def test_textures_lie_the_right_way_round():
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:32, :32], pixels[:32, 32:], pixels[32:, :32] = [255, 0, 0], [0, 255, 0], [0, 0, 255]
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    r = Raycaster(textured_square(material)).render(look_at([0], [0], size=64), shading=None)
    # +y is to the right in a view from +x.
    assert r.color[0][:, 20, 20].tolist() == [255, 0, 0]
    assert r.color[0][:, 20, 44].tolist() == [0, 255, 0]
    assert r.color[0][:, 44, 20].tolist() == [0, 0, 255]
    assert r.color[0][:, 44, 44].tolist() == [0, 0, 0]


def test_material_base_colors_are_linear_in_gltf_and_plain_in_obj():
    linear = trimesh.visual.material.PBRMaterial(baseColorFactor=[55, 255, 0, 255])
    plain = trimesh.visual.material.SimpleMaterial(diffuse=[55, 255, 0, 255])
    for material, red in ((linear, 128), (plain, 55)):
        r = Raycaster(textured_square(material)).render(look_at([0], [0], size=8), shading=None)
        seen = r.color[0][:, 4, 4].tolist()
        assert abs(seen[0] - red) <= 1
        assert seen[1:] == [255, 0]


def test_shading_darkens_what_faces_away_and_lights_both_sides():
    mesh = cube(face_colors=[200, 200, 200])
    light = Shading(light=(1, 0, 0), ambient=0.4, wrap=0)
    r = Raycaster(mesh).render(look_at([0, 180], [0, 0], size=16), shading=light)
    assert r.color[:, 0, 8, 8].tolist() == [200, 80]
    mesh.invert()
    flipped = Raycaster(mesh).render(look_at([0, 180], [0, 0], size=16), shading=light)
    assert torch.equal(r.color, flipped.color)
    assert torch.allclose(r.normals, flipped.normals)


def test_stored_normals_shade_smoothly():
    mesh = trimesh.creation.icosphere(subdivisions=1, radius=0.4)
    flat = Raycaster(mesh).render(ring(1, size=32)).normals
    mesh.vertex_attributes["normal"] = mesh.vertices / 0.4
    smooth = Raycaster(mesh).render(ring(1, size=32)).normals
    assert len(flat.flatten(2).unique(dim=2)[0, 0]) < 81
    assert len(smooth.flatten(2).unique(dim=2)[0, 0]) > 200
    length = smooth.norm(dim=1)
    assert torch.allclose(length[length > 0], torch.tensor(1.0), atol=1e-5)


def test_a_camera_inside_the_mesh_sees_all_around():
    cameras = look_at([0], [0], distance=0.01, size=16)
    assert (Raycaster(cube(2.0)).render(cameras).depth > 0).all()


def test_views_are_rendered_in_groups_when_memory_is_short(monkeypatch):
    raycaster, cameras = Raycaster(cube()), ring(5, size=16)
    whole = raycaster.render(cameras, supersample=2)
    monkeypatch.setattr("mvdiff.rendering.raycast._BATCH", 2 * 32 * 32)
    parts = raycaster.render(cameras, supersample=2)
    assert torch.equal(whole.color, parts.color)
    assert torch.equal(whole.depth, parts.depth)


def test_nothing_in_view_gives_empty_pictures():
    mesh = cube()
    mesh.apply_translation([0, 0, 50])
    r = Raycaster(mesh).render(ring(2, size=8), supersample=3)
    assert r.alpha.max() == 0
    assert r.depth.max() == 0


@pytest.mark.parametrize(
    "mesh",
    [
        trimesh.Trimesh(),
        trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]], process=False),
    ],
)
def test_a_mesh_without_area_is_refused(mesh):
    with pytest.raises(MvdiffError, match="no faces"):
        Raycaster(mesh)


def test_a_supersample_below_one_is_refused():
    with pytest.raises(MvdiffError, match="supersample"):
        Raycaster(cube()).render(ring(1, size=8), supersample=0)


def test_skewed_intrinsics_agree_with_projection():
    cameras = ring(2, size=24)
    K = cameras.K.clone()
    K[:, 0, 1], K[:, 0, 0], K[:, 0, 2] = 3.0, 20.0, 13.0
    cameras = Cameras(K, cameras.w2c, 24, 24)
    r = Raycaster(trimesh.creation.icosphere(subdivisions=4, radius=0.4)).render(cameras)
    points = cameras.unproject(cameras.pixel_grid().expand(2, -1, -1, -1), r.depth)
    radius = points.norm(dim=-1)[r.depth > 0]
    assert radius.max() <= 0.4 + 1e-5
    assert radius.min() >= 0.395
