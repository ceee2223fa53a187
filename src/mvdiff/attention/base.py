"""The attention slot's interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ..cameras.camera import Cameras
from ..registry import Registry
from .encodings import CameraEncoding, Tokens, transform
from .sdpa import check_kernel, head_width, scaled_dot_product

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
    encoding: of the cameras, for queries and keys; `PairwiseAttention.attend` applies it.
    unet_time: the UNet's own embedding of the noise level, before any SiLU, of each of its maps
        (the views, and the reference view where there is one); None without a UNet.
    """

    cameras: Cameras
    frusta: Mapping[int, Float[Tensor, "batch view _channel _depth _height _width"]]
    time: Float[Tensor, "batch time"]
    index: Int[Tensor, "view"] | Int[Tensor, "batch view"]
    empty: bool = False
    encoding: CameraEncoding | None = None
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


class PairwiseAttention(ViewAttention):
    """Base of variants whose queries meet keys of other cameras: poses can be encoded in both.

    A variant calls `attend` in place of `scaled_dot_product` and says where its tokens stand; the
    rest (`pose=cape`, `pose=prope`, or nothing) happens here.

    channels: of queries and keys, all heads together. heads: they divide the channels.
    kernel: see `scaled_dot_product`. variant: its name, for messages.
    Raises ConfigError for heads that do not divide the channels, and for an unknown kernel.

    Example:
        >>> import torch
        >>> from einops import rearrange
        >>> from mvdiff.attention import PairwiseAttention, SlotSpec, ViewContext, pixel_tokens
        >>> from mvdiff.cameras import ring
        >>> class Plain(PairwiseAttention):
        ...     def forward(self, x, scene):
        ...         views, _, height, width = x.shape[1:]
        ...         q = rearrange(x, "b v (k c) h w -> b k (v h w) c", k=self.heads)
        ...         at = pixel_tokens(views, height, width, like=x)
        ...         out = self.attend(q, q, q, scene, at, at)
        ...         return rearrange(out, "b k (v h w) c -> b v (k c) h w", v=views, h=height)
        >>> x = torch.rand(2, 4, 16, 8, 8)
        >>> scene = ViewContext(ring(4, size=8), {}, torch.zeros(2, 32), torch.arange(4))
        >>> attention = Plain(channels=16, heads=2, kernel="auto", variant="plain")
        >>> attention(x, scene).shape
        torch.Size([2, 4, 16, 8, 8])
    """

    needs = frozenset({"all_views"})

    def __init__(self, channels: int, heads: int, kernel: str, variant: str) -> None:
        super().__init__()
        self.variant, self.heads, self.kernel = variant, heads, check_kernel(kernel)
        self.head_channels = head_width(channels, heads, variant)

    def attend(
        self,
        query: Float[Tensor, "*batch head query channel"],
        key: Float[Tensor, "*batch head key channel"],
        value: Float[Tensor, "*batch head key channel"],
        scene: ViewContext,
        at: Tokens,
        of: Tokens,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "*batch head query channel"]:
        """Scaled dot-product attention with the scene's camera encoding.

        at, of: where the queries and the keys stand. mask: see `scaled_dot_product`.
        """
        query, key, value = self.encode(query, key, value, scene, at, of)
        return self.decode(scaled_dot_product(query, key, value, self.kernel, mask), scene, at)

    def encode(
        self, query: Tensor, key: Tensor, value: Tensor, scene: ViewContext, at: Tokens, of: Tokens
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What `attend` does before the attention, for variants that do that in parts."""
        if scene.encoding is None:
            return query, key, value
        at_blocks, of_blocks = (
            scene.encoding.blocks(scene.cameras, tokens, self.head_channels) for tokens in (at, of)
        )
        query, key = transform(query, at_blocks, "D^T"), transform(key, of_blocks, "D^-1")
        return query, key, transform(value, of_blocks, "D^-1") if scene.encoding.values else value

    def decode(
        self, mixed: Float[Tensor, "*batch head query channel"], scene: ViewContext, at: Tokens
    ) -> Float[Tensor, "*batch head query channel"]:
        """What `attend` does after the attention."""
        if scene.encoding is None or not scene.encoding.values:
            return mixed
        return transform(mixed, scene.encoding.blocks(scene.cameras, at, self.head_channels), "D")
