"""`pose=sincos` computes what Wonder3D's authors' code computes from cameras.

`tests/golden/wonder3d/pose.npz` comes from that code: the cameras of its embedding (world to
camera, OpenGL axes), the five numbers and their sines and cosines of 6 normal and 6 color views,
and what a network of width 32 with weights by name embeds them to.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden import assert_agrees

from mvdiff.cameras import Cameras
from mvdiff.denoiser.pose import SinCosPose, sines_and_cosines
from mvdiff.weights.synthetic import rule_weight

FILE = Path(__file__).parents[1] / "golden" / "wonder3d" / "pose.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(FILE) as file:
        return {name: torch.from_numpy(file[name]) for name in file}


def relative_angles(cameras: Cameras) -> torch.Tensor:
    """As the denoiser gives them to a pose, for an input that is view 0.

    From the cameras' centers: these cameras are tilted, so that their axes give other angles.
    """
    x, y, z = cameras.centers.double().unbind(-1)
    elevation, azimuth = torch.atan2(z, torch.hypot(x, y)), torch.atan2(y, x)
    turned = azimuth - azimuth[0]
    columns = [elevation[0] - elevation, turned.sin(), turned.cos(), torch.zeros_like(turned)]
    return torch.stack(columns, dim=-1)[None].float()


def color_cameras(golden) -> Cameras:
    flipped = golden["embedding_w2c_opengl"] * torch.tensor([1.0, -1.0, -1.0])[:, None]
    return Cameras(torch.eye(3).repeat(6, 1, 1), flipped, 256, 256, "orthographic")


def test_sines_and_cosines_of_the_published_cameras(golden):
    ours = sines_and_cosines(relative_angles(color_cameras(golden)))[0]
    assert_agrees("wonder3d: sines and cosines", ours, golden["camera_sincos"][6:])


def test_the_embedding_of_the_published_cameras(golden):
    pose = SinCosPose(time_dim=128)
    names = {"0": "class_embedding.linear_1", "2": "class_embedding.linear_2"}
    weights = {
        f"net.{layer}.{kind}": rule_weight(
            f"{name}.{kind}", pose.get_parameter(f"net.{layer}.{kind}").shape
        )
        for layer, name in names.items()
        for kind in ("weight", "bias")
    }
    pose.load_state_dict(weights)
    cameras = color_cameras(golden)
    with torch.no_grad():
        ours = pose(relative_angles(cameras), cameras, cameras[0]).time
    assert_agrees("wonder3d: camera embedding", ours[0], golden["class_embedding"][6:])
