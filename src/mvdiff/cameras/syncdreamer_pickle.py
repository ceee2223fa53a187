"""The published `meta.pkl`: poses in a pickle, read without running anything in it.

A pickle names the functions it wants called. Ours are inert stand-ins that only collect
bytes, and only for the names numpy's arrays of plain numbers use; any other name is refused.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError, MvdiffError
from .camera import Cameras
from .frames import check_rotations, checked_intrinsics

_KINDS = "biuf"  # booleans, integers, floats
#: Larger pickles are not read: cameras take kilobytes.
_MAX_BYTES = 64 * 2**20


class _Inert:
    """A stand-in: remembers what it was called with; `value` makes it a plain object."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype(_Inert):
    def value(self) -> np.dtype:
        dtype = np.dtype(str(self.arguments[0]))
        if dtype.kind not in _KINDS:
            raise ValueError(f"arrays of {dtype} are not plain numbers")
        order = self.state[1] if self.state else "|"
        return dtype.newbyteorder(order) if order in "<>" else dtype


class _Array(_Inert):
    """Also stands for the class `numpy.ndarray`, which pickles only pass along."""

    def value(self) -> np.ndarray:
        _, shape, dtype, fortran, data = self.state
        return _from_bytes(data, dtype, shape, "F" if fortran else "C")


class _Frombuffer(_Inert):
    def value(self) -> np.ndarray:
        data, dtype, shape, order = self.arguments[:4]
        return _from_bytes(data, dtype, shape, order)


class _Scalar(_Inert):
    def value(self) -> np.ndarray:
        dtype, data = self.arguments
        return _from_bytes(data, dtype, (), "C")


class _Bytes(_Inert):
    """Old pickles ask `_codecs.encode(text, 'latin1')` for bytes, and `bytes()` for none."""

    def value(self) -> bytes:
        text, codec = self.arguments or ("", "latin1")
        if codec != "latin1":
            raise ValueError(f"codec {codec}")
        return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], type[_Inert]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Bytes,
    ("__builtin__", "bytes"): _Bytes,
    ("builtins", "bytes"): _Bytes,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _ADMITTED[_core + ".multiarray", "_reconstruct"] = _Array
    _ADMITTED[_core + ".multiarray", "scalar"] = _Scalar
    _ADMITTED[_core + ".numeric", "_frombuffer"] = _Frombuffer


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Inert]:
        if (module, name) not in _ADMITTED:
            raise InputError(
                f"this pickle asks for '{module}.{name}', and only numpy arrays are read: "
                "do not trust the file, or convert it with the program that wrote it"
            )
        return _ADMITTED[module, name]


def _from_bytes(data: Any, dtype: _Dtype, shape: tuple[int, ...], order: str) -> np.ndarray:
    data = data.value() if isinstance(data, _Bytes) else data
    # `frombuffer` and `reshape` check the size, so a lying header cannot ask for memory.
    return np.frombuffer(data, dtype.value()).reshape(shape, order=order)


def load_arrays(path: str | Path) -> Any:
    """Unpickle lists, tuples, dicts, numbers, strings and numpy arrays; nothing else.

    Raises InputError that names the first other thing the pickle asks for.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"it is larger than {_MAX_BYTES // 2**20} MiB")
        data = path.read_bytes()
        _check_memo(data)
        return _plain(_Unpickler(io.BytesIO(data)).load())
    except MvdiffError as error:
        raise InputError(f"refused to read '{path}': {error}") from None
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
    except Exception as error:  # a broken pickle can fail with almost any exception
        raise InputError(
            f"'{path}' is not a readable pickle of numpy arrays ({error}): get the file again"
        ) from error


def _check_memo(data: bytes) -> None:
    """Raise ValueError for memo numbers beyond the file's size: Python reserves memory for them."""
    for opcode, argument, _ in pickletools.genops(data):
        if "PUT" in opcode.name and int(argument) > len(data):
            raise ValueError("it is damaged")


def _plain(thing: Any) -> Any:
    if isinstance(thing, _Inert):
        return thing.value()
    if isinstance(thing, (list, tuple)):
        return type(thing)(_plain(item) for item in thing)
    if isinstance(thing, dict):
        return {key: _plain(item) for key, item in thing.items()}
    return thing


def read_meta_pickle(path: str | Path) -> Cameras:
    """Cameras of the published `meta.pkl`, for its 256² pictures.

    The file holds `[K (3,3), azimuths, elevations, distances, poses (N,3,4)]`, with poses
    world-to-camera in OpenCV axes; the angles (radians) repeat what the poses say.
    The image size is twice the principal point.
    Raises InputError for any other content.
    """
    content = load_arrays(path)
    try:
        K, azimuths, _elevations, _distances, poses = content
        with np.errstate(over="ignore"):  # becomes infinite, which is refused below
            K, poses = np.array(K, dtype=np.float32), np.array(poses, dtype=np.float32)
        count = np.size(azimuths)
        if K.shape != (3, 3) or poses.shape != (count, 3, 4) or count == 0:
            raise ValueError(f"K {K.shape}, {count} azimuths, poses {poses.shape}")
        width, height = (round(2 * float(c)) for c in K[:2, 2])
        if width < 1 or height < 1:
            raise ValueError(f"principal point {K[0, 2]}, {K[1, 2]}")
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"'{path}' does not hold SyncDreamer's cameras: expected "
            f"[K (3,3), azimuths, elevations, distances, poses (N,3,4)], got {error}"
        ) from error
    where = f"'{path}'"
    fx, fy, cx, cy = (float(K[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    checked_intrinsics(fx, fy, cx, cy, width, height, where)
    if not np.isfinite(poses).all():
        raise InputError(f"{where} has poses with NaN or infinite numbers: get the file again")
    check_rotations(torch.from_numpy(poses[:, :, :3]).double(), where, "poses")
    intrinsics = torch.from_numpy(K).repeat(count, 1, 1)
    return Cameras(intrinsics, torch.from_numpy(poses), height, width)
