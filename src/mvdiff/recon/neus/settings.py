"""The settings of `reconstructor=neus`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ..hull_steps import HullSettings, is_int


@dataclass(kw_only=True)
class NeusSettings(HullSettings):
    """How the distance is fitted; checked when made. Lengths are in box units (see `Field`).

    steps: of gradient descent; more is finer.
    resolution: cells of the finest grid along the object's longest side.
    rays: pixels per step.
    samples: per ray, at which the field is learned. coarse: per ray, to place them.
    lr: learning rate of the distance grids at the beginning; the others are tied to it.
    mask_weight, eikonal_weight, curvature_weight: of the losses beside the color's, which has 1.
    huber_delta: color errors above this (of 1) count linearly, so that views may disagree.
    robust: views whose loss is far above the median's count less.
    max_image_side: larger views are averaged down to this longest side for the fit.
    init_from_photohull: start from the photo hull instead of the visual hull: hollows that no
        silhouette shows are seldom found by descent alone.
    grid_levels: grids of distances, each with half the cells of the next finer one.
    color_levels, features, width: of the color's grids and network, see `Field`.
    checkpoint: file that keeps the state; an existing one is resumed.
    checkpoint_every: steps between two saves.
    seed: of all random choices.
    device: "auto" uses a GPU where there is one. Two runs on a CPU give the same mesh; on a GPU
        sums are taken in any order, so that runs differ in the last digits.
    Further settings, for the hull that the fit starts from: see `HullSettings`.
    """

    steps: int = 1500
    rays: int = 1024
    samples: int = 16
    coarse: int = 32
    lr: float = 5e-4
    mask_weight: float = 0.5
    eikonal_weight: float = 0.1
    curvature_weight: float = 2e-3
    huber_delta: float = 0.05
    robust: bool = True
    max_image_side: int = 384
    init_from_photohull: bool = True
    grid_levels: int = 4
    color_levels: Sequence[int] = (32, 96)
    features: int = 6
    width: int = 32
    checkpoint: str | Path | None = None
    checkpoint_every: int = 250
    seed: int = 0
    device: str = "auto"
    smoothing_iterations: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "rays", "grid_levels", "features", "width", "checkpoint_every"):
            self.check_number(name, 1)
        for name in ("samples", "coarse"):
            self.check_number(name, 4)
        for name in ("seed", "mask_weight", "eikonal_weight", "curvature_weight"):
            self.check_number(name)
        self.check_number("max_image_side", 16)
        self.check_number("huber_delta", 1e-6)
        self.check_number("lr", 0, 1)
        levels = self.color_levels
        listed = isinstance(levels, Sequence) and not isinstance(levels, str)
        valid = listed and len(levels) > 0 and all(is_int(n, 1) for n in levels)
        expected = "a list of whole numbers of cells, each at least 1, such as [32, 96]"
        self.check("color_levels", valid, expected)

    @property
    def grid_cells(self) -> list[int]:
        """Cells along the longest side of each grid of distances, coarse to fine."""
        halvings = reversed(range(self.grid_levels))
        return [max(2, round(self.resolution / 2**i)) for i in halvings]

    def fingerprint(self) -> str:
        """What decides the result of the fit, as text."""
        elsewhere = ("checkpoint", "checkpoint_every", "device", "max_faces")
        elsewhere += ("smoothing_iterations", "view_weight_power")
        names = [f.name for f in fields(NeusSettings) if f.name not in elsewhere]
        return repr({name: getattr(self, name) for name in names})
