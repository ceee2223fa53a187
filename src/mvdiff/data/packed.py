"""A rendered folder as one memory-mapped array, so that training reads no PNGs.

What is read: `<root>/index.json` and, for each object it lists,
`<root>/<object>/{target,input}/` with `transforms.json` and its PNGs. What is written:
`<root>/.packed-<split>-<hash of the index>/` with `pixels.npy` and `elevation.npy`; with the
index beside it, that folder alone is enough to train from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from ..errors import MvdiffError
from ..files import atomic


@dataclass(frozen=True)
class Packed:
    """One split of a rendered folder.

    pixels: straight RGBA, memory-mapped; axis 1 is (target, input).
    elevation: of the inputs, degrees.
    names, sources, families: one entry an object, as in the index.
    version: another one for another index or pictures packed anew.
    """

    pixels: UInt8[np.ndarray, "object 2 view 4 height width"]
    elevation: Float[np.ndarray, "object view"]
    names: tuple[str, ...]
    sources: tuple[str, ...]
    families: tuple[str, ...]
    version: str


def read_index(root: str | Path) -> tuple[dict, str]:
    """The index of a rendered folder and the hash of its bytes; MvdiffError when unusable."""
    path = Path(root) / "index.json"
    try:
        content = path.read_bytes()
        index = json.loads(content)
        int(index["size"]), [o["name"] for o in index["objects"]]
    except FileNotFoundError as error:
        raise MvdiffError(
            f"no index.json in '{root}': expected a folder written by `mvdiff render`"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MvdiffError(f"'{path}' is not a rendered folder's index ({error!r})") from error
    return index, hashlib.sha256(content).hexdigest()[:16]


def is_object_name(name: str) -> bool:
    """Whether a name in an index is that of one folder below it."""
    return name not in ("", ".", "..") and not any(c in name for c in "/\\\0")


def pack(root: str | Path, split: str, *, threads: int = 4, fresh: bool = False) -> Packed:
    """Open the packed split, writing it first when it is missing or out of date.

    root: a folder written by `mvdiff render`. split: "train" or "val".
    threads: how many read PNGs at once. fresh: pack again in any case.
    A pack is out of date when the index changed, or a listed object was rendered after it.
    Raises MvdiffError when the folder, the split or an object's pictures are unusable.
    """
    root = Path(root)
    index, digest = read_index(root)
    objects = [o for o in index["objects"] if o.get("split") == split]
    if not objects:
        present = sorted({str(o.get("split")) for o in index["objects"]})
        raise MvdiffError(
            f"'{root}' has no objects in the split '{split}'; its index has: {', '.join(present)}"
        )
    folder = root / f".packed-{split}-{digest}"
    if fresh or not _is_current(folder, root, objects):
        with _lock(root / f".packed-{split}.lock"):
            # Another process may have packed while this one waited.
            if fresh or not _is_current(folder, root, objects):
                _write(folder, root, objects, int(index["size"]), threads)
                for old in root.glob(f".packed-{split}-*"):
                    if old != folder:
                        shutil.rmtree(old, ignore_errors=True)
    return Packed(
        pixels=np.load(folder / "pixels.npy", mmap_mode="r"),
        elevation=np.load(folder / "elevation.npy"),
        names=tuple(str(o["name"]) for o in objects),
        sources=tuple(str(o.get("source", "")) for o in objects),
        families=tuple(str(o.get("family", "")) for o in objects),
        version=f"{split}-{digest}-{(folder / 'pixels.npy').stat().st_mtime_ns}",
    )


def _is_current(folder: Path, root: Path, objects: list[dict]) -> bool:
    """Whether the pack is complete and no object is newer. Missing PNGs count as unchanged."""
    try:
        written = (folder / "pixels.npy").stat().st_mtime
        rows = np.load(folder / "pixels.npy", mmap_mode="r").shape[0]
        rows_too = np.load(folder / "elevation.npy", mmap_mode="r").shape[0]
    except (OSError, ValueError):
        return False
    if not rows == rows_too == len(objects):
        return False
    for o in objects:
        for part in ("target", "input"):
            with contextlib.suppress(OSError):
                if (root / o["name"] / part / "transforms.json").stat().st_mtime > written:
                    return False
    return True


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One packer at a time among processes, where the system has file locks."""
    try:
        import fcntl

        handle = path.open("w")
    except (ImportError, OSError):
        yield  # packing is atomic anyway: without a lock, work is only done twice
        return
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    path.unlink(missing_ok=True)


def _write(folder: Path, root: Path, objects: list[dict], size: int, threads: int) -> None:
    first, _, _ = _read_part(root / objects[0]["name"] / "target", size)
    shape = (len(objects), 2, *first.shape)
    elevation = np.zeros((len(objects), first.shape[0]), dtype=np.float32)
    with atomic(folder / "pixels.npy") as part:
        pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)

        def read(row: int) -> None:
            pixels[row, 0], pixels[row, 1], elevation[row] = _read_object(
                root / objects[row]["name"], size, shape[2:]
            )

        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(read, range(len(objects))):
                pass
        pixels.flush()
        # Before the pixels get their name: a folder with pixels.npy is complete.
        with atomic(folder / "elevation.npy") as beside:
            np.save(beside, elevation)


def _read_object(folder: Path, size: int, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    targets, azimuth, target_elevation = _read_part(folder / "target", size)
    inputs, input_azimuth, elevation = _read_part(folder / "input", size)
    if targets.shape != shape or inputs.shape != shape:
        raise MvdiffError(
            f"'{folder}' has {len(targets)} target and {len(inputs)} input views; training needs "
            f"{shape[0]} of each: render it again with as many inputs as targets"
        )
    step = np.arange(len(azimuth)) * 360 / len(azimuth)
    if (
        _angle(azimuth - azimuth[0] - step) > 0.1
        or _angle(input_azimuth - azimuth) > 0.1
        or np.abs(target_elevation - target_elevation[0]).max() > 0.1
    ):
        raise MvdiffError(
            f"the cameras of '{folder}' are not an even ring with inputs at the targets' "
            "azimuths, which training turns and mirrors: render it with `mvdiff render`"
        )
    return targets, inputs, elevation


def _angle(degrees: np.ndarray) -> float:
    """The largest difference, around the circle."""
    return float(np.abs((degrees + 180) % 360 - 180).max())


def _read_part(folder: Path, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (view, 4, height, width), azimuth and elevation in degrees."""
    from ..cameras.formats import read_transforms
    from ..cameras.rigs import spherical

    if not (folder / "transforms.json").is_file():
        raise MvdiffError(
            f"'{folder}' has no transforms.json, yet the index lists it: render it again"
        )
    cameras, names = read_transforms(folder / "transforms.json")
    azimuth, elevation, _ = spherical(cameras)
    pictures = [_read_png(folder / name, size) for name in names]
    degrees = 180 / math.pi
    return np.stack(pictures), azimuth.numpy() * degrees, elevation.numpy() * degrees


def _read_png(path: Path, size: int) -> UInt8[np.ndarray, "4 height width"]:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGBA"))
    except (OSError, SyntaxError) as error:
        raise MvdiffError(f"cannot read the view '{path}' ({error}): render it again") from error
    if pixels.shape != (size, size, 4):
        raise MvdiffError(
            f"'{path}' is {pixels.shape[1]}×{pixels.shape[0]}, the index says {size}×{size}: "
            "render it again"
        )
    return pixels.transpose(2, 0, 1)
