"""Recipes `zero123` and `stable_zero123`: files that load, files that do not, and views."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers.small_syncdreamer import published_state, small_model
from helpers.tiny_recipe import picture

from mvdiff import builders
from mvdiff.cli.main import main
from mvdiff.config.compose import compose
from mvdiff.errors import ConfigError, WeightsError
from mvdiff.views import Views
from mvdiff.weights.load_model import init_on_meta, load_pretrained
from mvdiff.weights.synthetic import rule_weight
from mvdiff.weights.zero123 import zero123_mapping

SMALL = [
    "size=64",
    "crop_size=50",
    "rig.count=3",
    "unet.width=32",
    "unet.mults=[1,2]",
    "unet.blocks=1",
    "unet.attention_levels=[0,1]",
    "unet.heads=4",
    "unet.slots=[mid]",
    "latents.widths=[8,16,16,24]",
    "latents.blocks=1",
    "latents.groups=4",
    "embedder.layers=2",
    "embedder.width=32",
    "embedder.heads=2",
    "sizes.volume_dims=[8,16,16,24]",
    "sizes.frustum_dims=[8,16]",
]


def config(*overrides: str, recipe: str = "zero123"):
    return compose("generate", [f"recipe={recipe}", "image=none", *SMALL, *overrides])


def make(*overrides: str, recipe: str = "zero123"):
    return lambda: builders.build_model(config(*overrides, recipe=recipe))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A small file as Zero123's: plain weights, their running average, the text tower's rest."""
    tensors = {}
    for name, parameter in init_on_meta(make()).state_dict().items():
        if name.startswith("time."):
            continue
        mapping = zero123_mapping(name)
        tensors[mapping.name] = rule_weight(mapping.name, mapping.shape(tuple(parameter.shape)))
    for name in [n for n in tensors if n.startswith("model.diffusion_model.")]:
        average = "model_ema." + name.removeprefix("model.").replace(".", "")
        tensors[average] = tensors[name]
        tensors[name] = tensors[name] / 2
    tensors["model_ema.decay"] = torch.tensor(0.9999)
    tensors["cond_stage_model.model.logit_scale"] = torch.tensor(1.0)
    tensors["betas"] = torch.zeros(1000)
    return tensors


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("zero123") / "zero123-xl.ckpt"
    torch.save({"state_dict": state}, path)
    return path


def load(path, *overrides: str, recipe: str = "zero123"):
    return load_pretrained(
        make(*overrides, recipe=recipe), str(path), recipe, family=config(recipe=recipe).family
    )


def test_the_running_average_is_what_is_loaded(checkpoint, state):
    own = load(checkpoint).state_dict()
    name = "unet.middle.0.conv1.weight"
    published = zero123_mapping(name).name
    torch.testing.assert_close(own[name], 2 * state[published])


def test_plain_weights_where_there_is_no_average(state, tmp_path):
    plain = {n: t for n, t in state.items() if not n.startswith("model_ema.")}
    torch.save({"state_dict": plain}, tmp_path / "zero123.ckpt")
    own = load(tmp_path / "zero123.ckpt").state_dict()
    name = "unet.middle.0.conv1.weight"
    torch.testing.assert_close(own[name], state[zero123_mapping(name).name])


def test_views_from_the_command_line(checkpoint, tmp_path):
    picture().save(tmp_path / "photo.png")
    args = [f"image={tmp_path / 'photo.png'}", "elevation=20", f"weights={checkpoint}"]
    args += [f"out={tmp_path / 'out'}", "recipe=zero123", "sampler.steps=3", "device=cpu", *SMALL]
    assert main(["generate", *args, "reconstructor=none", "turntable=false"]) == 0
    views = Views.load(tmp_path / "out" / "photo" / "sample-0")
    assert len(views) == 3


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (("drop", "cc_projection.bias"), ["'cc_projection.bias' is missing", "zero123.ckpt"]),
        (("add", "unheard_of.weight"), ["'unheard_of.weight' is unknown"]),
        (("cut", "cc_projection.weight"), ["'cc_projection.weight' has shape", "expected"]),
    ],
)
def test_a_file_that_does_not_fit_is_named(state, tmp_path, change, facts):
    kind, name = change
    changed = dict(state)
    if kind == "drop":
        del changed[name]
    else:
        changed[name] = torch.zeros(3) if kind == "add" else changed[name][:, 1:].clone()
    torch.save({"state_dict": changed}, tmp_path / "zero123.ckpt")
    with pytest.raises(WeightsError) as error:
        load(tmp_path / "zero123.ckpt")
    assert all(fact in str(error.value) for fact in facts)


def test_syncdreamers_file_is_sent_to_its_recipe(tmp_path):
    torch.save({"state_dict": published_state(small_model())}, tmp_path / "sync.ckpt")
    with pytest.raises(WeightsError, match="SyncDreamer's checkpoint: use recipe=syncdreamer"):
        load(tmp_path / "sync.ckpt")


@pytest.mark.parametrize(
    ("name", "recipe", "advice"),
    [
        ("stable_zero123.ckpt", "zero123", r"pass pose\.fourth=polar"),
        ("zero123-xl.ckpt", "stable_zero123", r"pass pose\.fourth=distance"),
        ("stable_zero123.ckpt", "stable_zero123", None),
        ("zero123-xl.ckpt", "zero123", None),
    ],
)
def test_the_fourth_camera_value_of_another_model_is_noticed(state, tmp_path, name, recipe, advice):
    torch.save({"state_dict": state}, tmp_path / name)
    if advice:
        with pytest.warns(UserWarning, match=advice):
            load(tmp_path / name, recipe=recipe)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(tmp_path / name, recipe=recipe)


def test_without_weights_it_says_where_to_get_them():
    with pytest.raises(WeightsError, match=r"zero123-xl\.ckpt.*cvlab-columbia/zero123"):
        load("none")


def test_an_unknown_fourth_value_lists_the_choices():
    with pytest.raises(ConfigError, match="choose from none, distance, polar"):
        make("pose.fourth=azimuth")()
