"""One object's way through `mvdiff generate`: read before, written after the denoising."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..cameras.rigs import input_cameras
from ..config.instantiate import to_container
from ..config.schema import GenerateConfig
from ..denoiser.guidance import Condition
from ..errors import MvdiffError
from ..evaluation.ranking import distances, score_sample, sort_key
from ..pipeline import MultiViewPipeline
from ..preprocessing.elevation import Elevation, check_elevation
from ..preprocessing.photo import PreparedImage
from ..utils.files import write_text
from ..utils.locking import exclusive_lock
from ..utils.progress import ProgressDisplay
from ..utils.timing import StageTimer
from ..utils.warnings import NoteBook, capture_warnings
from ..views import Views
from .planning import FINISHED, ObjectPlan, samples_of
from .sample_store import SampleStore, Survey, output_sizes, read_record
from .writer import versions, write_sample

#: How the object of a picture was found, by the method of `segmentation=`.
FOUND_BY = {
    "alpha": "the object is what the picture's transparency shows",
    "none": "the whole picture is taken as the object",
    "color_key": "the object was found by its plain background",
    "grabcut": "the object was found by OpenCV's GrabCut",
}


@dataclass(frozen=True)
class EncodedInput:
    """What the denoiser gets to know of an object, and what the record says of it."""

    photos: tuple[PreparedImage, ...]
    elevations: tuple[Elevation, ...]
    condition: Condition


@dataclass
class JobState:
    """A picture between its stages.

    done: finished samples by seed. missing: seeds to be made. known: None without such seeds.
    notes: what was to be said about the picture. seconds: spent so far, by stage.
    repaired: folders of samples that are made again, and why.
    failed: a sample could not be written, and the others will not be.
    held: the result folder's lock, until `release`.
    """

    plan: ObjectPlan
    samples: SampleStore
    done: dict[int, Path]
    missing: list[int]
    known: EncodedInput | None = None
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    repaired: dict[Path, str] = field(default_factory=dict)
    failed: bool = False
    held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def hold(self) -> None:
        """Keep other processes from this object's folder; MvdiffError where one is at work.

        What another process has finished meanwhile is not made again.
        """
        self.held.enter_context(exclusive_lock(self.plan.folder))
        if self.missing:
            self.done |= {k: p for k, p in self.samples.finished().items() if k in self.missing}
            self.missing = [seed for seed in self.missing if seed not in self.done]

    def release(self) -> None:
        """Let other processes have the folder."""
        self.held.close()

    @property
    def finished(self) -> bool:
        return len(self.done) == len(self.samples.seeds)


def read(
    config: GenerateConfig, model: MultiViewPipeline, plan: ObjectPlan, setup: float
) -> JobState:
    """Find out what is missing and, if anything is, read, cut out and encode the picture.

    The object's folder is held until `JobState.release`.
    """
    clock = StageTimer({"setup": setup})
    samples = samples_of(config, plan)
    survey = samples.survey() if config.resume else Survey({}, {})
    missing = [seed for seed in samples.seeds if seed not in survey.finished]
    work = JobState(plan, samples, survey.finished, missing, repaired=survey.damaged)
    photos: tuple[PreparedImage, ...] = ()
    if work.missing:  # before the folder is made: a broken picture leaves none
        with capture_warnings() as work.notes:
            photos = tuple(model.prepare(image.path) for image in plan.images)
            both = zip(plan.images, photos, strict=True)
            elevations = tuple(model.elevation_of(image.elevation, photo) for image, photo in both)
            azimuths = [image.azimuth for image in plan.images]
            degrees = [e.degrees for e in elevations]
            condition = model.encode(photos, degrees, azimuths, plan.prompt)
        work.known = EncodedInput(photos, elevations, condition)
        clock.lap("photo")
    work.seconds = clock.seconds
    if config.resume:
        work.hold()
    else:
        work.held.enter_context(exclusive_lock(plan.folder))
    return work


def remark(work: JobState, book: NoteBook) -> None:
    """Note what is to be said about a picture that was just read."""
    name = str(work.plan.path)
    for line in work.notes:
        book.add(name, line)
    for folder, trouble in work.repaired.items():
        book.add(name, f"{folder.name} is made again, since its {trouble}")
    if not work.missing:
        book.add(name, FINISHED)
    for image, elevation in zip(
        work.plan.images, work.known.elevations if work.known else (), strict=False
    ):
        if elevation.estimated:
            book.add(
                str(image.path),
                "the camera's elevation was estimated from the picture; elevation=DEGREES is "
                "better",
                f"{elevation.degrees:.0f}° ± {elevation.spread:.0f}°",
            )


def remark_foreground(work: JobState, book: NoteBook) -> None:
    """Note how the object was found, where no other note says so."""
    photos = work.known.photos if work.known else ()
    for image, photo in zip(work.plan.images, photos, strict=False):
        method = photo.segmentation
        if method and not any(f"segmentation={method}" in line for line in work.notes):
            how = FOUND_BY.get(method, "the object was found")
            book.add(str(image.path), f"{how} (segmentation={method})")


def write(
    config: GenerateConfig,
    model: MultiViewPipeline,
    reconstructor: Any,
    work: JobState,
    seed: int,
    latent: Tensor,
    seconds: float,
    stages: ProgressDisplay,
) -> None:
    """Decode a sample and write it; its `run.json` comes last.

    seconds: the sample's share of its batch's denoising time.
    """
    known = work.known
    assert known is not None  # only pictures that were read are denoised
    clock = StageTimer({**work.seconds, "denoising": seconds})
    stages.start("decoding", None)
    views = model.decode(latent)
    clock.lap("decoding")
    target = work.samples.slot_for(seed, work.done)
    pictures = [photo.pil() for photo in known.photos]
    degrees = torch.tensor([elevation.degrees for elevation in known.elevations])
    azimuths = torch.tensor([float(image.azimuth or 0.0) for image in work.plan.images])
    cameras = None  # a text has none
    if pictures:
        cameras = input_cameras(model.denoiser.rig.to("cpu"), degrees, azimuths - azimuths[0])
    trouble = write_sample(config, reconstructor, target, pictures, cameras, views, stages, clock)
    record = {
        **_input_record(work.plan, known),
        "seed": seed,
        "scores": None,
        "trouble": trouble,
        "notes": work.notes + ([trouble] if trouble else []),
        "seconds": clock.seconds,
        "versions": versions(),
        "device": str(model.denoiser.device),
        "fingerprint": work.samples.key,
        "files": output_sizes(target),
        "config": to_container(config),
    }
    write_text(target / "run.json", json.dumps(record, indent=1))
    work.done[seed] = target


def _input_record(plan: ObjectPlan, known: EncodedInput) -> dict[str, Any]:
    """What the record says of the pictures: of the first one, and of all where there are more."""
    rows = [
        {
            "picture": str(image.path),
            "elevation": elevation.degrees,
            "elevation_spread": elevation.spread if elevation.estimated else None,
            "segmentation": photo.segmentation,
            "azimuth": image.azimuth,
        }
        for image, photo, elevation in zip(plan.images, known.photos, known.elevations, strict=True)
    ]
    if not rows:
        return {"prompt": plan.prompt}
    first = {key: value for key, value in rows[0].items() if key != "azimuth"}
    first |= {"pictures": rows} if len(rows) > 1 else {}
    return first if plan.prompt is None else {**first, "prompt": plan.prompt}


def arrange(model: MultiViewPipeline, work: JobState) -> list[tuple[Path, str | None]]:
    """Every sample of a finished picture, the best first (see `ranking.rank`).

    Returns each sample's folder, and why it has no mesh where it has none.
    """
    seeds = {path: seed for seed, path in work.done.items()}
    samples = [work.done[seed] for seed in work.samples.seeds]
    keys = dict.fromkeys(samples, math.inf)
    if len(samples) > 1:
        views = [Views.load(sample) for sample in samples]
        apart = distances(views) if len(samples) > 2 else [None] * len(samples)
        for sample, its, distance in zip(samples, views, apart, strict=True):
            keys[sample] = sort_key(_score(sample, its, distance, model, work))
    best_first = sorted(samples, key=lambda sample: (keys[sample], seeds[sample]))
    arranged = work.samples.arrange(best_first)
    return [(path, read_record(path).get("trouble")) for path in arranged]


def _score(
    sample: Path, views: Views, distance: float | None, model: MultiViewPipeline, work: JobState
) -> dict[str, float | None]:
    """A finished sample's scores, written into its `run.json` where they are not there yet."""
    record = read_record(sample)
    scores = record.get("scores")
    if not isinstance(scores, dict):
        with capture_warnings():
            photo = _first_photo(model, work)
        elevation = 0.0 if photo is None else record.get("elevation")
        try:
            values = score_sample(views, photo, check_elevation(elevation))
        except MvdiffError as error:  # too few views, say
            notes = record.get("notes")
            record["notes"] = [*_texts(notes), f"not scored: {error}"]
            values = {}
        # JSON has no NaN
        scores = {k: v if math.isfinite(v) else None for k, v in values.items()}
    known = {**scores, "distance": distance}
    changed = {"scores": known, "ranked_with": sorted(work.samples.seeds)}
    if changed != {key: record.get(key) for key in changed}:
        write_text(sample / "run.json", json.dumps({**record, **changed}, indent=1))
    return known


def _first_photo(model: MultiViewPipeline, work: JobState) -> PreparedImage | None:
    """The prepared front picture; None for an object made from a text."""
    if not work.plan.images:
        return None
    return work.known.photos[0] if work.known else model.prepare(work.plan.path)


def _texts(notes: Any) -> Iterable[str]:
    return [str(note) for note in notes] if isinstance(notes, list) else []
