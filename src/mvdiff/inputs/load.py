"""Read a picture whatever its form: any file Pillow knows, an image, an array, a tensor."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import MvdiffError

#: Pictures of more pixels are refused: decoding them could exhaust the memory.
MAX_PIXELS = 150_000_000
#: Longer sides are reduced on reading; models here work at 256 or less.
MAX_SIDE = 2048


def load_photo(source: str | Path | Image.Image | np.ndarray | Tensor) -> Image.Image:
    """Any picture as upright 8-bit RGBA with straight colours, at most `MAX_SIDE` a side.

    source: a path; a Pillow image; an array (height, width, 3 or 4) or a tensor (3 or 4,
        height, width) of 8-bit integers or floats in [0, 1].
    Palette, greyscale, 16-bit, CMYK and EXIF-rotated pictures are converted; of an animation
    the first frame is taken. A picture without transparency gets alpha 255 everywhere.
    Raises MvdiffError for everything that is no such picture, and above `MAX_PIXELS`.
    """
    if isinstance(source, Tensor):
        source = _channels_last(source)
    if isinstance(source, np.ndarray):
        return _reduce(_from_array(source))
    if isinstance(source, Image.Image):
        return _decode(source, "the picture")
    if not isinstance(source, (str, Path)):
        raise MvdiffError(
            "expected a path, a Pillow image, an array or a tensor as picture, "
            f"got {type(source).__name__}"
        )
    path = Path(source)
    if path.is_dir():
        raise MvdiffError(f"expected a picture, but '{path}' is a folder: name a file in it")
    if not path.exists():
        raise MvdiffError(f"no picture at '{path}': check the path")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(path)
        except Image.DecompressionBombError as error:
            raise MvdiffError(_too_large(f"'{path}'", "too many")) from error
        except Exception as error:  # Pillow's plug-ins fail on broken files in many ways
            reason = getattr(error, "strerror", None) or "not a known picture format"
            raise MvdiffError(
                f"cannot read '{path}' as a picture ({reason}): use a PNG, JPEG or WebP file"
            ) from error
        with image:
            image.draft("RGB", (MAX_SIDE, MAX_SIDE))  # JPEG can decode straight to a smaller size
            return _decode(image, f"'{path}'")


def _decode(image: Image.Image, what: str) -> Image.Image:
    """Check the size before decoding, then convert; any failure becomes one sentence."""
    if image.width * image.height > MAX_PIXELS:
        raise MvdiffError(_too_large(what, f"{image.width}×{image.height}"))
    try:
        image.load()
        return _reduce(_to_rgba(ImageOps.exif_transpose(image)))
    except MvdiffError:
        raise
    except Exception as error:
        raise MvdiffError(
            f"{what} is broken or cut off ({error}): copy or export the picture again"
        ) from error


def _too_large(what: str, came: str) -> str:
    return (
        f"{what} has {came} pixels, at most {MAX_PIXELS // 10**6} million are read: "
        "make the picture smaller"
    )


def _to_rgba(image: Image.Image) -> Image.Image:
    """Any Pillow mode to 8-bit RGBA."""
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64)
        if not np.isfinite(values).all():
            raise MvdiffError("the picture contains NaN or infinite values: export it again")
        # Deep pictures do not say their white: 1 or 255 for floats, 16 bit for integers, except
        # that wide integers which stay below 256 were made from 8 bit.
        white = 1.0 if values.max() <= 1 else 255.0
        if image.mode.startswith("I;16") or values.max() > 255:
            white = 65535.0
        grey = Image.fromarray((values / white * 255).round().clip(0, 255).astype(np.uint8))
        rgba = grey.convert("RGBA")
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            rgba.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
        return rgba
    if image.mode in ("La", "RGBa"):  # premultiplied: Pillow converts these in one way only
        return image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    return image.convert("RGBA")


def _reduce(image: Image.Image) -> Image.Image:
    scale = MAX_SIDE / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)


def _channels_last(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.ndim != 3 or tensor.shape[0] not in (3, 4):
        raise MvdiffError(
            "a picture tensor must have shape (3 or 4, height, width), got "
            f"{tuple(tensor.shape)}: permute it"
        )
    tensor = tensor.float() if tensor.is_floating_point() else tensor
    return tensor.permute(1, 2, 0).numpy()


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape:
        raise MvdiffError(
            f"a picture array must have shape (height, width, 3 or 4), got {array.shape}: "
            "transpose it"
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise MvdiffError(_too_large("the array", f"{array.shape[1]}×{array.shape[0]}"))
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise MvdiffError("the picture array contains NaN or infinite values: remove them")
        if array.min() < -1e-3 or array.max() > 1 + 1e-3:
            raise MvdiffError(
                "a picture array of floats must lie in [0, 1], got "
                f"[{array.min():.3g}, {array.max():.3g}]: rescale it, or pass 8-bit integers"
            )
        array = (array.clip(0, 1) * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise MvdiffError(
            f"a picture array must hold uint8 or floats, got {array.dtype}: convert it"
        )
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGBA")
