"""Color profiles: what a picture's numbers mean, and how they become sRGB."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image

#: image of one mode → RGB image in sRGB
ToSrgb = Callable[[Image.Image], Image.Image]

#: Profiles that move no color by more than this many levels are left alone.
_NEGLIGIBLE = 2
_KINDS = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def srgb_converter(image: Image.Image) -> tuple[str, ToSrgb] | None:
    """How the colors of a picture with an embedded ICC profile become sRGB.

    Returns the mode that is to be converted ("RGB", "L" or "CMYK") and the conversion, by the
    relative colorimetric intent with black point compensation; None without a profile, and for
    profiles that are sRGB already. Broken profiles, and those of another kind than the picture,
    are ignored with a warning.
    """
    profile_bytes = image.info.get("icc_profile")
    if not profile_bytes:
        return None
    try:
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_bytes))
        mode = _KINDS.get(profile.profile.xcolor_space)
        if mode is None or (image.mode == "CMYK") != (mode == "CMYK"):
            warnings.warn(
                f"the picture's color profile ({profile.profile.xcolor_space.strip()}) does not "
                f"fit its colors ({image.mode}) and was ignored",
                stacklevel=2,
            )
            return None
        if mode == "L" and not _is_gray(image):
            mode = "RGB"  # cannot be: a gray profile knows no colors
            raise ValueError("a gray profile on a color picture")
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )

        def convert(part: Image.Image) -> Image.Image:
            converted = ImageCms.applyTransform(part, transform)
            assert converted is not None  # only in-place conversion returns None
            return converted

        if mode != "CMYK" and _changes_little(mode, convert):
            return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        warnings.warn(
            f"the picture's color profile is broken and was ignored ({reason})", stacklevel=2
        )
        return None
    return mode, convert


def _is_gray(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")


def _changes_little(mode: str, convert: ToSrgb) -> bool:
    """Whether a conversion leaves all colors of a coarse grid nearly as they are."""
    if mode == "L":
        ramp = np.arange(256, dtype=np.uint8)[None]
        colors, image = np.repeat(ramp[..., None], 3, axis=2), Image.fromarray(ramp)
    else:
        levels = np.linspace(0, 255, 6).round().astype(np.uint8)
        colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
        image = Image.fromarray(colors)
    difference = np.asarray(convert(image)).astype(int) - colors.astype(int)
    return int(np.abs(difference).max()) <= _NEGLIGIBLE
