"""Reading the views that `mvdiff reconstruct` is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..cameras.camera import Cameras
from ..config.instantiate import instantiate
from ..errors import ConfigError
from ..views import Views
from ..views.loading import LoadedViews, load_views

#: Side at which a rig is built before it is resized to the pictures.
_RIG_SIZE = 256


def read_views(source: Path, max_size: int) -> tuple[Views, list[str]]:
    """Views in any form `Views.load` knows, scaled down where larger than `max_size` pixels.

    Returns notes for the user, too. Raises ConfigError as `view_loading.load_views` does.
    """
    loaded = load_views(source, max_size=max_size)
    return loaded.views, loaded.notes


def read_configured_views(source: Path, config: Any) -> LoadedViews:
    """The views of `mvdiff reconstruct`: its settings `images`, `rig` and `max_size`.

    Raises ConfigError for a longest side below 16 and as `view_loading.load_views` does.
    """
    images = None if config.images is None else user_path(config.images, "images")
    return load_views(source, read_rig(config), images, config.max_size)


def read_rig(config: Any) -> Cameras | None:
    """The rig that is set, None where none is."""
    if config.get("rig") is None:
        return None
    from ..cameras.rigs import RIGS

    return instantiate(RIGS, config.rig, size=_RIG_SIZE)


def user_path(setting: object, name: str) -> Path:
    """The path that a setting names, `~` expanded; ConfigError where it names none."""
    if setting is None or str(setting) == "":
        raise ConfigError(f"{name} is empty: name a folder or file")
    try:
        return Path(str(setting)).expanduser()
    except RuntimeError:  # no such user: a file may be called so
        return Path(str(setting))
