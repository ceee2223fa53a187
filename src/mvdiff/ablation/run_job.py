"""One run of `mvdiff ablate`: config → costs → training → samples → `result.json`."""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import torch

from .. import builders
from ..builders.training_run import build_training, hyperparameters, run_training
from ..config.compose import compose
from ..config.instantiate import to_container
from ..errors import MvdiffError
from ..generation.writer import versions
from ..metrics import Lpips
from ..utils.files import exclusive_lock, read_json, write_json
from . import scoring
from .profiling import ProfiledRun, StepCosts, step_costs, steps_for
from .progress import RunReporter
from .runs import Run, short_hash


def run(job: Any) -> None:
    """The task that launchers call; job.run is the run's folder.

    A failure is written to `failed.json` and told in one sentence: other runs go on.
    """
    run = Run.read(job.run)
    told = RunReporter(run)
    try:
        with exclusive_lock(run.folder):
            if run.result is None:
                _carry_out(run, told)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        ours = isinstance(error, MvdiffError)
        sentence = first if ours else f"{type(error).__name__}: {first}".rstrip(": ")
        where = traceback.format_exc()
        with suppress(MvdiffError):  # the disk may be what failed
            write_json(run.folder / "failed.json", {"error": sentence, "traceback": where})
        told.failed(sentence)
    finally:
        gc.collect()


def _carry_out(run: Run, told: RunReporter) -> None:
    (run.folder / "failed.json").unlink(missing_ok=True)
    config = compose("ablate", [*run.overrides, f"seed={run.seed}"])
    config.out = str(run.folder)
    begun = time.monotonic()
    costs = _costs(run, config, told)
    config.train.steps = costs["budget_steps"]
    model = _train(run, config, told)
    samples, held_out = _sample(run, config, model, told)
    truth = scoring.true_views(held_out, model.rig)
    scores = scoring.score(samples.views, held_out.names, truth, told.stage, _lpips(run))
    diversity = scoring.diversities(samples.more)
    figures = scoring.means(scores) | ({} if diversity is None else {"diversity": diversity})
    scoring.save_views(run.folder / "views.npz", samples.views, held_out.names)
    result = {
        "variant": run.variant,
        "seed": run.seed,
        "budget": dict(run.budget),
        "evaluation": dict(run.evaluation),
        "controls": _controls(run, config, held_out, model.rig, told),
        "figures": figures,
        "objects": scores,
        "training": _spent(run) | {"steps": costs["budget_steps"]},
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
    told.done(figures, time.monotonic() - begun)


def _costs(run: Run, config: Any, told: RunReporter) -> dict[str, Any]:
    """What a step costs, and how many the budget buys; measured once and kept."""
    path = run.folder / "costs.json"
    kept = read_json(path, dict)
    if kept is not None:
        return kept
    from ..training.trainer import TrainConfig

    told.stage("timing steps", 0, 1)

    def make() -> ProfiledRun:
        made = build_training(config)
        return ProfiledRun(made.model, made.objective, made.batches, made.groups)

    settings = TrainConfig(**hyperparameters(config), final_lr=0.0)
    costs: StepCosts = step_costs(make, settings, config.device, seconds=config.timing)
    content = asdict(costs) | {"budget_steps": steps_for(dict(run.budget), costs)}
    write_json(path, content)
    return content


def _train(run: Run, config: Any, told: RunReporter) -> Any:
    """The averaged model after the budget; KeyboardInterrupt when a person stopped it."""
    from ..training.checkpointing import latest_checkpoint

    made = build_training(config)
    newest = latest_checkpoint(run.folder)
    known = 0 if newest is None else int(newest.name.removeprefix("step-"))
    told.training(config.train.steps, known, config.train.warmup)
    wall, cpu = time.perf_counter(), time.process_time()
    result = run_training(config, made, progress=told.bar, progress_every=told.every)
    if result.step > result.start:
        stretch = {
            "from": result.start,  # not the newest checkpoint's step, if that one is damaged
            "to": result.step,
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": time.process_time() - cpu,
        }
        path = run.folder / "spent.json"
        write_json(path, [*(read_json(path, list) or []), stretch])
    if not result.finished:
        raise KeyboardInterrupt
    return result.ema.eval()


def _sample(run: Run, config: Any, model: Any, told: RunReporter) -> tuple[scoring.Samples, Any]:
    root = config.data if config.val_data is None else config.val_data
    data = builders.load_training_data(config, root, "val")
    held_out = scoring.choose(data, run.evaluation["objects"])
    sampler = builders.build_sampler(config)
    samples = scoring.sample_objects(
        model, sampler, held_out, run.evaluation["samples"], told.stage
    )
    return samples, held_out


def _controls(run: Run, config: Any, held_out: Any, rig: Any, told: RunReporter) -> str:
    """Floor and corrupted controls of these objects; made by the first run that needs them."""
    content = [list(held_out.names), rig.K.tolist(), rig.w2c.tolist(), rig.height]
    content += [float(held_out.views.double().mean()), float(held_out.photo.double().mean())]
    content += run.evaluation.get("lpips", [])
    name = short_hash(content)
    folder = run.folder.parent.parent / "controls" / name
    if read_json(folder / "result.json", dict) is None:
        truth = scoring.true_views(held_out, rig)
        scores = scoring.controls(held_out, rig, told.stage, _lpips(run))
        scoring.save_views(folder / "truth.npz", truth, held_out.names)
        photos = [views[0] for views in scoring.copied_views(held_out, rig)]
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


def _spent(run: Run) -> dict[str, float]:
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
