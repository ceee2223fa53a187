"""ICC profiles built by hand, so that the correct colors are known without a library."""

from __future__ import annotations

import struct

import numpy as np

#: linear RGB → XYZ under D50 (the profile connection space), columns red, green, blue
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
DISPLAY_P3 = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
ADOBE_RGB = np.array(
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)


def rgb_profile(primaries: np.ndarray, gamma: float) -> bytes:
    """A matrix profile with one power law for all channels."""
    tags = {name: _xyz(primaries[:, i]) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma))
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def gray_profile(gamma: float) -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)})


def cmyk_profile(lab_of_corner) -> bytes:
    """A printer's profile with one grid cell: Lab of each of the 16 full or empty ink mixtures.

    lab_of_corner: (c, m, y, k), each 0 or 1, → (L, a, b).
    """
    table = b""
    for corner in np.ndindex(2, 2, 2, 2):
        lightness, a, b = lab_of_corner(*corner)
        table += bytes([round(lightness * 2.55), round(a + 128), round(b + 128)])
    matrix = struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).ravel())
    ramp = bytes(range(256))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + 4 * ramp + table + 3 * ramp
    return _profile(b"prtr", b"CMYK", b"Lab ", dict.fromkeys((b"A2B0", b"A2B1", b"A2B2"), lut))


def to_srgb(rgb: np.ndarray, primaries: np.ndarray, gamma: float) -> np.ndarray:
    """8-bit colors of such a profile as 8-bit sRGB, by the formulas."""
    linear = np.linalg.inv(SRGB) @ primaries @ (np.asarray(rgb) / 255) ** gamma
    return encode(linear)


def encode(linear: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] → sRGB's 8 bits."""
    linear = np.clip(linear, 0, 1)
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (curved * 255).round()


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = {
        b"desc": name,
        b"cprt": b"text\0\0\0\0-\0",
        b"wtpt": _xyz((0.9642, 1.0, 0.8249)),
        **tags,
    }
    offset, table, data = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        table += tag + struct.pack(">II", offset + len(data), len(content))
        data += content
    header = struct.pack(">I4sI4s4s4s", 0, bytes(4), 0x02400000, kind, space, connection)
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", *(round(65536 * v) for v in (0.9642, 1.0, 0.8249)))
    header += bytes(128 - len(header))
    whole = header + table + data
    return struct.pack(">I", len(whole)) + whole[4:]


def _xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * v) for v in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma)) + bytes(2)
