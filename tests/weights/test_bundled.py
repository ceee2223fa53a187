"""Weights into a model: strict but for swapped parts, and nothing in them is ever executed."""

from __future__ import annotations

import pickle
import warnings

import pytest
import torch
from helpers.tiny_recipe import toy_model, toy_weights
from safetensors import safe_open

from mvdiff import builders
from mvdiff.config.compose import compose
from mvdiff.errors import MvdiffError
from mvdiff.training.checkpointing import save_weights
from mvdiff.weights.bundled import bundled_path, load_file_into
from mvdiff.weights.safe_load import read_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return toy_weights(tmp_path_factory.mktemp("weights") / "toy.safetensors")


def fresh(*overrides):
    from helpers.tiny_recipe import toy_config

    from mvdiff import builders

    return builders.build_model(toy_config(*overrides))


def test_everything_goes_in_and_the_report_says_so(weights):
    model, source = fresh(), toy_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = load_file_into(model, weights)
    assert report.loaded == len(source.state_dict())
    assert report.untrained == report.unused == ()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name


def test_half_precision_files_widen(tmp_path):
    path = save_weights(toy_model().state_dict(), tmp_path / "h.safetensors", precision="bf16")
    model = fresh()
    load_file_into(model, path)
    name = "unet.stem.weight"
    assert model.state_dict()[name].dtype == torch.float32
    torch.testing.assert_close(
        model.state_dict()[name], toy_model().state_dict()[name], atol=0.01, rtol=0.01
    )


def test_the_header_is_handed_on(tmp_path):
    path = save_weights(toy_model().state_dict(), tmp_path / "h.safetensors", {"step": "7"})
    assert load_file_into(fresh(), path).metadata["step"] == "7"


def test_a_part_that_was_swapped_out_leaves_its_weights_unused_with_a_warning(weights):
    model = fresh("attention=none")
    with pytest.warns(UserWarning, match="unused, because their part was swapped"):
        report = load_file_into(model, weights)
    assert report.untrained == ()
    assert report.unused
    assert all(name.startswith("unet.slots.") for name in report.unused)
    assert torch.equal(model.unet.stem.weight, toy_model().unet.stem.weight)


def test_a_part_that_was_swapped_in_starts_untrained_with_a_warning(tmp_path):
    path = toy_weights(tmp_path / "none.safetensors", "attention=none")
    model = fresh()
    with pytest.warns(UserWarning, match="stay untrained"):
        report = load_file_into(model, path)
    assert report.unused == ()
    assert all(name.startswith("unet.slots.") for name in report.untrained)
    assert not model.unet.slots["mid"].out[-1].weight.any()  # still the identity


def refused(model, path) -> str:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(MvdiffError) as caught:
        load_file_into(model, path)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    return str(caught.value)


def test_other_shapes_are_refused_by_name_and_nothing_is_loaded(weights):
    message = refused(fresh("unet.width=24"), weights)
    assert "belong to another model" in message
    assert "has shape (" in message
    assert "this model needs (" in message


def test_other_shapes_inside_a_swappable_part_are_refused_too(weights):
    assert "has shape" in refused(fresh("sizes.volume_dims=[8,24]"), weights)


@pytest.mark.parametrize("volume", ["meanvar", "concat"])
def test_photos_that_one_side_alone_lifts_are_reported_by_their_setting(tmp_path, volume):
    lifting, without = f"volume={volume}", "sizes.photo_features=0"
    path = toy_weights(tmp_path / "lifting.safetensors", lifting)
    message = refused(fresh(lifting, without), path)
    assert "trained with sizes.photo_features above 0, and this model has 0" in message
    path = toy_weights(tmp_path / "without.safetensors", lifting, without)
    message = refused(fresh(lifting), path)
    assert "trained with sizes.photo_features=0, and this model has 8" in message
    assert "another volume" not in message


def test_missing_and_unknown_tensors_are_refused(tmp_path):
    state = toy_model().state_dict()
    lacking = {n: t for n, t in state.items() if n != "project.bias"}
    path = save_weights(lacking, tmp_path / "lacking.safetensors")
    assert "'project.bias' is missing" in refused(fresh(), path)
    path = save_weights({**state, "extra": torch.zeros(1)}, tmp_path / "more.safetensors")
    assert "'extra' is unknown to this model" in refused(fresh(), path)


def test_files_that_are_none(tmp_path):
    assert "no weights at" in refused(fresh(), tmp_path / "missing.safetensors")
    assert "is a folder" in refused(fresh(), tmp_path)
    for content, fact in (
        (b"", "empty"),
        (b"nonsense", "not a readable safetensors file"),
        (b"\xff" * 64, "not a readable safetensors file"),
    ):
        path = tmp_path / "broken.safetensors"
        path.write_bytes(content)
        assert fact in refused(fresh(), path)


def test_a_cut_file_is_refused(tmp_path, weights):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(weights.read_bytes()[:-1000])
    assert "not a readable safetensors file" in refused(fresh(), path)


class Bomb:
    """Creates a file when unpickled."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


@pytest.mark.parametrize("name", ["bomb.safetensors", "bomb.pt", "bomb.ckpt"])
def test_a_pickle_is_refused_and_never_run(tmp_path, name):
    path, mark = tmp_path / name, tmp_path / "mark"
    path.write_bytes(pickle.dumps({"state_dict": Bomb(mark)}))
    assert "not a readable" in refused(fresh(), path)
    torch.save({"state_dict": Bomb(mark)}, path)
    said = "holds no weights" if path.suffix != ".safetensors" else "not a readable"
    assert said in refused(fresh(), path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark))).close()
    assert mark.exists()  # it would have


def test_a_recipe_without_embedded_weights_says_what_to_do():
    with pytest.raises(
        MvdiffError, match=r"recipe 'none-such': pass weights=FILE.safetensors, or t"
    ):
        bundled_path("none-such")


def test_the_embedded_model_fits_its_recipe_and_the_package():
    from mvdiff import builders
    from mvdiff.config.compose import compose

    path = bundled_path("tiny")  # a package without them is not whole
    assert path.stat().st_size <= 20e6
    model = builders.build_model(compose("generate", ["image=x"]))
    report = load_file_into(model, path)
    assert report.untrained == report.unused == ()
    assert all(torch.isfinite(t).all() for t in model.state_dict().values())


def test_a_whole_unet_may_be_missing_or_unused_but_half_of_one_may_not(weights, tmp_path):
    alone = ["unet=none", "attention=none"]
    with pytest.warns(UserWarning, match="unused"):
        report = load_file_into(fresh(*alone), weights)
    assert {n.split(".")[0] for n in report.unused} == {"unet", "radiance_stem"}
    without = toy_weights(tmp_path / "alone.safetensors", *alone)
    with pytest.warns(UserWarning, match="stay untrained"):
        report = load_file_into(fresh(), without)
    assert {n.split(".")[0] for n in report.untrained} == {"unet", "radiance_stem"}
    half = {k: v for k, v in toy_model().state_dict().items() if not k.startswith("unet.up")}
    with pytest.raises(MvdiffError, match=r"'unet\.up.*' is missing"):
        load_file_into(fresh(), save_weights(half, tmp_path / "half.safetensors"))


def test_without_its_unet_a_model_needs_a_rendering():
    with pytest.raises(MvdiffError, match=r"rendering is the prediction.*radiance=voxels"):
        fresh("unet=none", "attention=none", "radiance=none")
    with pytest.raises(MvdiffError, match="prediction_type=sample"):
        fresh("unet=none", "attention=none", "noise.prediction_type=epsilon")


def test_the_embedded_weights_of_the_first_version_load_under_todays_names():
    with safe_open(bundled_path("tiny"), framework="pt") as file:
        names = set(file.keys())
    assert any(name.startswith("unet.slots.middle.") for name in names)  # as they were written
    assert any(".view." in name for name in names)

    tensors, _ = read_weights(bundled_path("tiny"))
    assert len(tensors) == len(names)
    assert not any(".view." in name or ".slots.middle." in name for name in tensors)
    config = compose("generate", ["recipe=tiny", "image=none"])
    assert set(builders.build_model(config).state_dict()) == set(tensors)
