"""`mvdiff generate jobs=N`: shares of the pictures as jobs of a Hydra launcher."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import compose
from ..errors import MvdiffError
from ..files import read_json, write_json
from .generate import exit_code, find_pictures, make, plan
from .sharing import Share

FOLDER = ".jobs"


@dataclass(frozen=True)
class Jobs:
    """What the command line asks for: the config, the words behind it, and those for Hydra."""

    config: Any
    words: Sequence[str]
    hydra: Sequence[str]


def run(jobs: Jobs) -> int:
    """All jobs, by the launcher; the exit code is that of one process with all pictures."""
    from ..launch import launch

    count = _count(jobs)
    plan(jobs.config)  # wrong settings are told here, once
    images = [str(path) for path in find_pictures(jobs.config.image)]
    pictures = len(images) if jobs.config.azimuth is None else 1
    count = min(count, pictures)
    out = Path(str(jobs.config.out)).expanduser().resolve()
    paths = [out / FOLDER / f"{number}-of-{count}.json" for number in range(count)]
    out.joinpath(FOLDER).mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        words = [*jobs.words, f"shard={number}/{count}", "jobs=null"]
        mine = len(range(number, pictures, count))
        # the folder may have other pictures by the time that a job starts
        write_json(path, {"words": words, "images": images, "pictures": mine})
    try:
        launch(paths, carry_out, out / FOLDER, jobs.hydra)
        code = _collect(paths)
    except MvdiffError:  # Hydra's words; nothing was started
        shutil.rmtree(out / FOLDER, ignore_errors=True)
        raise
    if code == 0:  # else a launcher's logs may tell why
        shutil.rmtree(out / FOLDER)
    return code


def _count(jobs: Jobs) -> int:
    count, hydra = jobs.config.jobs, " ".join(jobs.hydra)
    if count is None:
        raise MvdiffError(f"{hydra} starts jobs: say how many, as in jobs=4")
    if type(count) is not int or count < 1:
        raise MvdiffError(f"jobs must be a whole number from 1, got {count!r}")
    if jobs.config.shard is not None:
        raise MvdiffError("each job gets a share of its own: give jobs or shard, not both")
    return count


def carry_out(job: Any) -> None:
    """The task that launchers call; job.run is the file that says what to do.

    A failure is told in one sentence and kept in that file: the other jobs go on.
    """
    path = Path(job.run)
    asked = read_json(path)
    try:
        config = compose("generate", asked["words"])
        config.image = asked["images"]
        wanted, share = plan(config), Share.read(config.shard)
        tally = make(config, wanted[share.index :: share.count], alone=False)
        counts = [len(tally.errors), tally.meshless, tally.pictures]
    except Exception as error:
        kind = "" if isinstance(error, MvdiffError) else f"{type(error).__name__}: "
        print(f"mvdiff: job {path.stem}: {kind}{error}", file=sys.stderr)
        counts = [asked["pictures"], 0, asked["pictures"]]
    with suppress(MvdiffError):  # the disk may be what failed
        write_json(path, {**asked, "counts": counts})


def _collect(paths: Sequence[Path]) -> int:
    """The jobs' pictures together; a job that left nothing failed with all of its own."""
    total = [0, 0, 0]
    for path in paths:
        asked = read_json(path)
        counts = asked.get("counts")
        if counts is None:
            print(
                f"mvdiff: job {path.stem} left no result; the same command goes on",
                file=sys.stderr,
            )
            counts = [asked["pictures"], 0, asked["pictures"]]
        total = [a + b for a, b in zip(total, counts, strict=True)]
    return exit_code(*total)
