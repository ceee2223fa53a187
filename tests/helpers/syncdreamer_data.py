"""SyncDreamer's training layout, from random pictures."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mvdiff.cameras import Cameras, look_at, ring, to_spherical

VIEWS = 16


def write_meta(folder: Path, cameras: Cameras) -> None:
    """`meta.pkl` as the published renderer writes it: K at 256², angles in radians, poses."""
    azimuth, elevation, distance = (x.numpy().astype(np.float64) for x in to_spherical(cameras))
    K = cameras.resize(256).K[0].numpy()
    content = [K, azimuth, elevation, distance, cameras.w2c.numpy()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.pkl").write_bytes(pickle.dumps(content))


def input_elevations(seed: int) -> list[float]:
    """Degrees, one per view, in the published range."""
    return np.random.default_rng(seed).uniform(-10, 40, VIEWS).tolist()


def write_object(root: Path, uid: str, seed: int, size: int) -> None:
    """Write an object of smooth random pictures, which small networks can encode."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2 * VIEWS, 4, 4, 4, generator=random)
    planes = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    planes[:, 3] = (planes[:, 3] > 0.4).float()
    pixels = (planes * 255).round().byte().permute(0, 2, 3, 1).numpy()
    targets = ring(VIEWS, size=size)
    azimuths = [22.5 * i for i in range(VIEWS)]
    inputs = look_at(azimuths, input_elevations(seed), size=size)
    for k, (part, cameras) in enumerate((("target", targets), ("input", inputs))):
        write_meta(root / part / uid, cameras)
        for view in range(VIEWS):
            picture = Image.fromarray(pixels[k * VIEWS + view], "RGBA")
            picture.save(root / part / uid / f"{view:03d}.png")


def write_published(root: Path, uids: Sequence[str] = ("a1", "b2", "c3"), size: int = 64) -> Path:
    """A folder with `target/`, `input/` and `uid_set.pkl`; object k has seed k."""
    for seed, uid in enumerate(uids):
        write_object(root, uid, seed, size)
    (root / "uid_set.pkl").write_bytes(pickle.dumps(list(uids)))
    return root
