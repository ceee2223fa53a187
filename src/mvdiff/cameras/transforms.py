"""`transforms.json`: cameras of NeRF's synthetic scenes, nerfstudio and instant-ngp."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError, MvdiffError
from ..utils.files import load_json, write_text
from .camera import Cameras, Projection
from .frames import Frame, check_coordinates, check_rotations, checked_intrinsics, to_cameras
from .lens import COLMAP_PARAMETERS, Lens, from_coefficients

#: Camera models that are read, and our names for their projections.
_MODELS: dict[str, Projection] = {
    **dict.fromkeys(COLMAP_PARAMETERS, "perspective"),
    "ORTHOPHOTO": "orthographic",
}
#: Keys of lens models that are not read, of instant-ngp and nerfstudio.
_UNSUPPORTED = ("ftheta_p0", "latlong", "equirectangular", "fisheye_crop_radius")
#: nerfstudio's order in `distortion_params`.
_PARAMETERS = ("k1", "k2", "k3", "k4", "p1", "p2")
_FOCAL_X = frozenset({"fl_x", "camera_angle_x", "x_fov"})
_FOCAL_Y = frozenset({"fl_y", "camera_angle_y", "y_fov"})
_COEFFICIENTS = frozenset({"k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2"})
_MASK_KEYS = ("mask_path", "mask_filename", "mask_file_path", "mask")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".PNG", ".JPG", ".JPEG")


@dataclass(frozen=True)
class TransformsFile:
    """What a `transforms.json` says: a camera a picture, and notes for the user."""

    frames: list[Frame]
    notes: list[str]


def to_opengl(c2w: Float[Tensor, "*batch rows 4"]) -> Float[Tensor, "*batch rows 4"]:
    """Camera-to-world with OpenCV axes → with OpenGL/Blender axes (x right, y up, z backward).

    c2w: matrices of 3 or 4 rows. The conversion is its own inverse.
    """
    return c2w * c2w.new_tensor([1.0, -1.0, -1.0, 1.0])


def from_opengl(c2w: Float[Tensor, "*batch rows 4"]) -> Float[Tensor, "*batch rows 4"]:
    """Camera-to-world with OpenGL/Blender axes → with OpenCV axes, as `to_opengl`."""
    return to_opengl(c2w)


def write_transforms(
    path: str | Path,
    cameras: Cameras,
    names: list[str],
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    inputs: Cameras | None = None,
    input_names: Sequence[str] = (),
) -> None:
    """Write nerfstudio's `transforms.json`: intrinsics and OpenGL camera-to-world a frame.

    names: one picture a camera, relative to the file's folder, with forward slashes.
    origin: world point of the cameras' origin, added to what is written.
    inputs: cameras of the input images that the views were generated from, with `input_names`;
        they are written as `input_frames`, which other programs ignore.
    Orthographic cameras become ORTHOPHOTO, with `fl_x` in pixels per world unit.
    Each frame also carries our `w2c`, since inverting a matrix twice loses the smallest
    digits: float32 cameras read back to the same bits. Other programs ignore the key.
    Raises InputError for skewed intrinsics and for poses that are no rotations.
    """
    head, frames = _frames(path, cameras, names, origin)
    text = json.dumps(head)[:-1]
    if inputs is not None:
        own_head, own = _frames(path, inputs, input_names, origin)
        shared = {key: value for key, value in own_head.items() if head.get(key) != value}
        rows = [json.dumps(frame | shared) for frame in own]
        text += ',\n "input_frames": [\n  ' + ",\n  ".join(rows) + "\n ]"
    lines = ",\n  ".join(json.dumps(frame) for frame in frames)
    write_text(path, text + f',\n "frames": [\n  {lines}\n ]}}\n')


def _frames(
    path: str | Path,
    cameras: Cameras,
    names: Sequence[str],
    origin: tuple[float, float, float],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What all frames share, and the frames; errors as in `write_transforms`."""
    if len(names) != len(cameras):
        raise InputError(
            f"{len(cameras)} cameras need as many picture names, got {len(names)}: give one each"
        )
    exact = cameras.to("cpu", torch.float64)
    form = exact.K.clone()
    form[:, [0, 1, 0, 1], [0, 1, 2, 2]] = 0
    if not torch.equal(form, torch.diag(form.new_tensor([0, 0, 1])).expand_as(form)):
        raise InputError(
            "transforms.json holds only fl_x, fl_y, cx and cy, and these intrinsics have skew or "
            "another last row: write cameras whose K is [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
        )
    check_rotations(exact.R, f"cannot write '{path}'", "world-to-camera")
    c2w, w2c = exact.c2w, exact.w2c
    if any(origin):
        offset = w2c.new_tensor(origin)
        c2w = c2w.clone()
        c2w[:, :3, 3] += offset
        w2c = torch.cat([w2c[:, :, :3], (exact.t - exact.R @ offset)[..., None]], dim=-1)
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
        {"file_path": name.replace("\\", "/")}
        | ({} if shared else own)
        | {"transform_matrix": matrix, "w2c": pose}
        for name, own, matrix, pose in zip(
            names, intrinsics, to_opengl(c2w).tolist(), w2c.tolist(), strict=True
        )
    ]
    return head, frames


def read_transforms(path: str | Path) -> tuple[Cameras, list[str]]:
    """Read a `transforms.json` without its pictures: float32 cameras and picture names.

    As `read_frames`, for files whose cameras share one size and need no undistortion: raises
    MvdiffError for others.
    """
    frames = read_frames(path).frames
    return to_cameras(frames, f"'{path}'"), [frame.name for frame in frames]


def read_frames(path: str | Path) -> TransformsFile:
    """Read nerfstudio's, instant-ngp's or Blender's `transforms.json` in float64.

    Intrinsics stand at the top or in each frame, as `fl_x` (pixels), `camera_angle_x` (radians) or
    `x_fov` (degrees). A missing size is taken from the pictures, a missing principal point is the
    center, a missing second focal length equals the first, and a name without suffix means the
    picture that is there, else `.png`.
    Lenses: `camera_model`, k1 to k6, p1, p2, `distortion_params` (k1 k2 k3 k4 p1 p2) and
    `is_fisheye`, see `lens.from_coefficients`. Masks: `mask_path` (`mask_filename`).
    Raises InputError for anything else: lens models that are not read, missing fields, NaN.
    """
    path = Path(path)
    if not is_file(path):
        raise InputError(f"cannot read the cameras '{path}': there is no such file")
    meta = load_json(path, dict)
    frames = meta.get("frames")
    if not (isinstance(frames, list) and frames and all(isinstance(f, dict) for f in frames)):
        raise InputError(
            f"'{path}' lists no cameras: expected an object with a non-empty list 'frames'"
        )
    notes: list[str] = []
    read = []
    for index, frame in enumerate(frames):
        name = _name(frame, index, path)
        read.append(_read_frame(_with_defaults(frame, meta), path, name, notes))
    return TransformsFile(read, list(dict.fromkeys(notes)))


def _with_defaults(frame: dict[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
    """A frame's fields and, where it does not say, the file's.

    A frame that has its own focal length or distortion in one form replaces the file's in any form.
    """
    own = {key for key, value in frame.items() if value is not None}
    replaced: set[str] = set()
    if own & _FOCAL_X and any(meta.get(key) is not None for key in _FOCAL_X):
        replaced |= _FOCAL_X if own & _FOCAL_Y else _FOCAL_X | _FOCAL_Y
    if own & _FOCAL_Y:
        replaced |= _FOCAL_Y
    if "distortion_params" in own:
        replaced |= _COEFFICIENTS
    elif own & _COEFFICIENTS:
        replaced.add("distortion_params")
    return {key: value for key, value in meta.items() if key not in replaced} | frame


def _name(frame: dict[str, Any], index: int, path: Path) -> str:
    name = frame.get("file_path")
    if not (isinstance(name, str) and name and "\0" not in name):
        raise InputError(f"frame {index} of '{path}' has no 'file_path': name its picture there")
    name = name.replace("\\", "/").removeprefix("./")
    if Path(name).suffix.lower() in _SUFFIXES or is_file(path.parent / name):
        return name
    there = [name + suffix for suffix in _SUFFIXES if is_file(path.parent / (name + suffix))]
    return there[0] if there else name if Path(name).suffix else name + ".png"


def is_file(path: Path) -> bool:
    """Whether there is a file; False for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _read_frame(frame: dict[str, Any], path: Path, name: str, notes: list[str]) -> Frame:
    """One frame, the file's top-level fields filled in."""
    where = f"the camera of '{name}' in '{path}'"
    projection, lens = _read_lens(frame, where)
    width, height = _size(frame, path.parent / name, where)
    fx, fy = _focal(frame, "x", width, where), _focal(frame, "y", height, where)
    if fx is None and fy is None:
        raise InputError(
            f"{where} has neither 'fl_x' nor 'camera_angle_x': add one, in pixels or radians"
        )
    fx, fy = (fy if fx is None else fx), (fx if fy is None else fy)
    cx = _number(frame, "cx", where) if "cx" in frame else width / 2
    cy = _number(frame, "cy", where) if "cy" in frame else height / 2
    K = checked_intrinsics(fx, fy, cx, cy, width, height, where, projection)
    _note_conflicts(frame, width, fx, path, notes)
    is_off_center = abs(cx - width / 2) > 0.25 * width or abs(cy - height / 2) > 0.25 * height
    if frame.get("w") is None and is_off_center:
        notes.append(
            f"'{path.name}' has no 'w' and 'h', and its principal point ({cx:g}, {cy:g}) lies far "
            f"from the center of pictures of {width}×{height} pixels: if they were cropped or "
            "resized, add the original 'w' and 'h'"
        )
    w2c = _pose(frame, where).numpy()
    check_coordinates(w2c, where)
    mask = next((frame[key] for key in _MASK_KEYS if frame.get(key) is not None), None)
    if mask is not None and not (isinstance(mask, str) and mask and "\0" not in mask):
        raise InputError(f"{where} has a mask that is no file name: correct mask_path")
    mask = None if mask is None else mask.replace("\\", "/").removeprefix("./")
    return Frame(name, K, w2c, width, height, lens, projection, mask)


def _note_conflicts(
    frame: dict[str, Any], width: int, fx: float, path: Path, notes: list[str]
) -> None:
    """Notes on what the file says twice, or says and is not read."""
    angle = frame.get("camera_angle_x")
    if "fl_x" in frame and isinstance(angle, float) and 0 < angle < math.pi:
        other = width / 2 / math.tan(angle / 2)
        if abs(other - fx) > 0.02 * fx:
            notes.append(
                f"'{path.name}' gives the focal length twice, fl_x={fx:.6g} pixels and "
                f"camera_angle_x={angle:.6g} ({other:.6g} pixels): fl_x is used"
            )
    shutter = frame.get("rolling_shutter")
    if isinstance(shutter, list) and any(isinstance(x, (int, float)) and x for x in shutter):
        notes.append(f"'{path.name}' describes a rolling shutter, which is not corrected")
    for key, value in frame.items():
        if "mask" in key and key not in _MASK_KEYS and isinstance(value, str):
            notes.append(
                f"'{path.name}' names masks as '{key}', which is not read: rename it to mask_path"
            )


def _read_lens(frame: dict[str, Any], where: str) -> tuple[Projection, Lens]:
    model = frame.get("camera_model")
    model = "PINHOLE" if model is None else model
    model = model.upper() if isinstance(model, str) else model
    if not (isinstance(model, str) and model in _MODELS):
        raise InputError(
            f"{where} has camera_model '{_shorten(model)}', expected one of {', '.join(_MODELS)}: "
            "undistort the pictures first"
        )
    for key in (*_UNSUPPORTED, *(key for key in frame if key.startswith("ftheta_"))):
        if frame.get(key) not in (None, False):
            raise InputError(
                f"{where} has '{key}', a lens model that is not supported: undistort the pictures "
                "first"
            )
    own = frame.get("lens")
    mode = own.get("mode") if isinstance(own, dict) else own
    if isinstance(mode, str) and mode.lower() not in ("perspective", "pinhole", ""):
        raise InputError(
            f"{where} has lens '{_shorten(mode)}', which is not supported: undistort the pictures "
            "first"
        )
    listed = frame.get("distortion_params")
    numbers = dict.fromkeys(_PARAMETERS, 0.0)
    if listed is not None:
        if not isinstance(listed, list) or len(listed) > len(_PARAMETERS):
            raise InputError(
                f"{where} has distortion_params {_shorten(listed)}, expected a list of "
                "k1, k2, k3, k4, p1, p2"
            )
        pairs = dict(zip(_PARAMETERS, listed, strict=False))
        numbers |= {key: _number(pairs, key, where) for key in pairs}

    def coefficient(key: str) -> float:
        own = _number(frame, key, where) if frame.get(key) is not None else 0.0
        both = numbers.get(key, 0.0)
        if own and both and own != both:
            raise InputError(
                f"{where} has {key}={own:g} and another value in distortion_params ({both:g}): "
                "keep one of them"
            )
        return own or both

    flag = frame.get("is_fisheye")
    is_flagged = flag.lower() in ("true", "1") if isinstance(flag, str) else bool(flag)
    fisheye = is_flagged or model.endswith("FISHEYE")
    lens = from_coefficients(model, coefficient, fisheye, where)
    if _MODELS[model] == "orthographic" and not lens.is_pinhole:
        raise InputError(
            f"{where} is orthographic and has lens distortion, which is not supported: undistort "
            "the pictures first"
        )
    return _MODELS[model], lens


def _number(frame: dict[str, Any], key: str, where: str) -> float:
    value = frame[key]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # integers may have hundreds of digits
    if (
        not number
        or not math.isfinite(value if isinstance(value, float) else 0)
        or (abs(value) > 1e300)
    ):
        raise InputError(
            f"{where} has {key}={_shorten(value)}, expected a finite number: correct the file"
        )
    return float(value)


def _shorten(value: Any) -> str:
    """A value of any kind and length for a message."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except ValueError:  # integers of thousands of digits
        return "numbers of many digits"
    return text if len(text) <= 60 else text[:57] + "…"


def _size(frame: dict[str, Any], picture: Path, where: str) -> tuple[int, int]:
    if frame.get("w") is not None and frame.get("h") is not None:
        width, height = _number(frame, "w", where), _number(frame, "h", where)
        if width < 1 or height < 1 or width % 1 or height % 1:
            raise InputError(f"{where} has size {width:g}×{height:g}, expected whole pixels ≥ 1")
        return int(width), int(height)
    from ..utils.images import open_image

    try:
        with open_image(picture) as image:
            size = image.size
    except MvdiffError as error:
        raise InputError(
            f"{where} has no 'w' and 'h', and its picture cannot be read either ({error}): add "
            "them in pixels"
        ) from error
    for key, side in zip("wh", size, strict=True):
        if frame.get(key) is not None and _number(frame, key, where) != side:
            raise InputError(
                f"{where} has {key}={frame[key]:g}, its picture is {size[0]}×{size[1]} pixels, and "
                "the other side is missing: give both 'w' and 'h'"
            )
    return size


def _focal(frame: dict[str, Any], axis: str, pixels: int, where: str) -> float | None:
    """Focal length along "x" or "y" in pixels; None where the file does not say."""
    if frame.get(f"fl_{axis}") is not None:
        return _number(frame, f"fl_{axis}", where)
    angle, key = None, ""
    if frame.get(f"camera_angle_{axis}") is not None:
        key = f"camera_angle_{axis}"
        angle = _number(frame, key, where)
    elif frame.get(f"{axis}_fov") is not None:
        key = f"{axis}_fov"
        angle = math.radians(_number(frame, key, where))
    if angle is None:
        return None
    if not 1e-6 < angle < math.pi - 1e-6:
        raise InputError(
            f"{where} needs a positive fl_{axis} or a camera_angle_{axis} between 0 and pi "
            f"radians, got {key}={_shorten(frame[key])}"
        )
    return pixels / 2 / math.tan(angle / 2)


def _pose(frame: dict[str, Any], where: str) -> Float[Tensor, "3 4"]:
    """World-to-camera in float64, from `transform_matrix`; from our `w2c` where they agree."""
    given = frame.get("transform_matrix")
    matrix = _matrix(given)
    if matrix is None or (len(matrix) == 4 and matrix[3].tolist() != [0, 0, 0, 1]):
        raise InputError(
            f"{where} needs 'transform_matrix' as 4×4 finite numbers with last row 0 0 0 1, "
            f"got {_shorten(given)}"
        )
    check_rotations(matrix[None, :3, :3], where, "transform_matrix")
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


def _matrix(rows: Any) -> Float[Tensor, "rows 4"] | None:
    """Nested lists → (3 or 4, 4) float64, or None when they are anything else."""
    if not (isinstance(rows, list) and all(isinstance(row, list) for row in rows)):
        return None
    flat = [x for row in rows for x in row]
    if [len(row) for row in rows] not in ([4] * 3, [4] * 4):
        return None
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in flat):
        return None
    if any(abs(x) > 1e300 for x in flat):  # also integers that no float can hold
        return None
    matrix = torch.from_numpy(np.array(rows, dtype=np.float64))
    return matrix if matrix.isfinite().all() else None
