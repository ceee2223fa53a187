"""`render_objects` with all its settings as keywords, for tests."""

from dataclasses import fields
from typing import Any

from mvdiff.cameras import ring
from mvdiff.data.render import run
from mvdiff.data.render.settings import ObjectSelection, RenderSettings

#: quick to render: four views of 16² in this process
SMALL = {
    "rig": ring(4, size=16),
    "num_inputs": 4,
    "workers": 1,
    "progress": False,
    "supersample": 1,
}


def render_objects(out: Any, *, workers: int | None = None, progress: bool = True, **values: Any):
    """Render with these fields of `ObjectSelection` and `RenderSettings`; size: of a ring."""
    if "size" in values:
        values["rig"] = ring(size=values.pop("size"))
    names = {f.name for f in fields(ObjectSelection)}
    objects = ObjectSelection(**{k: v for k, v in values.items() if k in names})
    settings = RenderSettings(**{k: v for k, v in values.items() if k not in names})
    return run.render_objects(out, objects, settings, workers=workers, progress=progress)
