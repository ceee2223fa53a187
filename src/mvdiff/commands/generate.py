"""`mvdiff generate`: pictures → views → meshes, with everything written beside each other."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import build
from ..cli import is_ours
from ..errors import MvdiffError
from ..files import check_writable, write_text
from ..inputs.elevation import check_elevation, is_auto, read_elevation
from ..inputs.photo import Photo
from ..pipeline import Model
from ..ranking import score_sample
from ..views import Views
from .progress import Stages
from .samples import Samples, fingerprint, read_record
from .writing import Timer, versions, write_sample

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")


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


def _elevations(value: Any, count: int) -> list[float | str]:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    values = list(value) if several else [value] * count
    if len(values) != count:
        raise MvdiffError(
            f"give one elevation for all pictures or one each: got {len(values)} for {count}"
        )
    return ["auto" if is_auto(v) else check_elevation(v) for v in values]


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
    elevation: float | str,
    stages: Stages,
    timer: Timer,
) -> Iterator[tuple[Path, str | None]]:
    """Every sample of one picture, the best first; yields its folder, and why it has no mesh.

    One sample at a time: it is written as soon as it is made, and it is the same to the bit
    however many there are. With `resume`, finished ones are not made again.
    """
    seeds = [config.seed + k for k in range(config.samples)]
    samples = Samples(folder, seeds, fingerprint(picture, elevation, build.plain(config)))
    done = samples.finished() if config.resume else {}
    missing = [seed for seed in seeds if seed not in done]
    if missing:
        stages.start(f"{picture.name}: reading", None)
        photo, notes = _read(model, picture, stages)
        found = read_elevation(elevation, photo)
        if found.estimated:
            stages.say(
                f"note: {picture}: the camera seems to have stood {found.degrees:.0f}° above the "
                f"object, give or take {found.spread:.0f}°; elevation=DEGREES says it better"
            )
        timer.lap("photo")
    for seed in missing:
        clock = Timer(dict(timer.seconds))
        name = picture.name
        if config.samples > 1:
            name += f", sample {seeds.index(seed) + 1} of {config.samples}"
        stages.start(f"{name}: denoising", model.sampler.steps)
        views = model.generate_many(
            [photo],
            [found.degrees],
            [seed],
            batch_views=config.batch_views,
            callback=lambda done, steps, _: stages.advance(done, steps),
        )[0]
        clock.lap("denoising")
        target = samples.place(seed, done)
        trouble = write_sample(config, reconstructor, target, photo.pil(), views, stages, clock)
        record = {
            "picture": str(picture),
            "elevation": found.degrees,
            "elevation_spread": found.spread if found.estimated else None,
            "seed": seed,
            "scores": None,
            "trouble": trouble,
            "notes": notes + ([trouble] if trouble else []),
            "seconds": clock.seconds,
            "versions": versions(),
            "device": str(model.denoiser.device),
            "fingerprint": samples.key,
            "config": build.plain(config),
        }
        write_text(target / "run.json", json.dumps(record, indent=1))
        done[seed] = target
    if not missing:
        stages.say(f"note: {picture}: was finished before; resume=false makes it again")
    if len(seeds) > 1:
        stages.start(f"{picture.name}: comparing the samples", None)
        for path in done.values():
            _score(path, model, picture)
    for path in samples.arrange(sorted((done[seed] for seed in seeds), key=_rank)):
        yield path, read_record(path).get("trouble")


def _read(model: Model, picture: Path, stages: Stages) -> tuple[Photo, list[str]]:
    """The framed picture, and what is to be said about it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        photo = model.prepare(picture)
    notes = [str(note.message) for note in caught if is_ours(note.filename)]
    for note in notes:
        stages.say(f"note: {picture}: {note}")
    return photo, notes


def _score(sample: Path, model: Model, picture: Path) -> None:
    """Write a finished sample's scores into its `run.json`, where they are missing."""
    record = read_record(sample)
    if record.get("scores") is not None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        photo = model.prepare(picture)
    try:
        scores = score_sample(Views.load(sample), photo, record["elevation"])
    except MvdiffError as error:  # too few views, say: the samples keep the order of their seeds
        record["notes"] = [*record["notes"], f"not scored: {error}"]
        scores = {}
    # JSON has no NaN
    record["scores"] = {k: v if math.isfinite(v) else None for k, v in scores.items()}
    write_text(sample / "run.json", json.dumps(record, indent=1))


def _rank(sample: Path) -> tuple[float, int]:
    """Best score first; samples without one last, by seed."""
    record = read_record(sample)
    scores = record.get("scores") or {}
    score = scores.get("score")
    return (math.inf if score is None else -score), record["seed"]
