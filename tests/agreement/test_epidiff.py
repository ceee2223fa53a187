"""The recipe `epidiff` computes what EpiDiff's released code computes.

Skipped without the reference data. Weights are the synthetic ones by published names.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden import assert_agrees
from torch import Tensor

from mvdiff.attention import ATTENTION, SlotSpec, ViewContext
from mvdiff.attention.epidiff import ray_samples
from mvdiff.cameras import Cameras
from mvdiff.weights.key_maps.epidiff import epidiff_mapping
from mvdiff.weights.synthetic import fill_synthetic

#: views of which geometry.npz and block.npz keep the details, and the cameras of the points
VIEWS, CAMERAS = (0, 5), (0, 1, 5, 8, 15)


def load(folder: Path, name: str) -> dict[str, Tensor]:
    with np.load(folder / "golden" / "epidiff" / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file}


def published_cameras(folder: Path, side: int = 8) -> Cameras:
    """The cameras of the golden file, as they stand in it."""
    golden = load(folder, "cameras")
    w2c = torch.linalg.inv(golden["c2w"].double())[:, :3].float()
    K = golden["intrinsics"][:, :3, :3].clone()
    K[:, :2] *= side
    return Cameras(K, w2c, side, side)


def block(**settings: object):
    slot = SlotSpec(64, 1, {}, 16, unet_time_dim=1280)
    module = ATTENTION["epidiff"](slot, residual=False, **settings)
    return fill_synthetic(module, "unet.slots.up11.", epidiff_mapping).eval().requires_grad_(False)


def test_samples_on_the_rays(shared_dir):
    golden = load(shared_dir, "geometry")
    rays = ray_samples(published_cameras(shared_dir), None, 8, 0.5, 2.8)
    for k, view in enumerate(VIEWS):
        order = [rays.near[view].index(camera) for camera in range(16)]
        seen = rays.seen[view, order]
        assert torch.equal(seen, golden["mask"][k])
        ours = rays.position[view, [order[c] for c in CAMERAS]] * 2 - 1
        inside = golden["points"][k].abs().amax(-1) <= 1
        assert_agrees("EpiDiff, points", ours[inside], golden["points"][k][inside])
        assert_agrees("EpiDiff, codes", rays.codes[view], golden["embedding"][k])


@pytest.mark.parametrize(
    ("faithful", "key"), [(True, "output"), (False, "output_if_neighbours")]
)
def test_block(shared_dir, faithful, key):
    golden = load(shared_dir, "block")
    module, cameras = block(faithful=faithful), published_cameras(shared_dir)
    x, time = golden["input"][None], golden["time"]
    scene = ViewContext(cameras, {}, torch.zeros(1, 16), torch.arange(16), unet_time=time[None])
    if faithful:
        maps = module.resnet(golden["input"], time)
        assert_agrees("EpiDiff, residual block", maps[list(VIEWS)], golden["after_resnet"])
        rows = maps.flatten(2).mT[None]
        rays = ray_samples(cameras, None, 8, 0.5, 2.8)
        samples = [module.samples_of(rows, module.time(time[i : i + 1]), rays, i) for i in VIEWS]
        samples = torch.cat(samples)[:, ::4]
        assert_agrees("EpiDiff, samples", samples, golden["samples"])
    assert_agrees(f"EpiDiff, block {key}", module(x, scene)[0], golden[key])
