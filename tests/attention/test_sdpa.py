"""softmax(Q Kᵀ / √d) V by every kernel."""

from __future__ import annotations

import math
import sys
import warnings
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mvdiff.attention import sdpa as core
from mvdiff.attention.sdpa import scaled_dot_product
from mvdiff.errors import MvdiffError

HERE = ["auto", "sdpa", "math"]  # what works without CUDA


def tensors(*batch: int, heads=3, queries=5, keys=7, dim=6, dtype=torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(*batch, heads, n, dim) for n in (queries, keys, keys)]
    return [torch.randn(s, generator=generator, dtype=dtype, requires_grad=True) for s in shapes]


def value_and_gradients(given: list[Tensor], *how) -> list[Tensor]:
    out = scaled_dot_product(*given, *how)
    return [out.detach(), *torch.autograd.grad(out.square().sum(), given)]


def same(ours: list[Tensor], other: list[Tensor]) -> None:
    for a, b in zip(ours, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", HERE)
def test_two_keys_by_hand(kernel):
    query = torch.tensor([[[2.0, 0.0]]])
    key = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    value = torch.tensor([[[1.0, 0.0], [0.0, 10.0]]])
    # scores 2/√2 and 0
    weight = 1 / (1 + math.exp(-math.sqrt(2)))
    expected = torch.tensor([[[weight, 10 * (1 - weight)]]])
    torch.testing.assert_close(scaled_dot_product(query, key, value, kernel), expected)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3), (1, 2, 3)])
def test_kernels_agree_in_value_and_gradient(batch):
    given = tensors(*batch)
    expected = value_and_gradients(given, "math")
    assert expected[0].shape == (*batch, 3, 5, 6)
    for kernel in ("auto", "sdpa"):
        same(value_and_gradients(given, kernel), expected)


@pytest.mark.parametrize("kernel", HERE)
def test_one_key_is_taken_whatever_the_query(kernel):
    value = torch.randn(3, 1, 4, generator=torch.Generator().manual_seed(0))
    out = scaled_dot_product(
        torch.full((3, 2, 4), 50.0), torch.full((3, 1, 4), -50.0), value, kernel
    )
    torch.testing.assert_close(out, value.expand(3, 2, 4))


MASKS = [(5, 7), (3, 5, 7), (1, 5, 7), (2, 2, 3, 5, 7), (2, 1, 1, 5, 7), (1, 2, 1, 5, 1)]


def mask_of(shape: tuple[int, ...]) -> Tensor:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.4
    mask[..., 0, :] = True
    mask[..., 1, :] = False  # a query without keys
    return mask


@pytest.mark.parametrize("kernel", HERE)
@pytest.mark.parametrize("shape", MASKS)
def test_a_masked_key_is_as_good_as_absent(kernel, shape):
    given = tensors(2, 2)
    out, *gradients = value_and_gradients(given, kernel, mask_of(shape))
    full = mask_of(shape).expand(2, 2, 3, 5, 7)
    for index in [(0, 0, 0, 0), (1, 0, 2, 3), (0, 1, 1, 4)]:
        kept = full[index]
        q, k, v = given[0][index], given[1][index[:3]][kept], given[2][index[:3]][kept]
        expected = torch.softmax(k @ q / 6**0.5, dim=0) @ v
        torch.testing.assert_close(out[index], expected.detach(), atol=1e-5, rtol=1e-4)
    assert not out[..., 1, :].any()
    assert not gradients[0][..., 1, :].any()
    assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("shape", MASKS)
def test_kernels_agree_under_a_mask(shape):
    given = tensors(2, 2)
    same(*(value_and_gradients(given, kernel, mask_of(shape)) for kernel in ("sdpa", "math")))


def test_large_scores_in_half_precision_stay_finite():
    q = torch.full((1, 2, 64), 100.0, dtype=torch.float16)
    # 64 · 100² / 8 = 80000 is beyond float16; the softmax of equal scores is not
    out = scaled_dot_product(q, q / 2, torch.ones_like(q), "math")
    torch.testing.assert_close(out, torch.ones_like(q))


@pytest.mark.parametrize("shape", [None, (5, 7), (4, 1, 5, 7)])
def test_batches_beyond_cudas_grid_go_in_parts(shape):
    given = tensors(4)
    mask = None if shape is None else mask_of(shape)
    flat = core._flat_mask(mask, given[0].shape[:-3])
    sizes = []

    def fused(*part):
        sizes.append(len(part[0]))
        return core._sdpa(*part)

    out = core._in_parts(fused, *given, flat, limit=3)
    torch.testing.assert_close(out, scaled_dot_product(*given, "sdpa", mask))
    assert sizes == [3, 1]


def test_an_unknown_kernel_is_refused_with_the_choices():
    with pytest.raises(MvdiffError, match="'flash'; choose from auto, sdpa, xformers, math"):
        scaled_dot_product(*tensors(), "flash")


def test_xformers_is_refused_away_from_cuda():
    with pytest.raises(MvdiffError, match=r"needs tensors on a CUDA device, got cpu: use kernel="):
        scaled_dot_product(*tensors(), "xformers")


@pytest.fixture
def fresh():
    """Forget before and after a test whether xformers works."""
    for cached in (core._import_xformers, core._note):
        cached.cache_clear()
    yield
    for cached in (core._import_xformers, core._note):
        cached.cache_clear()


def install(monkeypatch, memory_efficient_attention) -> None:
    """Install a stand-in for xformers, which has no CPU kernels."""
    package, ops = ModuleType("xformers"), ModuleType("xformers.ops")
    ops.memory_efficient_attention = memory_efficient_attention
    package.ops = ops
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)


@pytest.mark.parametrize("shape", [None, (5, 7), (2, 1, 5, 7)])
def test_xformers_gets_tokens_before_heads_and_a_bias(monkeypatch, fresh, shape):
    def theirs(q, k, v, attn_bias):
        assert (q.shape, k.shape) == ((2, 5, 3, 6), (2, 7, 3, 6))
        if attn_bias is not None:
            assert attn_bias.shape == (2, 3, 5, 7)
        out = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_bias)
        return out.transpose(1, 2)

    install(monkeypatch, theirs)
    given, mask = tensors(2), None if shape is None else mask_of(shape)
    out = core._xformers(*given, core._flat_mask(mask, given[0].shape[:1]))
    torch.testing.assert_close(out, scaled_dot_product(*given, "math", mask), atol=1e-5, rtol=1e-4)


def test_xformers_is_tried_and_reported_once(monkeypatch, fresh):
    def theirs(*_given, **_more):
        raise NotImplementedError("No operator found\nfor these")

    install(monkeypatch, theirs)
    given = tensors(2)
    with pytest.warns(UserWarning, match=r"does not support these tensors \(No operator found\).*"
                      "falls back to kernel=sdpa"):  # fmt: skip
        out = core._xformers(*given, None)
    torch.testing.assert_close(out, scaled_dot_product(*given, "sdpa"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        core._xformers(*given, None)


def test_without_xformers_sdpa_does_it_and_says_so(monkeypatch, fresh):
    monkeypatch.setitem(sys.modules, "xformers", None)
    monkeypatch.setitem(sys.modules, "xformers.ops", None)
    given = tensors(2)
    with pytest.warns(UserWarning, match="xformers cannot be used .*kernel=sdpa"):
        out = core._xformers(*given, None)
    torch.testing.assert_close(out, scaled_dot_product(*given, "sdpa"))
