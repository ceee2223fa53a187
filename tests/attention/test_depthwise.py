"""Depth-wise attention: before its last blocks, a pixel attends along its own ray only."""

from __future__ import annotations

import pytest
import torch
from helpers.tiny_recipe import randomize
from torch import nn

from mvdiff.attention import SlotSpec, ViewContext
from mvdiff.attention.depthwise import DepthwiseAttention
from mvdiff.cameras import ring
from mvdiff.errors import MvdiffError


def make(**settings) -> DepthwiseAttention:
    torch.manual_seed(0)
    return randomize(DepthwiseAttention(SlotSpec(8, 1, {1: 16}, 4), **settings)).eval()


def scene(frusta: torch.Tensor) -> ViewContext:
    views, side = frusta.shape[1], frusta.shape[-1]
    return ViewContext(ring(views, size=side), {1: frusta}, torch.zeros(1, 4), torch.arange(views))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_order_of_the_depth_planes_does_not_matter():
    module, x, frusta = make(), random(1, 2, 8, 4, 4), random(1, 2, 16, 6, 4, 4, seed=1)
    shuffled = frusta[:, :, :, [3, 0, 5, 1, 4, 2]]
    torch.testing.assert_close(
        module(x, scene(shuffled)), module(x, scene(frusta)), atol=1e-5, rtol=1e-5
    )


def test_before_the_output_convolutions_a_pixel_sees_its_own_ray_alone():
    module = make()
    # normalization and 3×3 convolutions mix pixels: take both out to see the attention itself
    module.context_in[1] = nn.Identity()
    module.query_in[1] = nn.Identity()
    module.out = nn.Conv2d(32, 8, 1, bias=False)
    x, frusta = random(1, 1, 8, 4, 4), random(1, 1, 16, 6, 4, 4, seed=1)
    changed = frusta.clone()
    changed[..., 2, 3] += 1
    moved = (module(x, scene(changed)) - module(x, scene(frusta))).abs().sum(dim=(0, 1, 2)) > 1e-6
    assert moved.nonzero().tolist() == [[2, 3]]


def test_all_zero_frusta_give_every_pixel_the_same_context():
    # bias-free context: with dropped volumes keys and values are equal along a ray
    module, frusta = make(), torch.zeros(1, 1, 16, 6, 4, 4)
    module.out = nn.Identity()
    captured = []
    module.to_out.register_forward_hook(lambda _m, i, o: captured.append(i[0]))
    x = random(1, 1, 8, 4, 4)
    module.out = nn.Conv2d(32, 8, 1, bias=False)
    module(x, scene(frusta))
    (mixed,) = captured
    torch.testing.assert_close(mixed, mixed[..., :1, :1].expand_as(mixed), atol=1e-5, rtol=1e-5)


def test_widths_follow_the_published_rule():
    # 4 heads of half the frustum's channels (spec of the published model, section 6)
    module = DepthwiseAttention(SlotSpec(320, 1, {1: 64}, 256))
    assert module.to_q.weight.shape[:2] == (128, 128)
    assert module.to_k.weight.shape[:2] == (128, 64)
    assert module.out[-1].weight.shape == (320, 128, 3, 3)
    assert not module.out[-1].weight.any()
    assert [n for n, p in module.named_parameters() if n.endswith("bias") and "out.2" in n] == []


def test_a_level_the_volume_lacks_is_refused_with_the_choices():
    with pytest.raises(MvdiffError, match=r"4× smaller.*offers \[1, 2\].*attention=none"):
        DepthwiseAttention(SlotSpec(8, 4, {1: 8, 2: 16}, 4))
