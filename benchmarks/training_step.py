"""The published training objective: what does it save to encode the pictures once?

    python benchmarks/training_step.py [width=320] [repeat=2] [precision=fp32] [name=published]

One training sample of recipe `syncdreamer` (16 views of 256², one target view; the volume, its
time embedding and the depth attention are trained, the rest is frozen), forward and backward, the
optimiser's step left out. "encode every step" gives the objective pictures, which it encodes with
VAE and CLIP; "kept" gives it their posteriors and embedding, as `mvdiff train latent_cache=auto`
does from the second pass over the data on.

Measured are a kept sample, the VAE's encoding of one picture, and CLIP, interleaved, with weights
by rule (about 7 GB at the published width of 320). The VAE takes pictures one by one, so "encode
every step" is their sum with the VAE 17 times (a test at small size holds this). TFLOP are counted
by torch's counter: matrix products, convolutions and attention; a multiplication and an addition
are two. Seconds are CPU time on one thread, the median after one warm-up; repeat=0 only counts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from math import isfinite, nan
from pathlib import Path
from statistics import median
from typing import Any

import torch
from origin import origin
from rich.console import Console
from rich.table import Table

from mvdiff import builders
from mvdiff.ablation.profiling import count_flops
from mvdiff.config.compose import compose
from mvdiff.data.dataset import Batch
from mvdiff.data.latent_cache import DiagonalGaussian, EncodedBatch
from mvdiff.utils.files import write_text
from mvdiff.weights.initialize import init_for_training

RESULTS = Path(__file__).parent / "results"
DEFAULTS = {"width": "320", "repeat": "2", "precision": "fp32", "name": "published"}


def main() -> None:
    """Measure, print, write."""
    args = DEFAULTS | dict(a.split("=", 1) for a in sys.argv[1:])
    if unknown := set(args) - set(DEFAULTS):
        sys.exit(f"unknown arguments {sorted(unknown)}: see the top of {__file__}")
    torch.set_num_threads(1)
    words = ["recipe=syncdreamer", "data=none", "weights=synthetic"]
    config = compose("train", [*words, f"unet.width={args['width']}"])
    start = init_for_training(
        lambda: builders.build_model(config),
        "synthetic",
        config.recipe_name,
        swapped=[],
        betas=builders.build_training_scheduler(config).betas,
    )
    builders.build_param_groups(config, start.model)
    report(*measure(config, start.model, int(args["repeat"]), args["precision"]), args)


def inputs(config: Any) -> tuple[Batch, EncodedBatch]:
    """One training sample as pictures, and in the form of what the encoders make of them."""
    views, size = len(builders.build_rig(config)), config.size
    latent = (4, size // 8, size // 8)
    g = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=g)

    known = (random(1), ("one",), torch.zeros(1, dtype=torch.long))
    pictures = Batch(random(1, views, 4, size, size), random(1, 4, size, size), *known)
    kept = EncodedBatch(
        DiagonalGaussian(random(1, views, *latent), random(1, views, *latent)),
        DiagonalGaussian(random(1, *latent), random(1, *latent)),
        random(1, config.embedder.dim),
        *known,
    )
    return pictures, kept


def measure(
    config: Any, model: Any, repeat: int, precision: str
) -> tuple[dict[str, int], dict[str, list[float]]]:
    """Operations and CPU seconds of each part; counting happens in the round that warms up."""
    objective, (pictures, kept) = builders.build_loss(config), inputs(config)
    calls: dict[str, Callable[[], Any]] = {
        "kept": lambda: train(model, objective, kept),
        "VAE, one picture": torch.no_grad()(lambda: model.latents.posterior(pictures.photo)),
        "CLIP": torch.no_grad()(lambda: model.embedder(pictures.photo)),
    }
    flops: dict[str, int] = {}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeat + 1):
        for name, call in calls.items():
            begun = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                if turn:
                    call()
                    seconds[name].append(time.process_time() - begun)
                else:
                    with count_flops() as counted:
                        call()
                        flops[name] = counted()
            print(f"round {turn}: {name} {time.process_time() - begun:.1f} s of CPU", flush=True)
    return flops, seconds


def train(model: Any, objective: Any, batch: Batch | EncodedBatch) -> None:
    """Forward and backward, as a training step does."""
    objective(model, batch, torch.Generator().manual_seed(0))["loss"].backward()
    model.zero_grad(set_to_none=True)


def encoding_too(parts: dict[str, Any], pictures: int = 17) -> Any:
    """A sample that encodes its pictures: 16 views and the input picture."""
    return parts["kept"] + pictures * parts["VAE, one picture"] + parts["CLIP"]


def report(flops: dict[str, int], seconds: dict[str, list[float]], args: dict[str, str]) -> None:
    """The table and the record."""
    middle = {name: median(values) if values else nan for name, values in seconds.items()}
    rows = {
        "encode every step": (encoding_too(flops), encoding_too(middle)),
        "kept": (flops["kept"], middle["kept"]),
        "of one picture: VAE": (flops["VAE, one picture"], middle["VAE, one picture"]),
        "of one picture: CLIP": (flops["CLIP"], middle["CLIP"]),
    }
    table = Table("training sample", "TFLOP", "CPU s")
    for name, (operations, cpu) in rows.items():
        table.add_row(name, f"{operations / 1e12:.3f}", f"{cpu:.2f}")
    ratios = [a / b for a, b in zip(rows["encode every step"], rows["kept"], strict=True)]
    table.add_row("encode every step / kept", *(f"{ratio:.2f}" for ratio in ratios))
    Console().print(table)
    record = {
        "flops": flops,
        "cpu_seconds": seconds,
        "ratios": {
            name: ratio if isfinite(ratio) else None  # JSON has no NaN
            for name, ratio in zip(("flops", "cpu_seconds"), ratios, strict=True)
        },
        "settings": args,
        **origin(),
    }
    path = RESULTS / f"training_step_{args['name']}.json"
    write_text(path, json.dumps(record, indent=1))
    print(f"wrote results/{path.name}")


if __name__ == "__main__":
    main()
