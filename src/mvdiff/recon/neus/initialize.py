"""Where the fit starts: the hull's signed distance, in a box around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...silhouettes.visual_hull import SignedField


@dataclass(frozen=True)
class NormalizedBox:
    """The part of the world that is fitted, and its own units: longest side 2, center 0.

    center: in the world. unit: world units in one box unit.
    half: half sides along x, y, z, box units; the largest is 1.
    """

    center: Float[Tensor, "3"]
    unit: float
    half: Float[Tensor, "3"]

    @staticmethod
    def around(points: Float[np.ndarray, "point 3"], margin: float) -> NormalizedBox:
        """The box of some world points, enlarged on all sides by a share of the longest side."""
        low, high = torch.from_numpy(points.min(axis=0)), torch.from_numpy(points.max(axis=0))
        half = (high - low) / 2 + margin * (high - low).amax()
        unit = float(half.amax())
        return NormalizedBox(((low + high) / 2).float(), unit, (half / unit).float())

    def shape(self, cells: int) -> list[int]:
        """Points along z, y, x of a grid with `cells` cells along the longest side."""
        return [max(2, round(cells * float(s)) + 1) for s in self.half.flip(0)]

    def points(self, cells: int) -> Float[Tensor, "depth height width 3"]:
        """The points of that grid, box units."""
        sides = zip(self.half.flip(0), self.shape(cells), strict=True)
        z, y, x = torch.meshgrid(*[torch.linspace(-s, s, n) for s, n in sides], indexing="ij")
        return torch.stack([x, y, z], dim=-1)

    def to_box(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
        return (points - self.center.to(points)) / self.unit

    def to_world(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
        return points * self.unit + self.center.to(points)


def sdf_from_hull(
    hull: SignedField, *, margin: float, cells: int
) -> tuple[NormalizedBox, Float[Tensor, "depth height width"]]:
    """The box around a hull, and the signed distance to its surface (negative inside).

    margin: of the box, as a share of the longest side. cells: along that side.
    """
    from scipy.spatial import cKDTree

    surface, _ = hull.surface()
    box = NormalizedBox.around(surface, margin)
    points = box.points(cells)
    world = box.to_world(points).reshape(-1, 3)
    # Its vertices stand for the surface: they are a hull grid step apart, less than a cell.
    away = cKDTree(surface).query(world.numpy())[0] / box.unit
    inside = hull.sample(world) > 0
    signed = torch.where(inside, -1.0, 1.0) * torch.from_numpy(away).float()
    return box, signed.reshape(points.shape[:-1])
