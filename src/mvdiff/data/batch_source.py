"""Training batches: which objects a step sees, and how they are changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from ..errors import DataError
from .augment import Augment, AugmentParams
from .shuffled_order import ShuffledOrder


@runtime_checkable
class Material(Protocol):
    """What batches are made of; an `MultiViewDataset`, or one that was encoded beforehand."""

    sources: tuple[str, ...]
    view_count: int

    def assemble(self, indices: Sequence[int], params: list[AugmentParams], device: Any) -> Any: ...


class DatasetBatches:
    """Training batches: a pure function of (seed, step, share), nothing to save or replay.

    data: the objects, as pictures or encoded already. augment: how they are changed; None:
        by `Augment`'s defaults.
    mix: shares by source, such as `{"mesh": 0.7, "shape": 0.3}`; without it, every object is
        seen equally often.
    photos: numbers of input images per object; each step draws one of them, so that `[1, 1, 4]`
        has four in a third of the steps. The first picture is at the azimuth of view 0, the
        others anywhere on the ring.
    """

    def __init__(
        self,
        data: Material,
        *,
        augment: Augment | None = None,
        mix: Mapping[str, float] | None = None,
        photos: Sequence[int] = (1,),
    ) -> None:
        self.data = data
        self.augment = Augment() if augment is None else augment
        self._order = ShuffledOrder(data.sources, mix)
        self._photos = list(photos)
        if not self._photos or any(not 1 <= n <= data.view_count for n in self._photos):
            raise DataError(
                f"photos must be numbers of input pictures from 1 to {data.view_count}, such as "
                f"[1,1,4]; got {self._photos}"
            )

    def batch_at(
        self,
        step: int,
        *,
        batch_size: int,
        seed: int = 0,
        shard: int = 0,
        shards: int = 1,
        device: torch.device | str = "cpu",
    ) -> Any:
        """Share `shard` of `shards` of the batch of a step (counted from 0).

        The whole batch is samples `step * batch_size …` of the run. Which object a sample is
        and how it is changed depends on (seed, its number) alone, so that shares put together
        are the batch of one process: a `Batch`, or what `data.assemble` makes instead.
        Raises DataError when the batch cannot be shared evenly.
        """
        if batch_size % shards:
            raise DataError(
                f"a batch of {batch_size} cannot be split into {shards} equal shares "
                "(processes × accumulation steps): choose a multiple"
            )
        each = batch_size // shards
        start = step * batch_size + shard * each
        numbers = range(start, start + each)
        objects = [self._order(seed, g) for g in numbers]
        params = [
            self.augment.sample_params(np.random.default_rng([seed, 2, g]), self.data.view_count)
            for g in numbers
        ]
        more = self._count(seed, step) - 1
        if more:
            places = [self._places(seed, g, more) for g in numbers]
            params = [replace(d, extra_views=p) for d, p in zip(params, places, strict=True)]
        batch = self.data.assemble(objects, params, device)
        return replace(batch, index=torch.tensor(list(numbers)).to(device))

    def _count(self, seed: int, step: int) -> int:
        """Input pictures an object in this step."""
        return int(np.random.default_rng([seed, 3, step]).choice(self._photos))

    def _places(self, seed: int, number: int, more: int) -> tuple[int, ...]:
        """Views but the first that a sample's further pictures share their azimuths with."""
        random = np.random.default_rng([seed, 4, number])
        return tuple((1 + random.permutation(self.data.view_count - 1)[:more]).tolist())
