"""Any number of views from any cameras, from the command line to the mesh."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.tiny_recipe import TOY, ball_views, picture, pixels, toy_args, toy_config, toy_weights
from PIL import Image

import mvdiff
from mvdiff import builders
from mvdiff.cameras import ring
from mvdiff.cameras.formats import write_transforms
from mvdiff.cameras.rigs import custom, sphere
from mvdiff.cli.main import main
from mvdiff.config.compose import compose
from mvdiff.errors import MvdiffError
from mvdiff.recon import Mesh
from mvdiff.views.views import Views
from mvdiff.visualization import preview

RIGS = {
    "eight": ["rig.count=8"],
    "many": ["rig=ring", "rig.count=24"],
    "spiral": ["rig=spiral", "rig.count=5", "rig.turns=1.5"],
    "sphere": ["rig=sphere", "rig.count=6", "rig.projection=orthographic"],
    "custom": [
        "rig=custom",
        "rig.azimuth=[0,30,200]",
        "rig.elevation=[20,-10,75]",
        "rig.distance=[1.5,1.2,2.5]",
    ],
    "flat": ["rig=custom", "rig.distance=[1.5,1.2,2,1]", "rig.projection=orthographic"],
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a model with four views."""
    return toy_weights(tmp_path_factory.mktemp("weights") / "w.safetensors", "volume=meanvar")


def settings(rig: str) -> list[str]:
    """Settings of the toy recipe with this rig instead of its own."""
    return [*(o for o in TOY if not o.startswith("rig.")), *RIGS[rig]]


@pytest.mark.parametrize("rig", RIGS)
def test_generate_writes_the_views_of_any_rig(rig, weights, tmp_path, capsys):
    photo = tmp_path / "cup.png"
    picture().save(photo)
    given = [o for o in toy_args(weights) if o not in TOY]
    args = [f"image={photo}", f"out={tmp_path / 'out'}", "volume=meanvar", *given, *settings(rig)]
    assert main(["generate", *args]) == 0, capsys.readouterr().err
    folder = tmp_path / "out" / "cup" / "sample-0"
    views = Views.load(folder)
    expected = builders.build_rig(compose("generate", ["image=none", *settings(rig)]))
    assert torch.equal(views.cameras.w2c, expected.w2c)
    assert torch.equal(views.cameras.K, expected.K)
    assert views.cameras.projection == expected.projection
    assert pixels(folder / "strip.png").shape[:2] == (32, 32 * len(expected))
    assert pixels(folder / "preview.png").std() > 1
    assert json.loads((folder / "run.json").read_text())["config"]["volume"]["name"] == "meanvar"
    with pytest.raises(MvdiffError, match="a strip holds no cameras"):
        Views.load(folder / "strip.png")


def test_views_of_a_rig_of_lists_do_not_depend_on_the_chunk_size(weights):
    """From Python, with one view at a time or all at once."""
    overrides = [*settings("custom"), "volume=meanvar"]
    model = mvdiff.load(checkpoint=weights, overrides=overrides, device="cpu")
    views = model.generate(picture(), elevation=10.0, seed=3)
    again = model.generate(picture(), elevation=10.0, seed=3, batch_views=1)
    expected = builders.build_rig(compose("generate", ["image=none", *settings("custom")]))
    assert torch.equal(views.cameras.w2c, expected.w2c)
    assert views.images.float().std() > 5
    assert (views.images.int() - again.images.int()).abs().max() <= 1


def test_the_photos_camera_stands_at_view_0s_azimuth_and_distance():
    overrides = ["volume=meanvar", "rig=custom", "rig.azimuth=[40,100]", "rig.distance=[1.2,2.0]"]
    sizes = [o for o in TOY if not o.startswith("rig.")]
    model = builders.build_model(compose("generate", ["image=none", *sizes, *overrides]))
    cond = model.condition(torch.rand(1, 4, 32, 32), torch.tensor([-15.0]))
    expected = custom([40.0], -15.0, 1.2, size=8)
    torch.testing.assert_close(cond.cameras.w2c, expected.w2c, atol=1e-5, rtol=0)
    torch.testing.assert_close(cond.cameras.K, expected.K, atol=1e-5, rtol=0)
    angle = torch.deg2rad(torch.tensor(60.0))
    found = cond.pose[0]
    torch.testing.assert_close(found[:, 1], torch.stack([angle * 0, angle]).sin())
    torch.testing.assert_close(found[:, 2], torch.stack([angle * 0, angle]).cos())


def test_labels_tell_elevations_where_they_differ():
    from mvdiff.visualization import _angles

    assert _angles(ball_views(ring(4, size=16))) == ["0°", "90°", "180°", "270°"]
    cameras = custom([0.0, 90.0], [-10.0, 45.0], size=16)
    assert _angles(ball_views(cameras)) == ["0°, -10°", "90°, +45°"]
    assert preview(ball_views(cameras)).width > 100


@pytest.mark.parametrize(
    "cameras",
    [
        sphere(12, [-20.0, 60.0], size=48),
        custom([0.0, 80.0, 150.0, 260.0], [-10.0, 10.0, 70.0, 0.0], [1.5, 1.2, 2.0, 1.5], size=48),
    ],
    ids=["sphere", "custom"],
)
def test_reconstruct_takes_any_cameras(cameras):
    views = ball_views(cameras, radius=0.3)
    mesh = mvdiff.reconstruct(views, overrides=["reconstructor.resolution=48", "texture_size=none"])
    radius = torch.as_tensor(mesh.vertices).float().norm(dim=-1)
    assert float(radius.median()) == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("form", ["jpg", "opaque.png", "mixed.png"])
def test_reconstruct_keys_the_background_of_what_others_made(form, tmp_path, capsys):
    """JPEGs, PNGs with an opaque alpha channel, and one RGB picture among cut-out ones."""
    made = ball_views(ring(8, size=48), radius=0.3)
    names = [f"{i}.{form}" for i in range(len(made))]
    for i, name in enumerate(names):
        cut, whole = made.pil(i), Image.fromarray(_on_white(made, i))
        if form == "mixed.png":
            (whole if i == 3 else cut).save(tmp_path / name)
        else:
            whole.convert("RGB" if form == "jpg" else "RGBA").save(tmp_path / name, quality=75)
    write_transforms(tmp_path / "transforms.json", made.cameras, names)
    args = ["reconstructor.resolution=48", "texture_size=none", "turntable=false"]
    assert main(["reconstruct", f"views={tmp_path}", *args]) == 0, capsys.readouterr().err
    vertices = torch.as_tensor(Mesh.load(tmp_path / "mesh.glb").vertices).float()
    assert float(vertices.norm(dim=-1).median()) == pytest.approx(0.3, abs=0.03)


def _on_white(views: Views, index: int) -> np.ndarray:
    return (views.rgb[index].movedim(0, -1) * 255).round().byte().numpy()


def test_training_wants_an_even_ring():
    from mvdiff.builders import load_training_data

    sizes = [o for o in TOY if not o.startswith(("rig.", "sampler"))]
    config = compose("train", ["data=none", *sizes, "rig=sphere"])
    with pytest.raises(MvdiffError, match=r"needs an even ring.*'sphere' is none: train with"):
        load_training_data(config, "nowhere", "train")


def test_no_volume_has_no_frusta_for_depthwise_attention():
    with pytest.raises(MvdiffError, match=r"'depthwise' needs frusta.*attention=none"):
        builders.build_model(toy_config("volume=none", "attention=depthwise"))
