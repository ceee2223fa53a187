"""`mvdiff generate jobs=N`: shares of the pictures as jobs of a Hydra launcher."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.compose import compose
from ..errors import MvdiffError
from ..generation.planning import Shot, Wanted, plan
from ..generation.sharding import Share
from ..preprocessing.image_io import user_path
from ..utils.files import read_json, write_json
from .generate import exit_code, make


@dataclass(frozen=True)
class Jobs:
    """What the command line asks for: the config, the words behind it, and those for Hydra."""

    config: Any
    words: Sequence[str]
    hydra: Sequence[str]


def run(jobs: Jobs) -> int:
    """All jobs, by the launcher; the exit code is that of one process with all pictures."""
    from ..config.launcher import run_multirun

    count = _count(jobs)
    wanted = plan(jobs.config)  # wrong settings are told here, once
    count = min(count, len(wanted))
    out = user_path(str(jobs.config.out)).resolve()
    # a folder of its own: another command may be working on the same `out`
    folder = Path(tempfile.mkdtemp(prefix=".jobs-", dir=out))
    shares = {folder / f"{i}-of-{count}.json": len(wanted[i::count]) for i in range(count)}
    remove = False
    try:
        for number, (path, pictures) in enumerate(shares.items()):
            words = [*jobs.words, f"shard={number}/{count}", "jobs=null"]
            # pictures may come and go until a job starts: it does not look for them again
            job = {"words": words, "pictures": pictures, "wanted": _as_json(wanted)}
            write_json(path, job)
        run_multirun([*shares], carry_out, folder, jobs.hydra)
        code = _collect(shares)
        remove = code == 0  # else a launcher's logs may tell why
    except MvdiffError:  # Hydra's words, or a full disk; nothing was started
        remove = True
        raise
    finally:
        if remove:
            shutil.rmtree(folder, ignore_errors=True)
    return code


def _count(jobs: Jobs) -> int:
    count, hydra = jobs.config.jobs, " ".join(jobs.hydra)
    if count is None:
        others = [word for word in jobs.hydra if "launcher" not in word.partition("=")[0]]
        if others:
            raise MvdiffError(
                f"mvdiff generate has no use for {others[0]}: results go to out=FOLDER, and of "
                "Hydra's own settings hydra/launcher=NAME and hydra.launcher.… work, with jobs=N"
            )
        raise MvdiffError(f"{hydra} needs the number of jobs: add jobs=4, say")
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
    asked = read_json(path, dict)
    if asked is None:
        print(f"mvdiff: job {path.stem}: '{path}' is missing or damaged", file=sys.stderr)
        return
    try:
        config, wanted = compose("generate", asked["words"]), _from_json(asked["wanted"])
        config.image = [str(shot.path) for each in wanted for shot in each.shots]
        share = Share.read(config.shard)
        tally = make(config, wanted[share.index :: share.count], alone=False)
        counts = [len(tally.errors), tally.meshless, tally.pictures]
    except Exception as error:
        kind = "" if isinstance(error, MvdiffError) else f"{type(error).__name__}: "
        print(f"mvdiff: job {path.stem}: {kind}{error}", file=sys.stderr)
        counts = [asked["pictures"], 0, asked["pictures"]]
    with suppress(MvdiffError):  # the disk may be what failed
        write_json(path, {**asked, "counts": counts})


def _as_json(wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
    return [
        {
            "shots": [[str(shot.path), shot.elevation, shot.azimuth] for shot in each.shots],
            "folder": str(each.folder),
        }
        for each in wanted
    ]


def _from_json(wanted: Sequence[dict[str, Any]]) -> list[Wanted]:
    return [
        Wanted(
            tuple(Shot(Path(path), *where) for path, *where in each["shots"]),
            Path(each["folder"]),
        )
        for each in wanted
    ]


def _collect(shares: Mapping[Path, int]) -> int:
    """The jobs' pictures together; a job that left nothing failed with all of its own.

    shares: a job's file → how many pictures are its own.
    """
    total = [0, 0, 0]
    for path, pictures in shares.items():
        counts = (read_json(path, dict) or {}).get("counts")
        if counts is None:
            print(
                f"mvdiff: job {path.stem} left no result; the same command goes on",
                file=sys.stderr,
            )
            counts = [pictures, 0, pictures]
        total = [a + b for a, b in zip(total, counts, strict=True)]
    return exit_code(*total)
