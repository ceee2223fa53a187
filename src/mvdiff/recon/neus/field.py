"""The field that is fitted: signed distance on grids of several resolutions, color beside it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate


class Field(nn.Module):
    """Signed distance (negative inside) and color over a box, in box units.

    NormalizedBox units: the box's longest side has length 2 and its center is the origin.
    base: signed distance the field starts from; axes z, y, x.
    size: half sides of the box along x, y, z, box units; the largest is 1.
    levels: cells along the longest side, for each grid of distances added to `base`.
    color_levels, features: cells and channels of the color's feature grids.
    width: of the color network's hidden layer.
    views: how many views get a color correction of their own.
    sharpness: inverse width of the density at the beginning (NeuS' s), 1 / box unit.

    The distance is a plain sum of interpolated grids, without a network, so that a step costs
    little on a CPU and distances far from any ray stay as they were.
    """

    def __init__(
        self,
        base: Float[Tensor, "depth height width"],
        size: Float[Tensor, "3"],
        *,
        levels: list[int],
        color_levels: list[int],
        features: int,
        width: int,
        views: int,
        sharpness: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.register_buffer("base", base[None, None])
        self.register_buffer("size", size)
        self.levels = nn.ParameterList(self._grid(1, cells) for cells in levels)
        self.features = nn.ParameterList(self._grid(features, cells) for cells in color_levels)
        generator = torch.Generator().manual_seed(seed)
        self.hidden = nn.Linear(features * len(color_levels), width)
        self.color = nn.Linear(width, 3)
        with torch.no_grad():
            for grid in self.features:
                grid.copy_(0.1 * torch.randn(grid.shape, generator=generator))
            for layer in (self.hidden, self.color):
                scale = layer.in_features**-0.5
                layer.weight.copy_(scale * torch.randn(layer.weight.shape, generator=generator))
                layer.bias.zero_()
        self.gain = nn.Parameter(torch.zeros(views, 3))
        self.offset = nn.Parameter(torch.zeros(views, 3))
        self.sharpness = nn.Parameter(torch.tensor(sharpness).log())

    def _grid(self, channels: int, cells: int) -> nn.Parameter:
        shape = [max(2, round(cells * float(s)) + 1) for s in self.size.flip(0)]
        return nn.Parameter(torch.zeros(1, channels, *shape))

    def distance(
        self, points: Float[Tensor, "*points 3"], level_weights: list[float] | None = None
    ) -> Float[Tensor, "*points"]:
        """Signed distance, box units.

        fade: a weight in [0, 1] for each level; levels of weight 0 are not looked up.
        """
        at = (points / self.size).reshape(1, -1, 1, 1, 3)
        value = _sample_grid(self.base, at)
        for i, grid in enumerate(self.levels):
            weight = 1.0 if level_weights is None else level_weights[i]
            if weight > 0:
                value = value + weight * _sample_grid(grid, at)
        return value.reshape(points.shape[:-1])

    def dense(
        self, shape: list[int], level_weights: list[float] | None = None
    ) -> Float[Tensor, "1 1 depth height width"]:
        """Signed distance on a grid over the box, `shape` points along z, y, x."""
        total = interpolate(self.base, size=shape, mode="trilinear", align_corners=True)
        for i, grid in enumerate(self.levels):
            weight = 1.0 if level_weights is None else level_weights[i]
            if weight > 0:
                grid = interpolate(grid, size=shape, mode="trilinear", align_corners=True)
                total = total + weight * grid
        return total

    def radiance(self, points: Float[Tensor, "point 3"]) -> Float[Tensor, "point 3"]:
        """Color in (0, 1), the same from all directions."""
        at = (points / self.size).reshape(1, -1, 1, 1, 3)
        found = [_sample_grid(grid, at).reshape(grid.shape[1], -1).T for grid in self.features]
        return self.color(self.hidden(torch.cat(found, dim=-1)).relu()).sigmoid()

    def corrections(self) -> tuple[Float[Tensor, "view 3"], Float[Tensor, "view 3"]]:
        """Gain and offset that take the object's colors to each view's; neutral on average."""
        gain, offset = self.gain - self.gain.mean(dim=0), self.offset - self.offset.mean(dim=0)
        return gain.exp(), offset


def _sample_grid(grid: Tensor, at: Tensor) -> Tensor:
    return grid_sample(grid, at, padding_mode="border", align_corners=True)
