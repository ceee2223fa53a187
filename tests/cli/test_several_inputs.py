"""`mvdiff generate image=[a,b] azimuth=[0,90]`: several pictures of one object."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_recipe import TOY, picture, pixels, toy_args, toy_weights

import mvdiff
from mvdiff.cameras import look_at, ring
from mvdiff.cameras.rigs import input_cameras
from mvdiff.cli.main import main
from mvdiff.preprocessing.azimuth import check_azimuths


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return toy_weights(tmp_path_factory.mktemp("toy") / "toy.safetensors")


@pytest.fixture(scope="module")
def shots(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("shots")
    files = [folder / "front.png", folder / "side.png"]
    for file, color in zip(files, [(200, 60, 40), (40, 70, 200)], strict=True):
        picture(color=color).save(file)
    return files


def generate(shots: list[Path], out: Path, weights: Path, *more: str) -> int:
    image = f"image=[{','.join(map(str, shots))}]"
    quick = ["sampler.steps=2", "elevation=[10,30]", *more]
    args = [a for a in toy_args(weights, *quick) if not a.startswith("elevation=20")]
    return main(["generate", image, f"out={out}", *args])


def test_two_pictures_make_one_object_and_both_are_on_record(shots, weights, tmp_path):
    assert generate(shots, tmp_path / "two", weights, "azimuth=[0,90]") == 0
    results = [path.name for path in (tmp_path / "two").iterdir()]
    assert results == ["front"]
    record = json.loads((tmp_path / "two/front/sample-0/run.json").read_text())
    assert [Path(row["picture"]).name for row in record["pictures"]] == ["front.png", "side.png"]
    assert [row["elevation"] for row in record["pictures"]] == [10, 30]
    assert [row["azimuth"] for row in record["pictures"]] == [0, 90]
    assert record["elevation"] == 10
    assert generate(shots, tmp_path / "turned", weights, "azimuth=[0,200]") == 0
    strips = [pixels(tmp_path / d / "front/sample-0/strip.png") for d in ("two", "turned")]
    assert not np.array_equal(*strips)


def test_without_azimuths_each_picture_is_an_object(shots, weights, tmp_path):
    assert generate(shots, tmp_path, weights) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front", "side"]


@pytest.mark.parametrize("azimuth", ["[0]", "[0,left]", "90", "[0,90,180]"])
def test_azimuths_that_do_not_fit_the_pictures_are_refused(
    azimuth, shots, weights, tmp_path, capsys
):
    assert generate(shots, tmp_path / "out", weights, f"azimuth={azimuth}") == 2
    said = capsys.readouterr().err
    assert "azimuth must hold a number of degrees for each picture" in said
    assert not (tmp_path / "out").exists()


def test_models_that_lift_no_picture_take_one(shots, tmp_path, capsys):
    bare = toy_weights(tmp_path / "bare.safetensors", "sizes.photo_features=0")
    more = ["azimuth=[0,90]", "sizes.photo_features=0"]
    assert generate(shots, tmp_path / "out", bare, *more) == 2
    assert "takes one picture an object, got 2" in capsys.readouterr().err


def test_the_python_call_is_the_command(shots, weights, tmp_path):
    assert generate(shots, tmp_path, weights, "azimuth=[0,90]") == 0
    toy = [o for o in TOY if not o.startswith("sampler")]
    words = [*toy, f"weights={weights}", "sampler.steps=2"]
    model = mvdiff.load(overrides=words, device="cpu")
    views = model.generate(shots, elevation=[10, 30], azimuth=[0, 90])
    written = mvdiff.Views.load(tmp_path / "front/sample-0")
    torch.testing.assert_close(views.rgb, written.rgb, atol=1 / 254, rtol=0)
    for image, settings, said in (
        (shots, {"azimuth": [0, 90], "elevation": [10]}, "got 1 for 2"),
        (shots[0], {"elevation": [10, 20]}, "got 2 for 1"),
        (shots, {"azimuth": [0], "elevation": 10}, "for 2 pictures"),
        (str(shots[0]), {"azimuth": [0, 90], "elevation": 10}, "for 1 picture"),
    ):
        with pytest.raises(mvdiff.MvdiffError, match=said):
            model.generate(image, **settings)


def test_a_picture_at_ninety_degrees_is_taken_from_the_rigs_quarter_turn():
    rig = ring(8, size=16)
    mine = input_cameras(rig, torch.tensor([30.0, 30.0]), torch.tensor([0.0, 90.0]))
    torch.testing.assert_close(mine.w2c, rig[[0, 2]].w2c, atol=1e-5, rtol=0)
    torch.testing.assert_close(mine[1].w2c, look_at([90.0], [30.0], size=16).w2c, atol=1e-5, rtol=0)


def test_one_picture_needs_no_azimuth():
    assert check_azimuths(None, 1) == [0.0]
    with pytest.raises(mvdiff.MvdiffError, match="for 2 pictures"):
        check_azimuths(None, 2)
