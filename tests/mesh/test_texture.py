"""Textures painted from views of objects whose colors are known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.csgraph
import torch
import trimesh
from helpers.dented_box import foreground_psnr

from mvdiff.cameras import look_at, ring
from mvdiff.errors import MvdiffError
from mvdiff.mesh.postprocess import postprocess, texture_side
from mvdiff.mesh.texture import bake
from mvdiff.mesh.texture.atlas import rasterise, unwrap
from mvdiff.mesh.texture.inpaint import GREY, dilate, spread
from mvdiff.recon import Hull, Mesh
from mvdiff.views.views import Views


def as_mesh(shape: trimesh.Trimesh) -> Mesh:
    gray = np.full((len(shape.vertices), 3), 128, np.uint8)
    return Mesh(np.array(shape.vertices, np.float32), np.array(shape.faces, np.int64), gray)


def ball(radius: float = 0.4, subdivisions: int = 4) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)


def surface_colors(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Points all over the surface, and the texture's colors there."""
    weights = np.random.default_rng(0).dirichlet([1, 1, 1], size=len(mesh.faces))
    points = np.einsum("fc,fci->fi", weights, mesh.vertices[mesh.faces])
    return points, mesh.texture.at(np.einsum("fc,fci->fi", weights, mesh.texture.uv)).astype(int)


RED, BLUE = [220, 30, 30], [30, 30, 220]


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_colors_land_where_they_were_seen(photograph, projection):
    shape = ball()
    shape.visual.face_colors = np.where(shape.triangles_center[:, :1] > 0, RED, BLUE)
    cameras = look_at([0, 90, 180, 270, 0, 0], [0, 0, 0, 0, 89, -89], size=96)
    if projection == "orthographic":
        cameras = look_at(
            [0, 90, 180, 270, 0, 0], [0, 0, 0, 0, 89, -89], size=96, projection=projection
        )
    mesh = bake(as_mesh(ball()), photograph(shape, cameras), size=256)
    points, colors = surface_colors(mesh)
    far = np.abs(points[:, 0]) > 0.035  # 2.5 pixels
    expected = np.where(points[:, :1] > 0, RED, BLUE)
    # also at the silhouettes and the charts' borders: no white, no black
    assert np.abs(colors - expected)[far].max() <= 8
    assert (
        np.abs(mesh.colors.astype(int) - np.where(mesh.vertices[:, :1] > 0, RED, BLUE))[
            np.abs(mesh.vertices[:, 0]) > 0.035
        ].max()
        <= 8
    )


def test_soft_borders_bring_no_background(photograph):
    shape = ball()
    shape.visual.face_colors = [40, 120, 60]
    views = photograph(shape, ring(8, 20.0, size=48))
    white = Views.from_white(views.rgb, None, views.cameras)
    _, colors = surface_colors(bake(as_mesh(ball()), white, size=128))
    assert np.abs(colors - [40, 120, 60]).max() <= 12


def test_hidden_surfaces_do_not_get_what_hides_them(photograph, cameras_around):
    """A small red ball stands before a large blue one."""
    large, small = ball(0.3, 3), ball(0.08, 3)
    small.apply_translation([0.45, 0, 0])
    large.visual.face_colors, small.visual.face_colors = BLUE, RED
    both = trimesh.util.concatenate([large, small])
    mesh = bake(as_mesh(both), photograph(both, cameras_around), size=256)
    points, colors = surface_colors(mesh)
    expected = np.where(np.linalg.norm(points, axis=1, keepdims=True) > 0.32, RED, BLUE)
    wrong = np.abs(colors - expected).max(axis=1)
    # the gap between them, seen at an angle, is a pixel wide: there they mix a little
    assert (wrong > 10).mean() < 0.05
    assert wrong.max() < 90


def test_what_no_view_saw_continues_the_colors_around_it(photograph):
    box = trimesh.creation.box((0.5, 0.5, 0.5)).subdivide().subdivide().subdivide()
    box.visual.face_colors = [40, 160, 80]
    mesh = bake(as_mesh(box), photograph(box, ring(8, 35.0, size=64)), size=128)
    points, colors = surface_colors(mesh)
    below = points[:, 2] < -0.249
    assert below.sum() > 50
    assert np.abs(colors - [40, 160, 80]).max() <= 8


def test_one_wrong_view_is_overruled(photograph, cameras_around):
    shape = ball()
    shape.visual.face_colors = [60, 140, 200]
    views = photograph(shape, cameras_around)
    images = views.images.clone()
    images[7] = 255 - images[7]
    mesh = bake(as_mesh(shape), Views(images, views.alpha, views.cameras), size=128)
    _, colors = surface_colors(mesh)
    assert np.abs(colors - [60, 140, 200]).max() <= 20


def test_one_view_is_enough(photograph):
    shape = ball()
    shape.visual.face_colors = RED
    mesh = bake(as_mesh(shape), photograph(shape, ring(1, size=64)), size=64)
    _, colors = surface_colors(mesh)
    assert np.abs(colors - RED).max() <= 8


def test_views_that_miss_the_mesh_leave_it_gray(photograph):
    shape = ball(0.1)
    shape.apply_translation([0, 0, 2.0])
    elsewhere = photograph(ball(), ring(4, 0.0, size=32))
    mesh = bake(as_mesh(shape), elsewhere, size=64)
    assert np.abs(mesh.texture.image - 255 * GREY).max() <= 1


def test_baking_keeps_the_surface_and_the_views(sphere_views):
    plain = as_mesh(ball())
    before = sphere_views.images.clone()
    reported = []
    mesh = bake(plain, sphere_views, size=64, progress=lambda *a: reported.append(a))
    assert mesh.vertices is plain.vertices
    assert mesh.faces is plain.faces
    assert plain.texture is None
    assert torch.equal(before, sphere_views.images)
    shares = [share for _, share in reported]
    assert shares == sorted(shares)
    assert reported[-1] == ("done", 1.0)


def test_baking_is_repeatable(sphere_views):
    one, two = (bake(as_mesh(ball()), sphere_views, size=64).texture for _ in range(2))
    assert np.array_equal(one.image, two.image)
    assert np.array_equal(one.uv, two.uv)


def test_charts_lie_apart_inside_the_picture():
    shape = ball()
    size = 256
    uv = unwrap(np.array(shape.vertices, np.float32), np.array(shape.faces), size)
    assert uv.min() >= 0
    assert uv.max() <= 1
    texels = rasterise(uv, size)
    assert np.array_equal(np.sort(np.unique(texels.index)), np.sort(texels.index))
    # every texel's point lies in the texel that it was found for
    back = texels.interpolate(uv)
    column, row = back[:, 0] * size, (1 - back[:, 1]) * size
    assert np.abs(column - (texels.index % size + 0.5)).max() < 0.01
    assert np.abs(row - (texels.index // size + 0.5)).max() < 0.01
    # the faces' area in the picture is what the texels cover: nothing lies on anything else
    edge = uv[:, 1:] - uv[:, :1]
    area = np.abs(edge[:, 0, 0] * edge[:, 1, 1] - edge[:, 0, 1] * edge[:, 1, 0]).sum() / 2
    assert len(texels.index) / size**2 == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("size", [128, 256])
def test_bilinear_lookup_mixes_no_charts(size):
    """Texels of different charts are so far apart that two levels of mip-maps keep them apart."""
    shape = ball()
    uv = unwrap(np.array(shape.vertices, np.float32), np.array(shape.faces), size)
    # faces that share two corners in the picture are of one chart
    _, corners = np.unique(np.round(uv.reshape(-1, 2) * 1e6), axis=0, return_inverse=True)
    a, b, c = corners.reshape(-1, 3).T
    links = scipy.sparse.coo_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, c])))
    count, chart_of_corner = scipy.sparse.csgraph.connected_components(
        scipy.sparse.csr_matrix((links.data, links.coords), shape=(corners.max() + 1,) * 2), False
    )
    assert count > 1
    texels = rasterise(uv, size)
    charts = np.full((size + 6, size + 6), -1)
    charts[3:-3, 3:-3].flat[texels.index] = chart_of_corner[a[texels.face]]
    middle = charts[3:-3, 3:-3]
    for down, right in np.ndindex(7, 7):  # three texels lie between two charts at least
        other = charts[down : down + size, right : right + size]
        assert not ((middle >= 0) & (other >= 0) & (other != middle)).any()


def test_the_smallest_and_flattest_meshes_unwrap():
    triangle = np.array([[0, 0, 0], [1e-4, 0, 0], [0, 1e-4, 0], [0, 0, 0]], np.float32)
    uv = unwrap(triangle, np.array([[0, 1, 2], [0, 3, 1]]), 64)
    # the triangle alone is there, a right one with two equal legs, and large; the face without
    # area has no texels
    texels = rasterise(uv, 64)
    assert set(texels.face) == {0}
    legs = np.linalg.norm(uv[0, 1:] - uv[0, 0], axis=1) * 64
    assert legs[0] == pytest.approx(legs[1], rel=0.02)
    assert 32 <= legs[0] <= 64
    assert len(texels.index) == pytest.approx(legs[0] * legs[1] / 2, rel=0.05)


def test_spread_is_harmonic():
    """Along a strip whose ends are seen, colors are interpolated linearly between them."""
    n = 21
    x = np.linspace(0, 1, n)
    vertices = np.array([[a, b, 0] for a in x for b in (0.0, 0.05)])
    faces = np.array([[2 * i, 2 * i + 2, 2 * i + 1] for i in range(n - 1)])
    faces = np.concatenate([faces, [[2 * i + 1, 2 * i + 2, 2 * i + 3] for i in range(n - 1)]])
    seen = np.zeros(2 * n)
    seen[[0, 1, -2, -1]] = 1
    colors = np.zeros((2 * n, 3))
    colors[[-2, -1]] = [1.0, 0.5, 0.25]
    out = spread(colors, seen, vertices, faces)
    assert np.abs(out - vertices[:, :1] * [1.0, 0.5, 0.25]).max() < 0.02


def test_parts_nobody_saw_take_the_nearest_color():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 0, 0], [6, 0, 0], [5, 1, 0.0]])
    faces = np.array([[0, 1, 2], [3, 4, 5]])
    colors = np.array([[0.1] * 3, [0.9] * 3, [0.1] * 3, *[[0.0] * 3] * 3])
    out = spread(colors, np.array([1.0, 1, 1, 0, 0, 0]), vertices, faces)
    assert np.abs(out[3:] - 0.9).max() < 0.01
    assert (spread(colors, np.zeros(6), vertices, faces) == np.float32(GREY)).all()


def test_dilation_fills_everything_from_the_nearest():
    image = np.zeros((9, 9, 3), np.uint8)
    filled = np.zeros((9, 9), bool)
    image[1, 1], image[7, 7] = 200, 90
    filled[1, 1] = filled[7, 7] = True
    out = dilate(image, filled)
    assert out[0, 0, 0] == 200
    assert out[8, 8, 0] == 90
    assert set(np.unique(out)) == {90, 200}


def test_settings_are_checked(sphere_views):
    for setting in ({"size": 8}, {"size": 9000}, {"power": -1.0}, {"border": float("nan")}):
        with pytest.raises(MvdiffError, match="side" if "size" in setting else "power and border"):
            bake(as_mesh(ball()), sphere_views, **setting)
    assert texture_side(None) == 1024
    assert texture_side(None, holds=False) is None
    assert texture_side("none") is None
    assert texture_side(0) is None
    assert texture_side(512) == 512
    for wrong in (8, 1.5, "big", True):
        with pytest.raises(MvdiffError, match="texture must be a side in texels"):
            texture_side(wrong)


def test_finish_does_all_in_order(sphere_views):
    shape = ball()
    open_ = trimesh.Trimesh(shape.vertices, shape.faces[shape.triangles_center[:, 2] < 0.3])
    reported = []
    mesh, notes = postprocess(
        as_mesh(open_),
        sphere_views,
        faces=1000,
        watertight=True,
        texture=64,
        progress=lambda *a: reported.append(a),
    )
    assert notes == ["watertight: filled 1 hole"]
    assert 900 < len(mesh.faces) < 1100
    assert mesh.to_trimesh(textured=False).is_watertight
    assert mesh.texture.image.shape == (64, 64, 3)
    shares = [share for _, share in reported]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    plain = as_mesh(shape)
    assert postprocess(plain, sphere_views) == (plain, [])


def test_textured_glb_of_a_real_scan_looks_like_its_views(shared_dir, tmp_path):
    from PIL import Image

    folder = shared_dir / "data" / "chicken"
    pixels = [np.array(Image.open(folder / f"{i:03d}.png").convert("RGBA")) for i in range(16)]
    rgba = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
    views = Views(rgba[:, :3], rgba[:, 3:], ring(size=256))
    mesh = Hull()(views)
    textured, _ = postprocess(mesh, views, texture=1024)
    assert len(textured.faces) <= 20_000 < len(mesh.faces)
    strict, covered = foreground_psnr(Mesh.load(textured.export(tmp_path / "c.glb")), views)
    assert covered >= 29.5
    # pixels that the hull misses at its silhouette, white against the object, cost 3 dB
    assert strict >= 26.7
    # more than the vertex colors of the same faces
    plain = Mesh(textured.vertices, textured.faces, textured.colors)
    assert covered > 1.0 + foreground_psnr(plain, views)[1]
