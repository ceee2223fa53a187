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
from ..config.schema import GenerateConfig
from ..errors import ConfigError, MvdiffError
from ..generation.planning import InputImage, ObjectPlan, plan_objects
from ..generation.run import run_plans
from ..generation.sharding import Shard
from ..preprocessing.image_io import user_path
from ..utils.files import missing_folders, read_json, remove_empty_folders, write_json
from .command import exit_code


@dataclass(frozen=True)
class ShardedRun:
    """The config, the overrides that gave it, and those for Hydra."""

    config: GenerateConfig
    overrides: Sequence[str]
    hydra: Sequence[str]


def run_sharded(sharded: ShardedRun) -> int:
    """All jobs, by the launcher; the exit code is that of one process with all pictures."""
    from ..config.launcher import run_multirun

    count = _count(sharded)
    plans = plan_objects(sharded.config)  # invalid settings raise here, before any job starts
    count = min(count, len(plans))
    out = user_path(str(sharded.config.out)).resolve()
    missing = missing_folders(out)
    out.mkdir(parents=True, exist_ok=True)
    # a folder of its own: another command may be working on the same `out`
    folder = Path(tempfile.mkdtemp(prefix=".jobs-", dir=out))
    shares = {folder / f"{i}-of-{count}.json": len(plans[i::count]) for i in range(count)}
    remove = False
    try:
        for number, (path, pictures) in enumerate(shares.items()):
            words = [*sharded.overrides, f"shard={number}/{count}", "jobs=null"]
            # pictures may come and go until a job starts: it does not look for them again
            job = {"overrides": words, "pictures": pictures, "plans": _as_json(plans)}
            write_json(path, job)
        run_multirun([*shares], run_shard, folder, sharded.hydra)
        code = _sum_counts(shares)
        remove = code == 0  # else a launcher's logs may tell why
    except MvdiffError:  # Hydra's words, or a full disk; nothing was started
        remove = True
        raise
    finally:
        if remove:
            shutil.rmtree(folder, ignore_errors=True)
            remove_empty_folders(missing)
    return code


def _count(sharded: ShardedRun) -> int:
    count, hydra = sharded.config.jobs, " ".join(sharded.hydra)
    if count is None:
        others = [word for word in sharded.hydra if "launcher" not in word.partition("=")[0]]
        if others:
            raise ConfigError(
                f"mvdiff generate has no use for {others[0]}: results go to out=FOLDER, and of "
                "Hydra's own settings hydra/launcher=NAME and hydra.launcher.… work, with jobs=N"
            )
        raise ConfigError(f"{hydra} needs the number of jobs: add jobs=4, say")
    if type(count) is not int or count < 1:
        raise ConfigError(f"jobs must be a whole number from 1, got {count!r}")
    if sharded.config.shard is not None:
        raise ConfigError("each job gets a share of its own: give jobs or shard, not both")
    return count


def run_shard(job: Any) -> None:
    """The task that launchers call; job.run is the file that says what to do.

    A failure is told in one sentence and kept in that file: the other jobs go on.
    """
    path = Path(job.run)
    asked = read_json(path, dict)
    if asked is None:
        print(f"mvdiff: job {path.stem}: '{path}' is missing or damaged", file=sys.stderr)
        return
    try:
        config, plans = compose("generate", asked["overrides"]), _from_json(asked["plans"])
        if config.input == "image":
            config.image = [str(image.path) for each in plans for image in each.images]
        shard = Shard.parse(config.shard)
        summary = run_plans(config, plans[shard.index :: shard.count], report_errors=True)
        counts = [len(summary.errors), summary.meshless, summary.pictures]
    except Exception as error:
        kind = "" if isinstance(error, MvdiffError) else f"{type(error).__name__}: "
        print(f"mvdiff: job {path.stem}: {kind}{error}", file=sys.stderr)
        counts = [asked["pictures"], 0, asked["pictures"]]
    with suppress(MvdiffError):  # the disk may be what failed
        write_json(path, {**asked, "counts": counts})


def _as_json(plans: Sequence[ObjectPlan]) -> list[dict[str, Any]]:
    return [
        {
            "images": [[str(image.path), image.elevation, image.azimuth] for image in each.images],
            "folder": str(each.folder),
            "prompt": each.prompt,
        }
        for each in plans
    ]


def _from_json(plans: Sequence[dict[str, Any]]) -> list[ObjectPlan]:
    return [
        ObjectPlan(
            tuple(InputImage(Path(path), *where) for path, *where in each["images"]),
            Path(each["folder"]),
            each.get("prompt"),
        )
        for each in plans
    ]


def _sum_counts(shares: Mapping[Path, int]) -> int:
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
