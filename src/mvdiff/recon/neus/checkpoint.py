"""A fit's state in a file: whole or not at all, and only for the views it belongs to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from ...errors import InputError
from ...utils.files import atomic
from ...views import Views


def fingerprint(views: Views, settings: str) -> str:
    """A digest of the views' pixels and cameras and of the settings."""
    digest = hashlib.sha256(settings.encode())
    cameras = views.cameras
    digest.update(f"{cameras.projection} {tuple(views.images.shape)}".encode())
    for tensor in (views.images, views.alpha, cameras.K, cameras.w2c):
        if tensor is not None:
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save(path: Path, state: dict[str, object], owner: str) -> None:
    """Write a state of `Fit.state` for the views and settings with the digest `owner`."""
    with atomic(path) as part:
        torch.save({"owner": owner, **state}, part)


def load(path: Path, owner: str) -> dict[str, object] | None:
    """The state at `path`, on the CPU; None when there is no file.

    Raises InputError for a file that is broken or of other views or settings.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        theirs = state["owner"]
    except Exception as error:  # unpickling a broken file raises anything
        raise InputError(
            f"cannot read the checkpoint '{path}': delete it or name another"
        ) from error
    if theirs != owner:
        raise InputError(
            f"the checkpoint '{path}' belongs to other views or settings: delete it or name another"
        )
    return state
