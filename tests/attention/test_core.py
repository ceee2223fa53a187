"""softmax(Q Kᵀ / √d) V by both kernels."""

from __future__ import annotations

import math

import pytest
import torch

from mvdiff.attention.core import attend


@pytest.mark.parametrize("kernel", ["math", "sdpa"])
def test_two_keys_by_hand(kernel):
    query = torch.tensor([[[2.0, 0.0]]])
    key = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    value = torch.tensor([[[1.0, 0.0], [0.0, 10.0]]])
    # scores 2/√2 and 0
    weight = 1 / (1 + math.exp(-math.sqrt(2)))
    expected = torch.tensor([[[weight, 10 * (1 - weight)]]])
    torch.testing.assert_close(attend(query, key, value, kernel), expected)


def test_kernels_agree_in_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    shapes = (2, 3, 4, 5, 6), (2, 3, 4, 7, 6), (2, 3, 4, 7, 6)
    results = []
    for kernel in ("math", "sdpa"):
        generator.manual_seed(0)
        tensors = [torch.randn(s, generator=generator, requires_grad=True) for s in shapes]
        out = attend(*tensors, kernel)
        out.square().sum().backward()
        results.append([out, *(t.grad for t in tensors)])
    for ours, other in zip(*results, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["math", "sdpa"])
def test_one_key_is_taken_whatever_the_query(kernel):
    value = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0))
    out = attend(torch.full((3, 2, 4), 50.0), torch.full((3, 1, 4), -50.0), value, kernel)
    torch.testing.assert_close(out, value.expand(3, 2, 4))
