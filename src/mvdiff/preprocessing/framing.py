"""How a cut-out photo is framed for the model: a function of the photo and the side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PIL import Image

from ..errors import ConfigError
from .photo import (
    PreparedImage,
    frame_by_fill,
    frame_imagedream,
    frame_plain,
    frame_squash,
    frame_syncdreamer,
    frame_zero123,
)

#: (RGBA photo, side in pixels) → framed photo
Framing = Callable[[Image.Image, int], PreparedImage]


def framing(name: str, *, fill: float, crop_size: int | None = None) -> Framing:
    """The framing called `name`; ConfigError for another name.

    name: "fit" scales the object to the share `fill` of the side, see `frame_by_fill`;
        "syncdreamer" to `crop_size` pixels, as SyncDreamer does, see `frame_syncdreamer`;
        "zero123" to at most `crop_size` pixels, see `frame_zero123`;
        "plain" and "squash" take the whole picture as it is, see `frame_plain`, `frame_squash`;
        "imagedream" too, and gives the embedder one of its own, see `frame_imagedream`.
    """
    if name == "fit":
        return partial(frame_by_fill, fill=fill)
    if name == "syncdreamer":
        return partial(_syncdreamer, crop_size=crop_size)
    if name == "zero123":
        return partial(_zero123, crop_size=crop_size)
    if name == "plain":
        return frame_plain
    if name == "squash":
        return frame_squash
    if name == "imagedream":
        return frame_imagedream
    raise ConfigError(
        f"unknown framing '{name}'; choose from fit, syncdreamer, zero123, plain, squash, "
        "imagedream"
    )


def _syncdreamer(photo: Image.Image, size: int, crop_size: int | None) -> PreparedImage:
    return frame_syncdreamer(photo, crop_size, size)


def _zero123(photo: Image.Image, size: int, crop_size: int | None) -> PreparedImage:
    return frame_zero123(photo, crop_size, size)
