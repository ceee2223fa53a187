"""The backbone and its named slots."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_recipe import randomise

from mvdiff.attention import SlotSpec, ViewContext
from mvdiff.attention.none import NoAttention
from mvdiff.cameras import ring
from mvdiff.denoiser.unet import MultiViewUNet
from mvdiff.errors import ConfigError


class Recorder(NoAttention):
    """Notes the maps it is handed."""

    def __init__(self, log, name, channels, factor):
        super().__init__(SlotSpec(channels, factor, {}, 4))
        self.log, self.name = log, name

    def forward(self, x, scene):
        self.log.append((self.name, tuple(x.shape)))
        return x


def unet(log=None, slots=("mid", "up0", "up1", "up2", "up3", "up4", "up5"), **settings):
    made = []

    def make_slot(name, channels, factor):
        made.append((name, channels, factor))
        return Recorder([] if log is None else log, name, channels, factor)

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
    return randomise(net).eval(), made


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


def test_a_slot_that_the_unet_does_not_have_is_an_error():
    with pytest.raises(ConfigError, match=r"'middle'.*'mid', 'up0'"):
        unet(slots=["middle"])


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
