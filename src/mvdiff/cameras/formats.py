"""Cameras in other people's files: OpenGL axes, nerfstudio, COLMAP, SyncDreamer's `meta.pkl`.

OpenGL and Blender cameras look along -z with y up; ours (see `camera.py`) look along +z with
y down. The world is the same, so converting flips two columns of camera-to-world.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import MvdiffError
from ..files import write_text
from .camera import Cameras
from .colmap import read_colmap, write_colmap
from .metapickle import read_meta_pickle

__all__ = [
    "from_opengl",
    "read_colmap",
    "read_meta_pickle",
    "read_transforms",
    "to_opengl",
    "write_colmap",
    "write_transforms",
]

#: nerfstudio's camera models that are ours, and our names for them.
_MODELS = {
    "PINHOLE": "perspective",
    "SIMPLE_PINHOLE": "perspective",
    "OPENCV": "perspective",
    "ORTHOPHOTO": "orthographic",
}
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")


def to_opengl(c2w: Float[Tensor, "*batch rows 4"]) -> Float[Tensor, "*batch rows 4"]:
    """Camera-to-world with OpenCV axes → with OpenGL/Blender axes (x right, y up, z backward).

    c2w: matrices of 3 or 4 rows. The conversion is its own inverse.
    """
    return c2w * c2w.new_tensor([1.0, -1.0, -1.0, 1.0])


def from_opengl(c2w: Float[Tensor, "*batch rows 4"]) -> Float[Tensor, "*batch rows 4"]:
    """Camera-to-world with OpenGL/Blender axes → with OpenCV axes, as `to_opengl`."""
    return to_opengl(c2w)


def write_transforms(path: str | Path, cameras: Cameras, names: list[str]) -> None:
    """Write nerfstudio's `transforms.json`: intrinsics and OpenGL camera-to-world a frame.

    names: one picture a camera, relative to the file's folder, with forward slashes.
    Orthographic cameras become ORTHOPHOTO, with `fl_x` in pixels per world unit.
    Each frame also carries our `w2c`, since inverting a matrix twice loses the smallest
    digits: float32 cameras read back to the same bits. Other programs ignore the key.
    Raises MvdiffError for skewed intrinsics and for poses that are no rotations.
    """
    if len(names) != len(cameras):
        raise MvdiffError(
            f"{len(cameras)} cameras need as many picture names, got {len(names)}: give one each"
        )
    exact = cameras.to("cpu", torch.float64)
    form = exact.K.clone()
    form[:, [0, 1, 0, 1], [0, 1, 2, 2]] = 0
    if not torch.equal(form, torch.diag(form.new_tensor([0, 0, 1])).expand_as(form)):
        raise MvdiffError(
            "transforms.json holds only fl_x, fl_y, cx and cy, and these intrinsics have skew or "
            "another last row: write cameras whose K is [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
        )
    _check_rotations(exact.R, f"cannot write '{path}'", "world-to-camera")
    head = {
        "camera_model": "ORTHOPHOTO" if cameras.projection == "orthographic" else "PINHOLE",
        "w": cameras.width,
        "h": cameras.height,
    }
    intrinsics = [
        {"fl_x": k[0][0], "fl_y": k[1][1], "cx": k[0][2], "cy": k[1][2]} for k in exact.K.tolist()
    ]
    shared = bool(intrinsics) and all(item == intrinsics[0] for item in intrinsics)
    if shared:
        head |= intrinsics[0]
    frames = [
        json.dumps(
            {"file_path": name.replace("\\", "/")}
            | ({} if shared else own)
            | {"transform_matrix": matrix, "w2c": w2c}
        )
        for name, own, matrix, w2c in zip(
            names, intrinsics, to_opengl(exact.c2w).tolist(), exact.w2c.tolist(), strict=True
        )
    ]
    lines = ",\n  ".join(frames)
    write_text(path, json.dumps(head)[:-1] + f',\n "frames": [\n  {lines}\n ]}}\n')


def read_transforms(path: str | Path) -> tuple[Cameras, list[str]]:
    """Read nerfstudio's or Blender's `transforms.json`: float32 cameras and picture names.

    Intrinsics stand at the top or in each frame, as `fl_x` (pixels) or `camera_angle_x`
    (radians). A missing size is taken from the pictures, a missing principal point is the
    centre, and a name without suffix means `.png`, as in NeRF's synthetic scenes.
    Raises MvdiffError for anything else: distortion, mixed sizes, missing fields, NaN.
    """
    path = Path(path)
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MvdiffError(f"cannot read the cameras '{path}': {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise MvdiffError(f"'{path}' is not valid JSON ({error}): write the file again") from error
    frames = meta.get("frames") if isinstance(meta, dict) else None
    if not (isinstance(frames, list) and frames and all(isinstance(f, dict) for f in frames)):
        raise MvdiffError(
            f"'{path}' lists no cameras: expected an object with a non-empty list 'frames'"
        )
    names = [_name(frame, i, path) for i, frame in enumerate(frames)]
    read = [
        _read_frame({**meta, **frame}, path, name)
        for frame, name in zip(frames, names, strict=True)
    ]
    kinds = {(projection, height, width) for _, _, projection, height, width in read}
    if len(kinds) != 1:
        listed = ", ".join(f"{w}×{h} {kind}" for kind, h, w in sorted(kinds))
        raise MvdiffError(
            f"the cameras of '{path}' must share one image size and projection, got {listed}: "
            "split them into several files"
        )
    (projection, height, width) = kinds.pop()
    K, w2c = torch.stack([item[0] for item in read]), torch.stack([item[1] for item in read])
    return Cameras(K.float(), w2c.float(), height, width, projection), names


def _name(frame: dict[str, Any], index: int, path: Path) -> str:
    name = frame.get("file_path")
    if not (isinstance(name, str) and name):
        raise MvdiffError(f"frame {index} of '{path}' has no 'file_path': name its picture there")
    name = name.replace("\\", "/").removeprefix("./")
    return name if Path(name).suffix else name + ".png"


def _read_frame(
    frame: dict[str, Any], path: Path, name: str
) -> tuple[Tensor, Tensor, str, int, int]:
    """One frame (the file's top-level fields filled in) → K, w2c, projection, height, width."""
    where = f"the camera of '{name}' in '{path}'"
    model = frame.get("camera_model", "PINHOLE")
    if not (isinstance(model, str) and model in _MODELS):
        raise MvdiffError(
            f"{where} has camera_model '{model}', expected one of {', '.join(_MODELS)}: "
            "undistort the pictures first"
        )
    for key in _DISTORTION:
        if key in frame and _number(frame, key, where) != 0:
            raise MvdiffError(
                f"{where} has lens distortion ({key}={frame[key]}), which is not supported: "
                "undistort the pictures first"
            )
    width, height = _size(frame, path.parent / name, where)
    fx = _focal(frame, "x", width, where)
    fy = _focal(frame, "y", height, where) or fx
    if not fx:
        raise MvdiffError(
            f"{where} has neither 'fl_x' nor 'camera_angle_x': add one, in pixels or radians"
        )
    cx = _number(frame, "cx", where) if "cx" in frame else width / 2
    cy = _number(frame, "cy", where) if "cy" in frame else height / 2
    K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
    return K, _pose(frame, where), _MODELS[model], height, width


def _number(frame: dict[str, Any], key: str, where: str) -> float:
    value = frame[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise MvdiffError(
            f"{where} has {key}={value!r}, expected a finite number: correct the file"
        )
    return float(value)


def _size(frame: dict[str, Any], picture: Path, where: str) -> tuple[int, int]:
    if "w" in frame and "h" in frame:
        width, height = _number(frame, "w", where), _number(frame, "h", where)
        if width < 1 or height < 1 or width % 1 or height % 1:
            raise MvdiffError(f"{where} has size {width:g}×{height:g}, expected whole pixels ≥ 1")
        return int(width), int(height)
    from PIL import Image

    try:
        with Image.open(picture) as image:
            return image.size
    except (OSError, SyntaxError) as error:
        raise MvdiffError(
            f"{where} has no 'w' and 'h', and its picture cannot be read either: add them in pixels"
        ) from error


def _focal(frame: dict[str, Any], axis: str, pixels: int, where: str) -> float | None:
    """Focal length along "x" or "y" in pixels; None where the file does not say."""
    if f"fl_{axis}" in frame:
        focal = _number(frame, f"fl_{axis}", where)
    elif f"camera_angle_{axis}" in frame:
        angle = _number(frame, f"camera_angle_{axis}", where)
        focal = pixels / 2 / math.tan(angle / 2) if 0 < angle < math.pi else -1.0
    else:
        return None
    if focal <= 0:
        raise MvdiffError(
            f"{where} needs a positive fl_{axis} or a camera_angle_{axis} between 0 and pi radians"
        )
    return focal


def _pose(frame: dict[str, Any], where: str) -> Tensor:
    """World-to-camera in float64, from `transform_matrix`; from our `w2c` where they agree."""
    matrix = _matrix(frame.get("transform_matrix"))
    if matrix is None or (len(matrix) == 4 and matrix[3].tolist() != [0, 0, 0, 1]):
        raise MvdiffError(
            f"{where} needs 'transform_matrix' as 4×4 finite numbers with last row 0 0 0 1, "
            f"got {str(frame.get('transform_matrix'))[:60]}"
        )
    _check_rotations(matrix[None, :3, :3], where, "transform_matrix")
    c2w = torch.eye(4, dtype=torch.float64)
    c2w[:3] = from_opengl(matrix[:3])
    w2c = torch.linalg.inv(c2w)[:3]
    own = _matrix(frame.get("w2c"))
    if own is not None and own.shape == w2c.shape:
        # Someone may have edited transform_matrix alone: then that one holds.
        tolerance = 1e-9 * max(1.0, float(c2w.abs().max()))
        if (own - w2c).abs().max() <= tolerance:
            return own
    return w2c


def _matrix(rows: Any) -> Tensor | None:
    """Nested lists → (3 or 4, 4) float64, or None when they are anything else."""
    try:
        matrix = torch.tensor(rows, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        return None
    return matrix if matrix.shape in ((3, 4), (4, 4)) and matrix.isfinite().all() else None


def _check_rotations(R: Tensor, where: str, what: str) -> None:
    error = (R @ R.mT - torch.eye(3, dtype=R.dtype)).abs().amax(dim=(1, 2))
    if (error > 1e-3).any() or (torch.linalg.det(R) < 0).any():
        raise MvdiffError(
            f"{where}: the {what} is no rotation (scaled, skewed or mirrored axes): "
            "remove scale and mirroring from the camera"
        )
