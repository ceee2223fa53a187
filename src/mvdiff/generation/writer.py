"""What a sample of `mvdiff generate` leaves: views, strip, mesh, turntable, preview."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from .. import __version__
from ..cameras import Cameras
from ..config.schema import GenerateConfig
from ..errors import MvdiffError
from ..utils.callbacks import ProgressCallback
from ..utils.files import atomic
from ..utils.progress import ProgressDisplay
from ..utils.timing import StageTimer
from ..views import Views


def write_sample(
    config: GenerateConfig,
    reconstructor: Any,
    target: Path,
    pictures: Sequence[Image.Image],
    input_cameras: Cameras | None,
    views: Views,
    stages: ProgressDisplay,
    clock: StageTimer,
) -> str | None:
    """Everything but `run.json`, which comes last; why there is no mesh, where it failed.

    pictures: the prepared input images, usually one. input_cameras: of these images; None for
        views made from a text.
    """
    from ..mesh.postprocess import texture_side
    from ..recon.mesh_step import make_mesh
    from ..utils.video import VIDEOS
    from ..visualization import mesh_renders, preview, turntable

    films = [f"turntable.{kind}" for kind in VIDEOS]
    for name in ("run.json", "mesh.glb", *films, "preview.png"):
        (target / name).unlink(missing_ok=True)  # of an earlier run: never beside these views
    for old in [*(target / "views").glob("[0-9]*.png"), *target.glob("input-[0-9]*.png")]:
        old.unlink()
    names = [f"input-{i}.png" if i else "input.png" for i in range(len(pictures))]
    views.save(target, "views", inputs=input_cameras, input_names=names)
    save_picture(views.strip(), target / "strip.png")
    for name, picture in zip(names, pictures, strict=True):
        save_picture(picture, target / name)
    clock.lap("writing")
    renders, trouble = [], None
    if reconstructor is not None:
        stages.start("mesh", 1.0)
        try:
            progress = _lap_before("simplifying", "mesh", clock, stages.within("mesh"))
            texture = texture_side(config.texture_size)
            mesh = make_mesh(reconstructor, views, texture=texture, progress=progress).mesh
        except MvdiffError as error:  # the views were expensive: keep them
            trouble = f"there is no mesh: {error}"
            clock.lap("mesh")
        else:
            mesh.export(target / "mesh.glb")
            clock.lap("texture")
            stages.start("pictures of the mesh", None)
            renders = mesh_renders(mesh)
            if config.turntable:
                turntable(mesh, target / f"turntable.{config.turntable_format}")
    stages.start("preview", None)
    save_picture(preview(views, pictures, renders), target / "preview.png")
    clock.lap("pictures")
    return trouble


def _lap_before(
    stage: str, lap: str, clock: StageTimer, progress: ProgressCallback
) -> ProgressCallback:
    """A progress callback that also ends a lap when a stage begins."""

    def report(name: str, share: float) -> None:
        if name == stage and lap not in clock.seconds:
            clock.lap(lap)
        progress(name, share)

    return report


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG atomically."""
    with atomic(path) as part:
        picture.save(part)


def versions() -> dict[str, str]:
    """Of what made the result."""
    import diffusers
    import torch

    return {
        "mvdiff": __version__,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
    }
