"""The attention slot's interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from ..cameras.camera import Cameras
from ..registry import Registry

ATTENTION = Registry("attention")

#: Where a view attention stands relative to a block of the UNet:
#: after the block (SyncDreamer); within it, before the middle block's transformer and before a
#: decoder block's upsampling (EpiDiff's released code); in place of the transformer's
#: self-attention (MVDream, ImageDream); beside it, as a further attention after it (Wonder3D's
#: cross-domain attention); decoupled, in parallel to it with the same input (MV-Adapter,
#: arXiv 2412.03632).
PLACES: tuple[str, ...] = ("after", "within", "self", "beside", "decoupled")


@dataclass(frozen=True)
class SlotSpec:
    """Where in the UNet a slot sits.

    channels: of the feature map.
    factor: how much smaller than the latents the map is.
    frustum_channels: of the frusta, by factor (empty without a volume).
    time_dim: of the scene's time embedding.
    heads: of the UNet's own attention there.
    place: one of `PLACES`.
    residual: whether the published weights want the result added to the features; False: it
        replaces them.
    unet_time_dim: of the UNet's embedding of the noise level; None: as the scene's.
    """

    channels: int
    factor: int
    frustum_channels: Mapping[int, int]
    time_dim: int
    heads: int = 8
    place: str = "after"
    residual: bool = True
    unet_time_dim: int | None = None


@dataclass(frozen=True)
class ViewContext:
    """What a slot may look at beside the features.

    cameras: of the views at hand, at the latents' resolution; where `index` has a row an
        object, one an object and view, object by object.
    frusta: features along each camera's rays, by factor.
    time: embedding of the noise level.
    index: positions of these views in the whole rig, shared by the batch or a row an object
        (training picks views for each object; never given to slots that need all views).
    empty: all frusta are known to be zeros (the branch of guidance without condition).
    unet_time: the UNet's own embedding of the noise level, before any SiLU, of each of its maps
        (the views, and the reference view where there is one); None without a UNet.
    """

    cameras: Cameras
    frusta: Mapping[int, Float[Tensor, "batch view _channel _depth _height _width"]]
    time: Float[Tensor, "batch time"]
    index: Int[Tensor, "view"] | Int[Tensor, "batch view"]
    empty: bool = False
    unet_time: Float[Tensor, "batch map unet_time"] | None = None


class ViewAttention(nn.Module, ABC):
    """Maps the features of a set of views to features of the same shape.

    Starts as the identity (zero-initialized output), except where published weights say
    otherwise. `needs` names what the denoiser must provide: "frusta", and "all_views" when
    views must not be split into chunks. `equivariant` says that views in another order give the
    same results in that order; False where the order itself means something. `reads_cameras`
    says whether it looks at the scene's cameras: one that does not can take further views.

    Example:
        >>> import torch
        >>> from mvdiff.attention import ATTENTION, SlotSpec, ViewAttention, ViewContext
        >>> from mvdiff.cameras import ring
        >>> @ATTENTION.register("gated-mean")
        ... class GatedMean(ViewAttention):
        ...     needs = frozenset({"all_views"})
        ...
        ...     def __init__(self, slot):
        ...         super().__init__()
        ...         self.gate = torch.nn.Parameter(torch.zeros(slot.channels, 1, 1))
        ...
        ...     def forward(self, x, scene):
        ...         return x + self.gate * x.mean(dim=1, keepdim=True)
        >>> attention = GatedMean(SlotSpec(16, factor=1, frustum_channels={}, time_dim=32))
        >>> scene = ViewContext(ring(4, size=8), {}, time=torch.zeros(2, 32), index=torch.arange(4))
        >>> x = torch.rand(2, 4, 16, 8, 8)  # batch, view, channel, height, width
        >>> attention(x, scene).shape, torch.equal(attention(x, scene), x)
        (torch.Size([2, 4, 16, 8, 8]), True)
    """

    needs: frozenset[str] = frozenset()
    equivariant: bool = True
    reads_cameras: bool = True

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "batch view channel height width"], scene: ViewContext
    ) -> Float[Tensor, "batch view channel height width"]: ...

    def update(
        self, x: Float[Tensor, "batch view channel height width"], scene: ViewContext
    ) -> Float[Tensor, "batch view channel height width"]:
        """What `forward` adds to the features: inside a transformer block, the block adds it.

        A variant may compute it directly; by default it is the difference.
        """
        return self(x, scene) - x
