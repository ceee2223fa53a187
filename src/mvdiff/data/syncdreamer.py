"""SyncDreamer's training folder: `target/`, `input/`, `uid_set.pkl`, read object by object.

`target/<uid>/` and `input/<uid>/` hold `000.png`, `001.png`, … and `meta.pkl`; `uid_set.pkl` is a
list of the objects' names. Pickles are read without executing anything from them.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from ..cameras.camera import Cameras
from ..cameras.rigs import to_spherical
from ..cameras.syncdreamer_pickle import load_arrays, read_meta_pickle
from ..errors import DataError, MvdiffError
from ..utils.images import open_image
from .dataset import MultiViewDataset, Sample
from .fingerprint import file_sizes

UIDS = "uid_set.pkl"
_DEGREES = 180 / math.pi


def is_published(root: str | Path) -> bool:
    """Whether a folder is laid out as the published training data."""
    root = Path(root)
    parts = (root / "target").is_dir() and (root / "input").is_dir()
    return (root / UIDS).is_file() or (parts and not (root / "index.json").is_file())


class SyncDreamerDataset(MultiViewDataset):
    """The objects that `uid_set.pkl` names; pictures are read when they are wanted.

    root: the folder with `target/`, `input/` and `uid_set.pkl`.
    rig: the recipe's target cameras, at the pictures' size; every object's are compared.
    Raises DataError when the list is unreadable or folders are missing; unusable pictures and
    cameras of an object are found when it is read.
    """

    def __init__(self, root: str | Path, rig: Cameras) -> None:
        self.root, self.rig = Path(root), rig
        self.view_count, self.size = len(rig), rig.width
        self.names = read_uids(self.root / UIDS)
        self.sources = ("published",) * len(self.names)
        self.families = ("",) * len(self.names)
        for part in ("target", "input"):
            self._check_folders(part)
        self.fingerprint = self._fingerprint()
        # Whoever trains for many steps touches an object again and again; cameras are small.
        self._elevation = lru_cache(maxsize=100_000)(self._read_elevation)
        self[0]  # what is wrong with all objects is told now

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        targets = self._pictures(self.root / "target" / name, range(self.view_count))
        inputs = self._pictures(self.root / "input" / name, range(self.view_count))
        elevation = torch.from_numpy(self._elevation(index).copy())
        return Sample(torch.from_numpy(targets), torch.from_numpy(inputs), elevation, name)

    def read(
        self, index: int, order: Sequence[int]
    ) -> tuple[
        UInt8[np.ndarray, "view 4 height width"], UInt8[np.ndarray, "4 height width"], float
    ]:
        name, first = self.names[index], order[0]
        elevation = float(self._elevation(index)[first])
        targets = self._pictures(self.root / "target" / name, order)
        return targets, self._pictures(self.root / "input" / name, [first])[0], elevation

    def _fingerprint(self) -> str:
        """Of cameras, and of names and sizes of all files: the same in a copy of the folder."""
        digest = hashlib.sha256(self.rig.K.numpy().tobytes() + self.rig.w2c.numpy().tobytes())
        for name in self.names:
            for part in ("target", "input"):
                files = file_sizes(self.root / part / name)
                digest.update(f"{part}/{name} {files}\n".encode())
        return digest.hexdigest()

    def _check_folders(self, part: str) -> None:
        try:
            present = set(os.listdir(self.root / part))
        except OSError as error:
            raise DataError(
                f"no folder '{self.root / part}': the published layout has target/, input/ and "
                f"{UIDS}"
            ) from error
        missing = [name for name in self.names if name not in present]
        if missing:
            raise DataError(
                f"{len(missing)} of the {len(self.names)} objects in '{self.root / UIDS}' have no "
                f"folder in '{self.root / part}', the first is '{missing[0]}': add it, or take it "
                "off the list"
            )

    def _read_elevation(self, index: int) -> np.ndarray:
        """Elevations of the inputs, degrees; DataError unless all cameras are as expected."""
        name = self.names[index]
        self._check_targets(name, self._cameras(self.root / "target" / name))
        azimuth, elevation, distance = to_spherical(self._cameras(self.root / "input" / name))
        wanted_azimuth, _, wanted_distance = to_spherical(self.rig)
        turned = (azimuth - wanted_azimuth) * _DEGREES
        turned = ((turned + 180) % 360 - 180).abs()
        for view in range(self.view_count):
            if turned[view] > 0.1 or (distance[view] - wanted_distance[view]).abs() > 0.01:
                raise DataError(
                    f"input {view} of '{name}' was taken from azimuth "
                    f"{float(azimuth[view]) * _DEGREES % 360:.1f}° at distance "
                    f"{float(distance[view]):.2f}; the input beside target {view} stands at "
                    f"{float(wanted_azimuth[view]) * _DEGREES % 360:.1f}° and "
                    f"{float(wanted_distance[view]):.2f}"
                )
        return (elevation * _DEGREES).numpy()

    def _check_targets(self, name: str, cameras: Cameras) -> None:
        off = (cameras.w2c - self.rig.w2c).abs().amax(dim=(1, 2)) > 2e-3
        lens = ((cameras.K - self.rig.K).abs() / self.rig.K[:, :1, :1]).amax(dim=(1, 2)) > 2e-3
        wrong = torch.nonzero(off | lens).flatten().tolist()
        if not wrong:
            return
        view = wrong[0]
        theirs, ours = (_place(c[view]) for c in (cameras, self.rig))
        raise DataError(
            f"{len(wrong)} of the {self.view_count} target cameras of '{name}' are not the "
            f"recipe's: view {view} has {theirs}, the rig has {ours}; render it again, or set "
            "rig.* to what the data has"
        )

    def _cameras(self, folder: Path) -> Cameras:
        if not (folder / "meta.pkl").is_file():
            raise DataError(f"'{folder}' has no meta.pkl with its cameras: render it again")
        cameras = read_meta_pickle(folder / "meta.pkl")
        if len(cameras) != self.view_count:
            raise DataError(
                f"'{folder}' has {len(cameras)} views, the recipe's rig has {self.view_count}: "
                "render it again with as many"
            )
        return cameras.resize(self.size)

    def _pictures(
        self, folder: Path, views: Sequence[int]
    ) -> UInt8[np.ndarray, "view 4 height width"]:
        pictures = np.empty((len(views), 4, self.size, self.size), dtype=np.uint8)
        for place, view in enumerate(views):
            pictures[place] = _read_png(folder / f"{view:03d}.png", self.size)
        return pictures


def read_uids(path: str | Path) -> tuple[str, ...]:
    """The objects' names in `uid_set.pkl`, each once, in its order (a set's: sorted)."""
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"no {UIDS} in '{path.parent}': the published layout has target/, input/ and {UIDS}, "
            "a pickled list of the objects' folder names"
        )
    uids = load_arrays(path)
    if isinstance(uids, np.ndarray):
        uids = uids.tolist()
    if isinstance(uids, (set, frozenset)):
        uids = sorted(uids, key=str)
    if not isinstance(uids, (list, tuple)) or not uids:
        raise DataError(f"'{path}' must hold a list of names, got {type(uids).__name__}")
    for uid in uids:
        # A name is joined to paths: it must not lead out of the folder.
        if not isinstance(uid, str) or uid in ("", ".", "..") or "/" in uid or "\\" in uid:
            raise DataError(f"'{path}' must hold names of folders, got {uid!r}")
    return tuple(dict.fromkeys(uids))


def _place(camera: Cameras) -> str:
    azimuth, elevation, distance = (float(x[0]) for x in to_spherical(camera))
    return (
        f"azimuth {azimuth * _DEGREES % 360:.1f}°, elevation {elevation * _DEGREES:.1f}°, distance "
        f"{distance:.2f}, focal length {float(camera.K[0, 0, 0]):.1f}"
    )


def _read_png(path: Path, size: int) -> UInt8[np.ndarray, "4 height width"]:
    try:
        with open_image(path) as image:
            pixels = np.asarray(image.convert("RGBA"))
    except MvdiffError as error:
        raise DataError(f"the data set lacks a view: {error}; render the object again") from error
    if pixels.shape != (size, size, 4):
        raise DataError(
            f"'{path}' is {pixels.shape[1]}×{pixels.shape[0]}, the recipe works at {size}×{size}: "
            f"set size={pixels.shape[1]}, or render it again"
        )
    return pixels.transpose(2, 0, 1)
