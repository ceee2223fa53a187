"""Recipe `epidiff`: views from synthetic and published weights, and files that do not fit."""

from __future__ import annotations

import pytest
import torch
from helpers.small_syncdreamer import published_state, small_model
from helpers.tiny_recipe import picture
from safetensors.torch import save_file

from mvdiff import builders
from mvdiff.cli.main import main
from mvdiff.config.compose import compose
from mvdiff.errors import ConfigError, MvdiffError, WeightsError
from mvdiff.views import Views
from mvdiff.weights.key_maps.epidiff import epidiff_mapping
from mvdiff.weights.load_model import init_on_meta
from mvdiff.weights.synthetic import rule_weight
from mvdiff.weights.zero123 import zero123_mapping

#: all levels and blocks as published, so that the names are; only widths and sides are small
SMALL = [
    "size=64",
    "crop_size=50",
    "sizes.time_dim=16",
    "unet.width=32",
    "unet.groups=8",
    "attention.head_width=32",
    "latents.widths=[8,8,16,16]",
    "latents.groups=4",
    "embedder.width=32",
    "embedder.layers=2",
    "embedder.heads=2",
    "embedder.size=28",
    "sampler.steps=2",
]


def config(*overrides: str):
    return compose("generate", ["recipe=epidiff", "image=none", *SMALL, *overrides])


def state_by(mapping_for, *, without: str = "time.") -> dict[str, torch.Tensor]:
    """A small file by the rule, under the names of a family."""
    tensors = {}
    for name, parameter in (
        init_on_meta(lambda: builders.build_model(config())).state_dict().items()
    ):
        if not name.startswith(("time.", without)):
            origin = mapping_for(name)
            tensors[origin.name] = rule_weight(origin.name, origin.shape(tuple(parameter.shape)))
    return tensors


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    extra = {
        "image_encoder.vision_model.embeddings.position_ids": torch.arange(5.0)[None],
        "val_lpips.lin0.weight": torch.zeros(2),
    }
    return state_by(epidiff_mapping) | extra


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("epidiff") / "epidiff.ckpt"
    torch.save({"state_dict": state}, path)
    return path


def save(tmp_path, tensors):
    path = tmp_path / "file.ckpt"
    torch.save({"state_dict": tensors}, path)
    return path


def pipeline(path, *overrides: str):
    return builders.build_pipeline(config(f"weights={path}", "segmentation=alpha", *overrides))


@pytest.fixture(scope="module")
def synthetic():
    with pytest.warns(UserWarning, match="not trained"):
        return pipeline("synthetic")


def test_views_from_python(synthetic):
    views = synthetic.generate(picture(), elevation=30, seed=1)
    assert views.images.shape == (16, 3, 64, 64)
    again = synthetic.generate(picture(), elevation=30, seed=1)
    assert torch.equal(views.images, again.images)


def test_the_published_file_gives_the_same_views(synthetic, checkpoint):
    own = pipeline(checkpoint).denoiser.state_dict()
    for name, tensor in synthetic.denoiser.state_dict().items():
        assert name.startswith("time.") or torch.equal(own[name], tensor), name


def test_views_from_the_command_line(checkpoint, tmp_path):
    picture().save(tmp_path / "photo.png")
    args = [f"image={tmp_path / 'photo.png'}", "elevation=20", f"weights={checkpoint}"]
    args += [f"out={tmp_path / 'out'}", "recipe=epidiff", "device=cpu", *SMALL]
    assert main(["generate", *args, "reconstructor=none", "turntable=false"]) == 0
    assert len(Views.load(tmp_path / "out" / "photo" / "sample-0")) == 16


@pytest.mark.parametrize("faithful", [True, False])
def test_views_learn_from_each_other_unless_faithful(faithful):
    with pytest.warns(UserWarning, match="not trained"):
        model = pipeline("synthetic", f"faithful={faithful}".lower()).denoiser
    noisy = torch.randn(model.latent_shape(1), generator=torch.Generator().manual_seed(0))
    other = noisy.clone()
    other[:, 5] += 1
    condition = model.condition(torch.rand(1, 4, 64, 64), torch.tensor([30.0]))
    a, b = (model(x, torch.tensor([500.0]), condition) for x in (noisy, other))
    changed = ((a - b).abs().amax(dim=(0, 2, 3, 4)) > 1e-6).tolist()
    assert changed == [i == 5 or not faithful for i in range(16)]


def test_blocks_alone_with_a_zero123_below(state, tmp_path):
    blocks = {n: t for n, t in state.items() if n.startswith("mv_model.cp_")}
    weights = save(tmp_path, blocks)
    with pytest.raises(WeightsError, match=r"holds no UNet .*base=FILE of the Zero123"):
        pipeline(weights)
    zero123 = state_by(zero123_mapping, without="unet.slots.")
    torch.save({"state_dict": zero123}, tmp_path / "stable_zero123.ckpt")
    with pytest.warns(UserWarning, match=r"lacks \d+ tensors .*taken from"):
        own = pipeline(weights, f"base={tmp_path / 'stable_zero123.ckpt'}").denoiser.state_dict()
    name = "unet.middle.0.conv1.weight"
    torch.testing.assert_close(own[name], zero123[zero123_mapping(name).name])
    name = "unet.slots.mid.proj_out.weight"
    torch.testing.assert_close(own[name], state[epidiff_mapping(name).name])


def test_a_diffusers_folder_below(state, tmp_path):
    weights = save(tmp_path, {n: t for n, t in state.items() if n.startswith("mv_model.cp_")})
    parts = {
        "unet/diffusion_pytorch_model.safetensors": "mv_model.unet.",
        "vae/diffusion_pytorch_model.safetensors": "vae.",
        "image_encoder/model.safetensors": "image_encoder.",
        "cc_projection/diffusion_pytorch_model.safetensors": "clip_camera_projection.proj.",
    }
    for file, prefix in parts.items():
        (tmp_path / file).parent.mkdir()
        part = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        if file.startswith("cc"):
            part = {f"projection.{n}": t for n, t in part.items()}
        save_file(part, tmp_path / file)
    with pytest.warns(UserWarning, match="taken from"):
        own = pipeline(weights, f"base={tmp_path}").denoiser.state_dict()
    for name in ("project.weight", "unet.stem.weight", "latents.net.quant_conv.weight"):
        assert torch.equal(own[name], state[epidiff_mapping(name).name])
    (tmp_path / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="has no weights in 'vae/'"):
        pipeline(weights, f"base={tmp_path}")


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (("drop", "mv_model.unet.conv_in.bias"), ["'mv_model.unet.conv_in.bias' is missing"]),
        (("drop", "vae."), ["holds no autoencoder", "base=FILE"]),
        (("drop", "image_encoder."), ["holds no CLIP's image tower", "base=FILE"]),
        (("drop", "mv_model.cp_"), ["holds no EpiDiff's blocks", "pass the whole checkpoint"]),
        (("add", "mv_model.unheard_of"), ["'mv_model.unheard_of' is unknown"]),
        (("cut", "clip_camera_projection.proj.weight"), ["has shape (768, 771)", "expected"]),
    ],
)
def test_a_file_that_does_not_fit_is_named(state, tmp_path, change, facts):
    kind, name = change
    changed = {n: t for n, t in state.items() if kind != "drop" or not n.startswith(name)}
    if kind != "drop":
        changed[name] = torch.zeros(3) if kind == "add" else changed[name][:, 1:].clone()
    with pytest.raises(WeightsError) as error:
        pipeline(save(tmp_path, changed))
    assert all(fact in str(error.value) for fact in ["file.ckpt", *facts])
    assert "\n" not in str(error.value)


def test_files_of_other_families_name_their_recipe(checkpoint, tmp_path):
    zero123 = state_by(zero123_mapping, without="unet.slots.")
    with pytest.raises(WeightsError, match=r"is Zero123's checkpoint, .*use recipe=zero123"):
        pipeline(save(tmp_path, zero123))
    with pytest.raises(WeightsError, match="is SyncDreamer's checkpoint: use recipe=syncdreamer"):
        pipeline(save(tmp_path, published_state(small_model())))
    for recipe in ("zero123", "syncdreamer"):
        other = compose("generate", [f"recipe={recipe}", "image=none", f"weights={checkpoint}"])
        with pytest.raises(WeightsError, match="is EpiDiff's checkpoint: use recipe=epidiff"):
            builders.build_pipeline(other)


def test_without_weights_it_says_where_to_get_them():
    with pytest.raises(WeightsError, match=r"huanngzh/EpiDiff"):
        pipeline("none")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["rig.count=1"], "needs at least 2 perspective cameras, got 1 perspective"),
        (["rig.projection=orthographic"], "needs at least 2 perspective cameras, got 16 orthogr"),
        (["rig.distance=4"], r"from 0.5 to 2.8 world units, but .* from 4 to 4 .*distance=1.5"),
    ],
)
def test_cameras_it_cannot_serve(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        pipeline("synthetic", *settings)


def test_cameras_it_never_saw_are_noticed():
    with pytest.warns(UserWarning, match="expect poor views"):
        pipeline("synthetic", "rig=ring")


def test_several_pictures_are_refused(synthetic):
    with pytest.raises(MvdiffError, match="takes one picture an object, got 2"):
        synthetic.generate([picture(), picture()], elevation=30, azimuth=[0, 90])


def test_a_base_is_for_this_recipe_alone(checkpoint):
    other = compose("generate", ["recipe=zero123", "image=none", "weights=none", "base=x.ckpt"])
    other.weights = "synthetic"
    with pytest.raises(WeightsError, match="is for recipe=epidiff"):
        builders.build_pipeline(other)


@pytest.mark.parametrize("attention", ["none", "crossview", "epipolar"])
def test_its_blocks_may_be_swapped(checkpoint, attention):
    small = [word for word in SMALL if not word.startswith("attention.")]
    words = ["recipe=epidiff", "image=none", *small, f"attention={attention}"]
    swapped = compose("generate", [*words, f"weights={checkpoint}", "segmentation=alpha"])
    if attention == "none":
        model = builders.build_pipeline(swapped).denoiser
    else:
        with pytest.warns(UserWarning, match="are not EpiDiff's stay untrained"):
            model = builders.build_pipeline(swapped).denoiser
    assert len(model.unet.slots) == 5
