"""`mvdiff render`: meshes and procedural shapes → pictures to train on."""

from __future__ import annotations

from typing import Any

from .. import builders
from ..config.instantiate import to_container
from ..errors import MvdiffError


def run(config: Any) -> int:
    """Render what the config says; 1 when some meshes had to be skipped."""
    from ..data.render.run import render_objects
    from ..data.render.settings import check_rig_numbers

    check_rig_numbers(config)
    if not config.meshes and not config.shapes:
        raise MvdiffError("nothing to render: give meshes=FOLDER, shapes=NUMBER or both")
    settings = to_container(config)
    settings["rig"] = builders.build_rig(config)
    elevation = settings["input_elevation"]
    if not isinstance(elevation, list) or len(elevation) != 2:
        raise MvdiffError(f"input_elevation must be two degrees, [lowest,highest]; got {elevation}")
    settings["input_elevation"] = tuple(elevation)
    index = render_objects(settings.pop("out"), **settings)
    for skipped in index["skipped"]:
        print(f"skipped {skipped['name']}: {skipped['reason']}")
    print(f"{len(index['objects'])} objects in {config.out}")
    return 1 if index["skipped"] else 0
