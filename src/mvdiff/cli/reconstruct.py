"""`mvdiff reconstruct`: views with cameras → a mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config.schema import ReconstructConfig
from ..errors import ConfigError
from .command import Command

if TYPE_CHECKING:
    from ..mesh.mesh import Mesh
    from ..utils.progress import ProgressDisplay
    from ..utils.timing import StageTimer


def run(config: ReconstructConfig) -> int:
    """Read the views, make the mesh, write it with a preview, a turntable and a record."""
    from .. import builders
    from ..builders.views import read_configured_views, user_path
    from ..config.instantiate import to_container
    from ..generation.writer import save_picture, versions
    from ..recon.mesh_step import make_mesh
    from ..utils.files import check_writable, write_json
    from ..utils.progress import ProgressDisplay
    from ..utils.timing import StageTimer
    from ..visualization import mesh_renders, preview, turntable

    source = user_path(config.views, "views")
    formats, side = _check(config)
    beside = source if source.is_dir() else source.parent
    out = user_path(config.out, "out") if config.out is not None else beside
    reconstructor = builders.build_reconstructor(config)
    if reconstructor is None:
        raise ConfigError("reconstructor=none makes no mesh: choose another, see mvdiff list")
    clock = StageTimer()
    with ProgressDisplay("reading") as stages:
        clock.start("reading")
        loaded = read_configured_views(source, config)
        views, notes = loaded.views, list(loaded.notes)
        check_writable(out)
        result = make_mesh(
            reconstructor,
            views,
            form=loaded.form,
            faces=config.max_faces,
            watertight=config.watertight,
            texture=side,
            min_agreement=config.min_agreement,
            progress=clock.within(stages.within("mesh")),
        )
        mesh = result.mesh
        notes += result.notes
        closed = _closed(mesh)
        if config.watertight and closed and side is not None and "glb" in formats:
            notes.append(
                "mesh.glb is watertight up to duplicated vertices at texture seams (merge vertices "
                "to verify; texture_size=none has no seams)"
            )
        _begin(clock, stages, "files")
        # a folder with a record holds the meshes that it describes
        (out / "mesh-run.json").unlink(missing_ok=True)
        targets = [mesh.export(out / f"mesh.{name}") for name in formats]
        if config.turntable:
            _begin(clock, stages, "turntable")
            turntable(mesh, out / f"turntable.{config.turntable_format}")
        _begin(clock, stages, "preview")
        save_picture(preview(views, None, mesh_renders(mesh)), out / "mesh-preview.png")
        clock.start(None)
        record = {
            "views": str(source),
            "count": len(views),
            "origin": list(views.origin),
            "faces": len(mesh.faces),
            "vertices": len(mesh.vertices),
            "texture": side,
            "watertight": closed,
            "fit": getattr(reconstructor, "fitted", None),
            "notes": notes,
            "agreement": result.agreement.as_dict(),
            "seconds": clock.seconds,
            "versions": versions(),
            "config": to_container(config),
        }
        # Not run.json: beside generated views that name is taken.
        write_json(out / "mesh-run.json", record)
        for note in notes:
            stages.say(f"note: {note}")
        stages.say(f"{source} → {', '.join(map(str, targets))}")
        stages.say(f"{len(mesh.faces)} faces in {clock}")
    return 0


def _begin(clock: StageTimer, stages: ProgressDisplay, stage: str) -> None:
    clock.start(stage)
    stages.start(stage, None)


def _closed(mesh: Mesh) -> bool:
    """Whether the surface is watertight, vertices at the same place counting as one."""
    import numpy as np
    import trimesh

    points, number = np.unique(mesh.vertices, axis=0, return_inverse=True)
    faces = number.reshape(-1)[mesh.faces]
    flat = (faces == np.roll(faces, 1, axis=1)).any(axis=1)
    shape = trimesh.Trimesh(points, faces[~flat], process=False)
    return bool(shape.is_watertight and shape.is_winding_consistent)


def _check(config: ReconstructConfig) -> tuple[list[str], int | None]:
    """Formats and texture side; ConfigError now rather than after the work."""
    from ..mesh.io import TEXTURED
    from ..mesh.postprocess import texture_side

    formats = list(config.mesh_formats)
    if not formats:
        raise ConfigError("format is empty: choose from glb, obj, ply, stl")
    holds = any(f".{name}" in TEXTURED for name in formats)
    return formats, texture_side(config.texture_size, holds=holds)


COMMAND = Command(
    name="reconstruct",
    summary="views with cameras → a mesh",
    description="Views with cameras → a mesh.",
    config=ReconstructConfig,
    run=run,
    examples=(
        "mvdiff reconstruct views=outputs/photo/sample-0",
        "mvdiff reconstruct views=strip.png",
        "mvdiff reconstruct views=project/sparse/0 images=project/images       (COLMAP)",
        "mvdiff reconstruct views=photos/ rig=ring rig.count=12 rig.elevation=20",
    ),
)
