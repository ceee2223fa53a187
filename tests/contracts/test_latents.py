"""The contract of every latent codec; new variants are tested without a change here."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_recipe import photos, toy_config

from mvdiff.config.groups import groups
from mvdiff.config.instantiate import instantiate
from mvdiff.errors import MvdiffError
from mvdiff.latents.autoencoders import LATENTS, LatentCodec

VARIANTS = groups()["latents"]


def test_every_registered_name_has_its_yaml():
    assert set(LATENTS) <= set(VARIANTS)


def make(variant: str) -> LatentCodec:
    return instantiate(LATENTS, toy_config(f"latents={variant}").latents).eval()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("batch", "sides"), [(1, (2, 2)), (3, (2, 4)), (2, (3, 1))])
def test_shapes_there_and_back(variant, batch, sides):
    latents = make(variant)
    height, width = (side * latents.factor for side in sides)
    rgba = torch.rand(batch, 4, height, width, generator=torch.Generator().manual_seed(0))
    latent = latents.encode(rgba)
    assert latent.shape == (batch, latents.channels, *sides)
    rgb, alpha = latents.decode(latent)
    assert rgb.shape == (batch, 3, height, width)
    assert alpha is None or alpha.shape == (batch, 1, height, width)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pictures_of_a_batch_do_not_see_each_other(variant):
    latents = make(variant)
    rgba = photos(3)
    together = latents.encode(rgba)
    torch.testing.assert_close(latents.encode(rgba[1:2])[0], together[1], atol=1e-5, rtol=1e-5)
    rgb, _ = latents.decode(together)
    torch.testing.assert_close(latents.decode(together[1:2])[0][0], rgb[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bounded_latents_stay_in_their_bound(variant):
    latents = make(variant)
    if latents.clip is None:
        pytest.skip("unbounded: samplers do not clip")
    extremes = torch.stack([torch.zeros(4, 32, 32), torch.ones(4, 32, 32), photos(1)[0]])
    assert latents.encode(extremes).abs().max() <= latents.clip


@pytest.mark.parametrize("alpha", ["true", "false"])
def test_pixel_shuffle_is_exactly_invertible(alpha):
    config = toy_config(f"latents.alpha={alpha}").latents
    latents = instantiate(LATENTS, config)
    rgba = photos(2)
    rgb, opacity = latents.decode(latents.encode(rgba))
    # twice x - 1 and back rounds in the last place
    torch.testing.assert_close(rgb, rgba[:, :3], atol=1e-7, rtol=0)
    if alpha == "true":
        torch.testing.assert_close(opacity, rgba[:, 3:], atol=1e-7, rtol=0)
    else:
        assert opacity is None
    # and 8-bit pictures come back to the bit
    bytes_ = (rgba * 255).round()
    back = latents.decode(latents.encode(bytes_ / 255))[0]
    assert torch.equal((back * 255).round(), bytes_[:, :3])


def test_pixel_shuffle_keeps_patches_where_they_were():
    latents = instantiate(LATENTS, toy_config().latents)
    rgba = torch.zeros(1, 4, 16, 16)
    rgba[:, :, 4:8, 12:16] = 1
    latent = latents.encode(rgba)
    assert (latent[0, :, 1, 3] == 1).all()
    assert latent.gt(0).sum() == latents.channels


@pytest.mark.parametrize(("height", "width"), [(30, 32), (32, 30), (2, 2)])
def test_pixel_shuffle_refuses_sizes_it_cannot_cut(height, width):
    latents = instantiate(LATENTS, toy_config().latents)
    with pytest.raises(MvdiffError, match=f"{width}×{height} cannot be cut into patches of 4"):
        latents.encode(torch.zeros(1, 4, height, width))
