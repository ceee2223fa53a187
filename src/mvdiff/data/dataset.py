"""Rendered objects as training material: samples, and batches of chosen ones."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from ..errors import DataError
from .augment import Augment, AugmentParams, apply, apply_photo, permute_views
from .memmap import pack

__all__ = ["Batch", "MultiViewDataset", "RenderedDataset", "Sample", "pack"]


@dataclass(frozen=True)
class Sample:
    """One object, as rendered.

    targets: the ring's views, straight RGBA.
    inputs: view i has target i's azimuth and its own elevation, straight RGBA.
    input_elevation: degrees.
    name: of the object.
    """

    targets: UInt8[Tensor, "view 4 height width"]
    inputs: UInt8[Tensor, "view 4 height width"]
    input_elevation: Float[Tensor, "view"]
    name: str


@dataclass(frozen=True)
class ExtraInputs:
    """Further input pictures of the same objects.

    photos: RGB on white in [0, 1], then alpha in [0, 1].
    views: the target view whose azimuth each picture shares.
    elevation: of each picture's camera, degrees.
    """

    photos: Float[Tensor, "batch more 4 height width"]
    views: Int[Tensor, "batch more"]
    elevation: Float[Tensor, "batch more"]

    def to(self, device: torch.device | str) -> ExtraInputs:
        """The same pictures on another device."""
        return ExtraInputs(self.photos.to(device), self.views.to(device), self.elevation.to(device))


@dataclass(frozen=True)
class Batch:
    """What the objective gets.

    views: the target views; RGB on white in [0, 1], then alpha in [0, 1].
    photo: the input picture, in the same form, at the azimuth of view 0.
    elevation: of the photo, degrees.
    names: of the objects.
    index: each sample's number in the whole run, the same however many processes share the
        batch; None outside training.
    more: further input pictures of every object; None: there is one.
    """

    views: Float[Tensor, "batch view 4 height width"]
    photo: Float[Tensor, "batch 4 height width"]
    elevation: Float[Tensor, "batch"]
    names: tuple[str, ...]
    index: Int[Tensor, "batch"] | None = None
    more: ExtraInputs | None = None

    def __len__(self) -> int:
        return self.views.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return replace(
            self,
            views=self.views.to(device),
            photo=self.photo.to(device),
            elevation=self.elevation.to(device),
            index=None if self.index is None else self.index.to(device),
            more=None if self.more is None else self.more.to(device),
        )


class MultiViewDataset(torch.utils.data.Dataset[Sample], ABC):
    """Objects with target views and inputs, however they are stored.

    names, sources, families: one entry an object.
    view_count, size: of the target views; side in pixels.
    fingerprint: another one when the objects or their pictures may be others.
    """

    names: tuple[str, ...]
    sources: tuple[str, ...]
    families: tuple[str, ...]
    view_count: int
    size: int
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> Sample: ...

    @abstractmethod
    def read(
        self, index: int, order: Sequence[int]
    ) -> tuple[
        UInt8[np.ndarray, "view 4 height width"], UInt8[np.ndarray, "4 height width"], float
    ]:
        """Targets in this order, the input at the first one's azimuth, its elevation (degrees)."""

    def read_inputs(
        self, index: int, places: Sequence[int]
    ) -> tuple[UInt8[np.ndarray, "photo 4 height width"], Float[np.ndarray, "photo"]]:
        """Inputs at the azimuths of these targets, and their elevations (degrees)."""
        sample = self[index]
        chosen = list(places)
        return sample.inputs[chosen].numpy(), sample.input_elevation[chosen].numpy()

    def batch(
        self,
        indices: Sequence[int],
        *,
        roll: int | Sequence[int] = 0,
        device: torch.device | str = "cpu",
    ) -> Batch:
        """Chosen objects without augmentation, for validation.

        roll: which rendered view becomes view 0 (and whose input the photo is), for all
            objects or one each.
        """
        rolls = [roll] * len(indices) if isinstance(roll, int) else list(roll)
        still = Augment.none().sample_params(np.random.default_rng(0), self.view_count)
        return self.assemble(indices, [replace(still, roll=r) for r in rolls], device)

    def assemble(
        self,
        indices: Sequence[int],
        params: list[AugmentParams],
        device: torch.device | str = "cpu",
    ) -> Batch:
        """Chosen objects, each changed by its draw. Bytes travel; `device` does the arithmetic."""
        n, shape = len(indices), (4, self.size, self.size)
        targets = np.empty((n, self.view_count, *shape), dtype=np.uint8)
        photos = np.empty((n, *shape), dtype=np.uint8)
        elevation = np.empty(n, dtype=np.float32)
        for k, (index, draw) in enumerate(zip(indices, params, strict=True)):
            order = permute_views(self.view_count, draw.roll, draw.mirror)
            views, photo, elevation[k] = self.read(index, order)
            across = slice(None, None, -1 if draw.mirror else 1)
            targets[k], photos[k] = views[..., across], photo[..., across]
        pictures, photo = apply(move(targets, device), move(photos, device), params)
        names = tuple(self.names[i] for i in indices)
        more = self._more(indices, params, device) if any(d.extra_views for d in params) else None
        return Batch(pictures, photo, move(elevation, device), names, more=more)

    def _more(
        self, indices: Sequence[int], params: list[AugmentParams], device: torch.device | str
    ) -> ExtraInputs:
        """The further input pictures that the params name; as many of every object."""
        photos, elevation = [], []
        for index, draw in zip(indices, params, strict=True):
            order = permute_views(self.view_count, draw.roll, draw.mirror)
            pictures, degrees = self.read_inputs(
                index, [order[place] for place in draw.extra_views]
            )
            photos.append(pictures[..., :: -1 if draw.mirror else 1])
            elevation.append(degrees)
        pictures = move(np.ascontiguousarray(np.stack(photos)), device)
        return ExtraInputs(
            photos=torch.stack([apply_photo(p, params) for p in pictures.unbind(1)], dim=1),
            views=torch.tensor([d.extra_views for d in params]).to(device),
            elevation=move(np.stack(elevation).astype(np.float32), device),
        )


class RenderedDataset(MultiViewDataset):
    """The objects of a split of a folder written by `mvdiff render`, memory-mapped.

    root: a folder written by `mvdiff render`, or several that share size and view count.
    split: "train" or "val". threads: used to pack PNGs the first time.
    Raises DataError when a folder is unusable or they do not fit together.
    """

    def __init__(
        self, root: str | Path | Sequence[str | Path], split: str = "train", *, threads: int = 4
    ) -> None:
        roots = [root] if isinstance(root, str | Path) else list(root)
        self._packs = [pack(r, split, threads=threads) for r in roots]
        shapes = {p.pixels.shape[2:] for p in self._packs}
        if len(shapes) != 1:
            raise DataError(
                f"rendered folders must share view count and size; got {sorted(shapes)} as "
                "(views, channels, height, width): render them alike"
            )
        self.view_count, _, self.size, _ = shapes.pop()
        self._rows = [(p, row) for p in self._packs for row in range(len(p.names))]
        self.names = tuple(name for p in self._packs for name in p.names)
        self.sources = tuple(source for p in self._packs for source in p.sources)
        self.families = tuple(family for p in self._packs for family in p.families)
        packs = "".join(p.version for p in self._packs)
        self.fingerprint = hashlib.sha256(packs.encode()).hexdigest()

    def __getitem__(self, index: int) -> Sample:
        packed, row = self._rows[index]
        pixels = torch.from_numpy(np.array(packed.pixels[row]))
        elevation = torch.from_numpy(packed.elevation[row].copy())
        return Sample(pixels[0], pixels[1], elevation, self.names[index])

    def read(
        self, index: int, order: Sequence[int]
    ) -> tuple[
        UInt8[np.ndarray, "view 4 height width"], UInt8[np.ndarray, "4 height width"], float
    ]:
        packed, row = self._rows[index]
        first = order[0]
        views, photo = packed.pixels[row, 0][list(order)], packed.pixels[row, 1, first]
        return views, photo, float(packed.elevation[row, first])

    def read_inputs(
        self, index: int, places: Sequence[int]
    ) -> tuple[UInt8[np.ndarray, "photo 4 height width"], Float[np.ndarray, "photo"]]:
        packed, row = self._rows[index]
        chosen = list(places)
        return packed.pixels[row, 1][chosen], packed.elevation[row][chosen]


def move(array: np.ndarray, device: torch.device | str) -> Tensor:
    """An array as a tensor on a device, without waiting for a GPU."""
    tensor = torch.from_numpy(array)
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
