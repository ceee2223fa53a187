"""`mvdiff train`: train a recipe on rendered objects."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from ..config.schema import TrainConfig
from ..errors import ConfigError, MvdiffError
from .command import Command, Job, read_config


def run(config: TrainConfig) -> int:
    """Train as the config says; resumes from a checkpoint in `out`."""
    from ..builders.training_run import build_training, resolved_precision, run_training
    from ..training.checkpointing import resume_candidates
    from ..training.distributed import place
    from ..utils.locking import exclusive_lock
    from ..utils.precision import describe_precision

    is_main = place(config.device)[0] == 0
    with exclusive_lock(Path(config.out)) if is_main else nullcontext():
        resume_candidates(config.out, config.resume)  # a wrong value is reported before the work
        if is_main and config.train.precision == "auto":
            chosen = resolved_precision(config)
            print(f"precision=auto: {describe_precision(chosen, place(config.device)[2])}")
        return 130 if run_training(config, build_training(config)).interrupted else 0


def read(overrides: Sequence[str]) -> tuple[Any, Job]:
    """One run; with -m, one run for each point of the sweep.

    As in Hydra, `hydra.run.dir=FOLDER` is the folder of a run, here another word for `out`.
    """
    from ..config.launcher import split_hydra_overrides

    sweep = any(word in ("-m", "--multirun") for word in overrides)
    words = [word for word in overrides if word not in ("-m", "--multirun")]
    hydra, words = split_hydra_overrides(words)
    folders = [word for word in hydra if re.match(r"hydra\.(run|sweep)\.dir=", word)]
    hydra = [word for word in hydra if word not in folders]
    words += [f"out={word.partition('=')[2]}" for word in folders]
    if sweep:
        return _read_multirun(words, hydra)
    if hydra:
        key = hydra[0].partition("=")[0]
        raise ConfigError(
            f"'{key}' has no effect on a single run of mvdiff train: leave it out, or sweep with -m"
        )
    return read_config("train", run, words)


def _read_multirun(words: Sequence[str], hydra: Sequence[str]) -> tuple[Any, Job]:
    """The config of the first run, and the call that runs all, each in `out/<its overrides>`."""
    from ..config.compose import compose
    from ..config.overrides import quote_literal
    from ..config.sweeps import split_sweep

    points, fixed = split_sweep("train", words)
    base = Path(compose("train", [*fixed, *points[0]]).out)
    runs = {}
    for point in points:
        name = ",".join(word.lstrip("+") for word in point) or "0"
        folder = base / re.sub(r"[^\w.,=+-]", "_", name)
        runs[folder] = [*fixed, *point, f"out={quote_literal(str(folder))}"]
    configs = {folder: compose("train", overrides) for folder, overrides in runs.items()}
    return next(iter(configs.values())), partial(_run_all, base, runs, hydra)


def _run_all(base: Path, runs: dict[Path, list[str]], hydra: Sequence[str]) -> int:
    """Start one job per run by Hydra's launcher; 1 when some failed, 130 when interrupted."""
    from ..config.launcher import run_multirun
    from ..utils.files import check_writable, read_json, write_json

    check_writable(base)
    for folder, overrides in runs.items():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "job.json", {"overrides": overrides})
    try:
        run_multirun([*runs], run_job, base, hydra)
    except KeyboardInterrupt:
        return 130
    codes = {folder: (read_json(folder / "job.json", dict) or {}).get("code") for folder in runs}
    for folder, code in codes.items():
        print(f"{folder}: {'done' if code == 0 else 'failed'}")
    return 0 if all(code == 0 for code in codes.values()) else 1


def run_job(job: Any) -> None:
    """The task that Hydra's launchers call; `job.run` is the folder of one run.

    A failure is reported in one sentence, and the other runs go on.
    """
    from ..config.compose import compose
    from ..utils.files import read_json, write_json

    folder = Path(job.run)
    overrides = (read_json(folder / "job.json", dict) or {}).get("overrides", [])
    print(f"run '{folder.name}'", flush=True)
    try:
        code = run(compose("train", overrides))
    except MvdiffError as error:
        print(f"mvdiff: run '{folder.name}': {error}", file=sys.stderr)
        code = 2
    write_json(folder / "job.json", {"overrides": overrides, "code": code})
    if code == 130:
        raise KeyboardInterrupt


COMMAND = Command(
    name="train",
    summary="train a recipe on rendered objects",
    description="Train a recipe on rendered objects; the same command resumes automatically.",
    config=TrainConfig,
    run=run,
    read=read,
    examples=(
        "mvdiff train data=data out=runs/first",
        "mvdiff train data=data attention=none train.steps=5000 train.lr=2e-4",
        "mvdiff train recipe=syncdreamer weights=zero123.safetensors data=training_examples "
        "val_data=held_out",
        "mvdiff train data=data out=runs/lr -m train.lr=1e-3,3e-3      (one run for each)",
    ),
)
