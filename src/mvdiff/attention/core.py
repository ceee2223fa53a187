"""softmax(Q Kᵀ / √d) V, once for all variants."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Kernel = Literal["sdpa", "math"]


def attend(
    query: Float[Tensor, "*batch head query dim"],
    key: Float[Tensor, "*batch head key dim"],
    value: Float[Tensor, "*batch head key dim"],
    kernel: Kernel = "sdpa",
) -> Float[Tensor, "*batch head query dim"]:
    """Scaled dot-product attention.

    kernel: "sdpa" is PyTorch's fused attention, "math" the plain formula.
    """
    if kernel == "sdpa":
        return F.scaled_dot_product_attention(query, key, value)
    weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1)
    return weights @ value
