"""`mvdiff reconstruct`: views with cameras → a mesh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import build
from ..errors import MvdiffError
from ..files import check_writable
from ..views import Views
from .generate import save_picture
from .progress import Stages


def run(config: Any) -> int:
    """Read the views, make the mesh, write it with a preview and a turntable."""
    from ..gallery import mesh_renders, preview, turntable

    source = Path(str(config.views)).expanduser()
    formats = ("glb", "obj", "ply", "stl")
    if config.format not in formats:
        raise MvdiffError(f"unknown format '{config.format}'; choose from {', '.join(formats)}")
    beside = source if source.is_dir() else source.parent
    out = Path(str(config.out)).expanduser() if config.out else beside
    reconstructor = build.reconstructor(config)
    if reconstructor is None:
        raise MvdiffError("reconstructor=none makes no mesh: choose another, see mvdiff list")
    views = Views.load(source)
    check_writable(out)
    with Stages("mesh") as stages:
        mesh = reconstructor(views, progress=stages.within("mesh"))
        target = out / f"mesh.{config.format}"
        mesh.export(target)
        if config.turntable:
            stages.start("turntable", None)
            turntable(mesh, out / "turntable.gif")
        stages.start("preview", None)
        save_picture(preview(views, None, mesh_renders(mesh)), out / "mesh-preview.png")
        stages.say(f"{source} → {target}")
    return 0
