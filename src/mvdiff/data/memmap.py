"""A rendered folder as one memory-mapped array, so that training reads no PNGs.

What is read: `<root>/index.json` and, for each object it lists,
`<root>/<object>/{target,input}/` with `transforms.json` and its PNGs. What is written:
`<root>/.packed-<split>-<hash of the index>/` with `pixels.npy`, `elevation.npy`, `stamps.npy`
(sizes and times of the files that were read) and `content.txt` (a hash of what they held); with
the index beside it, that folder alone is enough to train from.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from ..errors import DataError, MvdiffError
from ..utils.files import atomic, load_json, remove_empty_folders, write_text
from ..utils.images import open_image
from ..utils.locking import file_lock

#: Larger pictures are in no index.
MAX_SIDE = 16384


@dataclass(frozen=True)
class Packed:
    """One split of a rendered folder.

    pixels: straight RGBA, memory-mapped; axis 1 is (target, input).
    elevation: of the inputs, degrees.
    names, sources, families: one entry an object, as in the index.
    version: a hash of names, pixels and elevations; the same in every copy of the folder.
    """

    pixels: UInt8[np.ndarray, "object 2 view 4 height width"]
    elevation: Float[np.ndarray, "object view"]
    names: tuple[str, ...]
    sources: tuple[str, ...]
    families: tuple[str, ...]
    version: str


def read_index(root: str | Path) -> tuple[dict, str]:
    """The index of a rendered folder and the hash of its bytes; DataError when unusable."""
    path = Path(root) / "index.json"
    if not path.is_file():
        raise DataError(f"no index.json in '{root}': expected a folder written by `mvdiff render`")
    index = load_json(path, dict)
    size, objects = index.get("size"), index.get("objects")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= MAX_SIDE:
        raise DataError(f"'{path}' is not a rendered folder's index: its size is {size!r:.40}")
    if not isinstance(objects, list):
        raise DataError(f"'{path}' is not a rendered folder's index: it lists no objects")
    for entry in objects:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not is_object_name(name):
            raise DataError(
                f"'{path}' is not a rendered folder's index: an object has the name {name!r:.40}, "
                "expected that of a folder beside it"
            )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read '{path}' ({error.strerror or error})") from error
    return index, hashlib.sha256(content).hexdigest()[:16]


def is_object_name(name: str) -> bool:
    """Whether a name in an index is that of one folder below it."""
    return name not in ("", ".", "..") and not any(c in name for c in "/\\\0")


def pack(root: str | Path, split: str, *, threads: int = 4, fresh: bool = False) -> Packed:
    """Open the packed split, writing it first when it is missing or out of date.

    root: a folder written by `mvdiff render`. split: "train" or "val".
    threads: how many read PNGs at once. fresh: pack again in any case.
    A pack is out of date when the index changed, or a picture that is there has another size or
    time than when it was packed; pictures that are gone are not missed.
    Raises DataError when the folder, the split or an object's pictures are unusable.
    """
    root = Path(root)
    index, digest = read_index(root)
    objects = [o for o in index["objects"] if o.get("split") == split]
    if not objects:
        present = sorted({str(o.get("split")) for o in index["objects"]})
        raise DataError(
            f"'{root}' has no objects in the split '{split}'; its index has: {', '.join(present)}"
        )
    folder = root / f".packed-{split}-{digest}"
    if fresh or not _is_current(folder, root, objects):
        with file_lock(root / f".packed-{split}.lock"):
            # Another process may have packed while this one waited.
            if fresh or not _is_current(folder, root, objects):
                try:
                    _write(folder, root, objects, int(index["size"]), threads)
                finally:
                    remove_empty_folders([folder])  # nothing was packed: an object is unusable
                for old in root.glob(f".packed-{split}-*"):
                    if old != folder:
                        shutil.rmtree(old, ignore_errors=True)
    return Packed(
        pixels=np.load(folder / "pixels.npy", mmap_mode="r"),
        elevation=np.load(folder / "elevation.npy"),
        names=tuple(str(o["name"]) for o in objects),
        sources=tuple(str(o.get("source", "")) for o in objects),
        families=tuple(str(o.get("family", "")) for o in objects),
        version=f"{split}-{_read_content_hash(folder)}",
    )


def _is_current(folder: Path, root: Path, objects: list[dict]) -> bool:
    """Whether the pack is complete and made of the pictures that are there."""
    try:
        pixels = np.load(folder / "pixels.npy", mmap_mode="r").shape
        rows = np.load(folder / "elevation.npy", mmap_mode="r").shape[0]
        stamps = np.load(folder / "stamps.npy")
        _read_content_hash(folder)
    except (OSError, ValueError, EOFError):
        return False
    if not pixels[0] == rows == len(stamps) == len(objects) or stamps.shape[1:] != (
        _stamp_shape(pixels[2])
    ):
        return False
    for entry, known in zip(objects, stamps, strict=True):
        now = _stamps(root / entry["name"], pixels[2])
        if ((now != known) & (now >= 0)).any():
            return False
    return True


def _stamp_shape(views: int) -> tuple[int, int, int]:
    return 2, views + 1, 2


def _stamps(folder: Path, views: int) -> Int[np.ndarray, "2 file 2"]:
    """Size and time (ns) of an object's cameras and pictures in `target/` and `input/`; −1 where
    there is none."""
    stamps = np.full(_stamp_shape(views), -1, dtype=np.int64)
    place = {"transforms.json": 0} | {f"{view:03d}.png": view + 1 for view in range(views)}
    for i, part in enumerate(("target", "input")):
        try:
            with os.scandir(folder / part) as entries:
                for entry in entries:
                    if entry.name in place:
                        status = entry.stat()
                        stamps[i, place[entry.name]] = status.st_size, status.st_mtime_ns
        except OSError:
            continue
    return stamps


def _read_content_hash(folder: Path) -> str:
    """The hash in `content.txt`; ValueError or OSError when it is damaged or missing."""
    text = (folder / "content.txt").read_text(encoding="utf-8").strip()
    if len(text) != 64:
        raise ValueError("the hash of a pack is cut short")
    return text


def _write(folder: Path, root: Path, objects: list[dict], size: int, threads: int) -> None:
    first, _, _ = _read_part(root / objects[0]["name"] / "target", size)
    shape = (len(objects), 2, *first.shape)
    elevation = np.zeros((len(objects), first.shape[0]), dtype=np.float32)
    stamps = np.full((len(objects), *_stamp_shape(first.shape[0])), -1, dtype=np.int64)
    with atomic(folder / "pixels.npy") as part:
        pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)

        def read(row: int) -> bytes:
            name = objects[row]["name"]
            stamps[row] = _stamps(root / name, shape[2])  # before: a change meanwhile is noticed
            target, photos, elevation[row] = _read_object(root / name, size, shape[2:])
            pixels[row, 0], pixels[row, 1] = target, photos
            digest = hashlib.sha256(name.encode())
            for array in (target, photos, elevation[row]):
                digest.update(np.ascontiguousarray(array))
            return digest.digest()

        content = hashlib.sha256()
        with ThreadPoolExecutor(threads) as pool:
            for digest in pool.map(read, range(len(objects))):
                content.update(digest)
        pixels.flush()
        # Before the pixels get their name: a folder with pixels.npy is complete.
        for name, array in (("elevation.npy", elevation), ("stamps.npy", stamps)):
            with atomic(folder / name) as beside:
                np.save(beside, array)
        write_text(folder / "content.txt", content.hexdigest() + "\n")


def _read_object(folder: Path, size: int, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    targets, azimuth, target_elevation = _read_part(folder / "target", size)
    inputs, input_azimuth, elevation = _read_part(folder / "input", size)
    if targets.shape != shape or inputs.shape != shape:
        raise DataError(
            f"'{folder}' has {len(targets)} target and {len(inputs)} input views; training needs "
            f"{shape[0]} of each: render it again with as many inputs as targets"
        )
    step = np.arange(len(azimuth)) * 360 / len(azimuth)
    if (
        _angle(azimuth - azimuth[0] - step) > 0.1
        or _angle(input_azimuth - azimuth) > 0.1
        or np.abs(target_elevation - target_elevation[0]).max() > 0.1
    ):
        raise DataError(
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
    from ..cameras.rigs import to_spherical

    if not (folder / "transforms.json").is_file():
        raise DataError(
            f"'{folder}' has no transforms.json, yet the index lists it: render it again"
        )
    cameras, names = read_transforms(folder / "transforms.json")
    azimuth, elevation, _ = to_spherical(cameras)
    pictures = [_read_png(folder / name, size) for name in names]
    degrees = 180 / math.pi
    return np.stack(pictures), azimuth.numpy() * degrees, elevation.numpy() * degrees


def _read_png(path: Path, size: int) -> UInt8[np.ndarray, "4 height width"]:
    try:
        with open_image(path) as image:
            pixels = np.asarray(image.convert("RGBA"))
    except MvdiffError as error:
        raise DataError(f"the data set lacks a view: {error}; render it again") from error
    if pixels.shape != (size, size, 4):
        raise DataError(
            f"'{path}' is {pixels.shape[1]}×{pixels.shape[0]}, the index says {size}×{size}: "
            "render it again"
        )
    return pixels.transpose(2, 0, 1)
