"""Schedulers × steps: how far from the exact solution, and how good are the views?

    python benchmarks/sampling.py [data=DIR] [objects=8] [parts=ode,quality,guidance]
        [samplers=ddim,dpmpp,unipc,euler] [minutes=inf] [name=tiny]

Three parts, on one thread:
- `ode`: the published architecture at small widths (UNet 32 wide, 8² latents, 16 views) with
  weights by rule, guidance 2, the published noise schedule: root-mean-square distance of the
  latents from those of 200 steps of DPM-Solver++ from the same noise, as a share of their standard
  deviation. Such weights mean nothing: this ranks solvers, it does not say how views look.
- `quality`: the embedded model on held-out objects of DIR (a folder of `mvdiff render`; its "val"
  objects): PSNR and SSIM of the 16 views on white, hull IoU, and seconds of CPU an object.
- `guidance`: the same with classifier-free guidance, always and in intervals of the noise level.

Every case is a line of results/sampling_NAME.jsonl, kept as long as the weights are the same: a
rerun goes on where it stopped, and after a new training it measures the embedded model again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from origin import origin
from rich.console import Console
from rich.table import Table

import mvdiff
from mvdiff import builders
from mvdiff.config.compose import compose
from mvdiff.data.dataset import RenderedDataset
from mvdiff.metrics import hull_iou, psnr, ssim
from mvdiff.pipeline import MultiViewPipeline, decode_views, denoise_views, views_at_once
from mvdiff.utils.files import write_text

RESULTS = Path(__file__).parent / "results"
DEFAULTS = {
    "data": "", "objects": "8", "parts": "ode,quality,guidance",
    "samplers": "ddim,dpmpp,unipc,euler", "minutes": "inf", "name": "tiny",
}  # fmt: skip
ODE_STEPS = (4, 8, 15, 25, 50, 200)
QUALITY_STEPS = (1, 2, 4, 8)
#: (scale, interval) at GUIDED_STEPS steps of the recipe's own sampler
GUIDED_STEPS = 8
GUIDED: tuple[tuple[float, list[float] | None], ...] = (
    (1.5, None), (1.5, [0.2, 0.8]), (2.0, None), (2.0, [0.2, 0.8]), (2.0, [0.0, 0.5]),
    (2.0, [0.5, 1.0]),
)  # fmt: skip
#: the published levels and blocks at widths that one thread can afford
SMALL = [
    "size=64", "crop_size=50", "sizes.time_dim=16", "sizes.context_dim=24", "sizes.volume_side=8",
    "sizes.volume_dims=[8,8,16,16]", "sizes.view_features=8", "sizes.frustum_dims=[8,16,16,16]",
    "sizes.planes=8", "unet.width=32", "latents.widths=[8,8,16,16]", "latents.groups=4",
    "embedder.dim=24", "embedder.width=32", "embedder.layers=2", "embedder.heads=2",
    "embedder.size=28",
]  # fmt: skip
REFERENCE = ("dpmpp", 200)


def main() -> None:
    """Measure what is not there yet, then the tables and the record."""
    args = DEFAULTS | dict(a.split("=", 1) for a in sys.argv[1:])
    if unknown := set(args) - set(DEFAULTS):
        sys.exit(f"unknown arguments {sorted(unknown)}: see the top of {__file__}")
    torch.set_num_threads(1)
    lines = RESULTS / f"sampling_{args['name']}.jsonl"
    kept = [json.loads(x) for x in lines.read_text().splitlines()] if lines.is_file() else []
    start, rows, left_out = time.monotonic(), [], 0
    samplers, parts = args["samplers"].split(","), args["parts"].split(",")
    for part in parts:
        if part != "ode" and not args["data"]:
            print(f"{part}: left out, it needs data=DIR")
            continue
        bench = Ode() if part == "ode" else Quality(Path(args["data"]), int(args["objects"]))
        for case in cases(part, samplers):
            case |= {"weights": bench.weights, "objects": bench.objects}
            row = next((r for r in kept if r.items() >= case.items()), None)
            if row is None:
                if time.monotonic() - start > 60 * float(args["minutes"]):
                    left_out += 1
                    continue
                row = case | bench.measure(case)
                kept.append(row)
                write_text(lines, "".join(json.dumps(r) + "\n" for r in kept))
                print(f"{part}: {row}", flush=True)
            rows.append(row)
    report(rows, args)
    if left_out:
        print(f"{args['minutes']} minutes are over, {left_out} cases are left: run again to go on")


def cases(part: str, samplers: list[str]) -> Iterator[dict[str, Any]]:
    """What is to be measured, as the beginning of a row."""
    if part == "guidance":
        for scale, interval in GUIDED:
            yield {
                "part": part, "sampler": "ddim", "steps": GUIDED_STEPS, "scale": scale,
                "interval": interval,
            }  # fmt: skip
        return
    reference = [REFERENCE] if part == "ode" else []
    steps = ODE_STEPS if part == "ode" else QUALITY_STEPS
    grid = [(sampler, count) for count in steps for sampler in samplers]
    for sampler, count in reference + [case for case in grid if case not in reference]:
        yield {"part": part, "sampler": sampler, "steps": count, "scale": None, "interval": None}


def overrides(case: dict[str, Any]) -> list[str]:
    """A case in the config's words."""
    words = [f"sampler={case['sampler']}", f"sampler.steps={case['steps']}"]
    if case["scale"] is not None:
        words.append(f"guidance.scale={case['scale']}")
    if case["interval"] is not None:
        words.append("guidance.interval=[{},{}]".format(*case["interval"]))
    return words


class Ode:
    """Distances between solvers on the small published architecture."""

    weights, objects = "rule, UNet 32 wide", 1

    def __init__(self) -> None:
        self.words = ["recipe=syncdreamer", "image=none", "weights=synthetic", *SMALL]
        self.model = builders.build_pipeline(compose("generate", self.words)).denoiser
        photo = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(1))
        self.condition = self.model.condition(photo, torch.tensor([30.0]))
        self.latents: dict[tuple[str, int], torch.Tensor] = {}

    def measure(self, case: dict[str, Any]) -> dict[str, Any]:
        """The distance from the reference."""
        reference = self.solve(*REFERENCE)
        found = self.solve(case["sampler"], case["steps"])
        return {
            "distance": float((found - reference).square().mean().sqrt()),
            "std": float(reference.std()),
        }

    def solve(self, sampler: str, steps: int) -> torch.Tensor:
        """Latents of one object from seed 0."""
        if (sampler, steps) not in self.latents:
            words = [*self.words, f"sampler={sampler}", f"sampler.steps={steps}"]
            how = builders.build_sampler(compose("generate", words))
            at_once = views_at_once(self.model, None)
            self.latents[sampler, steps] = denoise_views(
                self.model, how, self.condition, [0], at_once
            )
        return self.latents[sampler, steps]


class Quality:
    """The embedded model on held-out objects, spread evenly over them."""

    def __init__(self, data: Path, objects: int) -> None:
        self.model: MultiViewPipeline = mvdiff.load(device="cpu")
        state = self.model.denoiser.state_dict()
        digest = hashlib.sha256()
        for name in sorted(state):
            digest.update(state[name].contiguous().numpy().tobytes())
        self.weights, held_out = f"embedded {digest.hexdigest()[:12]}", RenderedDataset(data, "val")
        self.objects = min(objects, len(held_out))
        self.index = torch.linspace(0, len(held_out) - 1, self.objects).round().int().tolist()
        self.batch = held_out.batch(self.index)

    def measure(self, case: dict[str, Any]) -> dict[str, Any]:
        """Means over the objects, the spread over them, and CPU seconds an object."""
        denoiser = self.model.denoiser
        how = builders.build_sampler(compose("generate", ["image=none", *overrides(case)]))
        rows, start, seconds = [], time.process_time(), 0.0
        for some in torch.arange(self.objects).split(4):
            start = time.process_time()
            with torch.no_grad():
                known = denoiser.condition(self.batch.photo[some], self.batch.elevation[some])
            at_once = views_at_once(denoiser, None)
            latents = denoise_views(denoiser, how, known, some.tolist(), at_once)
            views = [decode_views(denoiser, latent) for latent in latents]
            seconds += time.process_time() - start
            for v, i in zip(views, some.tolist(), strict=True):
                truth = self.batch.views[i, :, :3]
                rows.append((psnr(v.rgb, truth), ssim(v.rgb, truth), hull_iou(v)))
        columns = dict(zip(("psnr", "ssim", "hull_iou"), zip(*rows, strict=True), strict=True))
        found: dict[str, Any] = {k: fmean(v) for k, v in columns.items()}
        found |= {f"{k}_sd": stdev(v) for k, v in columns.items() if len(v) > 1}
        return found | {"cpu_seconds": seconds / self.objects}


def report(rows: list[dict[str, Any]], args: dict[str, str]) -> None:
    """The tables on the terminal, and the record."""
    console, found = Console(width=100), {"ode": [], "quality": [], "guidance": []}
    for row in rows:
        found[row["part"]].append(row)
    if found["ode"]:
        steps = sorted({r["steps"] for r in found["ode"]})
        table = Table("distance from 200 steps", *map(str, steps))
        for sampler in args["samplers"].split(","):
            mine = {
                r["steps"]: r["distance"] / r["std"]
                for r in found["ode"]
                if r["sampler"] == sampler
            }
            table.add_row(sampler, *(f"{mine[s]:.4f}" if s in mine else "-" for s in steps))
        console.print(table)
    for part in ("quality", "guidance"):
        if found[part]:
            table = Table(part, "steps", "scale", "PSNR (dB)", "SSIM", "hull IoU", "CPU s/object")
            for r in found[part]:
                interval = "" if r["interval"] is None else f" in {r['interval']}"
                scale = "recipe's" if r["scale"] is None else f"{r['scale']}{interval}"
                figures = [f"{r[k]:.3f}" for k in ("psnr", "ssim", "hull_iou", "cpu_seconds")]
                table.add_row(r["sampler"], str(r["steps"]), scale, *figures)
            console.print(table)
    record = {"rows": rows, "samplers": args["samplers"], **origin()}
    path = RESULTS / f"sampling_{args['name']}.json"
    write_text(path, json.dumps(record, indent=1))
    print(f"wrote results/{path.name}")


if __name__ == "__main__":
    main()
