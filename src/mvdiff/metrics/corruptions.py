"""Views made wrong on purpose: a metric that scores them like the truth does not discriminate."""

from __future__ import annotations

import colorsys
import math

import torch
from torch import Tensor

from ..errors import InputError
from ..silhouettes.matting import object_mask
from ..views import Views
from .checks import check_views

#: Shift as a share of the picture's side: 4 pixels at 256².
_SHIFT = 4 / 256
#: How much of the tint is mixed into the colors.
_TINT = 0.1
#: Step of hues from view to view, in turns: by the golden ratio neighbors differ strongly.
_HUE = (math.sqrt(5) - 1) / 2


def corrupt(views: Views, *, seed: int = 0) -> dict[str, Views]:
    """The views with one defect each, which the metrics should notice.

    shifted: every view moved by 4 pixels at 256², in proportion at other sizes, rounded but at
        least 1 (1 at 64² and 32²), in a direction that is random for each view; what is
        uncovered is background.
    rolled: odd views exchanged in turn: view 3 shows what view 1 showed, and so on, and view 1
        the last odd one, under unchanged cameras. Each half of the views agrees in itself.
    tinted: 10 % of a saturated color, another for every view, mixed into the object's colors.
    seed: of the directions and hues. Cameras are unchanged.
    Raises InputError for fewer than 4 views, of which the odd ones cannot be exchanged.
    """
    check_views(views)
    if len(views) < 4:
        raise InputError(f"controls need at least 4 views, got {len(views)}")
    generator = torch.Generator().manual_seed(seed)
    return {
        "shifted": _shifted(views, generator),
        "rolled": _rolled(views),
        "tinted": _tinted(views, generator),
    }


def _shifted(views: Views, generator: torch.Generator) -> Views:
    size = views.images.shape[-1]
    length = max(1.0, _SHIFT * size)
    images, alpha = views.images.clone(), None if views.alpha is None else views.alpha.clone()
    for i, angle in enumerate(2 * math.pi * torch.rand(len(views), generator=generator)):
        x, y = (round(length * float(f(angle))) for f in (torch.cos, torch.sin))
        images[i] = _moved(images[i], x, y, clear=255)
        if alpha is not None:
            alpha[i] = _moved(alpha[i], x, y, clear=0)
    return Views(images, alpha, views.cameras)


def _moved(picture: Tensor, x: int, y: int, clear: int) -> Tensor:
    """A picture moved right by x and down by y pixels; `clear` is what comes in."""
    out = torch.full_like(picture, clear)
    height, width = picture.shape[-2:]
    rows, columns = slice(max(y, 0), height + min(y, 0)), slice(max(x, 0), width + min(x, 0))
    out[..., rows, columns] = picture[
        ..., max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)
    ]
    return out


def _rolled(views: Views) -> Views:
    order = torch.arange(len(views))
    order[1::2] = order[1::2].roll(1)
    return views.map(lambda pixels: pixels[order])


def _tinted(views: Views, generator: torch.Generator) -> Views:
    start = float(torch.rand(1, generator=generator))
    tints = [colorsys.hsv_to_rgb((start + _HUE * i) % 1, 1, 1) for i in range(len(views))]
    tint = 255 * torch.tensor(tints)[:, :, None, None]
    share = _TINT * object_mask(views) if views.alpha is None else _TINT
    mixed = views.images * (1 - share) + tint * share
    return Views(mixed.round().byte(), views.alpha, views.cameras)
