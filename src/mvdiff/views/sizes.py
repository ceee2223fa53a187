"""Whether a picture is the one that its camera describes: sizes, aspect, EXIF orientation."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError

#: EXIF orientations that swap width and height.
_QUARTER_TURNS = (5, 6, 7, 8)


@dataclass(frozen=True)
class Fit:
    """How a stored picture fits its camera.

    scale: (x, y) from the camera's pixels to the picture's.
    is_turned: whether the picture must first be turned as its EXIF orientation says.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    is_turned: bool = False


def scale_between(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float] | None:
    """The scale (x, y) from `wanted` to `size`, both (width, height), if one is the other resized.

    Rounding to whole pixels is allowed for. None where the aspects differ.
    """
    if size == wanted:
        return 1.0, 1.0
    (width, height), (wanted_width, wanted_height) = size, wanted
    if width == wanted_width or height == wanted_height:  # cropped
        return None
    x, y = width / wanted_width, height / wanted_height
    fits = abs(width - wanted_width * y) < 1 and abs(height - wanted_height * x) < 1
    return (x, y) if fits else None


def fit_picture(
    stored: tuple[int, int], orientation: int, camera: tuple[int, int], name: str, file: str
) -> Fit:
    """How a picture fits the camera that a file gives it.

    stored, camera: (width, height) in pixels. orientation: EXIF's, 1 for none.
    name, file: for messages, of the picture and of the camera's file.
    COLMAP, nerfstudio and instant-ngp ignore EXIF orientation, so cameras belong to the stored
    pixels, unless only the turned picture has the camera's size.
    Raises InputError where the picture is neither the camera's size nor a resized one.
    """
    scale = scale_between(stored, camera)
    if scale is not None:
        return Fit(scale)
    turned = scale_between(stored[::-1], camera)
    got, wanted = (f"{width}×{height}" for width, height in (stored, camera))
    if turned is not None and orientation in _QUARTER_TURNS:
        return Fit(turned, is_turned=True)
    if turned is not None:
        raise InputError(
            f"the picture '{name}' is {got} pixels and its camera in '{file}' is for {wanted}: "
            "width and height are swapped; turn the pictures back, or correct w, h, the focal "
            "lengths, cx and cy"
        )
    raise InputError(
        f"the picture '{name}' is {got} pixels and its camera in '{file}' is for {wanted}: it was "
        "cropped, padded or stretched; give the pictures that the cameras were made from, or "
        "correct w, h, cx and cy"
    )
