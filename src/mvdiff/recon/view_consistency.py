"""How well each view agrees with the mesh made from all of them; names the views that do not."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import trimesh

from ..errors import ReconstructionError
from ..mesh.mesh import Mesh
from ..rendering import Raycaster
from ..silhouettes.masks import overlap
from ..silhouettes.matting import object_mask
from ..silhouettes.scene_bounds import move_cameras_back
from ..views import Views

if TYPE_CHECKING:
    from rich.table import Table

#: A view stands out when it lies this many robust standard deviations below the median…
_DEVIATIONS = 3.0
#: …and by at least so much (IoU; dB): views of a perfect set differ a little too.
_LEAST_IOU, _LEAST_PSNR = 0.02, 1.5
#: Median absolute deviation → standard deviation, of a normal distribution.
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class ViewScore:
    """One view against the mesh as its camera sees it.

    view: number of the view.
    iou: intersection over union of the two silhouettes, in [0, 1].
    psnr: dB, of the colors where both show the object; None where they share no pixel.
    """

    view: int
    iou: float
    psnr: float | None


@dataclass(frozen=True)
class Agreement:
    """The score of every view, and the views that stand out as wrong.

    per_view: one score a view, in the views' order.
    worst: numbers of the views far below the others in silhouette or color, worst first;
        empty when no view stands out.
    """

    per_view: list[ViewScore]
    worst: list[int]

    @property
    def iou(self) -> float:
        """Mean silhouette IoU of all views."""
        return float(np.mean([score.iou for score in self.per_view]))

    @property
    def median_iou(self) -> float:
        """Median silhouette IoU of all views."""
        return float(np.median([score.iou for score in self.per_view]))

    @property
    def psnr(self) -> float | None:
        """Mean color PSNR, dB, of the views that have one; None when none has."""
        values = [score.psnr for score in self.per_view if score.psnr is not None]
        return float(np.mean(values)) if values else None

    def summary(self) -> str:
        """One sentence for a user."""
        color = "" if self.psnr is None else f", colors {self.psnr:.1f} dB"
        text = f"views against the mesh: silhouettes agree to {self.iou:.3f}{color}"
        if not self.worst:
            return f"{text}; no view stands out"
        named = ", ".join(f"{view} ({_cells(self.per_view[view])})" for view in self.worst)
        return f"{text}; look at view{'s' * (len(self.worst) > 1)} {named}"

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "iou": self.iou,
            "psnr": self.psnr,
            "worst": list(self.worst),
            "per_view": [asdict(score) for score in self.per_view],
        }

    def table(self) -> Table:
        """To print with rich; views that stand out are marked."""
        from rich.table import Table

        out = Table(box=None, header_style="bold")
        for title in ("view", "silhouette IoU", "color PSNR (dB)", ""):
            out.add_column(title, justify="left" if not title else "right")
        for score in self.per_view:
            color = "-" if score.psnr is None else f"{score.psnr:.1f}"
            mark = "stands out" if score.view in self.worst else ""
            out.add_row(str(score.view), f"{score.iou:.3f}", color, mark)
        return out


def view_agreement(
    mesh: Mesh | trimesh.Trimesh, views: Views, *, size: int = 256, supersample: int = 2
) -> Agreement:
    """Render the mesh, unlit, in the views' cameras and compare silhouettes and colors.

    mesh: in the cameras' world, with its colors or texture.
    size: views whose longer side is larger are reduced to it first.
    supersample: rays along each side of a pixel; 1 is faster and counts edges coarsely.
    A view stands out when its IoU or its PSNR lies more than 3 robust standard deviations
    (1.4826 · median absolute deviation) below the median of the views, and at least 0.02 or
    1.5 dB. Up to half of the views can be named; when more are wrong, the others look wrong.
    Raises ReconstructionError when the mesh has no faces, and when there are no views.
    """
    if not len(views):
        raise ReconstructionError("there are no views to compare the mesh with")
    shape = mesh.to_trimesh() if isinstance(mesh, Mesh) else mesh
    views = replace(views, cameras=move_cameras_back(views.cameras))
    mask, image, cameras = _reduced(views, size)
    seen = Raycaster(shape).render(cameras, supersample=supersample, shading=None)
    alpha = seen.alpha.float() / 255
    ious = overlap(alpha[:, 0], mask[:, 0])
    scores = [
        ViewScore(
            i, float(ious[i]), _psnr(seen.color[i].float() / 255, image[i], alpha[i], mask[i])
        )
        for i in range(len(views))
    ]
    return Agreement(scores, _outliers(scores))


def _reduced(views: Views, size: int) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Masks and straight colors in [0, 1] and cameras, of at most this size."""
    mask, image = object_mask(views), views.images.float() / 255
    cameras = views.cameras.to("cpu", torch.float32)
    height, width = mask.shape[-2:]
    if max(height, width) <= size:
        return mask, image, cameras
    scale = size / max(height, width)
    shape = max(1, round(height * scale)), max(1, round(width * scale))

    def shrink(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, size=shape, mode="area")

    small = shrink(mask)
    # Weighted by opacity: the color of clear pixels means nothing.
    return small, shrink(image * mask) / small.clamp(min=1e-6), cameras.resize(*shape)


def _psnr(
    seen: torch.Tensor, image: torch.Tensor, seen_alpha: torch.Tensor, mask: torch.Tensor
) -> float | None:
    both = (seen_alpha[0] > 0.5) & (mask[0] > 0.5)
    if not both.any():
        return None
    error = float((seen - image)[:, both].square().mean())
    return -10 * math.log10(max(error, 1e-10))


def _outliers(scores: list[ViewScore]) -> list[int]:
    """Views far below the median, the lowest by its own spread first."""
    distance = np.maximum(
        _below([score.iou for score in scores], _LEAST_IOU),
        _below([score.psnr for score in scores], _LEAST_PSNR),
    )
    return [int(i) for i in np.argsort(-distance, kind="stable") if distance[i] > 1]


def _below(values: list[float | None], least: float) -> np.ndarray:
    """How far each value lies below the median, in units of what stands out; 0 for None."""
    array = np.array([np.nan if value is None else value for value in values])
    known = array[~np.isnan(array)]
    if len(known) < 3:  # two views cannot say which of them is wrong
        return np.zeros(len(array))
    middle = np.median(known)
    spread = _MAD_TO_SIGMA * float(np.median(np.abs(known - middle)))
    return np.nan_to_num((middle - array) / max(_DEVIATIONS * spread, least))


def _cells(score: ViewScore) -> str:
    color = "no color in common" if score.psnr is None else f"{score.psnr:.1f} dB"
    return f"silhouette {score.iou:.2f}, {color}"
