"""Read a picture whatever its form: an image file, a Pillow image, an array, a tensor."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError, MvdiffError
from ..utils.images import MAX_PIXELS, open_image
from .decoding import to_upright_rgba

#: Longer sides are reduced on reading; models here work at 256 or less.
MAX_SIDE = 2048


def load_photo(source: Any) -> Image.Image:
    """Any picture as upright 8-bit RGBA in sRGB with straight colors, at most `MAX_SIDE` a side.

    source: a path; a Pillow image; an array (height, width, 3 or 4) or a tensor (3 or 4,
        height, width) of 8-bit integers or floats in [0, 1].
    Palette, gray, 16-bit, CMYK and EXIF-rotated pictures are converted, as are those with an ICC
    profile other than sRGB; of an animation the first frame is taken. A picture without
    transparency gets alpha 255 everywhere.
    Raises InputError for everything that is no such picture, above `MAX_PIXELS`, and for files
    that would need too much memory (`utils.images.MAX_DECODING_BYTES`).
    """
    if _is_tensor(source):
        source = _channels_last(source)
    if isinstance(source, np.ndarray):
        return to_upright_rgba(_from_array(source), MAX_SIDE)
    if isinstance(source, Image.Image):
        return _decode_image(source)
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            "expected a path, a Pillow image, an array or a tensor as picture, "
            f"got {type(source).__name__}"
        )
    path = user_path(source)
    if not os.path.lexists(path):
        raise InputError(f"no picture at '{path}': check the path")
    with open_image(path, MAX_PIXELS, draft_side=MAX_SIDE) as image:
        return to_upright_rgba(image, MAX_SIDE)


def check_picture(path: str | os.PathLike[str]) -> None:
    """Raise InputError where a file's first bytes show that `load_photo` will refuse it."""
    with open_image(user_path(path), MAX_PIXELS, draft_side=MAX_SIDE):
        pass


def user_path(text: str | os.PathLike[str]) -> Path:
    """A path as a user wrote it; `~` stands for the home folder where there is one."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:  # "~name" of an unknown user: a file may be called that
        return path


def _decode_image(image: Image.Image) -> Image.Image:
    """A caller's Pillow image, which may not be decoded yet; any failure becomes one sentence."""
    if image.width * image.height > MAX_PIXELS:
        raise InputError(_too_large("the picture", f"{image.width}×{image.height}"))
    if 0 in image.size:
        raise InputError(f"the picture has {image.width}×{image.height} pixels, expected some")
    try:
        return to_upright_rgba(image, MAX_SIDE)
    except MvdiffError:
        raise
    except Exception as error:  # Pillow's plug-ins fail on broken files in many ways
        raise InputError(
            f"the picture is broken or truncated ({error}): copy or export it again"
        ) from error


def _too_large(what: str, size: str) -> str:
    return (
        f"{what} has {size} pixels, the limit is {MAX_PIXELS // 10**6} million: scale it down first"
    )


def _is_tensor(source: Any) -> bool:
    """Whether it is a torch tensor; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def _channels_last(tensor: Any) -> np.ndarray:
    if tensor.ndim != 3 or tensor.shape[0] not in (3, 4):
        raise InputError(
            "a picture tensor must have shape (3 or 4, height, width), got "
            f"{tuple(tensor.shape)}: permute it"
        )
    if str(tensor.layout) != "torch.strided" or tensor.is_quantized:
        raise InputError(
            f"a picture tensor must be dense, got {tensor.layout}: use tensor.to_dense()"
        )
    if tensor.is_meta:
        raise InputError("the picture tensor is on the device 'meta', which holds no values")
    if tensor.is_complex():
        raise InputError(f"a picture tensor must hold uint8 or floats, got {tensor.dtype}")
    tensor = tensor.detach().cpu()
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    return tensor.permute(1, 2, 0).numpy()


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape:
        raise InputError(
            f"a picture array must have shape (height, width, 3 or 4), got {array.shape}: "
            "transpose it"
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise InputError(_too_large("the array", f"{array.shape[1]}×{array.shape[0]}"))
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise InputError("the picture array contains NaN or infinite values: remove them")
        if array.min() < -1e-3 or array.max() > 1 + 1e-3:
            raise InputError(
                "a picture array of floats must lie in [0, 1], got "
                f"[{array.min():.3g}, {array.max():.3g}]: rescale it, or pass 8-bit integers"
            )
        array = (array.clip(0, 1) * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise InputError(
            f"a picture array must hold uint8 or floats, got {array.dtype}: convert it"
        )
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGBA")
