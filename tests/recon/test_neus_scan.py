"""`neus` at its defaults on a real scan: minutes, so run by `make test-full`."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.dented_box import foreground_psnr

from mvdiff.cameras import ring
from mvdiff.evaluation import evaluate_mesh
from mvdiff.mesh.postprocess import postprocess
from mvdiff.recon import Mesh
from mvdiff.recon.neus import Neus
from mvdiff.views.views import load_images


@pytest.mark.slow
def test_defaults_on_sixteen_views_of_a_real_scan(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "data" / "chicken"
    views = load_images([folder / f"{i:03d}.png" for i in range(16)], ring(size=256))
    mesh = Neus(device="cpu")(views)
    figures = evaluate_mesh(
        mesh.to_trimesh(textured=False),
        folder / "mesh.obj",
        normalize_reference=True,
        rotate_z=-270,
        iou=False,
    )
    assert figures["chamfer"] <= 0.0050
    textured, _ = postprocess(mesh, views, texture=1024)
    strict, covered = foreground_psnr(Mesh.load(textured.export(tmp_path / "c.glb")), views)
    assert strict >= 28
    assert covered >= 35
