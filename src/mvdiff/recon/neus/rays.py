"""The rays of all pixels that may see the object, cut to where it can be."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import grid_sample

from ...silhouettes.masks import reduced
from ...views import Views
from .initialize import NormalizedBox

#: Spheres walked along a ray, and the least step (box units): grazing rays end early.
_STEPS, _LEAST = 48, 0.004


@dataclass(frozen=True)
class Rays:
    """Rays in box units with what their pixels show.

    view: which view each belongs to.
    near, far: where the ray enters and leaves the neighborhood of the hull.
    color: in [0, 1], not multiplied by opacity. opacity: in [0, 1].
    """

    view: Int[Tensor, "ray"]
    origin: Float[Tensor, "ray 3"]
    direction: Float[Tensor, "ray 3"]
    near: Float[Tensor, "ray"]
    far: Float[Tensor, "ray"]
    color: Float[Tensor, "ray 3"]
    opacity: Float[Tensor, "ray"]

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, index: Int[Tensor, "chosen"]) -> Rays:
        return Rays(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device) -> Rays:
        return Rays(*(getattr(self, f.name).to(device) for f in fields(self)))


def gather_rays(
    views: Views,
    box: NormalizedBox,
    start: Float[Tensor, "depth height width"],
    *,
    band: float,
    size: int,
) -> Rays:
    """The rays of all pixels that pass the hull's surface nearer than `band`, or go through.

    views: with alpha. start: signed distance in the box.
    band: box units. size: larger pictures are averaged down to this longest side.
    """
    views = reduced(views, size)
    parts = []
    for i in range(len(views)):
        # float64: the center of a far camera must not cost the pixels their place
        origin, direction = views.cameras[i].to(torch.float64).rays()
        origin = box.to_box(origin).reshape(-1, 3).float()
        direction = direction.reshape(-1, 3).float()
        near, far = _box_interval(origin, direction, box.half)
        seen = (far > near).nonzero()[:, 0]
        near = _sphere_trace(start, box, band, origin[seen], direction[seen], near[seen], far[seen])
        seen, near = seen[near.isfinite()], near[near.isfinite()]
        back = _sphere_trace(start, box, band, origin[seen], -direction[seen], -far[seen], -near)
        # A graze too short to be met from behind ends where it began.
        far = torch.where(back.isfinite(), -back, near).maximum(near + _LEAST)
        color = views.images[i].reshape(3, -1).T[seen].float() / 255
        opacity = views.mask[i].reshape(-1)[seen]
        view = torch.full((len(seen),), i)
        parts.append((view, origin[seen], direction[seen], near, far, color, opacity))
    return Rays(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _box_interval(
    origin: Tensor, direction: Tensor, half: Tensor
) -> tuple[Float[Tensor, "ray"], Float[Tensor, "ray"]]:
    """Where rays enter and leave the box; near > far for those that miss it."""
    slope = torch.where(direction.abs() < 1e-9, 1e-9, direction)
    a, b = (-half - origin) / slope, (half - origin) / slope
    return torch.minimum(a, b).amax(dim=-1).clamp(min=0), torch.maximum(a, b).amin(dim=-1)


def _sphere_trace(
    start: Tensor,
    box: NormalizedBox,
    band: float,
    origin: Tensor,
    direction: Tensor,
    near: Tensor,
    far: Tensor,
) -> Float[Tensor, "ray"]:
    """Sphere tracing: the first point nearer to the hull than `band`; inf when there is none."""
    out = torch.full_like(near, torch.inf)
    at, alive = near.clone(), torch.arange(len(near))
    for _ in range(_STEPS):
        if not len(alive):
            break
        points = (origin[alive] + direction[alive] * at[alive, None]) / box.half
        distance = grid_sample(
            start[None, None], points[None, None, None], padding_mode="border", align_corners=True
        ).reshape(-1)
        hit = distance - band <= _LEAST
        out[alive[hit]] = at[alive[hit]]
        at[alive] += (distance - band).clamp(min=_LEAST)
        alive = alive[~hit & (at[alive] < far[alive])]
    out[alive] = at[alive]  # still walking along a surface: near enough
    return out
