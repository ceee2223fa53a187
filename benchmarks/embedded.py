"""Which parts make a small model good: variants of `recipe=tiny` under one CPU-time budget.

    python benchmarks/embedded.py data=DIR [seconds=240] [only=NAME;…] [objects=32] [init=FILE]
        [larger=DIR] [seed=0]

DIR is a folder of `mvdiff render`, `larger` one with the same objects at 96². Every variant trains
on one thread until it has used the same CPU seconds, with the learning rate's cosine over that
budget; then the mean over held-out objects of PSNR and hull IoU after 1, 2 and 4 steps goes to
results/embedded.jsonl, one line a variant (a rerun goes on), and the views of six objects to
outputs/embedded/NAME.png. PSNR of any size is taken at 64².
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from origin import origin
from rich.console import Console
from rich.table import Table

from mvdiff import builders
from mvdiff.config.compose import compose
from mvdiff.config.instantiate import to_container
from mvdiff.data.batch_source import DatasetBatches
from mvdiff.data.dataset import RenderedDataset
from mvdiff.metrics import hull_iou, psnr
from mvdiff.pipeline import SamplerConfig, generate_views
from mvdiff.training.ema import EMA
from mvdiff.training.optim import derive_seed, make_optimizer
from mvdiff.utils.files import atomic
from mvdiff.visualization import contact_sheet

FILE = Path(__file__).parent / "results" / "embedded.jsonl"
#: What all start from: one photo an object, unspoilt.
COMMON = [
    "train.num_input_images=[1]",
    "train.augment.degrade_prob=0",
    "source_weights={mesh: 0.65, shape: 0.35}",
]
#: As in the long run's first phase: 32² is rendered for 64².
COARSE = ["radiance.coarser=2"]
ALONE = ["unet=none", "attention=none", *COARSE]
#: Each view by itself, as in Zero-1-to-3: four times the steps in the same time.
FLAT = ["attention=none", "volume=none", "radiance=none"]
VARIANTS: dict[str, list[str]] = {
    "rendering alone": ALONE,
    "volume=concat": [*ALONE, "volume=concat"],
    "photo not in the colors": [*ALONE, "radiance.photo_head=0"],
    "photo not lifted": [*ALONE, "radiance.photo_head=0", "sizes.photo_features=0"],
    "times T·u": [*ALONE, "train.timestep_bias=1"],
    "times T·u^(1/4)": [*ALONE, "train.timestep_bias=4"],
    "patches of 4": [*ALONE, "latents.patch=4", "sizes.lifted_finer=1"],
    "patches of 2": [*ALONE, "latents.patch=2", "sizes.lifted_finer=1"],
    "AdamW 1e-3": [*ALONE, "train.optimizer=adamw", "train.lr=1e-3"],
    "Muon 2e-3": [*ALONE, "train.lr=2e-3"],
    "meshes alone": [*ALONE, "source_weights={mesh: 1, shape: 0}"],
    "meshes alone at 96²": [
        *ALONE,
        "source_weights=null",
        "size=96",
        "latents.patch=12",
        "radiance.coarser=2",
    ],
    "with a UNet": ["attention=none", *COARSE],
    "with UNet and attention": COARSE,
    "… attention in all slots": [*COARSE, "unet.slots=[mid,up0,up1,up2,up3]"],
    "nothing rendered": ["radiance=none"],
    "UNet alone": FLAT,
    "UNet alone, velocity": [*FLAT, "noise.prediction_type=v_prediction"],
    "UNet alone, noise": [*FLAT, "noise.prediction_type=epsilon"],
    "UNet alone, a tenth dropped": [*FLAT, "train.condition_dropout.everything=0.1"],
}
#: Guidance that variants trained for it are scored with: scales, and intervals of the noise level.
GUIDED: dict[str, tuple[tuple[float, tuple[float, float] | None], ...]] = {
    "UNet alone, a tenth dropped": (
        (1.0, None), (1.5, None), (2.0, None), (2.0, (0.0, 0.6)), (2.0, (0.6, 1.0)),
    ),
}  # fmt: skip


def train(config, data: RenderedDataset, seconds: float, init: str | None, seed: int):
    """The averaged network after so many CPU seconds, its steps and its last losses."""
    torch.manual_seed(seed)
    model, train = builders.build_model(config).train(), config.train
    if init is not None:
        from safetensors.torch import load_file

        model.load_state_dict({k: v.float() for k, v in load_file(init).items()})
    objective = builders.build_loss(config)
    optimizer = make_optimizer(
        model, lr=train.lr, weight_decay=train.weight_decay, betas=tuple(train.betas),
        param_groups=None, fused=True, name=train.optimizer,
    )  # fmt: skip
    rates = [group["lr"] for group in optimizer.param_groups]
    batches = DatasetBatches(
        data, augment=builders.build_augment(config), mix=to_container(config.mix),
        photos=builders.input_image_counts(config),
    )  # fmt: skip
    ema, losses, start = EMA(model, 0.98), [], time.process_time()
    while (done := (time.process_time() - start) / seconds) < 1:
        step = len(losses)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            warm = min(1.0, (step + 1) / 30, done / 0.06 + 0.01)
            group["lr"] = rate * min(warm, 0.5 + 0.5 * np.cos(np.pi * max(done - 0.06, 0) / 0.94))
        batch = batches.batch_at(step, batch_size=train.batch, seed=seed)
        torch.manual_seed(derive_seed(seed, 3, step, 0))
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(
                model, batch, torch.Generator().manual_seed(derive_seed(seed, 4, step))
            )
        loss["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(model, step)
        losses.append(float(loss["loss"].detach()))
        if step % 25 == 24:
            print(f"  {done:4.0%}, step {step + 1}, loss {np.mean(losses[-25:]):.4f}", flush=True)
    return ema.module.eval(), losses


def at_64(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures of this size as they are, larger ones by area."""
    if pictures.shape[-1] == 64:
        return pictures
    small = torch.nn.functional.interpolate(pictures, (64, 64), mode="bilinear", antialias=True)
    return small.clamp(0, 1)


@torch.no_grad()
def score(
    model,
    config,
    data: RenderedDataset,
    index: list[int],
    picture: Path,
    scale: float,
    interval: Any,
) -> dict:
    """PSNR at 64² and hull IoU after 1, 2 and 4 steps; the views after 4 as a picture."""
    own, batch, found = builders.build_sampler(config), data.batch(index), {}
    truth = [at_64(views[:, :3]) for views in batch.views]
    for steps in (1, 2, 4):
        sampler = SamplerConfig(own.scheduler, steps, own.eta, scale, interval)
        views = []
        for some in torch.arange(len(index)).split(8):
            views += generate_views(
                model, sampler, batch.photo[some], batch.elevation[some], some.tolist()
            )
        found[f"psnr_{steps}"] = float(
            np.mean([psnr(at_64(v.rgb), t) for v, t in zip(views, truth, strict=True)])
        )
        found[f"hull_iou_{steps}"] = float(np.mean([hull_iou(v) for v in views]))
    picture.parent.mkdir(parents=True, exist_ok=True)
    some = np.linspace(0, len(index) - 1, 6).round().astype(int)
    labels = [batch.names[i] for i in some]
    contact_sheet([views[i][::2] for i in some], picture, row_labels=labels)
    return found


def measure(name: str, args: argparse.Namespace) -> list[dict]:
    """Train one variant and score it: a row for each guidance scale."""
    words = VARIANTS[name]
    root = args.larger if "size=96" in words else args.data
    config = compose("train", [f"data={root}", *COMMON, *words])
    data = builders.load_training_data(config, config.data, "train")
    held_out = RenderedDataset(root, "val")
    index = np.linspace(0, len(held_out) - 1, args.objects).astype(int).tolist()
    model, losses = train(config, data, args.seconds, args.init, args.seed)
    row = {
        "name": name, "words": words, "seconds": args.seconds, "steps": len(losses),
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": float(np.mean(losses[-50:])), "objects": args.objects, "init": args.init,
        "seed": args.seed,
        **origin(),
    }  # fmt: skip
    rows = []
    for scale, interval in GUIDED.get(name, ((1.0, None),)):
        said = f"{name} {scale:g} {interval}" if name in GUIDED else name
        picture = Path("outputs/embedded") / f"{said.replace('/', ' by ')}.png"
        with torch.autocast("cpu", torch.bfloat16):
            found = score(model, config, held_out, index, picture, scale, interval)
        rows.append({**row, "guidance": scale, "interval": interval, **found})
    return rows


def finished() -> list[dict]:
    """The rows there are."""
    return [json.loads(line) for line in FILE.read_text().splitlines()] if FILE.is_file() else []


def main() -> None:
    """Train what is missing, then print the table."""
    given = dict(a.split("=", 1) for a in sys.argv[1:])
    only = given.pop("only", "").split(";") if "only" in given else list(VARIANTS)
    args = argparse.Namespace(
        data=given.pop("data"), larger=given.pop("larger", None), init=given.pop("init", None),
        seconds=float(given.pop("seconds", 240)), objects=int(given.pop("objects", 32)),
        seed=int(given.pop("seed", 0)),
    )  # fmt: skip
    if given or not set(only) <= set(VARIANTS):
        sys.exit(
            f"unknown {', '.join([*given, *(set(only) - set(VARIANTS))])}; see the top of this file"
        )
    torch.set_num_threads(1)
    for name in only:
        settings = ("seconds", "objects", "init", "seed")
        wanted = {"name": name, **{key: getattr(args, key) for key in settings}}
        if any(row.items() >= wanted.items() for row in finished()):
            continue
        if "size=96" in VARIANTS[name] and args.larger is None:
            print(f"{name}: needs larger=DIR, left out")
            continue
        print(f"{name}: {' '.join(VARIANTS[name])}", flush=True)
        rows = measure(name, args)
        with atomic(FILE) as part:  # others may have written meanwhile
            part.write_text("".join(json.dumps(r) + "\n" for r in [*finished(), *rows]))
    figures = [f"{kind}_{n}" for kind in ("psnr", "hull_iou") for n in (1, 2, 4)]
    table = Table("variant", "seed", "scale", "steps", "M", *figures)
    for row in finished():
        scale = f"{row.get('guidance', 1):g}"
        if row.get("interval"):
            scale += " in {:g}–{:g}".format(*row["interval"])
        cells = [f"{row[key]:.2f}" if "psnr" in key else f"{row[key]:.3f}" for key in figures]
        size = f"{row['parameters'] / 1e6:.1f}"
        table.add_row(row["name"], str(row["seed"]), scale, str(row["steps"]), size, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
