"""One picture of an object: read it whatever its form, and frame it as in training."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..errors import InputError
from .image_io import load_photo
from .segmentation import Segmenter

__all__ = ["PreparedImage", "frame_by_fill", "frame_syncdreamer", "load_photo", "prepare"]


@dataclass(frozen=True)
class PreparedImage:
    """A picture framed for the model.

    rgb: colors in [0, 1], composited on white.
    alpha: opacity in [0, 1].
    segmentation: how the object was found ("alpha", "color_key", …); None where that is not known.
    embedder_rgba: what the embedder reads, where that is not the framed image; None: the same.
    """

    rgb: Float[Tensor, "3 height width"]
    alpha: Float[Tensor, "1 height width"]
    segmentation: str | None = None
    embedder_rgba: Float[Tensor, "4 side side"] | None = None

    @property
    def rgba(self) -> Float[Tensor, "4 height width"]:
        """`rgb` (still on white) and `alpha` as one tensor, in [0, 1]."""
        return torch.cat([self.rgb, self.alpha])

    @property
    def signed(self) -> Float[Tensor, "3 height width"]:
        """`rgb` in [-1, 1], the range of the published networks."""
        return self.rgb * 2 - 1

    @staticmethod
    def from_pil(image: Image.Image) -> PreparedImage:
        """From a picture with straight (not premultiplied) colors."""
        pixels = np.asarray(image.convert("RGBA")).astype(np.float32) / 255
        pixels = torch.from_numpy(pixels).permute(2, 0, 1)
        rgb, alpha = pixels[:3], pixels[3:]
        return PreparedImage(rgb * alpha + (1 - alpha), alpha.contiguous())

    def pil(self) -> Image.Image:
        """The framed picture on white, RGB."""
        pixels = (self.rgb.clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
        return Image.fromarray(np.ascontiguousarray(pixels.numpy()))


def frame_by_fill(photo: Image.Image, size: int, fill: float = 0.67) -> PreparedImage:
    """Center the object and scale it to the extent objects have in the training pictures.

    photo: RGBA; its alpha says what the object is.
    size: side of the result in pixels.
    fill: longer side of the object's bounding box as a share of `size`, in (0, 1]. Renders
        whose 3D boxes fit the view by their diagonal show 0.67 on average, with a spread of
        0.09 (measured on 14,456 pictures of 1,807 objects at 64², edge pixels counted half).
    Raises InputError when nothing is opaque.
    """
    if not 0 < fill <= 1:
        raise InputError(f"fill must lie in (0, 1], got {fill}: 0.67 suits the small model")
    _check_size(size)
    photo = photo.convert("RGBA")
    left, top, right, bottom = _object_box(photo)
    side = max(right - left, bottom - top) / fill
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    # A crop beyond the picture is transparent there; whole pixels first, the rest by resampling.
    outer = (int(np.floor(x)), int(np.floor(y)), int(np.ceil(x + side)), int(np.ceil(y + side)))
    canvas = photo.crop(outer)
    box = (
        x - outer[0],
        y - outer[1],
        min(x - outer[0] + side, canvas.width),
        min(y - outer[1] + side, canvas.height),
    )
    # Pillow premultiplies RGBA while resampling; Hamming has no ringing at silhouettes.
    method = Image.Resampling.HAMMING if side >= size else Image.Resampling.BICUBIC
    return PreparedImage.from_pil(canvas.resize((size, size), method, box=box))


def frame_syncdreamer(photo: Image.Image, crop_size: int | None, size: int = 256) -> PreparedImage:
    """SyncDreamer's preparation, to the bit; `.signed` is what its networks read.

    crop_size: the object's longer side in pixels (the paper's photos use 150 to 200); None
        or -1 takes the whole picture, padded to a square.
    size: side of the result in pixels.
    Raises InputError when nothing is opaque. Source: arXiv 2309.03453, released code.
    """
    _check_size(size)
    photo = photo.convert("RGBA")
    if crop_size is None or crop_size == -1:
        square = _pad(photo, max(photo.size))
        return PreparedImage.from_pil(square.resize((size, size), Image.Resampling.BICUBIC))
    if not 1 <= crop_size <= size:
        raise InputError(
            f"crop_size must lie in [1, {size}] pixels, or be -1 for the whole picture; "
            f"got {crop_size}"
        )
    left, top, right, bottom = _object_box(photo, threshold=1)
    solid = _object_box(photo)
    if max(right - left, bottom - top) > 1.1 * max(solid[2] - solid[0], solid[3] - solid[1]):
        warnings.warn(
            "pixels that are nearly clear (alpha below 13 of 255) count as the object in "
            "framing=syncdreamer, which makes it smaller: clean the alpha channel, or use "
            "framing=fit",
            stacklevel=1,
        )
    # The original takes the largest index as the end, which leaves out a row and a column.
    cut = photo.crop((left, top, max(right - 1, left + 1), max(bottom - 1, top + 1)))
    scale = crop_size / max(cut.size)
    width, height = (max(1, int(scale * side)) for side in cut.size)
    return PreparedImage.from_pil(_pad(cut.resize((width, height), Image.Resampling.BICUBIC), size))


def frame_zero123(photo: Image.Image, crop_size: int | None, size: int = 256) -> PreparedImage:
    """Zero123's preparation ("preprocess" in its demo), to the bit.

    Pixels with alpha above 127 are the object, wholly; the rest is white. The object's bounding
    box is shrunk to fit `crop_size` and never enlarged, and centered.

    crop_size: largest side of the object in pixels (the demo: 200 of 256); None takes 25/32 of
        `size`.
    Raises InputError when nothing is opaque. Source: gradio_new.py and ldm/util.py of
    cvlab-columbia/zero123.
    """
    _check_size(size)
    crop_size = size * 25 // 32 if crop_size in (None, -1) else crop_size
    if not 1 <= crop_size <= size:
        raise InputError(f"crop_size must lie in [1, {size}] pixels, or be -1, got {crop_size}")
    photo = photo.convert("RGBA")
    if max(photo.size) > 1536:
        photo.thumbnail((1536, 1536), Image.Resampling.LANCZOS)
    pixels = np.asarray(photo)
    mask = pixels[..., 3] > 127
    if not mask.any():
        _object_box(photo)  # its sentence where nothing is opaque at all
        raise InputError("no pixel of the picture is more than half opaque: clean its alpha")
    rgb = np.where(mask[..., None], pixels[..., :3], 255).astype(np.uint8)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    layers = []
    for layer, background in ((rgb, 255), (mask.astype(np.uint8) * 255, 0)):
        image = Image.fromarray(layer).crop(box)
        image.thumbnail((crop_size, crop_size), Image.Resampling.LANCZOS)
        canvas = Image.new(image.mode, (size, size), (background,) * len(image.getbands()))
        canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        layers.append(torch.from_numpy(np.array(canvas).astype(np.float32) / 255))
    color, alpha = layers
    return PreparedImage(color.permute(2, 0, 1).contiguous(), alpha[None])


def frame_plain(photo: Image.Image, size: int = 256) -> PreparedImage:
    """The whole picture squashed to a square, on white: Zero123's other way in.

    Source: gradio_new.py of cvlab-columbia/zero123, without its preprocessing.
    """
    _check_size(size)
    photo = photo.convert("RGBA")
    if max(photo.size) > 1536:
        photo.thumbnail((1536, 1536), Image.Resampling.LANCZOS)
    return PreparedImage.from_pil(photo.resize((size, size), Image.Resampling.LANCZOS))


def frame_squash(photo: Image.Image, size: int = 256) -> PreparedImage:
    """The whole picture squashed to a square (bicubic), composited on white: EpiDiff's way in.

    Source: utils/media.py of huanngzh/EpiDiff.
    """
    _check_size(size)
    photo = photo.convert("RGBA")
    return PreparedImage.from_pil(photo.resize((size, size), Image.Resampling.BICUBIC))


def frame_imagedream(
    photo: Image.Image, size: int = 256, gray: float = 255.0, embedder_size: int = 224
) -> PreparedImage:
    """ImageDream's preparation, to the bit: the picture is neither cropped nor centered.

    It is laid on one gray and squashed to a square for the autoencoder. The image tower reads it
    from its original size: the shorter side resized, the middle cut out (`embedder_rgba`).

    gray: 0 to 255; the demo draws it at random, and this library's pictures are on white.
    embedder_size: side of what the image tower reads, pixels.
    Source: ldm/util.py line 221 and scripts/demo.py of bytedance/ImageDream.
    """
    _check_size(size)
    pixels = np.asarray(photo.convert("RGBA")).astype(np.float32)
    opacity = pixels[..., 3:] / 255
    flat = (pixels[..., :3] * opacity + gray * (1 - opacity)).astype(np.uint8)  # truncated
    image, alpha = Image.fromarray(flat), photo.convert("RGBA").getchannel("A")
    layers = [
        np.asarray(layer.resize((size, size), Image.Resampling.BILINEAR)).astype(np.float32) / 255
        for layer in (image, alpha)
    ]
    color, opacity = (torch.from_numpy(layer) for layer in layers)
    scale = embedder_size / min(image.size)
    width, height = (int(side * scale + 1e-6) for side in image.size)
    seen = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (round((side - embedder_size) / 2) for side in seen.size)
    seen = seen.crop((left, top, left + embedder_size, top + embedder_size))
    embedder_rgba = PreparedImage.from_pil(seen).rgba
    rgb = color.permute(2, 0, 1).contiguous()
    return PreparedImage(rgb, opacity[None], embedder_rgba=embedder_rgba)


def prepare(
    source: str | Path | Image.Image | np.ndarray | Tensor,
    *,
    segmenter: Segmenter,
    size: int,
    fill: float = 0.67,
) -> PreparedImage:
    """Read, cut out and frame in one go: `load_photo`, `segmenter`, `frame_by_fill`."""
    return frame_by_fill(segmenter(load_photo(source)), size, fill)


def _object_box(photo: Image.Image, threshold: int = 13) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (exclusive) of alpha ≥ threshold (5 % by default, against haze)."""
    alpha = photo.getchannel("A")
    box = alpha.point([255 * (a >= threshold) for a in range(256)]).getbbox() or alpha.getbbox()
    if box is None:
        raise InputError(
            "the picture is transparent everywhere, expected an object in it: "
            "use a picture with an opaque object"
        )
    return box


def _check_size(size: int) -> None:
    if size < 1:
        raise InputError(f"the size of a prepared picture must be at least 1 pixel, got {size}")


def _pad(image: Image.Image, size: int) -> Image.Image:
    canvas = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return canvas
