"""Row-wise attention: a pixel attends to the same image row of all views (Era3D).

Era3D (arXiv 2405.11616, section 3.3) chooses orthographic cameras at elevation 0, where a point
of the world lies on one row in all views, so that rows are epipolar lines.
"""

from __future__ import annotations

from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..cameras.cache import CameraCache
from ..cameras.camera import Cameras
from ..errors import ConfigError
from .base import ATTENTION, PairwiseAttention, SlotSpec, ViewContext
from .encodings import Tokens, pixel_tokens
from .ray_tokens import RayTokens, TokenAttention

#: rows may differ by this share of the picture's height
TOLERANCE = 0.005

_errors = CameraCache()


@ATTENTION.register("rowwise")
class RowwiseAttention(PairwiseAttention):
    """Attention between the pixels of a row, of all views; does not depend on the views' order.

    heads: of the attention; they divide the feature map's channels.
    frequencies: of the rays' embedding, see `RayTokens`.
    rays: whether tokens hold their rays in world coordinates; False for a pose encoded in queries
        and keys alone (`pose=prope`, `pose=cape`).
    kernel: see `scaled_dot_product`.
    `forward` raises MvdiffError for cameras whose epipolar lines are not rows.
    """

    def __init__(
        self,
        slot: SlotSpec,
        heads: int,
        frequencies: int = 4,
        rays: bool = True,
        kernel: str = "auto",
    ) -> None:
        super().__init__(slot.channels, heads, kernel, "rowwise")
        self.tokens = RayTokens(slot.channels, frequencies, rays)
        self.mix = TokenAttention(slot.channels, heads)

    def forward(
        self, x: Float[Tensor, "batch view channel height width"], scene: ViewContext
    ) -> Float[Tensor, "batch view channel height width"]:
        _check_rows(scene.cameras)
        views, _, height, width = x.shape[1:]
        rows = rearrange(self.tokens(x, scene.cameras), "b v c h w -> b h (v w) c")
        one = pixel_tokens(views, 1, width, like=x)  # one row; all rows have these columns
        row = torch.arange(height, dtype=one.row.dtype, device=x.device)
        at = Tokens(one.view, one.column, row[:, None, None])
        out = self.mix(rows, rows, attend=partial(self.attend, scene=scene, at=at, of=at))
        return x + rearrange(out, "b h (v w) c -> b v c h w", v=views)


def row_error(cameras: Cameras) -> float:
    """How far epipolar lines leave their rows, as a share of the picture's height.

    Rows are epipolar lines exactly where the row of a world point is the same in all views,
    v_j(X) = v_i(X) for all X. For orthographic cameras v is linear in X, so their down axes,
    scales and offsets must be equal: for cameras that look at the origin from around the z axis,
    elevation 0. (Perspective cameras pass when they differ by a step along their own rows alone,
    a rectified stereo rig, and never on a ring.) Measured at the picture's corners and center,
    at half and at one and a half times the origin's depth, from each view in each other.
    """
    cameras = cameras.to(torch.float64)
    corners = torch.cartesian_prod(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))
    uv = torch.cat([corners, torch.tensor([[0.5, 0.5]])]).to(cameras.K)
    uv = uv * uv.new_tensor([cameras.width, cameras.height])
    uv = uv.repeat(2, 1).expand(len(cameras), -1, -1)
    steps = uv.new_tensor([0.5, 1.5]).repeat_interleave(len(corners) + 1)
    points = cameras.unproject(uv, cameras.t[:, 2:] * steps)
    seen, _ = cameras.project(points)  # (in view, from view, point, 2)
    return float((seen[..., 1] - uv[..., 1]).abs().max() / cameras.height)


def _check_rows(cameras: Cameras) -> None:
    error = _errors("rows", cameras, row_error)
    if error <= TOLERANCE:
        return
    # NaN, of points on a camera's plane, counts as more
    apart = f"up to {error:.1%} of" if error < 1 else "more than"
    raise ConfigError(
        "attention 'rowwise' needs cameras that see every point on one image row in all views, "
        f"but in these {cameras.projection} cameras its rows lie {apart} the picture's "
        "height apart: use orthographic cameras at elevation 0 (rig.projection=orthographic "
        "rig.elevation=0), or attention=crossview, which takes any cameras"
    )
