"""The backbone and its named slots."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_recipe import randomize

from mvdiff.attention import PLACES, SlotSpec, ViewContext
from mvdiff.attention.none import NoAttention
from mvdiff.cameras import ring
from mvdiff.denoiser.transformer import TransformerBlock
from mvdiff.denoiser.unet import MultiViewUNet
from mvdiff.errors import ConfigError


class Recorder(NoAttention):
    """Records the feature maps it is given."""

    def __init__(self, log, name, channels, factor):
        super().__init__(SlotSpec(channels, factor, {}, 4))
        self.log, self.name = log, name

    def forward(self, x, scene):
        self.log.append((self.name, tuple(x.shape)))
        return x


def unet(log=None, slots=("mid", "up0", "up1", "up2", "up3", "up4", "up5"), **settings):
    made = []

    def make_slot(site):
        made.append((site.name, site.channels, site.factor))
        return Recorder([] if log is None else log, *made[-1])

    sizes = {"width": 8, "mults": [1, 2, 2], "blocks": 1, "attention_levels": [2], "heads": 2}
    net = MultiViewUNet(
        inputs=6,
        outputs=3,
        context_dim=5,
        slots=slots,
        make_slot=make_slot,
        groups=4,
        **{**sizes, **settings},
    )
    return randomize(net).eval(), made


def call(net, batch=2, views=3, side=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, views, 6, side, side, generator=generator)
    context = torch.randn(batch, views, 1, 5, generator=generator)
    scene = ViewContext(ring(views, size=side), {}, torch.zeros(batch, 4), torch.arange(views))
    return x, context, scene


def test_slots_sit_after_the_middle_and_after_each_decoder_block_with_its_upsampler():
    log = []
    net, made = unet(log)
    x, context, scene = call(net)
    net(x, torch.tensor([5.0, 9.0]), context, scene)
    assert made == [
        ("mid", 16, 4),
        ("up0", 16, 4),
        ("up1", 16, 2),
        ("up2", 16, 2),
        ("up3", 16, 1),
        ("up4", 8, 1),
        ("up5", 8, 1),
    ]
    assert log == [(name, (2, 3, c, 8 // f, 8 // f)) for name, c, f in made]


def test_only_the_slots_asked_for_are_made():
    net, made = unet(slots=["mid", "up3"])
    assert [name for name, *_ in made] == ["mid", "up3"] == list(net.slots)


def test_a_site_that_the_unet_does_not_have_is_an_error():
    with pytest.raises(ConfigError, match=r"'middle'.*place=after.*down0, down2, down4, mid, up0"):
        unet(slots=["middle"])
    with pytest.raises(ConfigError, match=r"'up3'.*place=self.*sites are down4, mid, up0, up1$"):
        unet(slots=["up3"], place="self")
    with pytest.raises(
        ConfigError, match=r"unknown place 'inside'; choose from after, within, self"
    ):
        unet(place="inside")


def test_either_a_number_of_heads_or_their_width():
    assert (
        unet(heads=None, head_width=4, slots=[])[0].middle[1].transformer_blocks[0].attn1.heads == 4
    )
    for settings in ({"head_width": 4}, {"heads": None}):
        with pytest.raises(ConfigError, match=r"either unet\.heads or unet\.head_width"):
            unet(**settings)


@pytest.mark.parametrize("place", PLACES)
def test_all_sites_of_a_place_are_visited_and_see_maps_of_the_promised_size(place):
    log = []
    net, made = unet(log, slots=["all"], place=place)
    x, context, scene = call(net)
    net(x, torch.tensor([5.0, 9.0]), context, scene)
    inside = ["down4", "mid", "up0", "up1"]  # where the transformers are
    everywhere = ["down0", "down2", "down4", "mid", *(f"up{i}" for i in range(6))]
    assert [name for name, *_ in made] == (everywhere if place in ("after", "within") else inside)
    assert log == [(name, (2, 3, c, 8 // f, 8 // f)) for name, c, f in made]
    kept = [
        block.attn1 is not None for block in net.modules() if isinstance(block, TransformerBlock)
    ]
    assert kept == [place != "self"] * 4


def test_without_attention_between_them_views_are_independent():
    net, _ = unet()
    x, context, scene = call(net)
    times = torch.tensor([5.0, 9.0])
    out = net(x, times, context, scene)
    assert out.shape == (2, 3, 3, 8, 8)
    alone = ViewContext(scene.cameras[1], {}, scene.time, scene.index[1:2])
    torch.testing.assert_close(
        net(x[:, 1:2], times, context[:, 1:2], alone), out[:, 1:2], atol=1e-5, rtol=1e-5
    )


def test_time_and_context_are_heard():
    net, _ = unet()
    x, context, scene = call(net)
    out = net(x, torch.tensor([5.0, 9.0]), context, scene)
    later = net(x, torch.tensor([5.0, 800.0]), context, scene)
    torch.testing.assert_close(later[0], out[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(later[1], out[1], atol=1e-3)
    assert not torch.allclose(net(x, torch.tensor([5.0, 9.0]), -context, scene), out, atol=1e-3)


@pytest.mark.parametrize("levels", [[], [0, 1, 2]])
def test_transformer_blocks_where_they_are_asked_for(levels):
    net, _ = unet(attention_levels=levels)
    x, context, scene = call(net)
    assert torch.isfinite(net(x, torch.tensor([5.0, 9.0]), context, scene)).all()
    kinds = [type(layer).__name__ for block in net.down for layer in block]
    assert kinds.count("SpatialTransformer") == len(levels)
