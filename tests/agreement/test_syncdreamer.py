"""The parts, at the published sizes, compute what the original implementation computes.

Weights are set by a rule from the published parameter names, so no weight file is needed:
normal numbers seeded by the name's CRC, scaled by the fan-in.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.golden import assert_agrees
from torch import Tensor

from mvdiff.attention import ATTENTION, SlotSpec
from mvdiff.cameras import ring
from mvdiff.denoiser.embedders import Embedder
from mvdiff.denoiser.guidance import Condition
from mvdiff.denoiser.multiview_denoiser import MultiViewDenoiser
from mvdiff.denoiser.unet import MultiViewUNet
from mvdiff.errors import WeightsError
from mvdiff.latents.autoencoders import LatentCodec
from mvdiff.volumes import VOLUMES, VolumeInputs
from mvdiff.weights.key_maps.syncdreamer import syncdreamer_mapping

GOLDEN = Path(__file__).parents[1] / "golden" / "denoiser.npz"
VIEWS = [0, 5, 11]
STRIDES = {1: (6, 8, 8), 2: (4, 4, 4), 4: (3, 2, 2), 8: (2, 1, 1)}


def rule(name: str, shape: tuple[int, ...]) -> Tensor:
    """The golden files' weights for a published parameter."""
    r = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if len(shape) >= 2:
        return r * 0.7 / r[0].numel() ** 0.5
    return 1 + 0.1 * r if name.endswith("weight") else 0.1 * r


class GivenLatents(LatentCodec):
    """Stands in for the VAE: the photo's latent is the golden one."""

    channels, factor = 4, 8

    def __init__(self, latent: Tensor) -> None:
        super().__init__()
        self.latent = latent

    def encode(self, rgba: Tensor) -> Tensor:
        return self.latent

    def decode(self, latent: Tensor) -> tuple[Tensor, None]:
        raise AssertionError("not needed here")


class GivenEmbedding(Embedder):
    """Stands in for CLIP."""

    dim = 768

    def __init__(self, embedding: Tensor) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, rgba: Tensor) -> Tensor:
        return self.embedding


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def model(golden: dict[str, Tensor]) -> MultiViewDenoiser:
    """The published model with a UNet of width 32 instead of 320."""
    dims = [64, 128, 256, 512]
    volume = VOLUMES["concat"](
        latent_channels=4,
        views=16,
        side=32,
        bound=0.5,
        features=16,
        dims=dims,
        frustum_dims=dims,
        planes=48,
        radius=3**0.5 / 2,
        time_dim=256,
        offset=0.0,
    )
    unet = MultiViewUNet(
        inputs=8,
        outputs=4,
        width=32,
        mults=(1, 2, 4, 4),
        blocks=2,
        attention_levels=(0, 1, 2),
        heads=8,
        context_dim=768,
        slots=["mid", *(f"up{i}" for i in range(3, 12))],
        make_slot=lambda site: ATTENTION["depthwise"](
            SlotSpec(site.channels, site.factor, volume.frustum_channels, 256)
        ),
    )
    net = MultiViewDenoiser(
        rig=ring(size=256),
        latents=GivenLatents(golden["vae_mean"]),
        embedder=GivenEmbedding(golden["clip"].reshape(1, 768)),
        volume=volume,
        unet=unet,
        context_dim=768,
        time_dim=256,
    )
    weights = {}
    for name, parameter in net.state_dict().items():
        # ours are Linear layers where the original has 1×1(×1) convolutions: same numbers
        weights[name] = rule(syncdreamer_mapping(name).name, tuple(parameter.shape))
    net.load_state_dict(weights)
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def condition(model: MultiViewDenoiser, golden: dict[str, Tensor]) -> Condition:
    elevation = torch.rad2deg(golden["elevation_rad"].float())
    return model.condition(torch.zeros(1, 4, 256, 256), elevation)


@pytest.fixture(scope="module")
def time(model: MultiViewDenoiser, golden: dict[str, Tensor]) -> Tensor:
    from diffusers.models.embeddings import get_timestep_embedding

    steps = golden["timestep"].float()
    return model.time(get_timestep_embedding(steps, 256, True, downscale_freq_shift=0))


def test_embeddings_and_context(
    model: MultiViewDenoiser, condition: Condition, time: Tensor, golden: dict[str, Tensor]
) -> None:
    assert_agrees("view embedding", condition.pose, golden["view_embedding"])
    assert_agrees("time embedding", time, golden["time_embedding"])
    token = condition.token[:, None].expand(-1, 3, -1)
    context = model.project(torch.cat([token, condition.pose[:, VIEWS]], dim=-1))
    assert_agrees("context token", context, golden["context"])


def test_encoded_views_volume_and_frusta(
    model: MultiViewDenoiser, condition: Condition, time: Tensor, golden: dict[str, Tensor]
) -> None:
    rig = model.rig.resize(32)
    latents = golden["latents"]
    inputs = VolumeInputs(latents, rig, time, condition.pose, condition.photos, condition.cameras)
    encoded = model.volume.encode(inputs)[:, [0, 15], :, ::4, ::4]
    assert_agrees("encoded views", encoded, golden["encoded_views"])
    volume = model.volume.build(inputs)
    assert_agrees("volume", volume[:, ::2, ::4, ::4, ::4], golden["volume"])
    frusta = model.volume.frusta(volume, rig[VIEWS], time, condition.pose[:, VIEWS])
    for (factor, (d, h, w)), every in zip(STRIDES.items(), (2, 4, 8, 8), strict=True):
        ours = frusta[factor][0][:, ::every, ::d, ::h, ::w]
        assert_agrees(f"frustum level 1/{factor}", ours, golden[f"level{factor}"])


@pytest.mark.parametrize(
    ("guidance", "key"),
    [pytest.param(1.0, "noise", marks=pytest.mark.slow), (2.0, "noise_guided")],
)
def test_noise_prediction(
    model: MultiViewDenoiser,
    condition: Condition,
    golden: dict[str, Tensor],
    guidance: float,
    key: str,
) -> None:
    steps = golden["timestep"].float()
    noise = model(golden["latents"], steps, condition, target_views=VIEWS, guidance=guidance)
    assert_agrees(f"{key}, small UNet", noise, golden[key])


def test_every_published_denoiser_name_is_mapped_once(model: MultiViewDenoiser) -> None:
    names = [syncdreamer_mapping(name).name for name in model.state_dict()]
    assert len(set(names)) == len(names)
    prefixes = ("model.diffusion_model.", "spatial_volume.", "time_embed.", "cc_projection.")
    assert all(name.startswith(prefixes) for name in names)
    with pytest.raises(WeightsError, match=r"lack 'unet\.unheard_of\.weight'"):
        syncdreamer_mapping("unet.unheard_of.weight")
