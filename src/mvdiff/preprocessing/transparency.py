"""What a picture's alpha channel says: a cut-out object, a frame around a picture, or nothing."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

#: Alpha from here on counts as opaque, below as clear.
HALF = 128
#: Fainter pixels are not part of an object (`photo._object_box` ignores them, too).
FAINT = 13
#: An opaque part that spans this share of the picture's sides and fills this share of its bounding
#: box is a picture with a clear frame or rounded corners, as of a window, not the outline of an
#: object.
_FRAME_SPAN, _FRAME_FILL = 0.9, 0.94
#: A larger opaque part tells nothing, whatever its shape.
_ALL = 0.98
#: A picture with haze around the object has pixels at least this opaque.
_SOLID = 200
#: Parts below this share of the object are dust where they make the object's box this much longer.
_DUST, _DUST_REACH = 0.002, 1.05
#: Shadows: dark, less opaque than this, and at least this share of the object.
_SHADOW_COLOR, _SHADOW_ALPHA, _SHADOW_SHARE = 60, 160, 0.02


@dataclass(frozen=True)
class Opaque:
    """The opaque part of a picture whose transparency does not outline an object.

    mask: where the picture is opaque. share: of the picture that is.
    """

    mask: Bool[np.ndarray, "height width"]
    share: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom (exclusive)."""
        return bounding_box(self.mask)

    @property
    def tells_nothing(self) -> bool:
        """Whether so much is opaque that it cannot be the object's outline."""
        return self.share >= _ALL


def opaque_part(photo: Image.Image) -> Opaque | None:
    """The opaque part of an RGBA picture, where it is no object's outline; None for a cut-out.

    Judged by how much of the picture is clear and where: a few clear pixels, traces such as
    alpha 254, a thin clear frame and rounded corners do not outline anything.
    """
    alpha = np.asarray(photo.getchannel("A"))
    mask = alpha >= HALF
    share = float(mask.mean())
    if share >= _ALL:
        return Opaque(mask, share)
    if not mask.any():
        return None
    left, top, right, bottom = bounding_box(mask)
    width, height = right - left, bottom - top
    spans = width >= _FRAME_SPAN * photo.width and height >= _FRAME_SPAN * photo.height
    # a clear line of a pixel or two counts for more in a small picture
    spans |= width >= photo.width - 4 and height >= photo.height - 4
    fill = float(mask.sum()) / (width * height)
    # bars above and below, or at both sides, of a picture that was padded to a square
    padded = fill >= 0.995 and (width == photo.width or height == photo.height)
    return Opaque(mask, share) if padded or (spans and fill >= _FRAME_FILL) else None


def clean_alpha(photo: Image.Image) -> Image.Image:
    """A cut-out without what matting leaves around the object: haze, dark shadows, dust.

    A warning says what was removed. A picture without such things is returned as it is.
    """
    pixels = np.array(photo)
    changed = _remove_haze(pixels)
    changed |= _remove_shadow(pixels)
    changed |= _remove_dust(pixels)
    return Image.fromarray(pixels) if changed else photo


def remove_dust(photo: Image.Image) -> Image.Image:
    """A cut-out without tiny parts far from the object, which would make the object smaller."""
    pixels = np.array(photo)
    return Image.fromarray(pixels) if _remove_dust(pixels) else photo


def bounding_box(mask: Bool[np.ndarray, "height width"]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (exclusive) of what is True; something must be."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def border(image: np.ndarray) -> np.ndarray:
    """The pixels within 1 % of an edge, (pixels, …)."""
    inside = np.zeros(image.shape[:2], bool)
    height, width = inside.shape
    depth = max(1, round(0.01 * min(height, width)))
    inside[depth : height - depth, depth : width - depth] = True
    return image[~inside]


def _remove_haze(pixels: UInt8[np.ndarray, "height width 4"]) -> bool:
    """Subtract an even veil over what should be clear, as seen at the picture's border."""
    alpha = pixels[..., 3]
    edge = border(alpha)
    if not FAINT <= np.median(edge) < HALF or alpha.max() < _SOLID:
        return False
    level = min(float(np.quantile(edge, 0.98)), HALF - 1)
    alpha[:] = ((alpha - level) / (255 - level) * 255).round().clip(0, 255)
    warnings.warn(
        f"the picture's background is not quite clear (alpha {np.median(edge):.0f} of 255): this "
        "haze was removed",
        stacklevel=1,
    )
    return True


def _remove_shadow(pixels: UInt8[np.ndarray, "height width 4"]) -> bool:
    """Clear a dark, half-transparent area beside the object."""
    import cv2

    alpha = pixels[..., 3]
    solid = alpha >= _SHADOW_ALPHA
    dark = (alpha > 0) & ~solid & (pixels[..., :3].max(axis=2) <= _SHADOW_COLOR)
    near = cv2.dilate(solid.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    far = dark & ~near & (alpha >= FAINT)
    # without an opaque object beside it, the dark glass may be the object
    if far.sum() < max(16, _SHADOW_SHARE * solid.sum()) or solid.sum() < 0.2 * far.sum():
        return False
    labels = cv2.connectedComponents(dark.astype(np.uint8))[1]
    shadow = np.isin(labels, np.setdiff1d(labels[far], [0]))
    alpha[shadow] = 0
    warnings.warn(
        "a dark, half-transparent area beside the object was taken for its shadow and removed; "
        "segmentation=alpha keeps it",
        stacklevel=1,
    )
    return True


def _remove_dust(pixels: UInt8[np.ndarray, "height width 4"]) -> bool:
    """Clear tiny parts that would enlarge the object's bounding box."""
    import cv2

    alpha = pixels[..., 3]
    seen = alpha >= FAINT
    if not seen.any():
        return False
    labels, statistics = cv2.connectedComponentsWithStats(seen.astype(np.uint8))[1:3]
    areas = statistics[1:, cv2.CC_STAT_AREA]
    dust = np.flatnonzero(areas < _DUST * areas.sum()) + 1
    if not len(dust):
        return False
    specks = np.isin(labels, dust)
    kept = seen & ~specks
    if not (kept & (alpha >= HALF)).any():
        return False
    if _longer_side(seen) < _DUST_REACH * _longer_side(kept):
        return False
    alpha[specks] = 0
    warnings.warn(
        "tiny parts far from the object were removed; segmentation=alpha keeps them"
        if len(dust) > 1
        else "a tiny part far from the object was removed; segmentation=alpha keeps it",
        stacklevel=1,
    )
    return True


def _longer_side(mask: Bool[np.ndarray, "height width"]) -> int:
    left, top, right, bottom = bounding_box(mask)
    return max(right - left, bottom - top)
