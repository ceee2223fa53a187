"""The cameras a rendered folder was made with, so that training can refuse others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...cameras import Cameras
from ...cameras.formats import read_transforms
from ...errors import DataError, MvdiffError
from ..memmap import read_index

#: Largest difference, world units and shares of the picture, between equal cameras.
_SAME = 1e-3


def cameras_record(rig: Cameras) -> dict[str, Any]:
    """As written to `index.json`."""
    return {"K": rig.K.tolist(), "w2c": rig.w2c.tolist(), "projection": rig.projection}


def rendered_cameras(root: str | Path) -> Cameras | None:
    """The target cameras of a folder written by `mvdiff render`; None where nothing says.

    Folders of older versions say it with each object's pictures only.
    """
    index, _ = read_index(root)
    side, record = int(index["size"]), index.get("cameras")
    if record is not None:
        try:
            K, w2c = torch.tensor(record["K"]), torch.tensor(record["w2c"])
            return Cameras(K, w2c, side, side, record["projection"])
        except MvdiffError:
            raise
        except Exception as error:  # lists of any kind in a file that somebody changed
            raise DataError(
                f"the cameras in '{Path(root) / 'index.json'}' are damaged "
                f"({type(error).__name__}): render the folder again"
            ) from error
    first = next((o["name"] for o in index["objects"]), "")
    file = Path(root) / first / "target" / "transforms.json"
    return read_transforms(file)[0] if first and file.is_file() else None


def check_cameras(root: str | Path | Sequence[str | Path], rig: Cameras, rig_name: str) -> None:
    """Raise DataError unless the rig took the pictures, or more cameras on its ring did."""
    for folder in [root] if isinstance(root, str | Path) else root:
        theirs = rendered_cameras(folder)
        if theirs is None or len(theirs) % len(rig):
            continue  # the count has its own sentence
        theirs = theirs[list(range(0, len(theirs), len(theirs) // len(rig)))]
        reason = _difference(theirs, rig)
        if reason:
            raise DataError(
                f"the pictures in '{folder}' were taken by other cameras than rig={rig_name}'s "
                f"({reason}): render with the same rig settings, or train with the pictures'"
            )


def _difference(theirs: Cameras, rig: Cameras) -> str:
    """What differs, for people; empty where nothing does."""
    if theirs.projection != rig.projection:
        return f"they are {theirs.projection}, the rig's {rig.projection}"
    theirs, rig = theirs.to("cpu"), rig.to("cpu")
    if float((theirs.w2c - rig.w2c).abs().max()) > _SAME:
        return "they stand elsewhere"
    if float((theirs.K / theirs.width - rig.K / rig.width)[:, :2].abs().max()) > _SAME:
        return "their field of view is another"
    return ""
