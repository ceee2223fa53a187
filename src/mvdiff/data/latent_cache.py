"""Pictures encoded once: the VAE's posteriors and the photo's embedding, on disk, mapped.

Frozen encoders see the same pictures in every pass over the data; in SyncDreamer's recipe they
take most of the time. What they say is kept in `<folder>/encoded-<hash>/00000.safetensors`, …,
`CHUNK` objects a file, each written whole; the hash stands for the encoders' weights and the
data, so that what was made with others is never read.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import DataError
from ..utils.files import atomic
from .augment import AugmentParams, composite_on_white, permute_views
from .dataset import MultiViewDataset

#: objects a file: what a killed run loses at most
CHUNK = 32
_VERSION = "1"
TYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class DiagonalGaussian:
    """A normal distribution of latents, unscaled, its dimensions independent."""

    mean: Float[Tensor, "*batch channel height width"]
    logvar: Float[Tensor, "*batch channel height width"]


@dataclass(frozen=True)
class EncodedBatch:
    """What the objective gets instead of a `Batch` when the pictures were encoded before.

    targets: of the target views. photo: of the input picture, at the azimuth of view 0.
    token: the input picture's embedding. elevation: of its camera, degrees.
    names, index: as in `Batch`.
    """

    targets: DiagonalGaussian
    photo: DiagonalGaussian
    token: Float[Tensor, "batch embedding"]
    elevation: Float[Tensor, "batch"]
    names: tuple[str, ...]
    index: Int[Tensor, "batch"] | None = None

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class FrozenEncoders:
    """The frozen networks.

    posterior: RGBA in [0, 1] on white → mean and log-variance, unscaled.
    embed: the same pictures → one vector each.
    digest: of their weights. device: where they work.
    """

    posterior: Callable[[Tensor], tuple[Tensor, Tensor]]
    embed: Callable[[Tensor], Tensor]
    digest: str
    device: torch.device


class CachedLatentDataset:
    """An object set's encoded pictures; takes its place in `Batches`.

    data: the objects; their pictures are read only to be encoded.
    encoders: frozen. folder: gets a folder `encoded-<hash>`.
    precision: of the numbers on disk, "fp32" or "fp16".
    """

    def __init__(
        self,
        data: MultiViewDataset,
        encoders: FrozenEncoders,
        folder: str | Path,
        precision: str = "fp32",
    ) -> None:
        if precision not in TYPES:
            raise DataError(f"unknown precision '{precision}'; choose from {', '.join(TYPES)}")
        self.data, self.encoders, self.type = data, encoders, TYPES[precision]
        self.names, self.sources, self.view_count = data.names, data.sources, data.view_count
        key = (_VERSION, precision, encoders.digest, data.fingerprint, str(data.size), str(CHUNK))
        digest = hashlib.sha256("|".join(key).encode()).hexdigest()[:16]
        self.folder = Path(folder) / f"encoded-{digest}"
        self._open = lru_cache(maxsize=64)(self._open_chunk)

    def __len__(self) -> int:
        return len(self.names)

    def missing(self) -> list[int]:
        """Files that are not there yet, or cut short."""
        count = -(-len(self) // CHUNK)
        return [chunk for chunk in range(count) if not self._whole(chunk)]

    def encode(
        self,
        *,
        process: int = 0,
        processes: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Encode what is missing; returns when all of it is there.

        process, processes: every process encodes its share, and waits for the others'.
        progress: called with this process's objects that are done, and how many it does.
        """
        todo = [c for c in self.missing() if c % processes == process]
        total, done = sum(len(self._objects(c)) for c in todo), 0
        for chunk in todo:
            rows = []
            for index in self._objects(chunk):
                rows.append(self._encode_object(index))
                done += 1
                if progress:
                    progress(done, total)
            stacked = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
            with atomic(self._path(chunk)) as part:
                save_file(stacked, part)
        while processes > 1 and self.missing():
            time.sleep(1)  # others are still at work; a dead one ends the whole launch

    def assemble(
        self,
        indices: Sequence[int],
        params: list[AugmentParams],
        device: torch.device | str = "cpu",
    ) -> EncodedBatch:
        """Chosen objects, turned as drawn. Raises DataError for other changes of pictures."""
        targets, photos, tokens, elevation = [], [], [], []
        for index, draw in zip(indices, params, strict=True):
            if not draw.rotation_only:
                raise DataError(
                    "pictures that were encoded beforehand cannot be changed any more: train with "
                    "latent_cache=none, or switch all of train.augment but roll off"
                )
            if draw.extra_views:
                raise DataError(
                    "one image per object was encoded beforehand, but "
                    "train.num_input_images asks for more: train with latent_cache=none, or "
                    "train.num_input_images=[1]"
                )
            order = permute_views(self.view_count, draw.roll, False)
            file, row, first = self._open(index // CHUNK), index % CHUNK, order[0]
            targets.append(file.get_slice("targets")[row][order])
            photos.append(file.get_slice("inputs")[row, first])
            tokens.append(file.get_slice("tokens")[row, first])
            elevation.append(file.get_slice("elevation")[row, first])

        def together(rows: list[Tensor]) -> Tensor:
            return torch.stack(rows).float().to(device)

        views, photo = together(targets), together(photos)
        return EncodedBatch(
            targets=DiagonalGaussian(views[:, :, 0], views[:, :, 1]),
            photo=DiagonalGaussian(photo[:, 0], photo[:, 1]),
            token=together(tokens),
            elevation=together(elevation),
            names=tuple(self.names[i] for i in indices),
        )

    def _objects(self, chunk: int) -> range:
        return range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(self)))

    def _path(self, chunk: int) -> Path:
        return self.folder / f"{chunk:05d}.safetensors"

    @torch.no_grad()
    def _encode_object(self, index: int) -> dict[str, Tensor]:
        sample, encoders = self.data[index], self.encoders
        targets, inputs = (
            composite_on_white(x.to(encoders.device)) for x in (sample.targets, sample.inputs)
        )
        return {
            "targets": self._stored(torch.stack(encoders.posterior(targets), dim=1)),
            "inputs": self._stored(torch.stack(encoders.posterior(inputs), dim=1)),
            "tokens": self._stored(encoders.embed(inputs)),
            "elevation": sample.input_elevation.float(),
        }

    def _stored(self, numbers: Tensor) -> Tensor:
        if not torch.isfinite(numbers).all():
            raise DataError("the encoders gave NaN: their weights are broken")
        return numbers.to("cpu", self.type)

    def _whole(self, chunk: int) -> bool:
        try:
            with safe_open(self._path(chunk), framework="pt") as file:
                return file.get_slice("targets").get_shape()[0] == len(self._objects(chunk))
        except (SafetensorError, OSError):
            return False

    def _open_chunk(self, chunk: int) -> Any:
        try:
            return safe_open(self._path(chunk), framework="pt")
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"cannot read '{self._path(chunk)}' ({error}): start again, and it is made anew"
            ) from error
