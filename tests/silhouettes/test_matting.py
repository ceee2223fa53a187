"""Objects keyed from plain backgrounds: JPEG, noise, specks, pale objects, mixed alpha."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import trimesh
from helpers.dented_box import dented_box
from PIL import Image

from mvdiff.cameras import ring
from mvdiff.recon import Hull
from mvdiff.rendering import Raycaster
from mvdiff.silhouettes.masks import overlap
from mvdiff.silhouettes.matting import background, cut_out, object_mask
from mvdiff.views.views import Views

WHITE, GRAY = (1.0, 1.0, 1.0), (0.6, 0.6, 0.65)


def painted(mesh: trimesh.Trimesh, color: list[int] | np.ndarray) -> trimesh.Trimesh:
    mesh.visual.face_colors = np.broadcast_to(color, (len(mesh.faces), 3)).astype(np.uint8)
    return mesh


def torus(color: list[int]) -> trimesh.Trimesh:
    standing = trimesh.transformations.rotation_matrix(np.pi / 2, [1, 0, 0])
    return painted(trimesh.creation.torus(0.35, 0.09).apply_transform(standing), color)


def two_halves(above: list[int], below: list[int]) -> trimesh.Trimesh:
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.4)
    top = ball.triangles_center[:, 2:] > 0
    return painted(ball, top * np.array(above) + ~top * np.array(below))


def photograph(mesh: trimesh.Trimesh) -> Views:
    cameras = ring(8, size=128)
    return Raycaster(mesh).render(cameras, supersample=2, shading=None).views(cameras)


@pytest.fixture(scope="module")
def scenes() -> dict[str, Views]:
    rods = [trimesh.creation.icosphere(subdivisions=2, radius=0.15)]
    rods += [trimesh.creation.cylinder(0.012, segment=s) for s in _crossed(0.45)]
    meshes = {
        "halves": two_halves([220, 30, 30], [30, 30, 220]),
        "box": dented_box(),
        "torus": torus([180, 120, 60]),
        "rods": painted(trimesh.util.concatenate(rods), [120, 40, 160]),
        "light": painted(trimesh.creation.icosphere(subdivisions=3, radius=0.35), [235, 235, 228]),
        "pale half": two_halves([30, 30, 40], [240, 240, 238]),
    }
    return {name: photograph(mesh) for name, mesh in meshes.items()}


def _crossed(reach: float) -> list[np.ndarray]:
    return [np.array([-axis, axis]) * reach for axis in np.eye(3)[1:]]


def on(views: Views, behind: tuple[float, ...]) -> torch.Tensor:
    """The views' 8-bit pixels on a plain background."""
    mask = views.mask
    pixels = views.images / 255 * mask + (1 - mask) * torch.tensor(behind)[:, None, None]
    return (pixels * 255).round().byte()


def as_jpeg(images: torch.Tensor, quality: int) -> torch.Tensor:
    out = []
    for pixels in images.movedim(1, -1).numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        out.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(out)).movedim(-1, 1)


def with_noise(images: torch.Tensor, sigma: float) -> torch.Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + sigma * noise).round().clamp(0, 255).byte()


def iou(pixels: torch.Tensor, truth: Views) -> float:
    found = object_mask(Views(pixels, None, truth.cameras))
    return float(overlap(found[:, 0], truth.mask[:, 0]).mean())


CORRUPTIONS = {
    "quality 85": (lambda x: as_jpeg(x, 85), 0.97),
    "quality 60": (lambda x: as_jpeg(x, 60), 0.95),
    "noise": (lambda x: with_noise(x, 8), 0.97),
    "noise and quality 80": (lambda x: as_jpeg(with_noise(x, 6), 80), 0.96),
}


@pytest.mark.parametrize("behind", [WHITE, GRAY], ids=["white", "gray"])
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_jpeg_and_noise_leave_the_masks(scenes, kind, behind):
    corrupt, least = CORRUPTIONS[kind]
    found = {name: iou(corrupt(on(views, behind)), views) for name, views in scenes.items()}
    assert np.mean(list(found.values())) > least, found
    assert min(found.values()) > 0.92, found


@pytest.mark.parametrize("behind", [WHITE, GRAY], ids=["white", "gray"])
def test_clean_pictures_are_keyed_at_the_least_distance(scenes, behind):
    """All that differs from the background by 7 of 255 is object, and nothing else."""
    for name in set(scenes) - {"box"}:  # some of its squares are gray
        views = scenes[name]
        pixels = on(views, behind)
        plain = (torch.tensor(behind)[:, None, None] * 255).round()
        tinted = ((pixels.float() - plain).abs() > 6.4).any(dim=1, keepdim=True)
        assert torch.equal(object_mask(Views(pixels, None, views.cameras)) > 0, tinted)


@pytest.mark.parametrize("corrupt", [lambda x: as_jpeg(x, 60), lambda x: with_noise(x, 8)])
def test_the_hole_of_a_torus_stays_open_and_clear(scenes, corrupt):
    truth = scenes["torus"][0]
    found = object_mask(Views(corrupt(on(truth, WHITE)), None, truth.cameras))[0, 0]
    hole = (truth.mask[0, 0] == 0) & (torch.hypot(*_from_middle(128)) < 18)
    assert hole.sum() > 100
    assert (found[hole] > 0.5).float().mean() < 0.02


def _from_middle(size: int) -> list[torch.Tensor]:
    at = torch.arange(size) - (size - 1) / 2
    return list(torch.meshgrid(at, at, indexing="ij"))


def test_specks_and_pinholes_of_noise_are_gone(scenes):
    truth = scenes["light"]
    found = object_mask(Views(with_noise(on(truth, WHITE), 8), None, truth.cameras))
    near = torch.nn.functional.max_pool2d(truth.mask, 5, stride=1, padding=2) > 0
    inside = torch.nn.functional.max_pool2d(1 - truth.mask, 9, stride=1, padding=4) == 0
    assert not found[~near].any()
    assert found[inside].mean() > 0.99


def test_noise_is_not_mistaken_for_a_busy_border():
    gray = torch.full((2, 3, 64, 64), 150, dtype=torch.uint8)
    for sigma in (8, 16):
        views = Views(with_noise(gray, sigma), None, ring(2, size=64))
        assert (background(views) * 255 - 150).abs().max() < 4
    assert not object_mask(Views(with_noise(gray, 8), None, views.cameras)).any()


def mixed(views: Views, plain: list[int], behind: tuple[float, ...] = WHITE) -> Views:
    """The views with some of them on a background and opaque."""
    images, alpha = views.images.clone(), views.alpha.clone()
    images[plain] = on(views, behind)[plain]
    alpha[plain] = 255
    return Views(images, alpha, views.cameras)


def test_opaque_views_among_transparent_ones_are_keyed(scenes):
    truth = scenes["halves"]
    given = mixed(truth, [1, 6], GRAY)
    cut = cut_out(given)
    assert overlap(cut.mask[:, 0], truth.mask[:, 0]).min() > 0.99
    rest = [0, 2, 3, 4, 5, 7]
    assert torch.equal(cut.images[rest], truth.images[rest])
    assert torch.equal(cut.alpha[rest], truth.alpha[rest])
    assert cut_out(cut) is cut
    quick = Hull(resolution=32, trim_caps=False)
    volumes = [quick(views).to_trimesh().volume for views in (given, truth)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.02)


def test_views_filled_by_the_object_keep_their_alpha(scenes):
    """A border of several colors, or one color all over, is no background."""
    given = mixed(scenes["halves"], [2, 3])
    given.images[2] = torch.randint(
        0, 255, (3, 128, 128), generator=torch.Generator().manual_seed(0)
    )
    given.images[3] = 90
    assert object_mask(given)[2:4].min() == 1
    cut = cut_out(given)
    assert torch.equal(cut.images[2:4], given.images[2:4])
