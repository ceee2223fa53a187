"""Decoding of EXT_meshopt_compression (and KHR_meshopt_compression with the same streams).

Written after the extension's specification, appendices A (bitstreams) and B (filters). There are
no wheels of meshoptimizer's Python binding; these decoders read about 2 MB a second.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from ..errors import InputError

_ATTRIBUTES, _TRIANGLES, _INDICES = 0xA0, 0xE1, 0xD1
_TAIL = 32


def decode_view(data: bytes, mode: str, stride: int, count: int, filter_name: str) -> bytes:
    """The `stride · count` bytes of a compressed buffer view.

    mode: "ATTRIBUTES", "TRIANGLES" or "INDICES". filter_name: "NONE", "OCTAHEDRAL",
    "QUATERNION" or "EXPONENTIAL".
    Raises InputError for damaged streams, and for modes, filters and versions not known.
    """
    # a byte of the stream gives 64 bytes of attributes (equal ones) or 3 vertex numbers at most
    if count * (stride if mode == "ATTRIBUTES" else 1) > 64 * max(len(data), 1):
        raise InputError(f"a compressed view of {len(data)} bytes claims {count} elements")
    try:
        if mode == "ATTRIBUTES":
            values = _decode_attributes(data, stride, count)
            return _FILTERS[filter_name](values).tobytes()
        if stride not in (2, 4):
            raise InputError("compressed vertex numbers must have 2 or 4 bytes")
        if mode == "TRIANGLES":
            numbers = _decode_triangles(data, count)
        elif mode == "INDICES":
            numbers = _decode_indices(data, count)
        else:
            raise InputError(f"the compression mode '{mode[:20]}' is not known")
    except (IndexError, ValueError, KeyError) as error:
        raise InputError("its meshopt data is damaged") from error
    return numbers.astype(f"<u{stride}").tobytes()


def _check_header(data: bytes, expected: int) -> None:
    if data[0] != expected:
        raise InputError(f"its meshopt data is of an unknown version (0x{data[0]:02x})")


def _decode_attributes(data: bytes, stride: int, count: int) -> UInt8[np.ndarray, "count stride"]:
    if stride % 4 or not 0 < stride <= 256:
        raise InputError("compressed attributes must have a multiple of 4 bytes, at most 256")
    _check_header(data, _ATTRIBUTES)
    stream = np.frombuffer(data, np.uint8)
    end = len(data) - max(_TAIL, stride)
    last = stream[len(data) - stride :]
    out = np.zeros((count, stride), np.uint8)
    block_size = min(8192 // stride & ~15, 256)
    place = 1
    for start in range(0, count, block_size):
        size = min(block_size, count - start)
        groups = -(-size // 16)
        deltas = np.zeros((stride, groups * 16), np.uint8)
        for byte in range(stride):
            header = stream[place : place + -(-groups // 4)]
            modes = (header[:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3).reshape(-1)
            place += len(header)
            for group in np.flatnonzero(modes[:groups]):
                values, place = _decode_group(stream, place, int(modes[group]))
                deltas[byte, 16 * group : 16 * group + 16] = values
            if place > end:
                raise ValueError("the stream ends early")
        steps = (deltas >> 1) ^ (-(deltas & 1).astype(np.int8)).view(np.uint8)
        block = np.cumsum(steps[:, :size], axis=1, dtype=np.uint8) + last[:, None]
        out[start : start + size] = block.T
        last = out[start + size - 1]
    return out


def _decode_group(stream: np.ndarray, place: int, mode: int) -> tuple[np.ndarray, int]:
    """16 bytes of one group, and where the next one starts."""
    if mode == 3:
        return stream[place : place + 16], place + 16
    bits = 2 * mode
    packed = stream[place : place + 2 * bits]
    place += 2 * bits
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    values = (packed[:, None] >> shifts & ((1 << bits) - 1)).reshape(-1)
    explicit = np.flatnonzero(values == (1 << bits) - 1)
    values[explicit] = stream[place : place + len(explicit)]
    return values, place + len(explicit)


class _Numbers:
    """Variable-length integers of a stream."""

    def __init__(self, data: bytes, place: int, end: int) -> None:
        self.data, self.place, self.end = data, place, end

    def byte(self) -> int:
        if self.place >= self.end:
            raise ValueError("the stream ends early")
        self.place += 1
        return self.data[self.place - 1]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number is too long")


def _zigzag(value: int) -> int:
    return ~(value >> 1) if value & 1 else value >> 1


def _decode_indices(data: bytes, count: int) -> np.ndarray:
    _check_header(data, _INDICES)
    numbers, last = _Numbers(data, 1, len(data) - 4), [0, 0]
    out = np.zeros(count, np.int64)
    for i in range(count):
        value = numbers.varint()
        last[value & 1] += _zigzag(value >> 1)
        out[i] = last[value & 1]
    return out & 0xFFFFFFFF


def _decode_triangles(data: bytes, count: int) -> np.ndarray:
    if count % 3:
        raise InputError("compressed triangles must have three vertex numbers each")
    _check_header(data, _TRIANGLES)
    triangles = count // 3
    if 1 + triangles + 16 > len(data):
        raise ValueError("the stream is too short")
    table = data[len(data) - 16 :]
    numbers = _Numbers(data, 1 + triangles, len(data) - 16)
    # the latest come first
    edges: list[tuple[int, int]] = [(0, 0)] * 16
    vertices = [0] * 16
    fresh, last = 0, 0
    out: list[int] = []

    def push(vertex: int) -> None:
        vertices.insert(0, vertex)
        vertices.pop()

    def read_index() -> int:
        nonlocal last
        last += _zigzag(numbers.varint())
        return last

    for code in data[1 : 1 + triangles]:
        if code < 0xF0:
            a, b = edges[code >> 4]
            kind = code & 15
            if kind == 0:
                c, fresh = fresh, fresh + 1
                push(c)
            elif kind < 13:
                c = vertices[kind]
            else:
                if kind == 15:
                    c = read_index()
                else:
                    c = last = last + (1 if kind == 14 else -1)
                push(c)
            edges = [(a, c), (c, b), *edges[:14]]
        else:
            explicit = code >= 0xFE
            pair = numbers.byte() if explicit else table[code & 15]
            if explicit and pair == 0:
                fresh = 0
            kinds = [15 if code == 0xFF else 0, pair >> 4, pair & 15]
            corner, before = [], list(vertices)
            # vertices from the queue are those of before this triangle
            for kind in kinds:
                if kind == 0:
                    corner.append(fresh)
                    fresh += 1
                elif kind == 15 and explicit:
                    corner.append(-1)
                else:
                    corner.append(before[kind - 1])
            corner = [read_index() if v == -1 else v for v in corner]
            a, b, c = corner
            for vertex, kind in zip(corner, kinds, strict=True):
                if kind == 0 or (kind == 15 and explicit):
                    push(vertex)
            edges = [(a, c), (c, b), (b, a), *edges[:13]]
        out += (a, b, c)
    return np.array(out, dtype=np.int64) & 0xFFFFFFFF


def _no_filter(values: np.ndarray) -> np.ndarray:
    return values


def _octahedral(values: np.ndarray) -> np.ndarray:
    kind = {4: np.int8, 8: np.int16}[values.shape[1]]
    raw = np.ascontiguousarray(values).view(kind)
    one = np.maximum(raw[:, 2].astype(np.float64), 1)
    x, y = raw[:, 0] / one, raw[:, 1] / one
    z = 1 - np.abs(x) - np.abs(y)
    t = np.minimum(z, 0)
    x, y = x + np.where(x >= 0, t, -t), y + np.where(y >= 0, t, -t)
    vectors = np.stack([x, y, z], axis=1)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    out = raw.copy()
    out[:, :3] = np.rint(vectors * np.iinfo(kind).max)
    return out


def _quaternion(values: np.ndarray) -> np.ndarray:
    if values.shape[1] != 8:
        raise ValueError("quaternions have 8 bytes")
    raw = np.ascontiguousarray(values).view(np.int16)
    largest = raw[:, 3] & 3
    scale = np.sqrt(0.5) / np.maximum(raw[:, 3] | 3, 1)
    xyz = raw[:, :3] * scale[:, None]
    w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(axis=1)))
    out = np.zeros_like(raw)
    rows = np.arange(len(raw))
    for k, part in enumerate((w, *xyz.T)):
        out[rows, (largest + k) & 3] = np.rint(part * 32767)
    return out


def _exponential(values: np.ndarray) -> np.ndarray:
    raw = np.ascontiguousarray(values).view("<i4")
    exponent = raw >> 24
    mantissa = (raw << 8) >> 8
    return np.ldexp(mantissa.astype(np.float64), exponent).astype("<f4")


_FILTERS = {
    "NONE": _no_filter,
    "OCTAHEDRAL": _octahedral,
    "QUATERNION": _quaternion,
    "EXPONENTIAL": _exponential,
}
