"""glTF 2.0 containers, buffers and accessors, with bounds checked before anything is read."""

from __future__ import annotations

import base64
import binascii
import json
import os
import struct
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np

from ..errors import InputError
from .files import SourceFiles, relative_path
from .meshopt import decode_view

_COMPONENT_TYPES = {5120: "i1", 5121: "u1", 5122: "i2", 5123: "u2", 5125: "u4", 5126: "f4"}
_COMPONENT_COUNTS = {
    "SCALAR": 1,
    "VEC2": 2,
    "VEC3": 3,
    "VEC4": 4,
    "MAT2": 4,
    "MAT3": 9,
    "MAT4": 16,
}
#: Accessors without data (all zeros, or sparse) of more elements than this are refused.
_MAX_IMPLICIT = 10_000_000
_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942
MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")


def read_container(content: bytes) -> tuple[dict, bytes | None]:
    """The JSON of a .glb or .gltf, and a GLB's binary chunk. Raises InputError when damaged."""
    if content[:4] != b"glTF":
        if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
            raise InputError("it is neither binary nor JSON glTF")
        return _parse_json(content), None
    if len(content) < 20:
        raise InputError("the GLB is cut short")
    version, length = struct.unpack_from("<II", content, 4)
    if version != 2:
        raise InputError(f"it is glTF of version {version}, expected 2: convert it")
    if length > len(content):
        raise InputError(f"the GLB is cut short: {len(content)} of {length} bytes are there")
    chunks: dict[int, bytes] = {}
    offset = 12
    while offset + 8 <= length:
        size, kind = struct.unpack_from("<II", content, offset)
        if offset + 8 + size > len(content):
            raise InputError("a chunk of the GLB reaches beyond the file's end")
        chunks.setdefault(kind, content[offset + 8 : offset + 8 + size])
        offset += 8 + size
    if _JSON_CHUNK not in chunks:
        raise InputError("the GLB has no JSON chunk")
    return _parse_json(chunks[_JSON_CHUNK]), chunks.get(_BINARY_CHUNK)


def _parse_json(text: bytes) -> dict:
    try:
        tree = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"its JSON is damaged ({type(error).__name__})") from error
    if not isinstance(tree, dict):
        raise InputError("its JSON is not an object")
    version = str(get_dict(tree, "asset").get("version", "2.0"))
    if not version.startswith("2"):
        raise InputError(f"it is glTF of version {version[:20]}, expected 2: convert it")
    return tree


def get_list(parent: dict, key: str) -> list:
    """`parent[key]`, empty when missing; InputError unless it is a list."""
    value = parent.get(key, [])
    if not isinstance(value, list):
        raise InputError(f"'{key}' must be a list in its JSON")
    return value


def get_dict(parent: dict, key: str) -> dict:
    """`parent[key]`, empty when missing; InputError unless it is an object."""
    value = parent.get(key, {})
    if not isinstance(value, dict):
        raise InputError(f"'{key}' must be an object in its JSON")
    return value


def get_item(tree: dict, key: str, index: Any) -> dict:
    """The object `tree[key][index]`; InputError when there is none."""
    items = get_list(tree, key)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(items):
        raise InputError(f"it refers to {key}[{str(index)[:20]}], and there are {len(items)}")
    if not isinstance(items[index], dict):
        raise InputError(f"{key}[{index}] must be an object in its JSON")
    return items[index]


def get_integer(parent: dict, key: str, default: int | None = None) -> int:
    """A whole number ≥ 0; InputError for anything else."""
    value = parent.get(key, default)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise InputError(f"'{key}' must be a whole number, got {str(value)[:20]}")
    return value


def get_numbers(parent: dict, key: str, default: list[float]) -> np.ndarray:
    """As many finite numbers as `default` has; InputError for anything else."""
    value = parent.get(key, default)
    good = isinstance(value, list) and len(value) == len(default)
    good = good and all(isinstance(x, int | float) and not isinstance(x, bool) for x in value)
    numbers = np.array(value, dtype=np.float64) if good else np.full(1, np.nan)
    if not np.isfinite(numbers).all():
        raise InputError(f"'{key}' must be {len(default)} finite numbers")
    return numbers


class Buffers:
    """Buffer views and accessors of one file; buffers are read when they are first asked for.

    tree: the file's JSON. files: beside it. binary: the binary chunk of a GLB.
    All methods raise MvdiffError for data out of bounds.
    """

    def __init__(self, tree: dict, files: SourceFiles, binary: bytes | None) -> None:
        self._tree, self._files, self._binary = tree, files, binary
        self._buffers: dict[int, bytes] = {}
        self._views: dict[int, bytes | memoryview] = {}

    def view(self, index: Any) -> memoryview | bytes:
        """The bytes of a buffer view, decompressed."""
        if index not in self._views:
            item = get_item(self._tree, "bufferViews", index)
            extensions = get_dict(item, "extensions")
            compressed = next((name for name in MESHOPT if name in extensions), None)
            if compressed is None or self._has_data(item.get("buffer")):
                self._views[index] = self._slice(item)
            else:
                self._views[index] = self._decompress(get_dict(extensions, compressed))
        return self._views[index]

    def _has_data(self, buffer: Any) -> bool:
        """Whether a compressed view's buffer holds the plain data, too."""
        item = get_item(self._tree, "buffers", buffer)
        extensions = get_dict(item, "extensions")
        marked = any(get_dict(extensions, name).get("fallback") for name in MESHOPT)
        return "uri" in item or (buffer == 0 and self._binary is not None and not marked)

    def _decompress(self, item: dict) -> bytes:
        return decode_view(
            bytes(self._slice(item)),
            str(item.get("mode")),
            get_integer(item, "byteStride"),
            get_integer(item, "count"),
            str(item.get("filter", "NONE")),
        )

    def _slice(self, item: dict) -> memoryview:
        buffer = self._buffer(item.get("buffer"))
        offset, length = get_integer(item, "byteOffset", 0), get_integer(item, "byteLength")
        if offset + length > len(buffer):
            raise InputError(
                f"a buffer view ends at byte {offset + length} of a buffer of {len(buffer)}"
            )
        return memoryview(buffer)[offset : offset + length]

    def _buffer(self, index: Any) -> bytes:
        item = get_item(self._tree, "buffers", index)
        if index not in self._buffers:
            self._buffers[index] = self._read_buffer(item, index)
        return self._buffers[index]

    def _read_buffer(self, item: dict, index: int) -> bytes:
        uri = item.get("uri")
        if uri is None:
            if index != 0 or self._binary is None:
                raise InputError(f"buffers[{index}] has no data")
            return self._binary
        if not isinstance(uri, str):
            raise InputError("the 'uri' of a buffer must be text")
        if uri.startswith("data:"):
            return decode_data_uri(uri)
        folder = self._files.folder
        path = relative_path(folder, uri)
        # by name, not by where links lead: caches of downloads consist of links
        if os.path.relpath(path, folder).split(os.sep)[0] == os.pardir:
            raise InputError(f"its buffer '{uri[:60]}' lies outside of the mesh's folder")
        return self._files.read(path, "buffer of the mesh")

    def accessor(self, index: Any, *, normalize: bool = True) -> np.ndarray:
        """The values (element, component); integers marked as normalized become floats.

        normalize: False gives integers as they are stored.
        """
        item = get_item(self._tree, "accessors", index)
        component = item.get("componentType")
        if component not in _COMPONENT_TYPES or item.get("type") not in _COMPONENT_COUNTS:
            raise InputError(f"accessors[{index}] has an unknown type")
        dtype, width = np.dtype("<" + _COMPONENT_TYPES[component]), _COMPONENT_COUNTS[item["type"]]
        count = get_integer(item, "count")
        if "bufferView" in item:
            offset = get_integer(item, "byteOffset", 0)
            values = self._array(item["bufferView"], offset, count, width, dtype, strided=True)
        else:
            if "sparse" not in item:
                raise InputError(f"accessors[{index}] has no data")
            if count > _MAX_IMPLICIT:
                raise InputError(f"accessors[{index}] claims {count} elements without data")
            values = np.zeros((count, width), dtype)
        if "sparse" in item:
            values = self._with_sparse(values, get_dict(item, "sparse"))
        if normalize and item.get("normalized") is True and dtype.kind in "iu":
            return dequantize(values)
        return values

    def _array(
        self, view: Any, offset: int, count: int, width: int, dtype: np.dtype, strided: bool
    ) -> np.ndarray:
        data, size = self.view(view), dtype.itemsize * width
        stride = size
        if strided:
            stride = get_integer(get_item(self._tree, "bufferViews", view), "byteStride", size)
        if stride < size or offset + stride * (count - 1) + size > len(data):
            raise InputError(
                f"an accessor of {count} elements does not fit into its buffer view of "
                f"{len(data)} bytes"
            )
        if count == 0:
            return np.zeros((0, width), dtype)
        strides = (stride, dtype.itemsize)
        return np.ndarray((count, width), dtype, data, offset, strides).copy()

    def _with_sparse(self, values: np.ndarray, sparse: dict) -> np.ndarray:
        count = get_integer(sparse, "count")
        indices, replaced = get_dict(sparse, "indices"), get_dict(sparse, "values")
        component = indices.get("componentType")
        if component not in (5121, 5123, 5125):
            raise InputError("a sparse accessor has indices of an unknown type")
        at = self._array(
            indices.get("bufferView"),
            get_integer(indices, "byteOffset", 0),
            count,
            1,
            np.dtype("<" + _COMPONENT_TYPES[component]),
            strided=False,
        ).reshape(-1)
        new = self._array(
            replaced.get("bufferView"),
            get_integer(replaced, "byteOffset", 0),
            count,
            values.shape[1],
            values.dtype,
            strided=False,
        )
        if count and int(at.max()) >= len(values):
            raise InputError("a sparse accessor replaces elements that are not there")
        values[at.astype(np.int64)] = new
        return values


def dequantize(values: np.ndarray) -> np.ndarray:
    """Normalized integers as floats in [0, 1] or [-1, 1], as glTF 2.0 section 3.11 says."""
    if values.dtype.kind == "f":
        return values
    largest = np.iinfo(values.dtype).max
    return np.maximum(values.astype(np.float64) / largest, -1.0)


def decode_data_uri(uri: str) -> bytes:
    """The bytes of a data URI; InputError when it is damaged."""
    head, comma, body = uri.partition(",")
    if not comma:
        raise InputError("a data URI has no data")
    if not head.endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(unquote_to_bytes(body), validate=False)
    except (binascii.Error, ValueError) as error:
        raise InputError("a data URI is not valid base64") from error
