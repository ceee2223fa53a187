"""COLMAP models, text (`cameras.txt`, `images.txt`) and binary (`cameras.bin`, `images.bin`).

COLMAP's world-to-camera and its pixels (top-left center at (0.5, 0.5)) are ours.
Formats: https://colmap.github.io/format.html
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..errors import InputError, MvdiffError
from ..utils.files import write_text
from .camera import Cameras
from .frames import Frame, check_coordinates, checked_intrinsics, to_cameras
from .lens import COLMAP_MODELS, COLMAP_PARAMETERS, Lens, from_colmap

#: Bytes of a 2D point in images.bin: two doubles and the id of its 3D point.
_POINT_BYTES = 24


def write_colmap(folder: str | Path, cameras: Cameras, names: list[str]) -> None:
    """Write a COLMAP text model of PINHOLE cameras into `folder`.

    names: one picture a camera, without blanks. Image ids count from 1 in this order.
    Raises InputError for orthographic cameras, skew, and poses that are no rotations.
    """
    folder = Path(folder)
    if cameras.projection != "perspective":
        raise InputError(
            "COLMAP has no orthographic camera: write transforms.json instead, or use perspective"
        )
    if len(names) != len(cameras):
        raise InputError(
            f"{len(cameras)} cameras need as many picture names, got {len(names)}: give one each"
        )
    for name in names:
        if not name or name.split() != [name]:
            raise InputError(f"COLMAP cannot hold the name '{name}': use names without blanks")
    K, w2c = (x.detach().cpu().double() for x in (cameras.K, cameras.w2c))
    if K[:, [0, 1, 2, 2], [1, 0, 0, 1]].any() or (K[:, 2, 2] != 1).any():
        raise InputError(
            "COLMAP's PINHOLE has no skew: write cameras whose K is "
            "[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
        )
    R = w2c[:, :, :3]
    is_rotation = bool((torch.linalg.det(R) > 0).all())
    quaternions = rotation_to_quaternion(R) if is_rotation else R.new_zeros(len(R), 4)
    if not is_rotation or (quaternion_to_rotation(quaternions) - R).abs().amax() > 1e-3:
        raise InputError(
            "COLMAP stores rotations only, and these poses have scaled, skewed or mirrored axes: "
            "remove that first"
        )
    lens, poses = (
        ["# CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy"],
        ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of points (none)"],
    )
    ids: dict[tuple[float, ...], int] = {}
    for i, (k, q, pose, name) in enumerate(
        zip(K.tolist(), quaternions.tolist(), w2c.tolist(), names, strict=True), start=1
    ):
        parameters = (k[0][0], k[1][1], k[0][2], k[1][2])
        camera = ids.setdefault(parameters, len(ids) + 1)
        translation = [row[3] for row in pose]
        poses += [" ".join(map(str, [i, *q, *translation, camera, name])), ""]
    size = f"{cameras.width} {cameras.height}"
    lens += [f"{i} PINHOLE {size} {' '.join(map(str, p))}" for p, i in ids.items()]
    write_text(folder / "points3D.txt", "# 3D points: none\n")
    write_text(folder / "cameras.txt", "\n".join(lens) + "\n")
    write_text(folder / "images.txt", "\n".join(poses) + "\n")


@dataclass(frozen=True)
class _Camera:
    K: Float[np.ndarray, "3 3"]
    width: int
    height: int
    lens: Lens


def is_colmap_model(folder: Path) -> bool:
    """Whether a folder holds a COLMAP model, text or binary."""
    return any(
        all((folder / f"{name}{suffix}").is_file() for name in ("cameras", "images"))
        for suffix in (".bin", ".txt")
    )


def read_colmap(folder: str | Path) -> tuple[Cameras, list[str]]:
    """Read a COLMAP model without its pictures: float32 cameras and picture names, by image id.

    As `read_colmap_frames`, for models whose cameras share one size and need no undistortion:
    raises MvdiffError for others.
    """
    frames = read_colmap_frames(folder)
    return to_cameras(frames, f"'{folder}'"), [frame.name for frame in frames]


def read_colmap_frames(folder: str | Path) -> list[Frame]:
    """Read a COLMAP model in float64, by image id; the binary one where both are there.

    Raises InputError for missing or broken files, and for camera models that are not read (see
    `lens.COLMAP_PARAMETERS`).
    """
    folder = Path(folder)
    is_binary = (folder / "cameras.bin").is_file() and (folder / "images.bin").is_file()
    suffix = ".bin" if is_binary else ".txt"
    cameras_file, images_file = folder / f"cameras{suffix}", folder / f"images{suffix}"
    if is_binary:
        cameras = _read_cameras_bin(cameras_file)
        images = _read_images_bin(images_file, cameras)
    else:
        cameras = _read_cameras_txt(cameras_file)
        images = _read_images_txt(images_file, cameras)
    if not images:
        raise InputError(f"'{images_file}' lists no images: expected at least one")
    return [frame for _, frame in sorted(images, key=lambda image: image[0])]


def _make_camera(
    model: str, width: int, height: int, parameters: list[float], where: str
) -> _Camera:
    (fx, fy, cx, cy), lens = from_colmap(model, parameters, where)
    K = checked_intrinsics(fx, fy, cx, cy, width, height, where)
    return _Camera(K, width, height, lens)


def _make_frame(
    name: str, pose: list[float], camera: int, cameras: dict[int, _Camera], path: Path
) -> Frame:
    """A frame from a quaternion (w, x, y, z), a translation and a camera id."""
    if camera not in cameras:
        raise InputError(
            f"'{path}' uses camera {camera}, which cameras{path.suffix} does not list: add it"
        )
    # the length of a quaternion means nothing, but its square must not overflow or vanish
    if not (all(map(math.isfinite, pose)) and 1e-100 < max(map(abs, pose[:4])) < 1e100):
        raise InputError(f"'{path}' has no usable pose for '{name}': expected finite numbers")
    quaternion = torch.tensor([pose[:4]], dtype=torch.float64)
    rotation = quaternion_to_rotation(quaternion)[0].numpy()
    w2c = np.concatenate([rotation, np.array(pose[4:])[:, None]], axis=1)
    check_coordinates(w2c, f"'{path}'")
    if not name or "\0" in name:
        raise InputError(f"'{path}' has an image without a name: write the model again")
    its = cameras[camera]
    return Frame(name.replace("\\", "/"), its.K, w2c, its.width, its.height, its.lens)


# text models


def _lines(path: Path) -> list[str]:
    """Lines without comments, in UTF-8 or UTF-16 with a byte order mark."""
    try:
        data = path.read_bytes()
        utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read COLMAP's '{path}' ({error}): expected a model with cameras.txt and "
            "images.txt, or with cameras.bin and images.bin"
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if not line.startswith("#")]


def _read_cameras_txt(path: Path) -> dict[int, _Camera]:
    cameras = {}
    for line in filter(None, _lines(path)):
        words = line.split()
        model = words[1] if len(words) > 1 else "nothing"
        if model not in COLMAP_PARAMETERS:
            from_colmap(model, [], f"'{path}'")  # raises with the choices
        try:
            key, width, height = int(words[0]), int(words[2]), int(words[3])
            parameters = [float(word) for word in words[4:]]
        except (ValueError, IndexError) as error:
            raise InputError(
                f"'{path}' has a broken camera line '{line[:60]}': expected id, {model}, width, "
                f"height and {COLMAP_PARAMETERS[model]} numbers"
            ) from error
        cameras[key] = _make_camera(model, width, height, parameters, f"'{path}'")
    return cameras


def _read_images_txt(path: Path, cameras: dict[int, _Camera]) -> list[tuple[int, Frame]]:
    """Images stand in pairs of lines, the second one with points or blank.

    Editors add and remove blank lines, so lines are told apart by what they hold.
    """
    images = []
    is_points_line_due = False
    for line in _lines(path):
        if not line:
            is_points_line_due = False  # the line of an image without points, or a stray one
        elif _is_points_line(line) and (is_points_line_due or len(line.split()) != 10):
            is_points_line_due = False
        else:
            images.append(_read_image_line(line, cameras, path))
            is_points_line_due = True
    return images


def _is_points_line(line: str) -> bool:
    """Whether a line holds points: triples of numbers (x, y, id)."""
    words = line.split()
    if len(words) % 3:
        return False
    try:
        for word in words:
            float(word)
    except ValueError:
        return False
    return True


def _read_image_line(line: str, cameras: dict[int, _Camera], path: Path) -> tuple[int, Frame]:
    words = line.split(maxsplit=9)
    try:
        index, camera, name = int(words[0]), int(words[8]), words[9]
        pose = [float(word) for word in words[1:8]]
    except (ValueError, IndexError) as error:
        raise InputError(
            f"'{path}' has a broken image line '{line[:60]}': expected "
            "id, 4 of a quaternion, 3 of a translation, camera id and name"
        ) from error
    return index, _make_frame(name, pose, camera, cameras, path)


# binary models


class _Binary:
    """Little-endian numbers read one after the other; InputError at the end of the file."""

    def __init__(self, path: Path) -> None:
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
        self.path, self.at = path, 0

    def take(self, form: str) -> tuple:
        """The numbers of a `struct` format."""
        size = struct.calcsize("<" + form)
        if self.at + size > len(self.data):
            raise self.broken("it ends too early")
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += size
        return values

    def name(self) -> str:
        """Text up to a zero byte."""
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise self.broken("a name has no end")
        text, self.at = self.data[self.at : end], end + 1
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.broken("a name is not UTF-8") from error

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.at:
            raise self.broken("it ends too early")
        self.at += size

    def broken(self, why: str) -> MvdiffError:
        return MvdiffError(
            f"'{self.path}' is no whole COLMAP binary file ({why}): copy or export it again"
        )


def _read_cameras_bin(path: Path) -> dict[int, _Camera]:
    file, cameras = _Binary(path), {}
    (count,) = file.take("Q")
    for _ in range(count):
        key, number, width, height = file.take("IiQQ")
        model = COLMAP_MODELS.get(number, f"number {number}")
        if model not in COLMAP_PARAMETERS:
            from_colmap(model, [], f"'{path}'")  # raises with the choices
        parameters = list(file.take(f"{COLMAP_PARAMETERS[model]}d"))
        cameras[key] = _make_camera(model, width, height, parameters, f"'{path}'")
    return cameras


def _read_images_bin(path: Path, cameras: dict[int, _Camera]) -> list[tuple[int, Frame]]:
    file, images = _Binary(path), []
    (count,) = file.take("Q")
    for _ in range(count):
        index, *pose, camera = file.take("I7dI")
        frame = _make_frame(file.name(), pose, camera, cameras, path)
        (points,) = file.take("Q")
        file.skip(points * _POINT_BYTES)
        images.append((index, frame))
    return images


def quaternion_to_rotation(q: Float[Tensor, "view 4"]) -> Float[Tensor, "view 3 3"]:
    """Quaternions (w, x, y, z), of any length but zero, to rotation matrices."""
    rotation = Rotation.from_quat(q[:, [1, 2, 3, 0]].detach().cpu().double().numpy())
    return torch.from_numpy(rotation.as_matrix()).to(q)


def rotation_to_quaternion(R: Float[Tensor, "view 3 3"]) -> Float[Tensor, "view 4"]:
    """Rotation matrices to unit quaternions (w, x, y, z) with w ≥ 0."""
    rotation = Rotation.from_matrix(R.detach().cpu().double().numpy())
    q = torch.from_numpy(rotation.as_quat(canonical=True)).to(R)
    return q[:, [3, 0, 1, 2]]
