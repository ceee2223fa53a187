"""One object's way through `mvdiff generate`: read before, written after the denoising."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import build
from ..denoiser.guidance import Condition
from ..errors import MvdiffError
from ..files import write_text
from ..inputs.elevation import Elevation, read_elevation
from ..inputs.photo import Photo
from ..pipeline import Model
from ..ranking import distances, score_sample
from ..views import Views
from .notes import collect
from .progress import Stages
from .samples import Samples, fingerprint, read_record
from .writing import Timer, versions, write_sample


@dataclass(frozen=True)
class Shot:
    """A picture, its camera's elevation (degrees or "auto") and azimuth (degrees)."""

    path: Path
    elevation: float | str
    azimuth: float = 0.0


@dataclass(frozen=True)
class Wanted:
    """Pictures of an object, usually one, and where its results go."""

    shots: tuple[Shot, ...]
    folder: Path

    @property
    def path(self) -> Path:
        """The first picture: the front, and what the object is called by."""
        return self.shots[0].path


@dataclass(frozen=True)
class Known:
    """What the denoiser gets to know of an object, and what the record says of it."""

    photos: tuple[Photo, ...]
    elevations: tuple[Elevation, ...]
    condition: Condition


@dataclass
class Work:
    """A picture between its stages.

    done: finished samples by seed. missing: seeds to be made. known: None without such seeds.
    notes: what was to be said about the picture. seconds: spent so far, by stage.
    failed: a sample could not be written, and the others will not be.
    """

    wanted: Wanted
    samples: Samples
    done: dict[int, Path]
    missing: list[int]
    known: Known | None = None
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    failed: bool = False

    @property
    def finished(self) -> bool:
        return len(self.done) == len(self.samples.wanted)


def read(config: Any, model: Model, wanted: Wanted, setup: float) -> Work:
    """Find out what is missing and, if anything is, read, cut out and encode the picture."""
    clock = Timer({"setup": setup})
    seeds = [config.seed + k for k in range(config.samples)]
    key = fingerprint([(s.path, s.elevation, s.azimuth) for s in wanted.shots], build.plain(config))
    samples = Samples(wanted.folder, seeds, key)
    done = samples.finished() if config.resume else {}
    work = Work(wanted, samples, done, [seed for seed in seeds if seed not in done])
    if work.missing:
        with collect() as work.notes:
            photos = tuple(model.prepare(shot.path) for shot in wanted.shots)
        both = zip(wanted.shots, photos, strict=True)
        elevations = tuple(read_elevation(shot.elevation, photo) for shot, photo in both)
        azimuths = [shot.azimuth for shot in wanted.shots]
        condition = model.encode(photos, [e.degrees for e in elevations], azimuths)
        work.known = Known(photos, elevations, condition)
        clock.lap("photo")
    work.seconds = clock.seconds
    return work


def remarks(work: Work) -> list[str]:
    """Lines about a picture that was just read."""
    path = work.wanted.path
    lines = [f"{path}: {line}" for line in work.notes]
    elevations = work.known.elevations if work.known else ()
    for shot, found in zip(work.wanted.shots, elevations, strict=False):
        if found.estimated:
            lines.append(
                f"{shot.path}: the camera seems to have stood {found.degrees:.0f}° above the "
                f"object, give or take {found.spread:.0f}°; elevation=DEGREES says it better"
            )
    if not work.missing:
        lines.append(f"{path}: was finished before; resume=false makes it again")
    return [f"note: {line}" for line in lines]


def write(
    config: Any,
    model: Model,
    reconstructor: Any,
    work: Work,
    seed: int,
    latent: Tensor,
    seconds: float,
    stages: Stages,
) -> None:
    """Decode a sample and write it; its `run.json` comes last.

    seconds: the sample's share of its batch's denoising time.
    """
    known = work.known
    assert known is not None  # only pictures that were read are denoised
    clock = Timer({**work.seconds, "denoising": round(seconds, 3)})
    stages.start("decoding", None)
    views = model.decode(latent)
    clock.lap("decoding")
    target = work.samples.place(seed, work.done)
    photo = known.photos[0].pil()
    trouble = write_sample(config, reconstructor, target, photo, views, stages, clock)
    record = {
        **_told(work.wanted, known),
        "seed": seed,
        "scores": None,
        "trouble": trouble,
        "notes": work.notes + ([trouble] if trouble else []),
        "seconds": clock.seconds,
        "versions": versions(),
        "device": str(model.denoiser.device),
        "fingerprint": work.samples.key,
        "config": build.plain(config),
    }
    write_text(target / "run.json", json.dumps(record, indent=1))
    work.done[seed] = target


def _told(wanted: Wanted, known: Known) -> dict[str, Any]:
    """What the record says of the pictures: of the first one, and of all where there are more."""
    rows = [
        {
            "picture": str(shot.path),
            "elevation": elevation.degrees,
            "elevation_spread": elevation.spread if elevation.estimated else None,
            "azimuth": shot.azimuth,
        }
        for shot, elevation in zip(wanted.shots, known.elevations, strict=True)
    ]
    first = {key: value for key, value in rows[0].items() if key != "azimuth"}
    return first | ({"pictures": rows} if len(rows) > 1 else {})


def arrange(model: Model, work: Work) -> list[tuple[Path, str | None]]:
    """Every sample of a finished picture, the best first: its folder, and why it has no mesh.

    Of three or more, the nearest to their mean is the best, which on held-out objects is nearer to
    the truth, too (benchmarks/ranking.py); of two, the one that agrees better with the picture.
    """
    samples = [work.done[seed] for seed in work.samples.wanted]
    keys: dict[Path, float | None] = dict.fromkeys(samples)
    if len(samples) > 1:
        views = [Views.load(sample) for sample in samples]
        apart = distances(views) if len(samples) > 2 else [None] * len(samples)
        for sample, its, distance in zip(samples, views, apart, strict=True):
            scores = _scored(sample, its, distance, model, work)
            if distance is not None:
                keys[sample] = distance
            elif scores.get("score") is not None:
                keys[sample] = -scores["score"]
    seeds = {sample: read_record(sample)["seed"] for sample in samples}
    best_first = sorted(samples, key=lambda s: (math.inf if keys[s] is None else keys[s], seeds[s]))
    arranged = work.samples.arrange(best_first)
    return [(path, read_record(path).get("trouble")) for path in arranged]


def _scored(
    sample: Path, views: Views, distance: float | None, model: Model, work: Work
) -> dict[str, float | None]:
    """A finished sample's scores, written into its `run.json` where they are not there yet."""
    record = read_record(sample)
    scores = record.get("scores")
    if scores is None:
        with collect():
            photo = work.known.photos[0] if work.known else model.prepare(work.wanted.path)
        try:
            found = score_sample(views, photo, record["elevation"])
        except MvdiffError as error:  # too few views, say
            record["notes"] = [*record["notes"], f"not scored: {error}"]
            found = {}
        # JSON has no NaN
        scores = {k: v if math.isfinite(v) else None for k, v in found.items()}
    known = {**scores, "distance": distance}
    if known != record.get("scores"):
        write_text(sample / "run.json", json.dumps({**record, "scores": known}, indent=1))
    return known
