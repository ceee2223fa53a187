"""Small glTF files, written by hand so that every field can be chosen."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

_COMPONENT = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
_TYPE = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class GltfFile:
    """A glTF file under construction: `tree` is its JSON, `binary` its buffer."""

    def __init__(self) -> None:
        self.binary = b""
        self.tree: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": []}],
            "nodes": [],
            "meshes": [],
            "accessors": [],
            "bufferViews": [],
            "buffers": [{"byteLength": 0}],
        }

    def view(self, data: bytes, **extra: Any) -> int:
        """Append bytes as a buffer view; its number."""
        self.binary += b"\0" * (-len(self.binary) % 4)
        place = len(self.binary)
        self.binary += data
        item = {"buffer": 0, "byteOffset": place, "byteLength": len(data), **extra}
        self.tree["bufferViews"].append(item)
        return len(self.tree["bufferViews"]) - 1

    def accessor(self, values: np.ndarray, **extra: Any) -> int:
        """Append an array (element,) or (element, component) as an accessor; its number."""
        values = np.asarray(values)
        width = 1 if values.ndim == 1 else values.shape[1]
        item = {
            "bufferView": self.view(values.tobytes()),
            "componentType": _COMPONENT[values.dtype.str[1:]],
            "count": len(values),
            "type": _TYPE[width],
            **extra,
        }
        self.tree["accessors"].append(item)
        return len(self.tree["accessors"]) - 1

    def image(self, content: bytes, mime: str = "image/png") -> int:
        """Append an encoded image and a texture that shows it; the texture's number."""
        images = self.tree.setdefault("images", [])
        images.append({"bufferView": self.view(content), "mimeType": mime})
        self.tree.setdefault("textures", []).append({"source": len(images) - 1})
        return len(self.tree["textures"]) - 1

    def material(self, **fields: Any) -> int:
        """Append a material; its number."""
        self.tree.setdefault("materials", []).append(fields)
        return len(self.tree["materials"]) - 1

    def mesh(self, primitive: dict[str, Any], **node: Any) -> int:
        """Append a mesh of one primitive and a node of the scene that shows it; the node."""
        self.tree["meshes"].append({"primitives": [primitive]})
        self.tree["nodes"].append({"mesh": len(self.tree["meshes"]) - 1, **node})
        number = len(self.tree["nodes"]) - 1
        self.tree["scenes"][0]["nodes"].append(number)
        return number

    def glb(self) -> bytes:
        """The file as GLB."""
        self.binary += b"\0" * (-len(self.binary) % 4)
        self.tree["buffers"][0]["byteLength"] = len(self.binary)
        text = json.dumps(self.tree).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
        chunks += struct.pack("<II", len(self.binary), 0x004E4942) + self.binary
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks

    def write(self, path: Path) -> Path:
        """Write the file as GLB."""
        path.write_bytes(self.glb())
        return path


#: A box of 1 × 0.8 × 0.6 with 8 vertices, outward faces.
BOX_SIZE = np.array([1.0, 0.8, 0.6])
BOX = (
    np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * BOX_SIZE / 2
).astype(np.float32)
BOX_FACES = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ],
    dtype=np.uint16,
)  # fmt: skip


def box(file: GltfFile, positions: int | None = None, **attributes: int) -> dict[str, Any]:
    """A primitive of the box, with further attributes by accessor number."""
    positions = file.accessor(BOX) if positions is None else positions
    return {
        "attributes": {"POSITION": positions, **attributes},
        "indices": file.accessor(BOX_FACES.reshape(-1)),
    }


def square(file: GltfFile, uv: np.ndarray | None = None, **extra: Any) -> dict[str, Any]:
    """A unit square facing +z, y up, with texture coordinates (0 at the top left)."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float32) - [0.5, 0.5, 0]
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32) if uv is None else uv
    return {
        "attributes": {
            "POSITION": file.accessor(corners.astype(np.float32)),
            "TEXCOORD_0": file.accessor(uv),
        },
        "indices": file.accessor(np.array([0, 1, 2, 0, 2, 3], np.uint8)),
        **extra,
    }
