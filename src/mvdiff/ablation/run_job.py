"""One run of `mvdiff ablate`: config → costs → training → samples → `result.json`."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import torch

from .. import builders
from ..builders.training_run import build_training, hyperparameters, run_training
from ..config.compose import compose
from ..config.instantiate import to_container
from ..config.schema import TrainConfig
from ..errors import MvdiffError
from ..generation.writer import versions
from ..metrics import Lpips
from ..utils.files import read_json, write_json
from ..utils.locking import exclusive_lock
from ..utils.timing import Stopwatch
from . import scoring
from .profiling import ProfiledRun, StepCosts, step_costs, steps_for, timed
from .progress import RunReporter
from .runs import Run, short_hash


def run_job(job: Any) -> None:
    """The task that launchers call; job.run is the run's folder.

    A failure is written to `failed.json` and reporter in one sentence: other runs go on.
    """
    run = Run.load(job.run)
    reporter = RunReporter(run)
    try:
        with exclusive_lock(run.folder):
            if run.result is None:
                _execute(run, reporter)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        ours = isinstance(error, MvdiffError)
        sentence = first if ours else f"{type(error).__name__}: {first}".rstrip(": ")
        where = traceback.format_exc()
        with suppress(MvdiffError):  # the disk may be what failed
            write_json(run.folder / "failed.json", {"error": sentence, "traceback": where})
        reporter.failed(sentence)
    finally:
        reporter.close()
        gc.collect()


def _execute(run: Run, reporter: RunReporter) -> None:
    (run.folder / "failed.json").unlink(missing_ok=True)
    config = compose("ablate", [*run.overrides, f"seed={run.seed}"])
    config.out = str(run.folder)
    watch = Stopwatch()
    costs = _costs(run, config, reporter)
    config.train.steps = costs["budget_steps"]
    model = _train(run, config, reporter)
    samples, held_out = _sample(run, config, model, reporter)
    truth = scoring.true_views(held_out, model.rig)
    scores = scoring.score(samples.views, held_out.names, truth, reporter.stage, _lpips(run))
    diversity = scoring.diversities(samples.extra_samples)
    figures = scoring.means(scores) | ({} if diversity is None else {"diversity": diversity})
    scoring.save_views(run.folder / "views.npz", samples.views, held_out.names)
    result = {
        "variant": run.variant,
        "seed": run.seed,
        "budget": dict(run.budget),
        "evaluation": dict(run.evaluation),
        "controls": _controls(run, config, held_out, model.rig, reporter),
        "figures": figures,
        "objects": scores,
        "training": _training_time(run) | {"steps": costs["budget_steps"]},
        "step": {k: v for k, v in costs.items() if k != "budget_steps"},
        "sample": {
            "seconds": samples.seconds,
            "cpu_seconds": samples.cpu_seconds,
            "flops": samples.flops,
            "memory": samples.memory,
            "denoising_steps": config.sampler.steps,
        },
        "device": _device(model.device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "config": {key: value for key, value in to_container(config).items() if key != "out"},
    }
    write_json(run.folder / "result.json", result)
    reporter.done(figures, watch.elapsed())


def _costs(run: Run, config: TrainConfig, reporter: RunReporter) -> dict[str, Any]:
    """Cost of a training step, and the number of steps in the budget; measured once and cached."""
    path = run.folder / "costs.json"
    cached = read_json(path, dict)
    if cached is not None:
        return cached
    reporter.stage("timing steps", 0, 1)

    def make() -> ProfiledRun:
        setup = build_training(config)
        return ProfiledRun(setup.model, setup.objective, setup.batches, setup.groups)

    costs: StepCosts = step_costs(
        make, hyperparameters(config), config.device, seconds=config.profile_seconds
    )
    content = asdict(costs) | {"budget_steps": steps_for(dict(run.budget), costs)}
    write_json(path, content)
    return content


def _train(run: Run, config: TrainConfig, reporter: RunReporter) -> Any:
    """The averaged model after the budget; KeyboardInterrupt when it was interrupted."""
    from ..training.checkpointing import latest_checkpoint

    setup = build_training(config)
    newest = latest_checkpoint(run.folder)
    known = 0 if newest is None else int(newest.name.removeprefix("step-"))
    reporter.training(config.train.steps, known, config.train.warmup)
    with timed(None) as spent:
        result = run_training(config, setup, progress=reporter.bar, progress_every=reporter.every)
    if result.step > result.start:
        seconds, cpu_seconds = spent()
        stretch = {
            "from": result.start,  # not the newest checkpoint's step, if that one is damaged
            "to": result.step,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
        }
        path = run.folder / "spent.json"
        write_json(path, [*(read_json(path, list) or []), stretch])
    if not result.finished:
        raise KeyboardInterrupt
    return result.ema.eval()


def _sample(
    run: Run, config: TrainConfig, model: Any, reporter: RunReporter
) -> tuple[scoring.SampledViews, Any]:
    root = config.data if config.val_data is None else config.val_data
    data = builders.load_training_data(config, root, "val")
    held_out = scoring.select_heldout(data, run.evaluation["objects"])
    sampler = builders.build_sampler(config)
    samples = scoring.sample_objects(
        model, sampler, held_out, run.evaluation["samples"], reporter.stage
    )
    return samples, held_out


def _controls(run: Run, config: TrainConfig, held_out: Any, rig: Any, reporter: RunReporter) -> str:
    """Floor and corrupted controls of these objects; setup by the first run that needs them."""
    content = [list(held_out.names), rig.K.tolist(), rig.w2c.tolist(), rig.height]
    content += [float(held_out.views.double().mean()), float(held_out.photo.double().mean())]
    content += run.evaluation.get("lpips", [])
    name = short_hash(content)
    folder = run.folder.parent.parent / "controls" / name
    if read_json(folder / "result.json", dict) is None:
        truth = scoring.true_views(held_out, rig)
        scores = scoring.controls(held_out, rig, reporter.stage, _lpips(run))
        scoring.save_views(folder / "truth.npz", truth, held_out.names)
        photos = [views[0] for views in scoring.repeat_input_views(held_out, rig)]
        scoring.save_views(folder / "photos.npz", photos, held_out.names)
        content = {
            "figures": {row: scoring.means(scores[row]) for row in scores},
            "objects": scores,
            "views": len(rig),
            "size": rig.height,
        }
        write_json(folder / "result.json", content)
    return name


def _lpips(run: Run) -> Lpips | None:
    files = run.evaluation.get("lpips")
    return None if files is None else Lpips.load(files)


def _training_time(run: Run) -> dict[str, float]:
    """Seconds of training, of the stretches that ended in order (a kill leaves none)."""
    stretches = read_json(run.folder / "spent.json", list) or []
    return {
        "recorded_steps": sum(s["to"] - s["from"] for s in stretches),
        "seconds": sum(s["seconds"] for s in stretches),
        "cpu_seconds": sum(s["cpu_seconds"] for s in stretches),
    }


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = ""
    if sys.platform == "linux":
        with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as info:
            name = next((x.split(":")[1].strip() for x in info if x.startswith("model name")), "")
    return f"cpu ({name or 'unknown'}, {os.cpu_count()} cores)"
