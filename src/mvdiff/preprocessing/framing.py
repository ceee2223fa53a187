"""How a cut-out photo is framed for the model: a function of the photo and the side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PIL import Image

from ..errors import ConfigError
from .photo import PreparedImage, frame_by_fill, frame_syncdreamer

#: (RGBA photo, side in pixels) → framed photo
Framing = Callable[[Image.Image, int], PreparedImage]


def framing(name: str, *, fill: float, crop_size: int | None = None) -> Framing:
    """The framing called `name`; ConfigError for another name.

    name: "fit" scales the object to the share `fill` of the side, see `frame_by_fill`;
        "syncdreamer" to `crop_size` pixels, as SyncDreamer does, see `frame_syncdreamer`.
    """
    if name == "fit":
        return partial(frame_by_fill, fill=fill)
    if name == "syncdreamer":
        return partial(_published, crop_size=crop_size)
    raise ConfigError(f"unknown framing '{name}'; choose from fit, syncdreamer")


def _published(photo: Image.Image, size: int, crop_size: int | None) -> PreparedImage:
    return frame_syncdreamer(photo, crop_size, size)
