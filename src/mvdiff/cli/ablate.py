"""`mvdiff ablate`: variants × seeds → runs → results.json, table.md, plots, a contact sheet."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.schema import AblateConfig
from ..errors import ConfigError, InputError, MvdiffError
from .command import Command, Job
from .train import COMMAND as TRAIN

if TYPE_CHECKING:
    from ..ablation.report import Row
    from ..ablation.runs import Run
    from ..ablation.sweep import Sweep

BUDGETS = ("steps", "seconds", "cpu_seconds")


def run(sweep: Sweep) -> int:
    """Run what is missing and write the report; 1 when some runs failed."""
    from ..ablation.runs import Run, run_folder
    from ..ablation.sweep import combine
    from ..config.compose import compose
    from ..config.instantiate import to_container
    from ..utils.files import check_writable

    config = sweep.config
    if config.report is not None:
        return _report(Path(str(config.report)).expanduser())
    out = Path(str(config.out)).expanduser()
    sweep = _fix_precision(sweep, out)
    seeds, budget = _seeds(config), _budget(config)
    evaluation = _evaluation(config)
    composed = [compose("ablate", combine(sweep.fixed, v.overrides)) for v in sweep.variants]
    _check_data(composed)
    check_writable(out)
    out = out.resolve()
    comparison_key = _comparison_key(sweep, budget, evaluation)
    runs = [
        Run(
            folder=run_folder(out, variant.name, seed, to_container(config), budget),
            variant=variant.name,
            seed=seed,
            overrides=tuple(combine(sweep.fixed, variant.overrides)),
            comparison_key=comparison_key,
            evaluation=evaluation,
            budget=budget,
        )
        for seed in seeds
        for variant, config in zip(sweep.variants, composed, strict=True)
    ]
    _write_plan(out, sweep, runs, seeds)
    todo = [run.folder for run in runs if run.result is None]
    if len(todo) < len(runs):
        print(f"{len(runs) - len(todo)} of {len(runs)} runs are done already", flush=True)
    try:
        if todo:
            _launch(todo, out, sweep.hydra)
    except KeyboardInterrupt:
        print(
            "mvdiff: interrupted; the same command goes on where it stopped, and "
            f"mvdiff ablate report={config.out} shows what is done",
            file=sys.stderr,
        )
        return 130
    return _report(out)


def _fix_precision(sweep: Sweep, out: Path) -> Sweep:
    """One precision for all runs: train.precision=auto is decided once and kept in sweep.json.

    Later runs of the sweep, on whatever machine, use the same, or they could not be compared.
    """
    if sweep.config.train.precision != "auto":
        return sweep
    from ..builders.training_run import resolved_precision
    from ..utils.files import read_json

    plan = read_json(out / "sweep.json", dict) or {}
    chosen = plan.get("precision") or resolved_precision(sweep.config)
    print(f"precision=auto: {chosen} for all runs", flush=True)
    config = sweep.config.copy()
    config.train.precision = chosen
    fixed = (*sweep.fixed, f"train.precision={chosen}")
    return replace(sweep, config=config, fixed=fixed)


def _launch(folders: Sequence[Path], out: Path, words: Sequence[str]) -> None:
    from ..ablation.run_job import run_job as task
    from ..config.launcher import run_multirun

    run_multirun(folders, task, out, words)


def _write_plan(out: Path, sweep: Sweep, runs: Sequence[Run], seeds: Sequence[int]) -> None:
    """Write the plan: `run.json` of every run, and `sweep.json` of the sweep."""
    from ..config.instantiate import to_container
    from ..utils.files import write_json

    for run in runs:
        run.write_manifest()
        if run.result is None:  # what failed before is tried again
            (run.folder / "failed.json").unlink(missing_ok=True)
    launcher = [word.partition("=")[2] for word in sweep.hydra if "hydra/launcher=" in word]
    plan = {
        "runs": [run.folder.name for run in runs],
        "comparison_key": runs[0].comparison_key,
        "budget": dict(runs[0].budget),
        "evaluation": dict(runs[0].evaluation),
        "seeds": list(seeds),
        "data": to_container(sweep.config.data),
        "words": [*sweep.fixed, *sweep.hydra],
        "variants": {variant.name: list(variant.overrides) for variant in sweep.variants},
        "precision": sweep.config.train.precision,
        "parallel": launcher[-1:] not in ([], ["basic"]),
    }
    write_json(out / "sweep.json", plan)


def _report(out: Path) -> int:
    """Table, results, plots and contact sheet from what is done; 1 when some runs failed."""
    from ..ablation.contact_sheet import write_sheets
    from ..ablation.plots import write_plots
    from ..ablation.report import collect, write_results, write_table
    from ..utils.files import read_json

    plan = read_json(out / "sweep.json", dict)
    if plan is None:
        raise InputError(f"no sweep in '{out}': expected a folder written by mvdiff ablate")
    rows: list[Row] = collect(out, plan)
    missing = sum(len(row.failed) for row in rows)
    if not any(row.results for row in rows):
        for row in rows:
            for seed, why in row.failed.items():
                print(f"mvdiff: {row.name}, seed {seed}: {why}", file=sys.stderr)
        raise InputError(f"no run in '{out}' is finished, so there is nothing to report")
    write_results(out, plan, rows, _commit())
    print(write_table(out, plan, rows), end="")
    sheets = write_sheets(out, rows)
    try:
        plots = write_plots(out, rows)
    except MvdiffError as error:
        plots = []
        print(f"note: {error}", file=sys.stderr)
    written = [out / "results.json", out / "table.md", *plots, *sheets]
    print("\nwrote " + ", ".join(str(path) for path in written))
    return 1 if missing else 0


def _seeds(config: AblateConfig) -> list[int]:
    if not config.seeds:
        raise ConfigError("seeds must be whole numbers from 0, as in seeds=0,1; got none")
    return list(dict.fromkeys(config.seeds))


def _budget(config: AblateConfig) -> dict[str, float]:
    """The one amount that is given, by its kind."""
    given = {kind: config.budget[kind] for kind in BUDGETS if config.budget[kind] is not None}
    if len(given) != 1:
        kinds = " and ".join(f"budget.{kind}" for kind in given) or "none"
        raise ConfigError(
            "a run's budget is one of budget.steps=N, budget.seconds=N or budget.cpu_seconds=N; "
            f"got {kinds}"
        )
    return given


def _evaluation(config: AblateConfig) -> dict[str, Any]:
    from ..config.instantiate import to_container

    evaluation = {
        "objects": config.objects,
        "samples": config.samples,
        "val_data": to_container(config.val_data),
    }
    if config.lpips is not None:
        from ..metrics import Lpips

        files = to_container(config.lpips)
        files = files if isinstance(files, list) else [files]
        Lpips.load(files)  # damaged files are reported now
        evaluation["lpips"] = [str(Path(file).expanduser().resolve()) for file in files]
    return evaluation


def _check_data(composed: Sequence[Any]) -> None:
    """Raise the first variant's error when no variant can use the data."""
    from .. import builders

    errors = []
    for config in composed:
        try:
            builders.load_training_data(config, config.data, "train")
            return
        except MvdiffError as error:
            errors.append(error)
    raise errors[0]


def _comparison_key(sweep: Sweep, budget: dict[str, float], evaluation: dict[str, Any]) -> str:
    """A key for all that runs must have in common to be compared in one table."""
    from ..ablation.runs import data_stamp, short_hash
    from ..ablation.sweep import SHARED
    from ..config.instantiate import to_container

    words = [w for w in sweep.fixed if w.lstrip("+~").partition("=")[0] not in SHARED]
    words = sorted(word for word in words if not word.startswith("budget"))
    data = data_stamp(to_container(sweep.config.data))
    return short_hash([words, budget, evaluation, data])


def _commit() -> str:
    """Of this source, when it is a git checkout; "+" marks changes since."""
    here = Path(__file__)

    def git(*words: str) -> str:
        words = ("git", "-C", str(here.parent), *words)
        return subprocess.run(words, capture_output=True, text=True, timeout=10).stdout.strip()

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if git("ls-files", here.name):  # an installed package may lie in someone else's checkout
            return git("describe", "--always", "--dirty=+", "--abbrev=10")
    return ""


def read(overrides: Sequence[str]) -> tuple[Any, Job]:
    """The config that all runs share, and the call that runs the sweep."""
    from ..ablation.sweep import read_sweep

    # a sweep needs no flag here; Hydra's is accepted
    sweep = read_sweep([word for word in overrides if word not in ("-m", "--multirun")])
    return sweep.config, partial(run, sweep)


COMMAND = Command(
    name="ablate",
    summary="variants × seeds under one budget → a table, plots, a contact sheet",
    description="Train, sample and score variants under one budget; a restart continues.",
    config=AblateConfig,
    run=run,
    read=read,
    extends=TRAIN,
    details=(
        "Any part or number with several values is swept, in Hydra's grammar:",
        "  attention=none,depthwise  train.lr=1e-4,3e-4  rig.count=range(8,17,8)  "
        "attention=glob(*)",
        "Settings that belong together get a name in variants=…; each of these is combined with",
        "every point of the sweep. Each variant is trained once with every seed.",
        "",
        "All runs have the same budget, data, held-out objects and sampling noise, and the",
        "learning rate's schedule ends with the budget. Attention across views learns from the",
        "train.views target views of a step: use the same number for all variants.",
        "",
        "The same command continues after an interruption. With more values or seeds it adds",
        "runs; finished ones are kept. A run that fails is named in the table, the others go on,",
        "and the exit code is 1.",
        "",
        "Launchers are Hydra's: basic runs one after the other; pip install hydra-NAME-launcher",
        "for joblib (several at once here), submitit (Slurm; out= on a shared disk) and ray.",
    ),
    examples=(
        "mvdiff ablate data=data attention=none,depthwise seeds=0,1 budget.steps=2000",
        "mvdiff ablate data=data volume=concat,meanvar train.lr=1e-4,3e-4 budget.seconds=3600",
        "mvdiff ablate data=data budget.steps=2000 variants='{full: {}, alone: {attention: none, "
        "volume: none}}'",
        "mvdiff ablate data=data attention=glob(*) budget.steps=2000 lpips=[vgg16.pth,vgg.pth]",
        "mvdiff ablate data=data variants=variants.yaml train.views=8 budget.cpu_seconds=3600",
        "mvdiff ablate report=ablations/first                 (also while it runs)",
        "mvdiff ablate … hydra/launcher=joblib hydra.launcher.n_jobs=4",
        "mvdiff ablate … hydra/launcher=submitit_slurm hydra.launcher.gpus_per_node=1",
    ),
)
