"""`mvdiff generate`: pictures → views → meshes, with everything written beside each other."""

from __future__ import annotations

import json
import platform
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from .. import __version__, build
from ..errors import MvdiffError
from ..files import atomic, check_writable, write_text
from ..pipeline import Model, check_elevation
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
    """All pictures; 1 when some failed, and 2 when all did."""
    pictures = find_pictures(config.image)
    elevations = _elevations(config.elevation, len(pictures))
    if config.samples < 1:
        raise MvdiffError(f"samples must be at least 1, got {config.samples}")
    out = Path(config.out)
    check_writable(out)
    timer = Timer()
    with Stages("loading the model") as stages:
        model = build.pipeline(config)
        reconstructor = build.reconstructor(config)
        timer.lap("setup")
        failed = 0
        for picture, folder, elevation in zip(
            pictures, _folders(out, pictures), elevations, strict=True
        ):
            try:
                for result in _one_picture(
                    config, model, reconstructor, picture, folder, elevation, stages, timer
                ):
                    stages.say(f"{picture} → {result}")
            except MvdiffError as error:
                if len(pictures) == 1:
                    raise
                failed += 1
                stages.say(f"mvdiff: {picture}: {error}")
            timer = Timer({"setup": timer.seconds["setup"]})
    if failed == len(pictures):
        return 2
    return 1 if failed else 0


def find_pictures(image: Any) -> list[Path]:
    """The pictures of a path, a list of paths or a folder; MvdiffError when there are none."""
    paths = [Path(str(p)).expanduser() for p in ([image] if isinstance(image, str) else image)]
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
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
    values = list(value) if not isinstance(value, (int, float, str)) else [value] * count
    if len(values) != count:
        raise MvdiffError(
            f"give one elevation for all pictures or one each: got {len(values)} for {count}"
        )
    return [check_elevation(v) for v in values]


def _folders(out: Path, pictures: list[Path]) -> list[Path]:
    """One result folder a picture; pictures of the same name get a number."""
    seen: dict[str, int] = {}
    folders = []
    for picture in pictures:
        count = seen[picture.stem] = seen.get(picture.stem, 0) + 1
        folders.append(out / (picture.stem if count == 1 else f"{picture.stem}-{count}"))
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
) -> Iterator[Path]:
    """Every sample of one picture; yields the folder of each finished one."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        photo = model.prepare(picture)
    said = [str(note.message) for note in notes if "mvdiff" in note.filename]
    for note in said:
        stages.say(f"note: {note}")
    timer.lap("photo")
    seeds = [config.seed + k for k in range(config.samples)]
    stages.start(f"{picture.name}: denoising", model.sampler.steps)
    views = model.generate_many(
        [photo] * config.samples,
        [elevation] * config.samples,
        seeds,
        batch_views=config.batch_views,
        callback=lambda step, steps, _: stages.advance(step, steps),
    )
    timer.lap("denoising")
    for k, (seed, sample) in enumerate(zip(seeds, views, strict=True)):
        target = folder / f"sample-{k}"
        clock = Timer(dict(timer.seconds))
        _write_sample(config, reconstructor, target, photo.pil(), sample, stages, clock)
        record = {
            "picture": str(picture),
            "elevation": elevation,
            "seed": seed,
            "notes": said,
            "seconds": clock.seconds,
            "versions": versions(),
            "device": str(model.denoiser.device),
            "config": build.plain(config),
        }
        write_text(target / "run.json", json.dumps(record, indent=1))
        yield target


def _write_sample(
    config: Any,
    reconstructor: Any,
    target: Path,
    photo: Image.Image,
    views: Any,
    stages: Stages,
    clock: Timer,
) -> None:
    from ..gallery import mesh_renders, preview, turntable

    views.save(target, "views")
    save_picture(views.strip(), target / "strip.png")
    photo_rgb = photo.convert("RGB")
    save_picture(photo_rgb, target / "input.png")
    clock.lap("writing")
    mesh = None
    if reconstructor is not None:
        stages.start("mesh", 1.0)
        mesh = reconstructor(views, progress=lambda stage, share: stages.update(stage, share))
        clock.lap("mesh")
        mesh.export(target / "mesh.glb")
        if config.turntable:
            stages.start("turntable", None)
            turntable(mesh, target / "turntable.gif")
    stages.start("preview", None)
    save_picture(preview(views, photo_rgb, mesh and mesh_renders(mesh)), target / "preview.png")
    clock.lap("writing")


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
