"""Masks beside pictures: which pixels are not the object.

nerfstudio's `mask_path`, COLMAP's masks: black pixels are left out. instant-ngp's
`dynamic_mask_NAME.png` beside a picture: all pixels but black are left out.

Radiance fields ignore masked pixels: they may be anything. Silhouettes know no such third kind, so
here masked pixels are background. What covers the object in a picture (a hand, a pole) must
not be masked, or the object loses what it hides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from ..errors import InputError
from ..utils.images import open_image
from .views import OPAQUE

#: Where masks leave more than this share of the pictures' borders in, they do not cut out the
#: object, and the background they leave in must be of one color.
_BORDER_SHARE = 0.5
#: Border pixels this near to the border's median (any channel of [0, 1]) have its color.
_NEAR = 0.1


def read_mask(
    path: Path, keeps_black: bool, picture_size: tuple[int, int], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "height width"], bool]:
    """A mask at another size, 1 where pixels are used and 0 where they are left out.

    keeps_black: instant-ngp's polarity, see above.
    picture_size: (width, height) of the stored picture, which the mask must have, or its aspect.
    Returns also whether the mask is instead of that size with width and height swapped, which
    masks of EXIF-turned pictures may be. Raises InputError for any other size.
    """
    with open_image(path) as image:
        mask_size = image.size
        is_turned = not _is_same_aspect(mask_size, picture_size)
        if is_turned and not _is_same_aspect(mask_size, picture_size[::-1]):
            raise InputError(
                f"the mask '{path}' is {_size(mask_size)} pixels and its picture "
                f"{_size(picture_size)}: give masks of the pictures' size"
            )
        values = _gray(image)
    if keeps_black:
        values = (values == 0).astype(np.float32)
    else:  # masks of 0 and 1, of 0 and 255, and soft ones
        values = values / max(float(values.max()), 1e-6)
    target = size[::-1] if is_turned else size
    small = Image.fromarray(values.astype(np.float32)).resize(target, Image.Resampling.BOX)
    return np.asarray(small), is_turned


def apply_masks(
    arrays: list[UInt8[np.ndarray, "height width _"]],
    masks: list[Float[np.ndarray, "height width"] | None],
) -> list[UInt8[np.ndarray, "height width _"]]:
    """RGB and RGBA pictures without what their masks leave out.

    Transparent pictures become more transparent. Opaque ones become transparent where the mask
    says so, if the masks cut out the object. Masks that leave the background in (and only a
    turntable out, say) are painted in the background's color, so that it can be keyed later.
    Raises InputError where such a background has no color of its own.
    """
    opaque = [array.shape[-1] == 3 or bool((array[..., 3] >= OPAQUE).all()) for array in arrays]
    masked = [i for i, mask in enumerate(masks) if mask is not None]
    shares = [float(_border(masks[i]).mean()) for i in masked if opaque[i]]
    leaves_background = bool(shares) and float(np.median(shares)) > _BORDER_SHARE
    colors = {}
    if leaves_background:
        found = {i: _border_color(arrays[i], masks[i]) for i in masked if opaque[i]}
        colors = {i: color for i, color in found.items() if color is not None}
        if len(colors) <= len(found) / 2:
            raise InputError(
                "the masks leave the background in, and it has no color of its own: give masks "
                "in which all but the object is black"
            )
    usual = np.median(np.stack(list(colors.values())), axis=0) if colors else None
    out = list(arrays)
    for i in masked:
        array, mask = arrays[i], masks[i][..., None]
        if opaque[i] and usual is not None:
            behind = colors.get(i, usual)
            out[i] = np.rint(array[..., :3] * mask + behind * (1 - mask)).astype(np.uint8)
            continue
        alpha = 255.0 if array.shape[-1] == 3 else array[..., 3:].astype(np.float32)
        alpha = np.rint(np.broadcast_to(alpha, mask.shape) * mask).astype(np.uint8)
        out[i] = np.concatenate([array[..., :3], alpha], axis=-1)
    return out


def _border_color(
    array: UInt8[np.ndarray, "height width _"], mask: Float[np.ndarray, "height width"]
) -> Float[np.ndarray, "3"] | None:
    """The color of the border that a mask leaves in; None where it has no common one."""
    border = _border(array[..., :3])[_border(mask) > 0.99].astype(np.float64)
    if len(border) < 8:
        return None
    color = np.median(border, axis=0)
    near = np.abs(border - color).max(axis=-1) < 255 * _NEAR
    return color if near.mean() > 0.5 else None


def _border(x: np.ndarray) -> np.ndarray:
    """The outermost pixels, (pixel, …)."""
    return np.concatenate([x[0], x[-1], x[1:-1, 0], x[1:-1, -1]])


def _gray(image: Image.Image) -> Float[np.ndarray, "height width"]:
    """A mask's values as one channel; transparent pixels are black."""
    if image.mode == "F" or image.mode.startswith("I"):
        return np.nan_to_num(np.asarray(image, dtype=np.float32)).clip(min=0)
    rgba = np.asarray(image.convert("RGBA"), dtype=np.float32)
    return rgba[..., :3].max(axis=-1) * (rgba[..., 3] / 255)


def _is_same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    from .sizes import scale_between

    return scale_between(size, other) is not None


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
