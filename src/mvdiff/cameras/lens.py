"""Lens distortion: the models of OpenCV, nerfstudio, instant-ngp and COLMAP as one function.

A lens maps a point of the ideal image plane (x/z, y/z in camera axes) to the point where the
lens shows it, both in units of the focal length. `Lens.distort` is that map; it is all that
undistorting pictures needs (see `undistortion.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..errors import InputError

#: Radii of the ideal image plane that are searched for the point where a lens model folds back.
_MAX_RADIUS = 20.0
#: No lens has coefficients beyond this.
_MAX_COEFFICIENT = 1e4

#: COLMAP's numbering in binary models; the models that are read are in `COLMAP_PARAMETERS`.
COLMAP_MODELS = {
    0: "SIMPLE_PINHOLE",
    1: "PINHOLE",
    2: "SIMPLE_RADIAL",
    3: "RADIAL",
    4: "OPENCV",
    5: "OPENCV_FISHEYE",
    6: "FULL_OPENCV",
    7: "FOV",
    8: "SIMPLE_RADIAL_FISHEYE",
    9: "RADIAL_FISHEYE",
    10: "THIN_PRISM_FISHEYE",
    11: "RAD_TAN_THIN_PRISM_FISHEYE",
    12: "SIMPLE_DIVISION",
    13: "DIVISION",
    14: "SIMPLE_FISHEYE",
    15: "FISHEYE",
    16: "EUCM",
    17: "EQUIRECTANGULAR",
}
#: Number of parameters of each model that is read: focal lengths, principal point, coefficients.
COLMAP_PARAMETERS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "SIMPLE_FISHEYE": 3,
    "FISHEYE": 4,
}
#: Models with one focal length instead of two.
_ONE_FOCAL_LENGTH = (
    "SIMPLE_PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "SIMPLE_FISHEYE",
)


@dataclass(frozen=True)
class Lens:
    """Distortion of a perspective or fisheye lens; without coefficients, none.

    radial: k1, k2, …, of r², r⁴, … (of the angle's powers for a fisheye).
    denominator: k4, k5, k6 of OpenCV's rational model; empty in all others.
    tangential: p1, p2 of OpenCV.
    fisheye: equidistant projection (radius = angle to the optical axis) before the radial
        coefficients, as OpenCV's fisheye module has it.
    """

    radial: tuple[float, ...] = ()
    denominator: tuple[float, ...] = ()
    tangential: tuple[float, float] = (0.0, 0.0)
    fisheye: bool = False

    @property
    def is_pinhole(self) -> bool:
        """Whether pictures of this lens need no undistortion."""
        return not (self.fisheye or any((*self.radial, *self.denominator, *self.tangential)))

    def distort(
        self, x: Float[np.ndarray, "*points"], y: Float[np.ndarray, "*points"]
    ) -> tuple[Float[np.ndarray, "*points"], Float[np.ndarray, "*points"]]:
        """Points of the ideal image plane to where the lens shows them, in focal lengths."""
        r2 = x * x + y * y
        if self.fisheye:
            radius = np.sqrt(r2)
            angle = np.arctan(radius)
            scale = angle * self._radial_scale(angle * angle) / np.maximum(radius, 1e-12)
            scale = np.where(radius < 1e-9, 1.0, scale)
            return x * scale, y * scale
        scale = self._radial_scale(r2)
        p1, p2 = self.tangential
        return (
            x * scale + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * scale + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )

    def valid_radius(self) -> float:
        """Radius of the ideal image plane up to which the lens's radial curve rises.

        Beyond it, polynomials fold back and would show the picture's inside a second time.
        """
        radius = np.concatenate([np.linspace(0, 4, 4001), np.geomspace(4, _MAX_RADIUS, 1000)[1:]])
        if self.fisheye:
            angle = np.arctan(radius)
            curve = angle * self._radial_scale(angle * angle)
        else:
            curve = radius * self._radial_scale(radius * radius)
        falls = np.flatnonzero(~(np.diff(curve) > 0))  # NaN counts as falling
        return float(radius[falls[0]]) if len(falls) else _MAX_RADIUS

    def _radial_scale(self, squared: Float[np.ndarray, "*points"]) -> Float[np.ndarray, "*points"]:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return _polynomial(self.radial, squared) / _polynomial(self.denominator, squared)


#: No distortion.
PINHOLE = Lens()


def _polynomial(
    coefficients: Sequence[float], squared: Float[np.ndarray, "*points"]
) -> Float[np.ndarray, "*points"]:
    """1 + c1 s + c2 s² + …"""
    value = np.zeros_like(squared)
    for coefficient in reversed(coefficients):
        value = (value + coefficient) * squared
    return 1 + value


def from_colmap(
    model: str, parameters: Sequence[float], where: str
) -> tuple[tuple[float, float, float, float], Lens]:
    """Focal lengths and principal point (fx, fy, cx, cy), and the lens of a COLMAP camera.

    Raises InputError for models that are not read and for a wrong number of parameters.
    """
    count = COLMAP_PARAMETERS.get(model)
    if count is None:
        raise InputError(
            f"{where} has a camera of model {model}, expected one of "
            f"{', '.join(COLMAP_PARAMETERS)}: undistort the pictures first "
            "(`colmap image_undistorter`)"
        )
    values = [float(value) for value in parameters]
    if len(values) != count or not all(map(math.isfinite, values)):
        raise InputError(
            f"{where} has a broken camera: {model} takes {count} finite numbers, got "
            f"{[f'{value:g}' for value in values][:12]}"
        )
    if model in _ONE_FOCAL_LENGTH:
        values.insert(0, values[0])
    fx, fy, cx, cy, *k = values
    _check_coefficients(k, where)
    if model.endswith("FISHEYE"):
        lens = Lens(radial=tuple(k), fisheye=True)
    elif model in ("OPENCV", "FULL_OPENCV"):
        k1, k2, p1, p2, *k3_to_k6 = k
        lens = Lens((k1, k2, *k3_to_k6[:1]), tuple(k3_to_k6[1:]), (p1, p2))
    else:
        lens = Lens(radial=tuple(k))
    return (fx, fy, cx, cy), lens


def _check_coefficients(coefficients: Sequence[float], where: str) -> None:
    largest = max(map(abs, coefficients), default=0.0)
    if largest > _MAX_COEFFICIENT:
        raise InputError(
            f"{where} has a distortion coefficient of {largest:g}, which no lens has: correct it"
        )


def from_coefficients(
    model: str, coefficient: Callable[[str], float], fisheye: bool, where: str
) -> Lens:
    """The lens of a `transforms.json` from its k1…k6, p1 and p2.

    model: `camera_model`, upper case. coefficient: gives a key's number, 0 where it is missing.
    fisheye: instant-ngp's `is_fisheye`, or a fisheye model.
    k4 is the coefficient of r⁸, as in nerfstudio, unless k5 or k6 say that the model is OpenCV's
    rational one (FULL_OPENCV), in which k4 to k6 stand in the denominator.
    Raises InputError for combinations that no model has.
    """
    k1, k2, k3, k4, k5, k6 = (coefficient(f"k{i}") for i in range(1, 7))
    tangential = coefficient("p1"), coefficient("p2")
    _check_coefficients([k1, k2, k3, k4, k5, k6, *tangential], where)
    if fisheye:
        if any((*tangential, k5, k6)):
            raise InputError(
                f"{where} is a fisheye lens with p1, p2, k5 or k6, which OpenCV's fisheye model "
                "does not have: undistort the pictures first"
            )
        return Lens((k1, k2, k3, k4), fisheye=True)
    if model == "FULL_OPENCV" or k5 or k6:
        return Lens((k1, k2, k3), (k4, k5, k6), tangential)
    return Lens((k1, k2, k3, k4), (), tangential)
