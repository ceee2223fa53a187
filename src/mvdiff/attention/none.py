"""No exchange: every view is denoised on its own (Zero123 fine-tuned on fixed views)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from .base import ATTENTION, SlotSpec, ViewAttention, ViewContext


@ATTENTION.register("none")
class NoAttention(ViewAttention):
    """The identity."""

    def __init__(self, slot: SlotSpec) -> None:
        super().__init__()

    def forward(
        self, x: Float[Tensor, "batch view channel height width"], scene: ViewContext
    ) -> Float[Tensor, "batch view channel height width"]:
        return x
