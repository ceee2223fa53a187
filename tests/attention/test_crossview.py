"""Cross-view attention: all pixels of all views, distinguished by their rays alone."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_recipe import randomize

from mvdiff.attention import SlotSpec, ViewContext
from mvdiff.attention.crossview import CrossViewAttention
from mvdiff.attention.ray_tokens import embed_rays
from mvdiff.cameras import Cameras, look_at, ring
from mvdiff.errors import MvdiffError

SLOT = SlotSpec(16, 1, {}, 4)


def make(**settings) -> CrossViewAttention:
    torch.manual_seed(0)
    return randomize(CrossViewAttention(SLOT, **{"heads": 2, **settings})).eval()


def scene(cameras: Cameras) -> ViewContext:
    return ViewContext(cameras, {}, torch.zeros(1, 4), torch.arange(len(cameras)))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_every_pixel_of_every_view_reaches_every_pixel_of_every_view():
    module, x = make().double(), random(1, 3, 16, 4, 4).double().requires_grad_()
    # normalized over each view: take that out to see the attention itself
    module.tokens.norm = torch.nn.Identity()
    out = module(x, scene(ring(3, size=4)))
    (gradient,) = torch.autograd.grad(out[0, 1, :, 2, 3].sum(), x)
    assert (gradient.abs().amax(dim=2) > 1e-9).all()


def test_against_a_loop_over_queries():
    module, x, cameras = make(frequencies=1), random(2, 2, 16, 3, 2), ring(2, size=8)
    out = module(x, scene(cameras)) - x
    h = module.tokens(x, cameras).permute(0, 1, 3, 4, 2).reshape(2, 12, 16)
    q, k, v = module.mix.to_q(h), module.mix.to_k(h), module.mix.to_v(h)
    for b, i in ((0, 0), (1, 7)):
        heads = []
        for c in (slice(0, 8), slice(8, 16)):
            weights = torch.softmax(k[b, :, c] @ q[b, i, c] / 8**0.5, dim=0)
            heads.append(weights @ v[b, :, c])
        expected = module.mix.out(torch.cat(heads))
        view, row, column = i // 6, i % 6 // 2, i % 2
        torch.testing.assert_close(out[b, view, :, row, column], expected, atol=1e-5, rtol=1e-4)


def test_it_knows_where_each_view_stands():
    module, x = make(), random(1, 3, 16, 4, 4)
    out = module(x, scene(ring(3, size=4)))
    turned = look_at([0.0, 120.0, 200.0], [30.0] * 3, size=4)
    assert (module(x, scene(turned)) - out).abs().max() > 1e-3
    # views that hold the same are distinguished by their cameras
    same = x[:, :1].expand(-1, 3, -1, -1, -1)
    out = module(same, scene(ring(3, size=4)))
    assert (out[:, 0] - out[:, 1]).abs().max() > 1e-3


def test_the_rays_embedding_is_pluecker_and_its_waves():
    cameras = ring(2, size=3)
    rays = embed_rays(cameras, 2)
    assert rays.shape == (2, 6 * 5, 3, 3)
    torch.testing.assert_close(rays[:, :6], cameras.pluecker())
    torch.testing.assert_close(rays[:, 18:24], torch.sin(2 * torch.pi * cameras.pluecker()))
    assert torch.equal(embed_rays(cameras, 0), cameras.pluecker())


def test_stride_takes_means_of_keys_and_keeps_every_query():
    x, cameras = random(1, 3, 16, 4, 4), ring(3, size=4)
    captured = []
    module = make(stride=2)
    module.mix.register_forward_pre_hook(lambda _m, given: captured.append(given))
    out = module(x, scene(cameras))
    assert out.shape == x.shape
    ((query, key),) = captured
    assert (query.shape, key.shape) == ((1, 48, 16), (1, 12, 16))
    torch.testing.assert_close(key[0, 0], query[0, [0, 1, 4, 5]].mean(dim=0))
    assert (out - make()(x, scene(cameras))).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("height", "width", "boxes"),
    [
        # the rows and columns of each key: as even as can be, none left out
        (5, 3, [(slice(0, 3), slice(0, 3)), (slice(2, 5), slice(0, 3))]),
        (1, 6, [(slice(0, 1), slice(0, 3)), (slice(0, 1), slice(3, 6))]),
        (2, 2, [(slice(0, 2), slice(0, 2))]),
    ],
)
def test_stride_on_maps_that_are_no_multiple_of_it(height, width, boxes):
    x = random(1, 2, 16, height, width)
    captured = []
    module = make(stride=4)
    module.mix.register_forward_pre_hook(lambda _m, given: captured.append(given))
    out = module(x, scene(ring(2, size=8)))
    ((query, key),) = captured
    maps = query.reshape(2, height, width, 16)
    means = [maps[view][box].mean(dim=(0, 1)) for view in range(2) for box in boxes]
    torch.testing.assert_close(key[0], torch.stack(means))
    assert torch.isfinite(out).all()
    assert ((out - x).abs().amax(dim=(0, 2)) > 1e-4).all()  # every pixel heard something


def test_moved_cameras_are_not_taken_for_the_ones_before():
    module, x, cameras = make(), random(1, 2, 16, 4, 4), ring(2, size=4)
    first = module(x, scene(cameras))
    cameras.w2c[:, 2, 3] += 1.0
    assert (module(x, scene(cameras)) - first).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stride": 0}, "stride of at least 1, got 0"),
        ({"heads": 3}, r"'crossview' needs heads that divide.* 16 channels, got attention.heads=3"),
        ({"heads": 0}, "heads that divide"),
        ({"frequencies": -1}, "frequencies"),
        ({"kernel": "flash"}, "unknown attention kernel 'flash'; choose from auto, sdpa"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(MvdiffError, match=words):
        make(**settings)
