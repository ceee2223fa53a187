"""Segmenter slot: which pixels of a picture are the object. RGBA in, RGBA with a mask out."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod

import numpy as np
from PIL import Image

from ..errors import InputError
from ..registry import Registry
from .transparency import HALF, Opaque, border, bounding_box, clean_alpha, opaque_part, remove_dust

SEGMENTERS = Registry("segmentation")
#: What a cut-out picture's `info` calls the method by which the object was found.
METHOD = "segmentation"


class Segmenter(ABC):
    """A way to find the object. Call it with a picture; it returns straight-color RGBA.

    The result's `info["segmentation"]` names the method. A warning says where the object fills the
    picture, touches its edges, has several parts or is tiny.
    Raises InputError for pictures that are transparent everywhere and for results in which
    nothing is left.

    Example:
        >>> from PIL import Image, ImageDraw
        >>> from mvdiff.preprocessing.segmentation import SEGMENTERS
        >>> photo = Image.new("RGB", (160, 120), "white")
        >>> ImageDraw.Draw(photo).ellipse((40, 20, 119, 99), fill="red")
        >>> cut_out = SEGMENTERS["color_key"]()(photo)
        >>> cut_out.mode, cut_out.size, cut_out.info["segmentation"]
        ('RGBA', (160, 120), 'color_key')
        >>> cut_out.getchannel("A").point(lambda alpha: 255 * (alpha > 127)).getbbox()
        (40, 20, 120, 100)
    """

    def __call__(self, photo: Image.Image) -> Image.Image:
        photo = photo.convert("RGBA")
        photo.info.pop(METHOD, None)
        if photo.getchannel("A").getextrema()[1] == 0:
            raise InputError(
                "the picture is transparent everywhere, expected an object in it: "
                "use a picture with an opaque object"
            )
        cut = self.cut(photo)
        if cut.getchannel("A").getextrema()[1] < 128:
            raise InputError(
                "no object was found in the picture, only background: use a picture with "
                "transparency, or an object that differs from a plain background"
            )
        cut.info.setdefault(METHOD, _name(self))
        if cut.info[METHOD] != "none":
            check_object(cut)
        return cut

    @abstractmethod
    def cut(self, photo: Image.Image) -> Image.Image:
        """RGBA → RGBA of the same size whose alpha is the object's mask."""


@SEGMENTERS.register("none")
class NoSegmenter(Segmenter):
    """The whole picture is the object; transparent parts are put on white."""

    def cut(self, photo: Image.Image) -> Image.Image:
        return _on_white(photo).convert("RGBA")


@SEGMENTERS.register("alpha")
class AlphaSegmenter(Segmenter):
    """The picture's own transparency; refuses pictures without any."""

    def cut(self, photo: Image.Image) -> Image.Image:
        if not has_alpha(photo):
            raise InputError(
                "the picture has no transparency, which segmentation=alpha needs: "
                "use segmentation=auto, key or grabcut"
            )
        return photo


@SEGMENTERS.register("color_key")
class ColorKeySegmenter(Segmenter):
    """Keys out a plain background, by the color of the picture's border, with soft edges."""

    def __init__(self, tolerance: float = 0.05, share: float = 0.9) -> None:
        """
        tolerance: how far (largest channel, in [0, 1]) a pixel may be from the border's
            color and still be background.
        share: part of the border, in (0, 1], that must be this plain.
        """
        self.tolerance, self.share = tolerance, share

    def cut(self, photo: Image.Image) -> Image.Image:
        pixels = _colors(photo)
        background = self.background(pixels)
        if background is None:
            raise InputError(
                "the picture's border is not of one color, which segmentation=color_key needs: "
                "use segmentation=grabcut, or cut the object out"
            )
        return remove_dust(_key(pixels, background, self.tolerance))

    def background(self, pixels: np.ndarray) -> np.ndarray | None:
        """The border's color, (3,) in [0, 1], or None where the border is not plain."""
        return self.plain_color(border(pixels))

    def plain_color(self, pixels: np.ndarray) -> np.ndarray | None:
        """The color, (3,), that most of (pixels, 3) have; None where they differ."""
        color = np.median(pixels, axis=0)
        near = np.abs(pixels - color).max(axis=1) <= self.tolerance
        return color if near.mean() >= self.share else None


@SEGMENTERS.register("grabcut")
class GrabCutSegmenter(Segmenter):
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
            raise InputError(
                f"a picture of {photo.width}×{photo.height} is too small to find an object in, "
                "expected at least 8×8: use a larger one, or segmentation=none"
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


@SEGMENTERS.register("auto")
class AutoSegmenter(Segmenter):
    """The picture's alpha if it outlines an object, else a keyed plain background, else GrabCut."""

    def cut(self, photo: Image.Image) -> Image.Image:
        opaque = opaque_part(photo)
        if opaque is None:
            return _by(AlphaSegmenter(), clean_alpha(photo))
        if not has_alpha(photo):
            why = "the picture has no transparency"
        else:
            clear = 1 - opaque.share
            much = f"{100 * clear:.1f} % of it" if clear >= 0.0005 else "a trace of transparency"
            why = f"the picture is opaque but for {much}, which does not outline an object"
        return self._cut_opaque(photo, opaque, why)

    def _cut_opaque(self, photo: Image.Image, opaque: Opaque, why: str) -> Image.Image:
        """Find the object within the opaque part; `why` its transparency is no help."""
        key, box = ColorKeySegmenter(), opaque.box
        solid, inner = _filled(photo.crop(box), opaque.mask[box[1] : box[3], box[0] : box[2]])
        pixels = np.asarray(solid).astype(np.float32) / 255
        background = key.plain_color(pixels[inner] if inner.any() else border(pixels))
        if background is not None:
            cut = remove_dust(_key(pixels, background, key.tolerance))
            # a plain object whose outline is nearly a rectangle has little to be keyed
            found = (np.asarray(cut.getchannel("A")) >= HALF).mean()
            if not has_alpha(photo) or found >= (0.002 if opaque.tells_nothing else 0.05):
                warnings.warn(
                    f"{why}: its plain background was keyed out (segmentation=color_key)",
                    stacklevel=1,
                )
                return _by(key, _placed(cut, photo.size, box))
        if background is not None or not opaque.tells_nothing:
            return _by(AlphaSegmenter(), clean_alpha(photo))
        warnings.warn(
            f"{why}: the object was found by OpenCV's GrabCut (segmentation=grabcut); check the "
            "result, or cut the object out yourself",
            stacklevel=1,
        )
        grabcut = GrabCutSegmenter()
        return _by(grabcut, _placed(grabcut.cut(solid.convert("RGBA")), photo.size, box))


def check_object(cut: Image.Image) -> None:
    """Warn where what was found fills the picture, touches its edges, is tiny or in parts.

    cut: RGBA, its alpha the object's mask.
    """
    import cv2

    mask = np.asarray(cut.getchannel("A")) >= HALF
    left, top, right, bottom = bounding_box(mask)
    width, height = right - left, bottom - top
    if mask.mean() >= 0.97:
        warnings.warn(
            "the object fills the whole picture: if that is its background, cut the object out, "
            "or use segmentation=color_key or grabcut",
            stacklevel=1,
        )
        return
    edges = {"left": mask[:, 0], "top": mask[0], "right": mask[:, -1], "bottom": mask[-1]}
    contact = {name: float(edge.mean()) for name, edge in edges.items() if edge.sum() > 1}
    # a picture trimmed to its object touches all edges, each but a little
    least = 0.5 if len(contact) == 4 else 0.05
    touched = [name for name, share in contact.items() if share >= least]
    if touched:
        named = " and ".join([", ".join(touched[:-1]), touched[-1]] if touched[1:] else touched)
        warnings.warn(
            f"the object touches the picture's {named} edge: if it is cut off there, so are the "
            "views",
            stacklevel=1,
        )
    if max(width, height) < 32 or width * height < 0.005 * mask.size:
        warnings.warn(
            f"the object is small ({width}×{height} of {cut.width}×{cut.height} pixels): a larger "
            "picture of it gives better views",
            stacklevel=1,
        )
    if mask.sum() >= 0.995 * width * height and min(width, height) >= 32:
        warnings.warn(
            "the object's outline is a rectangle: if that is a picture with its background, crop "
            "it, or use segmentation=color_key or grabcut",
            stacklevel=1,
        )
    areas = cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2][1:, cv2.CC_STAT_AREA]
    parts = int((areas >= 0.05 * areas.max()).sum())
    if parts > 1:
        warnings.warn(
            f"the object has {parts} separate parts: all are taken as one object", stacklevel=1
        )


def has_alpha(photo: Image.Image) -> bool:
    """Whether any pixel of an RGBA picture is less than opaque."""
    return photo.getchannel("A").getextrema()[0] < 255


def _on_white(photo: Image.Image) -> Image.Image:
    white = Image.new("RGBA", photo.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, photo).convert("RGB")


def _colors(photo: Image.Image) -> np.ndarray:
    """(height, width, 3) in [0, 1], on white."""
    return np.asarray(_on_white(photo)).astype(np.float32) / 255


def _name(foreground: Segmenter) -> str:
    """What a method is called in the registry; its class's name where it is not registered."""
    kind = type(foreground)
    return next((name for name in SEGMENTERS if SEGMENTERS[name] is kind), kind.__name__)


def _by(method: Segmenter, cut: Image.Image) -> Image.Image:
    cut.info[METHOD] = _name(method)
    return cut


def _placed(cut: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """A part of a picture put back into its place, the rest clear."""
    if cut.size == size:
        return cut
    whole = Image.new("RGBA", size)
    whole.paste(cut, box[:2])
    return whole


def _filled(photo: Image.Image, opaque: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """An RGB picture whose clear pixels have the color beside them; and where that is, (h, w).

    opaque: (height, width), bool.
    """
    import cv2

    depth = max(1, round(0.01 * min(photo.size)))
    square = np.ones((3, 3), np.uint8)
    solid = opaque.astype(np.uint8)
    outside = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
    # the outermost pixels of a clear edge are mixed with what was behind it
    soft = 0 if opaque.all() else 1
    outer = cv2.erode(solid, square, iterations=soft, **outside) if soft else solid
    inner = (outer > 0) & (cv2.erode(outer, square, iterations=depth, **outside) == 0)
    pixels = np.array(photo.convert("RGB"))
    if not opaque.all() and inner.any():
        pixels[outer == 0] = np.median(pixels[inner], axis=0)
    return Image.fromarray(pixels), inner


def _key(pixels: np.ndarray, background: np.ndarray, tolerance: float) -> Image.Image:
    """Background, joined to the border or enclosed but exactly as plain, becomes transparent."""
    import cv2

    distance = np.abs(pixels - background).max(axis=2)
    labels = cv2.connectedComponents((distance <= tolerance).astype(np.uint8), connectivity=4)[1]
    away = np.isin(labels, np.setdiff1d(border(labels), [0]))
    # A mug's handle encloses background too. A light spot on the object does as well, but it
    # is seldom as plain as the border and as close to its color.
    noise = max(1 / 255, float(np.quantile(np.abs(border(pixels) - background), 0.9)))
    plain = cv2.connectedComponents((distance <= noise).astype(np.uint8), connectivity=4)[1]
    sizes = np.bincount(plain.ravel())
    holes = np.flatnonzero(sizes >= max(16, 2e-4 * labels.size))
    away |= np.isin(plain, np.setdiff1d(holes, [0]))
    # A pixel at the edge mixes both colors: its share of the object is its distance from the
    # background against the largest one nearby, and its color is unmixed with that share.
    window = np.ones((5, 5), np.uint8)
    edge = (cv2.dilate(away.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~away
    nearby = cv2.dilate(np.where(away, 0, distance).astype(np.float32), window)
    share = np.clip(distance / np.maximum(nearby, 1e-6), 0, 1)
    alpha = np.where(away, 0, np.where(edge, share, 1))[..., None]
    color = background + (pixels - background) / np.maximum(alpha, 1 / 255)
    rgba = np.concatenate([np.where(alpha > 0, color, background), alpha], axis=2)
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
