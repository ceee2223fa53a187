"""Reading the views that `mvdiff reconstruct` is given."""

from __future__ import annotations

from pathlib import Path

from ..view_loading import LoadedViews, load_views
from ..views import Views


def read_views(source: Path, longest: int) -> tuple[Views, list[str]]:
    """Views in any form `Views.load` knows, scaled down where larger than `longest` pixels.

    Returns notes for the user. Raises MvdiffError for a longest side below 16 and as
    `view_loading.load_views` does.
    """
    loaded: LoadedViews = load_views(source, max_size=longest)
    return loaded.views, loaded.notes
