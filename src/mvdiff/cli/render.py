"""`mvdiff render`: meshes and procedural shapes → images to train on."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from ..config.settings import MISSING, setting
from ..data.render.limits import RANGES
from .command import Command


@dataclass
class RenderConfig:
    """`mvdiff render`."""

    defaults: list[Any] = field(default_factory=lambda: [{"rig": "ring"}, "_self_"])
    rig: Any = MISSING

    meshes: str | None = setting(
        None, "folder of GLB, glTF, OBJ, PLY, STL or OFF files", path="mesh folder"
    )
    num_stretched_copies: int = setting(
        0,
        "further copies of each training mesh, each axis stretched by 0.7 to 1.4",
        limit=RANGES["num_stretched_copies"],
    )
    num_shapes: int = setting(0, "number of procedural shapes", limit=RANGES["num_shapes"])
    first_shape_seed: int = setting(0, "seed of the first shape", limit=RANGES["first_shape_seed"])
    out: str = setting(
        MISSING, "results go to <out>/<object>/{target,input}/ and index.json", path="output"
    )
    size: int = setting(64, "side of the images, pixels", limit=RANGES["size"])
    normalization: str = setting(
        "diagonal",
        "diagonal (the object is whole in every view) or extent (largest side 1, as SyncDreamer's)",
        choices=("diagonal", "extent"),
    )
    up: str = setting("auto", "up axis of the meshes: auto, y, z", choices=("auto", "y", "z"))
    num_inputs: int = setting(
        16, "input images per object, at random elevations", limit=RANGES["num_inputs"]
    )
    input_elevation: list[float] = setting(
        [-10.0, 40.0],
        "lowest and highest elevation of input images, degrees",
        limit=RANGES["input_elevation"],
    )
    depth: bool = setting(False, "also write 16-bit depth maps")
    normals: bool = setting(False, "also write world-space normals")
    supersample: int = setting(3, "rays per pixel and axis", limit=RANGES["supersample"])
    held_out: str | None = setting(
        None,
        "file with the names of held-out objects, one per line, globs allowed",
        path="file of names",
    )
    val_fraction: float = setting(
        0.02,
        "without held_out: share of objects held out, chosen by name",
        limit=RANGES["val_fraction"],
    )
    seed: int = setting(
        0, "random seed of lights, input elevations and copies", limit=RANGES["seed"]
    )
    workers: int | None = setting(None, "processes; null: one per core", limit=RANGES["workers"])


def run(config: RenderConfig) -> int:
    """Render what the config says; 1 when some meshes had to be skipped."""
    from .. import builders
    from ..config.instantiate import to_container
    from ..data.render.run import render_objects
    from ..data.render.settings import ObjectSelection, RenderSettings

    values = to_container(config)
    objects = ObjectSelection(**{f.name: values[f.name] for f in fields(ObjectSelection)})
    values["rig"] = builders.build_rig(config)
    settings = RenderSettings(**{f.name: values[f.name] for f in fields(RenderSettings)})
    index = render_objects(config.out, objects, settings, workers=config.workers)
    for skipped in index["skipped"]:
        print(f"skipped {skipped['name']}: {skipped['reason']}")
    print(f"{len(index['objects'])} objects in {config.out}")
    return 1 if index["skipped"] else 0


COMMAND = Command(
    name="render",
    summary="meshes and procedural shapes → images to train on",
    description="Meshes and procedural shapes → images to train on.",
    config=RenderConfig,
    run=run,
    examples=("mvdiff render meshes=models/ out=data", "mvdiff render num_shapes=3000 out=data"),
)
