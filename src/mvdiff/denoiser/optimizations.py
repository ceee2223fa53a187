"""Which exact shortcuts a model takes: all by default, fewer to measure or to check them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import nn


@dataclass(frozen=True)
class Optimizations:
    """Less work for the same result, up to rounding. Each part says why it may.

    single_token: cross-attention to one context token without queries (`FusedAttnProcessor`).
    folded_keys: depth-wise attention without keys and values (`DepthwiseAttention`).
    empty_volume: the same without queries where there is no volume, and one map for all views.
    known_geometry: where points project to is remembered from step to step (`FrustumNet`,
        `UnprojectedVolume`, `VoxelField`).
    """

    single_token: bool = True
    folded_keys: bool = True
    empty_volume: bool = True
    known_geometry: bool = True

    def set(self, model: nn.Module) -> None:
        """Switch the shortcuts of all parts of a model."""
        for module in model.modules():
            for part in (module, getattr(module, "processor", None)):
                for name, chosen in asdict(self).items():
                    if hasattr(part, name):
                        setattr(part, name, chosen)


REFERENCE = Optimizations(
    single_token=False,
    folded_keys=False,
    empty_volume=False,
    known_geometry=False,
)
