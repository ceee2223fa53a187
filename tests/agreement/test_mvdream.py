"""MVDream's UNet computes what the original implementation computes, in both versions.

Skipped without the reference data. Weights are the synthetic ones by published names.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.golden import assert_agrees
from torch import nn

from mvdiff.attention import ATTENTION, SlotSpec, ViewContext
from mvdiff.cameras import ring
from mvdiff.denoiser.unet import MultiViewUNet
from mvdiff.weights.key_maps import mapping_for, with_prefixes
from mvdiff.weights.key_maps.latent_diffusion import SELF_ATTENTION, UNET
from mvdiff.weights.synthetic import rule_weight

PREFIX = "model.diffusion_model."
TABLE = {
    **with_prefixes("", PREFIX, UNET),
    **with_prefixes("slots.", PREFIX, SELF_ATTENTION),
}
#: version → its UNet, the context's width, and the suffix of its arrays
VERSIONS = {
    "v2": {"heads": None, "head_width": 64, "linear_projection": True, "context_dim": 1024},
    "v1": {"heads": 8, "linear_projection": False, "context_dim": 768},
}


def synthetic(module: nn.Module, published) -> nn.Module:
    weights = {}
    for name, parameter in module.state_dict().items():
        mapping, shape = published(name), tuple(parameter.shape)
        weights[name] = mapping.convert(rule_weight(mapping.name, mapping.shape(shape)), shape)
    module.load_state_dict(weights)
    return module.eval().requires_grad_(False)


def unet(version: str) -> MultiViewUNet:
    def slot(site):
        spec = SlotSpec(site.channels, site.factor, {}, 4, heads=site.heads, place=site.place)
        return ATTENTION["joint"](spec)

    net = MultiViewUNet(
        inputs=4,
        outputs=4,
        width=64,
        mults=(1, 2, 4, 4),
        blocks=2,
        attention_levels=(0, 1, 2),
        slots=["all"],
        place="self",
        make_slot=slot,
        **VERSIONS[version],
    )
    return synthetic(net, lambda name: mapping_for(name, TABLE))


def scene(batch: int, views: int) -> ViewContext:
    return ViewContext(ring(views, size=32), {}, torch.zeros(batch, 1), torch.arange(views))


@pytest.fixture(scope="module")
def golden(shared_dir):
    with np.load(shared_dir / "golden" / "mvdream" / "unet_small.npz") as file:
        return {name: torch.from_numpy(np.asarray(file[name])).float() for name in file}


@pytest.fixture(scope="module")
def camera_embedding(golden):
    net = nn.Sequential(nn.Linear(16, 256), nn.SiLU(), nn.Linear(256, 256))
    published = {n: f"{PREFIX}camera_embed.{n}" for n in net.state_dict()}
    synthetic(net, lambda name: mapping_for(name, published))
    return net(golden["camera"])[None]


def predict(net: MultiViewUNet, golden: dict, text: str, camera_embedding) -> torch.Tensor:
    context = golden[text].expand(1, 4, -1, -1)
    time = golden["timestep"].reshape(1)
    return net(golden["latents"][None], time, context, scene(1, 4), time_residual=camera_embedding)[
        0
    ]


def test_version_2_with_and_without_guidance(golden, camera_embedding):
    net = unet("v2")
    cond = predict(net, golden, "text", camera_embedding)
    uncond = predict(net, golden, "negative", camera_embedding)
    assert_agrees("MVDream, noise for the text", cond, golden["noise_cond"])
    assert_agrees("MVDream, noise for the empty text", uncond, golden["noise_uncond"])
    guided = uncond + 10 * (cond - uncond)
    assert_agrees("MVDream, guided noise", guided, golden["noise_cfg10"])


def test_version_2_on_single_images_without_cameras(golden):
    context = golden["text"].expand(4, 1, -1, -1)
    time = golden["timestep"].expand(4)
    out = unet("v2")(golden["latents"][:, None], time, context, scene(4, 1))[:, 0]
    assert_agrees("MVDream, single images", out, golden["noise_no_camera_one_frame"])


def test_version_1(golden, camera_embedding):
    out = predict(unet("v1"), golden, "text_v1", camera_embedding)
    assert_agrees("MVDream v1, noise for the text", out, golden["noise_v1"])


def test_a_shifted_camera_would_be_noticed(golden, camera_embedding):
    out = predict(unet("v2"), golden, "text", camera_embedding.roll(1, dims=1))
    error = (out - golden["noise_cond"]).norm() / golden["noise_cond"].norm()
    assert error > 0.05


def test_every_published_name_of_the_unet_is_used_once(shared_dir):
    import json

    names = json.loads((shared_dir / "golden" / "mvdream" / "state_dict.json").read_text())
    used = [mapping_for(name, TABLE).name for name in unet("v2").state_dict()]
    expected = {n for n in names if n.startswith(PREFIX) and ".camera_embed." not in n}
    assert len(set(used)) == len(used)
    assert set(used) == expected
