"""Draco-compressed glTF primitives, through the optional package DracoPy."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

DRACO = "KHR_draco_mesh_compression"


@dataclass(frozen=True)
class DracoMesh:
    """faces: vertex numbers (face, 3). attributes: glTF names → values (vertex, component)."""

    faces: np.ndarray
    attributes: dict[str, np.ndarray]


def is_draco_available() -> bool:
    """Whether the package that decodes Draco is installed."""
    return importlib.util.find_spec("DracoPy") is not None


def decode_draco(data: bytes, attributes: dict) -> DracoMesh:
    """Decode one primitive.

    attributes: glTF attribute names and the numbers that the extension gives them.
    Raises InputError when DracoPy is missing, and for damaged data.
    """
    if not is_draco_available():
        raise InputError(
            f"a part is compressed with {DRACO}: pip install 'mvdiff[draco]' reads it, or "
            "decompress the file ('gltf-transform copy' writes plain files)"
        )
    import DracoPy

    try:
        mesh = DracoPy.decode(data)
        values = {
            name: np.asarray(mesh.get_attribute_by_unique_id(number)["data"])
            for name, number in attributes.items()
        }
        faces = np.asarray(mesh.faces, dtype=np.int64).reshape(-1, 3)
    except Exception as error:  # DracoPy raises errors of several kinds
        raise InputError(f"its Draco data is damaged ({type(error).__name__})") from error
    count = len(np.asarray(mesh.points))
    if any(len(value) != count for value in values.values()) or "POSITION" not in values:
        raise InputError("its Draco data lacks attributes that the file names")
    return DracoMesh(faces, {name: value.reshape(count, -1) for name, value in values.items()})
