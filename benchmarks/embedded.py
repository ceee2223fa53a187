"""Which parts make a small model good: variants of `recipe=tiny` under one CPU-time budget.

    python benchmarks/embedded.py data=DIR [seconds=360] [only=NAME,…] [objects=32] [init=FILE]

DIR is a folder of `mvdiff render`. Every variant trains on one thread until it has used the same
CPU seconds, with the learning rate's cosine over that budget; then the mean over held-out objects
of PSNR and hull IoU after 1, 2 and 4 steps goes to results/embedded.jsonl, one line a variant (a
rerun goes on), and the views of six objects to outputs/embedded/NAME.png. Variants differ from
the first one by the words in VARIANTS alone.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mvdiff import build, build_training
from mvdiff.commands.writing import versions
from mvdiff.config import compose
from mvdiff.data.batches import Batches
from mvdiff.data.dataset import MultiViewSet
from mvdiff.files import atomic
from mvdiff.gallery import contact_sheet
from mvdiff.metrics import hull_iou, psnr
from mvdiff.pipeline import Sampler, generate_views
from mvdiff.training.ema import Ema
from mvdiff.training.optim import make_optimizer, seed_of

RESULTS = Path(__file__).parent / "results"
#: What all start from: one photo an object, unspoilt.
COMMON = ["train.photos=[1]", "train.augment.spoil=0", "mix={mesh: 0.65, shape: 0.35}"]
VARIANTS: dict[str, list[str]] = {
    "tiny": [],
    "rendering alone": ["unet=none", "attention=none"],
    "nothing rendered": ["radiance=none"],
    "UNet alone": ["attention=none", "volume=none", "radiance=none"],
    "no attention": ["attention=none"],
    "volume=concat": ["volume=concat"],
    "photo not lifted": ["sizes.photo_features=0"],
    "predicts velocity": ["noise.prediction_type=v_prediction"],
    "times T·u": ["train.time_power=1"],
    "times T·u^(1/4)": ["train.time_power=4"],
    "AdamW 1e-3": ["train.optimizer=adamw", "train.lr=1e-3"],
    "Muon 2e-3": ["train.lr=2e-3"],
    "attention in all slots": ["sizes.unet_slots=[middle,'0','1','2','3']"],
    "attention in the middle": ["sizes.unet_slots=[middle]"],
    "patches of 4": ["sizes.patch=4", "sizes.lifted_finer=1"],
    "nothing dropped": ["train.drop.everything=0"],
    "2 target views a step": ["train.views=2"],
    "predicts noise": ["noise.prediction_type=epsilon"],
}


def train(config, data: MultiViewSet, seconds: float, init: str | None = None):
    """The averaged network after so many CPU seconds, its steps and its last losses."""
    torch.manual_seed(0)
    model, train = build.model(config).train(), config.train
    if init is not None:
        from safetensors.torch import load_file

        model.load_state_dict({k: v.float() for k, v in load_file(init).items()})
    objective = build.objective(config)
    optimizer = make_optimizer(
        model, lr=train.lr, weight_decay=train.weight_decay, betas=tuple(train.betas),
        param_groups=None, fused=True, name=train.optimizer,
    )  # fmt: skip
    rates = [group["lr"] for group in optimizer.param_groups]
    batches = Batches(
        data, augment=build_training.augment(config), mix=build.plain(config.mix),
        photos=build_training.photos(config),
    )  # fmt: skip
    ema, losses, start = Ema(model, 0.98), [], time.process_time()
    while (done := (time.process_time() - start) / seconds) < 1:
        step = len(losses)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            warm = min(1.0, (step + 1) / 30, done / 0.06 + 0.01)
            group["lr"] = rate * min(warm, 0.5 + 0.5 * np.cos(np.pi * max(done - 0.06, 0) / 0.94))
        batch = batches.batch_at(step, batch_size=train.batch)
        torch.manual_seed(seed_of(0, 3, step, 0))
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(model, batch, torch.Generator().manual_seed(seed_of(0, 4, step)))
        loss["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.update(model, step)
        losses.append(float(loss["loss"].detach()))
        if step % 25 == 24:
            print(f"  {done:4.0%}, step {step + 1}, loss {np.mean(losses[-25:]):.4f}", flush=True)
    return ema.module.eval(), losses


@torch.no_grad()
def score(model, config, data: MultiViewSet, index: list[int], picture: Path) -> dict:
    """PSNR and hull IoU after 1, 2 and 4 steps; the views after 4 as a picture."""
    own, batch, found = build.sampler(config), data.batch(index), {}
    for steps in (1, 2, 4):
        sampler = Sampler(own.scheduler, steps, own.eta, 1.0)
        views = []
        for some in torch.arange(len(index)).split(8):
            views += generate_views(
                model, sampler, batch.photo[some], batch.elevation[some], some.tolist()
            )
        truth = batch.views[:, :, :3]
        found[f"psnr_{steps}"] = float(
            np.mean([psnr(v.rgb, t) for v, t in zip(views, truth, strict=True)])
        )
        found[f"hull_iou_{steps}"] = float(np.mean([hull_iou(v) for v in views]))
    picture.parent.mkdir(parents=True, exist_ok=True)
    some = np.linspace(0, len(index) - 1, 6).round().astype(int)
    labels = [batch.names[i] for i in some]
    contact_sheet([views[i][::2] for i in some], picture, row_labels=labels)
    return found


def main() -> None:
    """Train what is missing, then print the table."""
    args = dict(a.split("=", 1) for a in sys.argv[1:])
    seconds, root = float(args.pop("seconds", 360)), args.pop("data")
    only = args.pop("only", "").split(",") if "only" in args else list(VARIANTS)
    count, init = int(args.pop("objects", 32)), args.pop("init", None)
    if args or not set(only) <= set(VARIANTS):
        sys.exit(
            f"unknown {', '.join([*args, *(set(only) - set(VARIANTS))])}; see the top of this file"
        )
    torch.set_num_threads(1)
    file = RESULTS / "embedded.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    held_out = MultiViewSet(root, "val")
    index = np.linspace(0, len(held_out) - 1, count).astype(int).tolist()
    for name in only:
        if any(row["name"] == name and row["seconds"] == seconds for row in rows):
            continue
        print(f"{name}: {' '.join(VARIANTS[name]) or 'as in the recipe'}", flush=True)
        config = compose("train", [f"data={root}", *COMMON, *VARIANTS[name]])
        data = build_training.training_data(config, config.data, "train")
        model, losses = train(config, data, seconds, init)
        with torch.autocast("cpu", torch.bfloat16):
            found = score(model, config, held_out, index, Path("outputs/embedded") / f"{name}.png")
        parameters = sum(p.numel() for p in model.parameters())
        row = {"name": name, "words": VARIANTS[name], "seconds": seconds, "steps": len(losses)}
        row |= {"parameters": parameters, "loss": float(np.mean(losses[-50:])), **found}
        rows.append({**row, "objects": count, "versions": versions()})
        with atomic(file) as part:
            part.write_text("".join(json.dumps(r) + "\n" for r in rows))
    figures = [f"{kind}_{n}" for kind in ("psnr", "hull_iou") for n in (1, 2, 4)]
    table = Table("variant", "steps", "M", *figures)
    for row in rows:
        cells = [f"{row[key]:.2f}" if "psnr" in key else f"{row[key]:.3f}" for key in figures]
        table.add_row(row["name"], str(row["steps"]), f"{row['parameters'] / 1e6:.1f}", *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
