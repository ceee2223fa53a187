"""Every k-th view of a rendered ring: a ring of fewer cameras from the same pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8

from ..errors import DataError
from .dataset import MultiViewDataset, Sample


class ViewSubset(MultiViewDataset):
    """An `MultiViewDataset` with `count` of its views, evenly spread, view 0 among them.

    Raises DataError unless `count` divides the number of views.
    """

    def __init__(self, data: MultiViewDataset, count: int) -> None:
        if count < 1 or data.view_count % count:
            raise DataError(f"{data.view_count} views cannot be thinned evenly to {count}")
        self._data, self._each = data, data.view_count // count
        self.names, self.sources, self.families = data.names, data.sources, data.families
        self.view_count, self.size = count, data.size
        self.fingerprint = f"{data.fingerprint}-{count}" if self._each > 1 else data.fingerprint

    def __getitem__(self, index: int) -> Sample:
        whole, some = self._data[index], torch.arange(0, self._data.view_count, self._each)
        return Sample(
            whole.targets[some], whole.inputs[some], whole.input_elevation[some], whole.name
        )

    def read(
        self, index: int, order: Sequence[int]
    ) -> tuple[
        UInt8[np.ndarray, "view 4 height width"], UInt8[np.ndarray, "4 height width"], float
    ]:
        return self._data.read(index, [self._each * place for place in order])

    def read_inputs(
        self, index: int, places: Sequence[int]
    ) -> tuple[UInt8[np.ndarray, "photo 4 height width"], Float[np.ndarray, "photo"]]:
        return self._data.read_inputs(index, [self._each * place for place in places])
