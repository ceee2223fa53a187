"""Tensors of a TorchScript archive, such as OpenAI's `ViT-L-14.pt`, without running its program.

An archive is a zip file: `data.pkl` describes a tree of modules, `data/` holds their numbers and
`code/` a program, which is never looked at.
"""

from __future__ import annotations

import collections
import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..utils.pickles import check_pickle

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether the file is such an archive (plain checkpoints have no table of constants)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers by name, mapped into memory.

    Raises pickle.UnpicklingError when the description asks for anything but modules and
    tensors, and KeyError, ValueError or OSError when the archive is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        top = next(n for n in archive.namelist() if n.endswith("/constants.pkl"))
        root = top.removesuffix("constants.pkl")
        mapped = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
        description = archive.read(f"{root}data.pkl")
        check_pickle(description)
        reader = _Reader(io.BytesIO(description), archive, mapped, root)
        tree = reader.load()
    return dict(_tensors(tree, ""))


class _Module:
    """A node of the tree; its attributes are children, tensors and settings."""


class _Reader(pickle.Unpickler):
    """Knows modules, tensors and lists of numbers; everything else is refused."""

    def __init__(
        self, file: io.BytesIO, archive: zipfile.ZipFile, mapped: torch.UntypedStorage, root: str
    ) -> None:
        super().__init__(file)
        self._archive, self._mapped, self._root = archive, mapped, root

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _strided
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        raise pickle.UnpicklingError(f"Unsupported: {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, *_ = pid
        info = self._archive.getinfo(f"{self._root}data/{key}")
        where = _data_offset(self._archive, info)
        size = torch.empty((), dtype=dtype).element_size()
        if info.compress_type != zipfile.ZIP_STORED or where % size:
            return torch.frombuffer(bytearray(self._archive.read(info)), dtype=dtype)
        flat = torch.empty(0, dtype=dtype)
        return flat.set_(self._mapped, where // size, (info.file_size // size,))


def _data_offset(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: behind its local header, whose length only it tells."""
    file = archive.fp
    file.seek(info.header_offset)
    name, extra = struct.unpack("<26xHH", file.read(30))
    return info.header_offset + 30 + name + extra


def _strided(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    """A tensor over a storage; ValueError where it would reach outside."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(offset, *stride, 0) < 0 or (0 not in size and last >= len(storage)):
        raise ValueError("a tensor reaches outside its storage")
    return storage.as_strided(size, stride, storage.storage_offset() + offset)


def _tensors(node: _Module, prefix: str) -> Any:
    for name, value in vars(node).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
