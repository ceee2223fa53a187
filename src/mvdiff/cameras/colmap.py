"""COLMAP's text model: `cameras.txt`, `images.txt` and an empty `points3D.txt`.

COLMAP's world-to-camera and its pixels (top-left centre at (0.5, 0.5)) are ours.
Format: https://colmap.github.io/format.html#text-format
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..errors import MvdiffError
from ..files import write_text
from .camera import Cameras


def write_colmap(folder: str | Path, cameras: Cameras, names: list[str]) -> None:
    """Write a COLMAP text model of PINHOLE cameras into `folder`.

    names: one picture a camera, without blanks. Image ids count from 1 in this order.
    Raises MvdiffError for orthographic cameras, skew, and poses that are no rotations.
    """
    folder = Path(folder)
    if cameras.projection != "perspective":
        raise MvdiffError(
            "COLMAP has no orthographic camera: write transforms.json instead, or use perspective"
        )
    if len(names) != len(cameras):
        raise MvdiffError(
            f"{len(cameras)} cameras need as many picture names, got {len(names)}: give one each"
        )
    for name in names:
        if not name or name.split() != [name]:
            raise MvdiffError(f"COLMAP cannot hold the name '{name}': use names without blanks")
    K, w2c = (x.detach().cpu().double() for x in (cameras.K, cameras.w2c))
    if K[:, [0, 1, 2, 2], [1, 0, 0, 1]].any() or (K[:, 2, 2] != 1).any():
        raise MvdiffError(
            "COLMAP's PINHOLE has no skew: write cameras whose K is "
            "[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]"
        )
    quaternions = rotation_to_quaternion(w2c[:, :, :3])
    error = (quaternion_to_rotation(quaternions) - w2c[:, :, :3]).abs().amax()
    if error > 1e-3:
        raise MvdiffError(
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


def read_colmap(folder: str | Path) -> tuple[Cameras, list[str]]:
    """Read a COLMAP text model: float32 cameras and picture names, by image id.

    Raises MvdiffError for missing or broken files, lenses other than PINHOLE and
    SIMPLE_PINHOLE, and pictures of several sizes.
    """
    folder = Path(folder)
    lenses: dict[str, tuple[list[list[float]], int, int]] = {}
    for line in _lines(folder / "cameras.txt"):
        if line and not line.startswith("#"):
            key, lens = _read_lens(line.split(), folder / "cameras.txt")
            lenses[key] = lens
    images = []
    # Blank lines count here: an image without points has one as its second line.
    lines = [line for line in _lines(folder / "images.txt") if not line.startswith("#")]
    for line in lines[::2]:
        if line:
            images.append(_read_image(line, lenses, folder / "images.txt"))
    if not images:
        raise MvdiffError(f"'{folder / 'images.txt'}' lists no images: expected at least one")
    images.sort(key=lambda image: image[0])
    sizes = {lenses[lens][1:] for _, lens, _, _ in images}
    if len(sizes) != 1:
        listed = ", ".join(f"{w}×{h}" for w, h in sorted(sizes))
        raise MvdiffError(
            f"the pictures of '{folder}' must share one size, got {listed}: split the model"
        )
    width, height = sizes.pop()
    K = torch.tensor([lenses[lens][0] for _, lens, _, _ in images])
    w2c = torch.stack([pose for _, _, pose, _ in images]).float()
    return Cameras(K, w2c, height, width), [name for *_, name in images]


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise MvdiffError(
            f"cannot read COLMAP's '{path}' ({error}): expected a text model; convert a binary one "
            "with `colmap model_converter --output_type TXT`"
        ) from error


def _read_lens(words: list[str], path: Path) -> tuple[str, tuple[list[list[float]], int, int]]:
    model = words[1] if len(words) > 1 else "nothing"
    count = {"PINHOLE": 4, "SIMPLE_PINHOLE": 3}.get(model)
    if count is None:
        raise MvdiffError(
            f"'{path}' has a camera of model {model}, expected PINHOLE or SIMPLE_PINHOLE: "
            "undistort the pictures first (`colmap image_undistorter`)"
        )
    try:
        width, height = int(words[2]), int(words[3])
        parameters = [float(word) for word in words[4:]]
        fx, fy, cx, cy = parameters if count == 4 else [parameters[0], *parameters]
    except (ValueError, IndexError) as error:
        raise MvdiffError(
            f"'{path}' has a broken camera line '{' '.join(words)}': expected "
            f"id, {model}, width, height and {count} numbers"
        ) from error
    return words[0], ([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]], width, height)


def _read_image(
    line: str, lenses: dict[str, tuple[list[list[float]], int, int]], path: Path
) -> tuple[int, str, Tensor, str]:
    """One line of images.txt → image id, camera id, w2c (3, 4) float64, name."""
    words = line.split(maxsplit=9)
    try:
        index, lens, name = int(words[0]), words[8], words[9]
        numbers = torch.tensor([float(word) for word in words[1:8]], dtype=torch.float64)
    except (ValueError, IndexError) as error:
        raise MvdiffError(
            f"'{path}' has a broken image line '{line[:60]}': expected "
            "id, 4 of a quaternion, 3 of a translation, camera id and name"
        ) from error
    if lens not in lenses:
        raise MvdiffError(f"'{path}' uses camera {lens}, which cameras.txt does not list: add it")
    if not (numbers.isfinite().all() and numbers[:4].norm() > 0):
        raise MvdiffError(f"'{path}' has no usable pose for '{name}': expected finite numbers")
    pose = torch.cat([quaternion_to_rotation(numbers[None, :4])[0], numbers[4:, None]], dim=1)
    return index, lens, pose, name


def quaternion_to_rotation(q: Float[Tensor, "view 4"]) -> Float[Tensor, "view 3 3"]:
    """Quaternions (w, x, y, z), of any length but zero, to rotation matrices."""
    w, xyz = q[:, :1, None] / q.norm(dim=1)[:, None, None], q[:, 1:] / q.norm(dim=1)[:, None]
    zero = torch.zeros_like(xyz[:, 0])
    x, y, z = xyz.unbind(dim=1)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
    # Rodrigues with half angles: R = I + 2 w [v]x + 2 [v]x².
    return torch.eye(3, dtype=q.dtype, device=q.device) + 2 * w * cross + 2 * cross @ cross


def rotation_to_quaternion(R: Float[Tensor, "view 3 3"]) -> Float[Tensor, "view 4"]:
    """Rotation matrices to unit quaternions (w, x, y, z) with w ≥ 0.

    The quaternion is the main eigenvector of a symmetric 4×4 matrix built from R
    (Bar-Itzhack 2000, "New method for extracting the quaternion from a rotation matrix"),
    which is stable for every angle.
    """
    S, trace = R + R.mT, R.diagonal(dim1=1, dim2=2).sum(dim=1)
    M = R.new_zeros(len(R), 4, 4)
    M[:, 1:, 1:] = S - trace[:, None, None] * torch.eye(3, dtype=R.dtype, device=R.device)
    M[:, 0, 0] = trace
    axis = torch.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]])
    M[:, 0, 1:] = M[:, 1:, 0] = axis.T
    q = torch.linalg.eigh(M).eigenvectors[:, :, -1]
    return torch.where(q[:, :1] < 0, -q, q)
