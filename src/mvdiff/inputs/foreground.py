"""Foreground slot: which pixels of a picture are the object. RGBA in, RGBA with a mask out."""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod

import numpy as np
from PIL import Image

from ..errors import MvdiffError
from ..registry import Registry

FOREGROUND = Registry("foreground")
log = logging.getLogger(__name__)


class Foreground(ABC):
    """A way to find the object. Call it with a picture; it returns straight-colour RGBA.

    Raises MvdiffError for pictures that are transparent everywhere and for results in which
    nothing is left.
    """

    def __call__(self, photo: Image.Image) -> Image.Image:
        photo = photo.convert("RGBA")
        if photo.getchannel("A").getextrema()[1] == 0:
            raise MvdiffError(
                "the picture is transparent everywhere, expected an object in it: "
                "use a picture with an opaque object"
            )
        cut = self.cut(photo)
        if cut.getchannel("A").getextrema()[1] < 128:
            raise MvdiffError(
                "no object was found in the picture, only background: use a picture with "
                "transparency, or an object that differs from a plain background"
            )
        return cut

    @abstractmethod
    def cut(self, photo: Image.Image) -> Image.Image:
        """RGBA → RGBA of the same size whose alpha is the object's mask."""


@FOREGROUND.register("none")
class NoForeground(Foreground):
    """The whole picture is the object; transparent parts are put on white."""

    def cut(self, photo: Image.Image) -> Image.Image:
        return _on_white(photo).convert("RGBA")


@FOREGROUND.register("alpha")
class AlphaForeground(Foreground):
    """The picture's own transparency; refuses pictures without any."""

    def cut(self, photo: Image.Image) -> Image.Image:
        if not has_alpha(photo):
            raise MvdiffError(
                "the picture has no transparency, which foreground=alpha needs: "
                "use foreground=auto, key or grabcut"
            )
        return photo


@FOREGROUND.register("key")
class KeyForeground(Foreground):
    """Keys out a plain background, by the colour of the picture's border, with soft edges."""

    def __init__(self, tolerance: float = 0.05, share: float = 0.9) -> None:
        """
        tolerance: how far (largest channel, in [0, 1]) a pixel may be from the border's
            colour and still be background.
        share: part of the border, in (0, 1], that must be this plain.
        """
        self.tolerance, self.share = tolerance, share

    def cut(self, photo: Image.Image) -> Image.Image:
        pixels = _colours(photo)
        background = self.background(pixels)
        if background is None:
            raise MvdiffError(
                "the picture's border is not of one colour, which foreground=key needs: "
                "use foreground=grabcut, or cut the object out"
            )
        return _key(pixels, background, self.tolerance)

    def background(self, pixels: np.ndarray) -> np.ndarray | None:
        """The border's colour, (3,) in [0, 1], or None where the border is not plain."""
        border = _border(pixels)
        colour = np.median(border, axis=0)
        near = np.abs(border - colour).max(axis=1) <= self.tolerance
        return colour if near.mean() >= self.share else None


@FOREGROUND.register("grabcut")
class GrabCutForeground(Foreground):
    """OpenCV's GrabCut: separates the middle of the picture from what its border looks like."""

    def __init__(self, margin: float = 0.03, iterations: int = 5, side: int = 512) -> None:
        """
        margin: share of the picture, at each edge, that is surely background.
        iterations: of GrabCut.
        side: the longer side, in pixels, at which the mask is computed.
        """
        self.margin, self.iterations, self.side = margin, iterations, side

    def cut(self, photo: Image.Image) -> Image.Image:
        import cv2

        if min(photo.size) < 8:
            raise MvdiffError(
                f"a picture of {photo.width}×{photo.height} is too small to find an object in, "
                "expected at least 8×8: use a larger one, or foreground=none"
            )
        flat = _on_white(photo)
        scale = min(1.0, self.side / max(photo.size))
        width, height = (max(8, round(side * scale)) for side in photo.size)
        small = np.asarray(flat.resize((width, height), Image.Resampling.BOX))[:, :, ::-1]
        x, y = (max(1, round(self.margin * side)) for side in (width, height))
        mask = np.zeros((height, width), np.uint8)
        cv2.setRNGSeed(0)  # its mixture models start from a random clustering
        models = np.zeros((1, 65)), np.zeros((1, 65))
        box = (x, y, width - 2 * x, height - 2 * y)
        cv2.grabCut(
            np.ascontiguousarray(small), mask, box, *models, self.iterations, cv2.GC_INIT_WITH_RECT
        )
        solid = _main_parts(np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)))
        soft = Image.fromarray(cv2.GaussianBlur(solid.astype(np.uint8) * 255, (0, 0), 1.0))
        flat.putalpha(soft.resize(photo.size, Image.Resampling.BICUBIC))
        return flat


@FOREGROUND.register("auto")
class AutoForeground(Foreground):
    """The picture's alpha if it has one, else a keyed plain background, else GrabCut."""

    def cut(self, photo: Image.Image) -> Image.Image:
        if has_alpha(photo):
            log.info("foreground: the picture's own transparency")
            return photo
        key = KeyForeground()
        if key.background(_colours(photo)) is not None:
            warnings.warn(
                "the picture has no transparency: its plain background was keyed out "
                "(foreground=key)",
                stacklevel=3,
            )
            return key.cut(photo)
        warnings.warn(
            "the picture has no transparency: the object was found by OpenCV's GrabCut "
            "(foreground=grabcut); check the result, or cut the object out yourself",
            stacklevel=3,
        )
        return GrabCutForeground().cut(photo)


def has_alpha(photo: Image.Image) -> bool:
    """Whether any pixel of an RGBA picture is less than opaque."""
    return photo.getchannel("A").getextrema()[0] < 255


def _on_white(photo: Image.Image) -> Image.Image:
    white = Image.new("RGBA", photo.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, photo).convert("RGB")


def _colours(photo: Image.Image) -> np.ndarray:
    """(height, width, 3) in [0, 1], on white."""
    return np.asarray(_on_white(photo)).astype(np.float32) / 255


def _border(image: np.ndarray) -> np.ndarray:
    """The pixels within 1 % of an edge, (pixels, …)."""
    inside = np.zeros(image.shape[:2], bool)
    height, width = inside.shape
    depth = max(1, round(0.01 * min(height, width)))
    inside[depth : height - depth, depth : width - depth] = True
    return image[~inside]


def _key(pixels: np.ndarray, background: np.ndarray, tolerance: float) -> Image.Image:
    """Background, joined to the border or enclosed but exactly as plain, becomes transparent."""
    import cv2

    distance = np.abs(pixels - background).max(axis=2)
    labels = cv2.connectedComponents((distance <= tolerance).astype(np.uint8), connectivity=4)[1]
    away = np.isin(labels, np.setdiff1d(_border(labels), [0]))
    # A mug's handle encloses background too. A light spot on the object does as well, but it
    # is seldom as plain as the border and as close to its colour.
    noise = max(1 / 255, float(np.quantile(np.abs(_border(pixels) - background), 0.9)))
    plain = cv2.connectedComponents((distance <= noise).astype(np.uint8), connectivity=4)[1]
    sizes = np.bincount(plain.ravel())
    holes = np.flatnonzero(sizes >= max(16, 2e-4 * labels.size))
    away |= np.isin(plain, np.setdiff1d(holes, [0]))
    # A pixel at the edge mixes both colours: its share of the object is its distance from the
    # background against the largest one nearby, and its colour is unmixed with that share.
    window = np.ones((5, 5), np.uint8)
    edge = (cv2.dilate(away.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~away
    nearby = cv2.dilate(np.where(away, 0, distance).astype(np.float32), window)
    share = np.clip(distance / np.maximum(nearby, 1e-6), 0, 1)
    alpha = np.where(away, 0, np.where(edge, share, 1))[..., None]
    colour = background + (pixels - background) / np.maximum(alpha, 1 / 255)
    rgba = np.concatenate([np.where(alpha > 0, colour, background), alpha], axis=2)
    return Image.fromarray((rgba.clip(0, 1) * 255).round().astype(np.uint8))


def _main_parts(mask: np.ndarray) -> np.ndarray:
    """A mask without specks (under a twentieth of its largest part) and small holes (1 %)."""
    import cv2

    labels = cv2.connectedComponents(mask.astype(np.uint8))[1]
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    mask = np.isin(labels, np.flatnonzero((sizes > 0) & (sizes >= sizes.max() / 20)))
    gaps = cv2.connectedComponents((~mask).astype(np.uint8))[1]
    sizes = np.bincount(gaps.ravel())
    sizes[0] = 0
    return mask | np.isin(gaps, np.flatnonzero((sizes > 0) & (sizes < mask.sum() / 100)))
