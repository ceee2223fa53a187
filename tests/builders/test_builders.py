"""Config → parts: every variant builds at toy size, and what does not fit is one sentence."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_recipe import photos, toy_config, toy_model
from torch import nn

from mvdiff import builders
from mvdiff.attention import ATTENTION
from mvdiff.cli.list import slots
from mvdiff.config.compose import compose
from mvdiff.config.groups import groups
from mvdiff.config.instantiate import instantiate
from mvdiff.denoiser.context import CONTEXTS
from mvdiff.denoiser.embedders import EMBEDDERS
from mvdiff.errors import ConfigError, MvdiffError
from mvdiff.latents.autoencoders import LATENTS
from mvdiff.preprocessing.segmentation import SEGMENTERS
from mvdiff.radiance import RADIANCE
from mvdiff.recon import RECONSTRUCTORS
from mvdiff.registry import Registry
from mvdiff.volumes import VOLUMES

REGISTRIES = {
    "attention": ATTENTION,
    "volume": VOLUMES,
    "radiance": RADIANCE,
    "latents": LATENTS,
    "embedder": EMBEDDERS,
    "context": CONTEXTS,
    "segmentation": SEGMENTERS,
    "reconstructor": RECONSTRUCTORS,
}
PARTS = [
    (g, v)
    for g in (
        "rig",
        "latents",
        "embedder",
        "context",
        "volume",
        "attention",
        "radiance",
        "unet",
        "recipe",
    )
    for v in groups()[g]
    # of the published sizes: see tests/recipes
    if g != "recipe" or v == "tiny"
]


def test_every_registered_variant_has_its_yaml_and_one_line_of_words():
    for group, registry in REGISTRIES.items():
        assert set(registry) <= set(groups()[group]), group
        for name, line in slots()[group].items():
            assert line, f"{group} {name} says nothing about itself"
            assert "\n" not in line


def test_every_yaml_names_a_registered_variant():
    for group, registry in REGISTRIES.items():
        for variant in set(groups()[group]) - {"none", "token"}:  # the denoiser's own
            config = toy_config(f"{group}={variant}")
            assert config[group].name in registry


def children_with_weights(model, group: str) -> dict[str, nn.Module]:
    """The modules with weights that make up the part a group chose."""
    part = model.unet.slots if group == "attention" else getattr(model, group, None)
    children = part.named_children() if isinstance(part, nn.Module) else ()
    return {name: child for name, child in children if [*child.parameters()]}


def randomly_scaled(module: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict with every weight scaled by a factor of its own in [0.5, 1.5]."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: x * (0.5 + torch.rand(x.shape, generator=generator)) if x.is_floating_point() else x
        for name, x in module.state_dict().items()
    }


@pytest.mark.parametrize(("group", "variant"), PARTS)
def test_every_part_matters_for_the_answer(group, variant):
    # what has no frusta to offer goes with attention that needs none
    plain = ["attention=none"] if f"{group}={variant}" == "volume=none" else []
    # without a UNet there must be a rendering
    plain += ["radiance=voxels"] if f"{group}={variant}" == "unet=none" else []
    model = toy_model(f"{group}={variant}", *plain)
    noisy, other_noisy = torch.randn(
        2, *model.latent_shape(1), generator=torch.Generator().manual_seed(0)
    )

    def answer(noisy: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
        condition = model.condition(picture[None], torch.tensor([10.0]))
        return model(noisy, torch.tensor([300.0]), condition)

    first, second = photos(2)
    prediction = answer(noisy, first)
    assert prediction.shape == noisy.shape
    assert torch.isfinite(prediction).all()
    assert not torch.allclose(answer(other_noisy, first), prediction, atol=1e-3)
    assert not torch.allclose(answer(noisy, second), prediction, atol=1e-3)
    # a part that answers zeros, or leaves out one of its modules, ignores some of these weights
    for name, child in children_with_weights(model, group).items():
        weights = {key: x.clone() for key, x in child.state_dict().items()}
        child.load_state_dict(randomly_scaled(child))
        assert not torch.allclose(answer(noisy, first), prediction, atol=1e-4), name
        child.load_state_dict(weights)


@pytest.mark.parametrize("sampler", groups()["sampler"])
@pytest.mark.parametrize("noise", groups()["noise"])
def test_every_sampler_builds_on_every_noise_schedule(sampler, noise):
    config = toy_config(f"sampler={sampler}", f"noise={noise}")
    scheduler = builders.build_scheduler(config)
    assert type(scheduler).__name__ == builders.SCHEDULERS[sampler]
    assert scheduler.config.prediction_type == config.noise.prediction_type
    made = builders.build_sampler(config)
    assert made.steps == config.sampler.steps
    assert made.scheduler() is not made.scheduler()


def test_the_training_schedule_is_the_samplers():
    config = toy_config("noise=syncdreamer")
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    assert torch.allclose(
        builders.build_training_scheduler(config).betas.double(), betas, atol=1e-7
    )
    assert torch.allclose(builders.build_scheduler(config).betas.double(), betas, atol=1e-7)


def test_bounded_latents_are_clipped_to_their_bound_while_sampling():
    config = builders.build_scheduler(toy_config("sampler=ddim")).config
    assert config.clip_sample is True
    assert config.clip_sample_range == 1.0


@pytest.mark.parametrize("foreground", groups()["segmentation"])
def test_every_foreground_builds(foreground):
    made = builders.build_segmenter(toy_config(f"segmentation={foreground}"))
    assert type(made) is SEGMENTERS[foreground]


@pytest.mark.parametrize("name", sorted(set(groups()["reconstructor"]) - {"none"}))
def test_every_reconstructor_is_the_one_named_with_its_settings(name):
    config = toy_config(f"reconstructor={name}", "reconstructor.max_faces=777")
    made = builders.build_reconstructor(config)
    assert type(made) is RECONSTRUCTORS[config.reconstructor.name]
    assert made.max_faces == 777


def test_the_training_objective_is_the_recipes():
    config = toy_config("train.views=3", "noise=syncdreamer", command="train")
    objective = builders.build_loss(config)
    assert objective.views == 3
    assert objective.scheduler.config.prediction_type == "epsilon"
    assert objective.drop == {"everything": 0.0, "latent": 0.0, "volume": 0.0, "token": 0.0}


def test_the_tiny_recipe_has_the_promised_size():
    # at most about 10 M parameters: 20 MB in half precision
    model = builders.build_model(compose("generate", ["image=x"]))
    assert 5e6 < sum(p.numel() for p in model.parameters()) < 10.5e6


REFUSED = {
    "attention.name=foo": r"unknown attention 'foo'; choose from crossview, depthwise",
    "volume.name=foo": r"unknown volume 'foo'; choose from concat, meanvar, none",
    "latents.name=foo": r"unknown latents 'foo'; choose from pixel_shuffle",
    "embedder.name=foo": r"unknown embedder 'foo'; choose from .*conv",
    "attention.heads=3": r"attention 'depthwise' cannot be built with these settings: .*divisible",
    "size=30": r"size must be a multiple of 8 for these latents and parts, got 30",
    "volume=none": r"attention 'depthwise' needs frusta.*attention=none",
    "rig.count=0": r"rig.count must be a whole number in \[1, .*got 0",
    "rig.elevation=95.0": r"rig.elevation must be a number in \[-90, 90\], got 95",
    "embedder.dim=12": r"embedder 'conv' cannot be built with these settings: .*divisible",
}


@pytest.mark.parametrize("override", REFUSED)
def test_parts_that_cannot_be_are_one_sentence(override):
    with pytest.raises(MvdiffError, match=REFUSED[override]) as caught:
        builders.build_model(toy_config(override))
    assert "\n" not in str(caught.value)


SAMPLERS_REFUSED = {
    "sampler.name=foo": r"unknown sampler 'foo'; choose from ddim, .*ddpm, dpmpp, euler, unipc",
    "sampler.steps=0": r"sampler.steps must be a whole number in \[1, .*got 0",
    "sampler.steps=1001": r"sampler.steps must lie in \[1, 1000\], got 1001",
    "guidance.scale=nan": r"guidance.scale must be a number in .*got nan",
    "sampler.eta=inf": r"sampler.eta must be a number in .*got inf",
    "noise.prediction_type=x": r"unknown noise.prediction_type 'x'; choose from epsilon, sample",
    "noise.beta_schedule=x": r"sampler 'ddim' cannot be set up like this: x is not implemented",
}


@pytest.mark.parametrize("override", SAMPLERS_REFUSED)
def test_samplers_that_cannot_be_are_one_sentence(override):
    with pytest.raises(MvdiffError, match=SAMPLERS_REFUSED[override]):
        builders.build_sampler(toy_config(override))


def test_a_setting_a_variant_lacks_lists_its_own():
    registry = Registry("thing")

    @registry.register("box")
    class Box:
        def __init__(self, part, width=1, height=2):
            self.size = part, width, height

    assert instantiate(registry, {"name": "box", "width": 5}, part="p").size == ("p", 5, 2)
    with pytest.raises(
        MvdiffError, match="thing 'box' has no setting depth; choose from width, he"
    ):
        instantiate(registry, {"name": "box", "depth": 5}, part="p")
    with pytest.raises(
        MvdiffError, match=r"unknown thing 'bx'; choose from box. Did you mean 'box'"
    ):
        instantiate(registry, {"name": "bx"})

    @registry.register("plain")
    class Plain:
        pass

    with pytest.raises(MvdiffError, match=r"choose from none \(it has no settings\)"):
        instantiate(registry, {"name": "plain", "depth": 5})


def test_devices():
    assert builders.resolve_device("cpu") == torch.device("cpu")
    assert builders.resolve_device("auto").type in ("cpu", "cuda")
    for name in ("cuda:99", "nonsense", "meta"):
        with pytest.raises(
            MvdiffError, match=f"device '{name}' is not available here.*device=auto"
        ):
            builders.resolve_device(name)


def test_embedded_weights_of_a_recipe_without_any():
    config = toy_config().copy()
    config.recipe_name = "other"
    with pytest.raises(MvdiffError, match=r"no embedded weights for recipe 'other'.*weights=FILE"):
        builders.build_pipeline(config)


def test_an_unknown_precision_is_refused_before_anything_is_loaded():
    with pytest.raises(ConfigError, match=r"unknown precision 'fp8'; choose from .*auto"):
        toy_config("precision=fp8")
