"""The concatenated volume: bound to its number of views, order matters, the photo is lifted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.small_syncdreamer import published_state, small_config, small_model
from helpers.tiny_recipe import randomize, toy_config, toy_model, toy_weights

from mvdiff import builders
from mvdiff.cameras import look_at, ring
from mvdiff.config.instantiate import instantiate
from mvdiff.errors import MvdiffError
from mvdiff.volumes import VOLUMES, VolumeInputs
from mvdiff.weights.bundled import load_file_into
from mvdiff.weights.syncdreamer import load_syncdreamer


def make(*overrides: str):
    config = toy_config("volume=concat", *overrides).volume
    parts = {"latent_channels": 6, "views": 3, "time_dim": 16}
    return randomize(instantiate(VOLUMES, config, **parts)).eval().requires_grad_(False)


def inputs_for(views: int = 3) -> VolumeInputs:
    generator = torch.Generator().manual_seed(0)
    return VolumeInputs(
        latents=torch.randn(1, views, 6, 8, 8, generator=generator),
        cameras=ring(views, size=8),
        time=torch.randn(1, 16, generator=generator),
        pose=torch.randn(1, views, 4, generator=generator),
        photos=torch.randn(1, 1, 6, 8, 8, generator=generator),
        photo_cameras=look_at([0.0], [20.0], size=8),
    )


def test_another_number_of_views_is_refused_in_one_sentence():
    with pytest.raises(MvdiffError, match=r"bound to 3 views.*got 4.*rig of 3.*meanvar"):
        make().build(inputs_for(4))


def test_weights_for_another_number_of_views_say_so_and_name_the_way_out(tmp_path):
    words = r"are for 4 views.*rig has 8: use a rig of 4 cameras.*volume=meanvar"
    file = toy_weights(tmp_path / "w.safetensors", "volume=concat")
    with pytest.raises(MvdiffError, match=words) as caught:
        load_file_into(toy_model("volume=concat", "rig.count=8"), file)
    assert "\n" not in str(caught.value)
    with pytest.raises(MvdiffError, match=r"with another volume than 'meanvar'"):
        load_file_into(toy_model("volume=meanvar"), file)
    with pytest.raises(MvdiffError, match="belong to another model"):  # not the views alone
        load_file_into(toy_model("volume=concat", "rig.count=8", "sizes.volume_dims=[16,24]"), file)
    eight = ["rig.count=8", "rig.elevation=20.0"]
    with pytest.raises(MvdiffError, match=words.replace("4", "16")):
        load_syncdreamer(builders.build_model(small_config(*eight)), published_state(small_model()))


def test_views_are_distinguished_by_their_place():
    volume, inputs = make(), inputs_for()
    swapped = replace(inputs, latents=inputs.latents[:, [1, 0, 2]])
    assert not torch.allclose(volume.build(swapped), volume.build(inputs), atol=1e-3)


def test_the_photo_and_its_camera_reach_the_volume_where_it_is_lifted():
    volume, inputs = make(), inputs_for()
    world = volume.build(inputs)
    other = volume.build(replace(inputs, photos=-inputs.photos))
    assert not torch.allclose(other, world, atol=1e-3)
    elsewhere = replace(inputs, photo_cameras=look_at([0.0], [-10.0], size=8))
    assert not torch.allclose(volume.build(elsewhere), world, atol=1e-3)


def test_without_photo_features_the_photo_is_not_seen():
    volume, inputs = make("sizes.photo_features=0"), inputs_for()
    world = volume.build(inputs)
    assert torch.equal(volume.build(replace(inputs, photos=-inputs.photos)), world)
    assert not [name for name in volume.state_dict() if name.startswith("photo")]


def test_the_published_sizes_give_the_published_shapes():
    # 16 views of 16 features; 64 channels at the finest level (spec, section 4)
    config = toy_config(
        "volume=concat",
        "sizes.volume_side=32",
        "sizes.volume_dims=[64,128,256,512]",
        "sizes.view_features=16",
        "sizes.photo_features=0",
    ).volume
    with torch.device("meta"):
        volume = instantiate(VOLUMES, config, latent_channels=4, views=16, time_dim=256)
    assert volume.net.stem.weight.shape == (64, 256, 3, 3, 3)
    assert volume.net.down[-1][0].conv.weight.shape == (512, 256, 3, 3, 3)
