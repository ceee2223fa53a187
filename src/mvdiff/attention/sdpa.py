"""softmax(Q Kᵀ / √d) V, once for all variants."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import ConfigError

Kernel = Literal["auto", "sdpa", "xformers", "math"]
KERNELS: tuple[str, ...] = get_args(Kernel)

#: CUDA's launch grid holds this many blocks in y and z, where fused kernels put the batch
#: (PyTorch issue 142228, xformers issue 845).
GRID = 65535


def scaled_dot_product(
    query: Float[Tensor, "*batch head query dim"],
    key: Float[Tensor, "*batch head key dim"],
    value: Float[Tensor, "*batch head key dim"],
    kernel: str = "auto",
    mask: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "*batch head query dim"]:
    """Scaled dot-product attention.

    kernel: "math" is the plain formula, "sdpa" PyTorch's fused attention, "xformers" that of
        xformers (CUDA only; without it, or where it does not support the tensors, sdpa with a
        warning). "auto" is sdpa.
    mask: True where a query may attend to a key; broadcastable to (*batch, head, query, key).
        A query that may attend to nothing gets zeros.
    Raises ConfigError on an unknown kernel, and on xformers for tensors on another device.
    """
    check_kernel(kernel)
    if kernel == "math":
        return _math(query, key, value, mask)
    if kernel == "xformers" and not query.is_cuda:
        raise ConfigError(
            f"kernel 'xformers' needs tensors on a CUDA device, got {query.device.type}: use "
            "kernel=auto, sdpa or math"
        )
    # one batch axis: PyTorch takes the plain formula for any other number of axes than four
    batch = query.shape[:-3]
    flat = [x.reshape(-1, *x.shape[-3:]) for x in (query, key, value)]
    mask = _flat_mask(mask, batch)
    fused = _xformers if kernel == "xformers" else _sdpa
    limit = GRID if query.is_cuda else len(flat[0])
    return _in_parts(fused, *flat, mask, limit).reshape(
        *batch, *query.shape[-3:-1], value.shape[-1]
    )


def check_kernel(kernel: str) -> str:
    """Validate a kernel's name and return it. Raises ConfigError for an unknown kernel."""
    if kernel not in KERNELS:
        raise ConfigError(f"unknown attention kernel '{kernel}'; choose from {', '.join(KERNELS)}")
    return kernel


def head_width(channels: int, heads: int, variant: str) -> int:
    """Channels of a head; ConfigError when the heads do not divide the channels."""
    if heads < 1 or channels % heads:
        raise ConfigError(
            f"attention '{variant}' needs heads that divide the feature map's {channels} channels, "
            f"got attention.heads={heads}"
        )
    return channels // heads


def _math(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is None:
        return scores.softmax(dim=-1) @ value
    # the lowest finite number, not −∞: a row without keys would become NaN, gradients included
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights * mask @ value


def _flat_mask(mask: Tensor | None, batch: torch.Size) -> Tensor | None:
    """A mask with the batch's axes made one, expanded only where they differ."""
    if mask is None:
        return None
    mask = mask.reshape(*[1] * (len(batch) + 3 - mask.ndim), *mask.shape)
    if mask.shape[:-3].numel() > 1:
        mask = mask.expand(*batch, *mask.shape[-3:])
    return mask.reshape(-1, *mask.shape[-3:])


def _in_parts(
    fused: Callable[..., Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    limit: int,
) -> Tensor:
    """`fused` over at most `limit` entries of the batch at a time."""
    if len(query) <= limit:
        return fused(query, key, value, mask)
    parts = [x.split(limit) for x in (query, key, value)]
    shared = mask is None or len(mask) == 1
    masks = [mask] * len(parts[0]) if shared else mask.split(limit)
    return torch.cat([fused(*part) for part in zip(*parts, masks, strict=True)])


def _sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _xformers(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """By xformers; by sdpa with a warning (once a reason) where xformers cannot."""
    memory_efficient = _import_xformers()
    if memory_efficient is None:
        return _sdpa(query, key, value, mask)
    bias = None
    if mask is not None:
        lowest = torch.finfo(query.dtype).min
        shape = (*query.shape[:3], key.shape[2])
        bias = query.new_zeros(shape).masked_fill(~mask, lowest)
    try:
        # xformers wants (batch, token, head, dim)
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        out = memory_efficient(q, k, v, attn_bias=bias).transpose(1, 2)
    except (NotImplementedError, ValueError) as error:
        _note(f"xformers does not support these tensors ({str(error).splitlines()[0]})")
        return _sdpa(query, key, value, mask)
    return out if mask is None else out * mask.any(dim=-1, keepdim=True)


@functools.cache
def _import_xformers() -> Any:
    logger = logging.getLogger("xformers")
    level = logger.level
    logger.setLevel(logging.ERROR)  # its notes on missing extensions are not the user's concern
    try:
        from xformers.ops import memory_efficient_attention
    except Exception as error:  # a build for another torch fails in many ways
        _note(f"xformers cannot be used ({type(error).__name__}: {error})")
        return None
    finally:
        logger.setLevel(level)
    return memory_efficient_attention


@functools.cache
def _note(reason: str) -> None:
    warnings.warn(f"{reason}: attention falls back to kernel=sdpa", stacklevel=2)
