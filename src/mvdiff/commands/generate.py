"""`mvdiff generate`: pictures → views → meshes, with everything written beside each other."""

from __future__ import annotations

import json
import platform
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from .. import __version__, build
from ..cli import is_ours
from ..errors import MvdiffError
from ..files import atomic, check_writable, write_text
from ..pipeline import Model, check_elevation
from ..views import Views
from .progress import Stages

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


@dataclass
class Timer:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)
    _since: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Book the time since the last lap."""
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._since, 3)
        self._since = now


def run(config: Any) -> int:
    """All pictures; 1 when some failed or have no mesh, and 2 when all failed."""
    pictures = find_pictures(config.image)
    elevations = _elevations(config.elevation, len(pictures))
    _check_numbers(config)
    out = Path(str(config.out)).expanduser()
    check_writable(out)
    timer = Timer()
    failed = meshless = 0
    with Stages("loading the model") as stages:
        model = build.pipeline(config)
        reconstructor = build.reconstructor(config)
        timer.lap("setup")
        for picture, folder, elevation in zip(
            pictures, _folders(out, pictures), elevations, strict=True
        ):
            clock = Timer({"setup": timer.seconds["setup"]})
            try:
                for result, trouble in _one_picture(
                    config, model, reconstructor, picture, folder, elevation, stages, clock
                ):
                    stages.say(f"{picture} → {result}")
                    if trouble:
                        meshless += 1
                        stages.say(f"mvdiff: {picture}: the views are written, but {trouble}")
            except MvdiffError as error:
                if len(pictures) == 1:
                    raise
                failed += 1
                named = f"'{picture}'" in str(error)
                stages.say(f"mvdiff: {error}" if named else f"mvdiff: {picture}: {error}")
    if failed == len(pictures):
        return 2
    return 1 if failed or meshless else 0


def _check_numbers(config: Any) -> None:
    """Raise MvdiffError now rather than after the model is loaded."""
    from ..gallery import VIDEOS
    from ..recon.finish import texture_side

    if config.samples < 1:
        raise MvdiffError(f"samples must be at least 1, got {config.samples}")
    if not 0 <= config.seed < 2**62:
        raise MvdiffError(f"seed must be a whole number in [0, 2^62), got {config.seed}")
    texture_side(config.texture)
    if config.video not in VIDEOS:
        raise MvdiffError(f"unknown video '{config.video}'; choose from {', '.join(VIDEOS)}")
    some = config.batch_views
    if some is not None and (type(some) is not int or some < 1):
        raise MvdiffError(f"batch_views must be a whole number from 1, got {some!r}")


def find_pictures(image: Any) -> list[Path]:
    """The pictures of a path, a list of paths or a folder; MvdiffError when there are none."""
    if not image:
        raise MvdiffError("image names no picture: give a path, a list of paths or a folder")
    paths = [image] if isinstance(image, (str, Path)) else image
    found: list[Path] = []
    for path in (Path(str(p)).expanduser() for p in paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
            inside = [p for p in inside if p.is_file() and not p.name.startswith(".")]
            if not inside:
                raise MvdiffError(
                    f"no pictures in the folder '{path}': expected {', '.join(PICTURES)}"
                )
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise MvdiffError(f"no picture at '{path}': check the path")
    return found


def _elevations(value: Any, count: int) -> list[float]:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    values = list(value) if several else [value] * count
    if len(values) != count:
        raise MvdiffError(
            f"give one elevation for all pictures or one each: got {len(values)} for {count}"
        )
    return [check_elevation(v) for v in values]


def _folders(out: Path, pictures: list[Path]) -> list[Path]:
    """One result folder a picture; pictures of the same name get a number."""
    folders: list[Path] = []
    for picture in pictures:
        number, folder = 1, out / picture.stem
        while folder in folders:
            number += 1
            folder = out / f"{picture.stem}-{number}"
        folders.append(folder)
    return folders


def _one_picture(
    config: Any,
    model: Model,
    reconstructor: Any,
    picture: Path,
    folder: Path,
    elevation: float,
    stages: Stages,
    timer: Timer,
) -> Iterator[tuple[Path, str | None]]:
    """Every sample of one picture; yields each one's folder, and why it has no mesh if so.

    One sample at a time: it is written as soon as it is made, and it is the same to the bit
    however many there are.
    """
    stages.start(f"{picture.name}: reading", None)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        photo = model.prepare(picture)
    said = [str(note.message) for note in notes if is_ours(note.filename)]
    for note in said:
        stages.say(f"note: {picture}: {note}")
    timer.lap("photo")
    for k in range(config.samples):
        clock = Timer(dict(timer.seconds))
        seed = config.seed + k
        name = picture.name
        if config.samples > 1:
            name += f", sample {k + 1} of {config.samples}"
        stages.start(f"{name}: denoising", model.sampler.steps)
        views = model.generate_many(
            [photo],
            [elevation],
            [seed],
            batch_views=config.batch_views,
            callback=lambda done, steps, _: stages.advance(done, steps),
        )[0]
        clock.lap("denoising")
        target = folder / f"sample-{k}"
        trouble = _write_sample(config, reconstructor, target, photo.pil(), views, stages, clock)
        record = {
            "picture": str(picture),
            "elevation": elevation,
            "seed": seed,
            "notes": said + ([trouble] if trouble else []),
            "seconds": clock.seconds,
            "versions": versions(),
            "device": str(model.denoiser.device),
            "config": build.plain(config),
        }
        write_text(target / "run.json", json.dumps(record, indent=1))
        yield target, trouble


def _write_sample(
    config: Any,
    reconstructor: Any,
    target: Path,
    photo: Image.Image,
    views: Views,
    stages: Stages,
    clock: Timer,
) -> str | None:
    """Everything but `run.json`, which comes last; why there is no mesh, where it failed."""
    from ..gallery import VIDEOS, mesh_renders, preview, turntable
    from ..recon.finish import finish, texture_side

    films = [f"turntable.{kind}" for kind in VIDEOS]
    for name in ("run.json", "mesh.glb", *films, "preview.png"):
        (target / name).unlink(missing_ok=True)  # of an earlier run: never beside these views
    views.save(target, "views")
    save_picture(views.strip(), target / "strip.png")
    save_picture(photo, target / "input.png")
    clock.lap("writing")
    renders, trouble = [], None
    if reconstructor is not None:
        stages.start("mesh", 1.0)
        try:
            mesh = reconstructor(views, progress=stages.within("mesh"))
            clock.lap("mesh")
            mesh, _ = finish(
                mesh,
                views,
                texture=texture_side(config.texture),
                progress=stages.within("texture"),
            )
        except MvdiffError as error:  # the views were expensive: keep them
            trouble = f"there is no mesh: {error}"
            clock.lap("mesh")
        else:
            mesh.export(target / "mesh.glb")
            clock.lap("texture")
            stages.start("pictures of the mesh", None)
            renders = mesh_renders(mesh)
            if config.turntable:
                turntable(mesh, target / f"turntable.{config.video}")
    stages.start("preview", None)
    save_picture(preview(views, photo, renders), target / "preview.png")
    clock.lap("pictures")
    return trouble


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
