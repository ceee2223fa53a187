"""One guided joint step of the published model: where does the time go, and what do shortcuts save?

    python benchmarks/denoise_step.py [views=2] [repeat=3] [width=320] [threads=1] [device=cpu]
        [variants=plain,single_token,…] [golden=../shared/golden] [name=DEVICE]

Weights are numbers by rule, so that no file is needed. The volume is built from all 16 views;
frusta and UNet run for `views` of them, and a whole step is reckoned from that: volume + 16 / views
of the rest. Variants: the plain path in float32; each exact shortcut alone; all of them ("fast"),
and all but one ("fast_without_…");
"autocast": bfloat16 by autocast over float32 weights; "bf16": bfloat16 weights, channels last, as
precision=bf16 loads them; "_nhwc", "_nchw": with the channels of the convolutions' weights last, or
first. They run in turn, `repeat` rounds, so that what else the machine does meets all alike; on a
CPU the seconds are CPU seconds, which others disturb less than the clock's (in the JSON, too). The
machine's rate is that of a matrix product, measured in every round. Errors are
‖x − ref‖ / ‖ref‖ of the conditional prediction: against the plain path, and against the original
implementation's (`unet_full.npz`) where the golden files lie at `golden`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from origin import origin
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from mvdiff import builders
from mvdiff.attention.base import ViewContext
from mvdiff.config.compose import compose
from mvdiff.denoiser.optimizations import REFERENCE, Optimizations
from mvdiff.denoiser.precision import cast_weights
from mvdiff.utils.files import write_text
from mvdiff.utils.precision import has_native_bfloat16
from mvdiff.weights.load_model import init_on_meta
from mvdiff.weights.synthetic import fill_synthetic

RESULTS = Path(__file__).parent / "results"
PARTS = ("volume", "frusta", "conditional", "unconditional")
SHORTCUTS = tuple(field.name for field in fields(Optimizations))
VARIANTS = ("plain", *SHORTCUTS, "fast", "fast_nhwc", "autocast", "bf16", "bf16_nchw")
#: a step has nothing to do with the encoders, so they may be small
ENCODERS = [
    "latents.widths=[32,32,32,32]",
    "embedder.width=32",
    "embedder.layers=1",
    "embedder.heads=2",
]
#: what torch does not count by itself
COUNTED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)
    )
}
DEFAULTS = {
    "views": "2", "repeat": "3", "width": "320", "threads": "1", "device": "cpu",
    "variants": ",".join(VARIANTS), "golden": "../shared/golden",
}  # fmt: skip


def main() -> None:
    """Measure all variants in turn; print the table and write JSON."""
    args = DEFAULTS | dict(a.split("=", 1) for a in sys.argv[1:])
    if unknown := set(args) - {*DEFAULTS, "name"}:
        sys.exit(f"unknown arguments {sorted(unknown)}: see the top of {__file__}")
    torch.set_num_threads(int(args["threads"]))
    variants = args["variants"].split(",")
    models = make_models(args, variants)
    step = inputs(args, next(iter(models.values())))
    rows = {v: {"runs": [], "cpu_runs": []} for v in variants}
    rates: dict[str, list[float]] = {"fp32": [], "bf16": []}
    with torch.no_grad():
        for turn in range(int(args["repeat"])):
            for variant in variants:
                model = ready(models, variant)
                counting = None if turn else FlopCounterMode(display=False, custom_mapping=COUNTED)
                found, answer, flop = run(model, step, variant, args["device"], counting)
                if turn == 0:
                    rows[variant] |= {"flop": flop, "answer": answer}
                rows[variant]["runs"].append(found["wall"])
                rows[variant]["cpu_runs"].append(found["cpu"])
                rows[variant]["gb"] = max(found["gb"], rows[variant].get("gb", 0.0))
                print(f"round {turn}: {variant} {sum(found['cpu'].values()):.2f} s", flush=True)
            for precision, values in rates.items():
                values.append(matrix_rate(precision, args["device"]))
    report(args, rows, rates, step)


def make_models(args: dict[str, str], variants: list[str]) -> dict[str, Any]:
    """By precision of the weights."""
    settings = ["recipe=syncdreamer", "image=none", f"unet.width={args['width']}", *ENCODERS]
    config = compose("generate", settings)
    models = {}
    for precision in dict.fromkeys("bf16" if v.startswith("bf16") else "fp32" for v in variants):
        model = cast_weights(init_on_meta(lambda: builders.build_model(config)), precision)
        models[precision] = fill_synthetic(model).eval().requires_grad_(False).to(args["device"])
    return models


def ready(models: dict[str, Any], variant: str) -> Any:
    """The variant's model, with its shortcuts set."""
    model = models["bf16" if variant.startswith("bf16") else "fp32"]
    last = variant in ("fast_nhwc", "bf16")
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last if last else torch.contiguous_format)
        elif isinstance(module, (torch.nn.Conv3d, torch.nn.ConvTranspose3d)):
            module.to(memory_format=torch.channels_last_3d if last else torch.contiguous_format)
    without = variant.removeprefix("fast_without_")
    if variant in SHORTCUTS:
        chosen = replace(REFERENCE, **{variant: True})
    else:
        chosen = replace(Optimizations(), **({without: False} if without in SHORTCUTS else {}))
    (REFERENCE if variant == "plain" else chosen).set(model)
    return model


def inputs(args: dict[str, str], model: Any) -> dict[str, Any]:
    """A noisy state, its time and condition, the golden ones where they are at hand."""
    folder, device = Path(args["golden"]), args["device"]
    generator = torch.Generator().manual_seed(0)
    shape = model.latent_shape(1)
    noisy, latent = (torch.randn(*s, generator=generator) for s in (shape, (1, *shape[2:])))
    token = torch.randn(1, model.embedder.dim, generator=generator)
    timestep, elevation, reference = torch.tensor([500.0]), torch.tensor([30.0]), None
    index = list(range(int(args["views"])))
    if (folder / "unet_full.npz").is_file():
        full, start, photo = (
            _read(folder / f"{name}.npz")
            for name in ("unet_full", "spatial_volume", "sampling_small")
        )
        noisy, timestep = start["latents"], full["timestep"].float()
        latent, token = photo["input_latent"] / 0.18215, photo["clip_embed"].reshape(1, -1)
        elevation = torch.rad2deg(start["elevation_rad"].float())
        first = full["view_indices"][0].tolist()
        index = (first + [v for v in range(shape[1]) if v not in first])[: len(index)]
        if args["width"] == "320" and len(index) >= len(first):
            reference = full["noise_cond"].reshape(len(first), *shape[2:])
    condition = model.condition_from(token.to(device), latent.to(device), elevation.to(device))
    return {
        "noisy": noisy.to(device),
        "timestep": timestep.to(device),
        "condition": condition,
        "index": torch.tensor(index),
        "reference": reference,
    }


def _is_float32(variant: str) -> bool:
    return not variant.startswith(("autocast", "bf16"))


def _read(path: Path) -> dict[str, Tensor]:
    with np.load(path) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def run(
    model: Any, step: dict[str, Any], variant: str, device: str, counting: Any
) -> tuple[dict[str, Any], Tensor, dict[str, int]]:
    """Seconds, FLOP by part, the largest memory beyond that before, and the prediction."""
    noisy, timestep, known, index = (step[k] for k in ("noisy", "timestep", "condition", "index"))
    cameras = model.rig.to(device).resize(model.latent_size)
    found: dict[str, Any] = {"wall": {}, "cpu": {}}
    flop: dict[str, int] = {}
    half = torch.autocast(device, torch.bfloat16, enabled=not _is_float32(variant))

    @contextlib.contextmanager
    def part(name: str) -> Iterator[None]:
        before = counting.get_total_flops() if counting else 0
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        if device != "cpu":
            torch.cuda.synchronize()
        found["wall"][name] = time.perf_counter() - wall
        found["cpu"][name] = time.process_time() - cpu
        flop[name] = counting.get_total_flops() - before if counting else 0

    start = _reset_peak(device)
    with half, counting or contextlib.nullcontext():
        embedded = model.embed_time(timestep)
        with part("volume"):
            volume = model._volume(noisy, cameras, embedded, known, None)
        with part("frusta"):
            frusta = model.volume.frusta(volume, cameras[index], embedded, known.pose[:, index])
        scene = ViewContext(cameras[index], frusta, embedded, index)
        with part("conditional"):
            answer = model._denoise(noisy[:, index], timestep, known, scene)
        with part("unconditional"):
            nothing = replace(scene, empty=True)
            model._denoise(noisy[:, index], timestep, known.unconditional(), nothing)
    found["gb"] = (_peak(device) - start) / 1e9
    return found, answer.float().cpu(), flop


def matrix_rate(precision: str, device: str) -> float:
    """GFLOP/s of a product of two square matrices, the best of three.

    Their side is 2048, or 256 in bfloat16 on a CPU that has to emulate it.
    """
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    emulated = precision == "bf16" and not has_native_bfloat16(device)
    side = 256 if emulated else 2048
    a = torch.ones(side, side, dtype=dtype, device=device)
    seconds = []
    for _ in range(3):
        start = time.process_time() if device == "cpu" else time.perf_counter()
        a @ a
        if device != "cpu":
            torch.cuda.synchronize()
        now = time.process_time() if device == "cpu" else time.perf_counter()
        seconds.append(now - start)
    return 2 * side**3 / min(seconds) / 1e9


def _reset_peak(device: str) -> float:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # Linux forgets the peak
    return _peak(device)


def _peak(device: str) -> float:
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024


def report(
    args: dict[str, str],
    rows: dict[str, dict[str, Any]],
    rates: dict[str, list[float]],
    step: dict[str, Any],
) -> None:
    """The table on the terminal and as Markdown, and the record."""
    scale = 16 / len(step["index"])
    rate = {precision: median(values) for precision, values in rates.items()}
    plain = rows["plain"]["answer"][0] if "plain" in rows else None
    reference = step["reference"]
    lines, base = [], None
    for variant, row in rows.items():
        answer = row.pop("answer")[0]
        runs = row["cpu_runs"] if args["device"] == "cpu" else row["runs"]
        steps = [r["volume"] + scale * sum(r[p] for p in PARTS[1:]) for r in runs]
        row["step_s"] = {"median": median(steps), "least": min(steps), "most": max(steps)}
        row["parts_s"] = {p: median(r[p] for r in runs) for p in PARTS}
        total = row["flop"]["volume"] + scale * sum(row["flop"][p] for p in PARTS[1:])
        row["step_tflop"] = total / 1e12
        used = rate["fp32" if _is_float32(variant) else "bf16"]
        row["share_of_matrix_rate"] = total / row["step_s"]["median"] / 1e9 / used
        row["error_to_plain"] = _error(answer, plain)
        known = None if reference is None else answer[: len(reference)]
        row["error_to_golden"] = _error(known, reference)
        base = base or row["step_s"]["median"]
        row["speedup"] = base / row["step_s"]["median"]
        lines.append((variant, row))
    head = ["variant", *(f"{p} s" for p in PARTS), "step of 16 s", "speed-up", "TFLOP"]
    head += ["share of rate", "GB", "error to plain", "error to golden"]
    table = [head, ["---"] * len(head)]
    for variant, row in lines:
        cells = [variant, *(f"{row['parts_s'][p]:.2f}" for p in PARTS)]
        s = row["step_s"]
        cells += [f"{s['median']:.1f} ({s['least']:.1f}–{s['most']:.1f})", f"{row['speedup']:.2f}×"]
        cells += [f"{row['step_tflop']:.2f}", f"{100 * row['share_of_matrix_rate']:.0f} %"]
        cells += [f"{row['gb']:.2f}", _said(row["error_to_plain"]), _said(row["error_to_golden"])]
        table.append(cells)
    text = "\n".join(f"| {' | '.join(line)} |" for line in table)
    print(text)
    print(f"matrix product: {', '.join(f'{k} {v:.0f} GFLOP/s' for k, v in rate.items())}")
    record = {
        "rows": dict(lines),
        "matrix_gflops": rates,
        "settings": args,
        "wanted": step["index"].tolist(),
        **origin(args["device"]),
    }
    RESULTS.mkdir(exist_ok=True)
    name = f"denoise_step_{args.get('name', args['device'])}"
    write_text(RESULTS / f"{name}.json", json.dumps(record, indent=1))
    write_text(RESULTS / f"{name}.md", text + "\n")


def _error(x: Tensor | None, reference: Tensor | None) -> float | None:
    if reference is None:
        return None
    return float((x.flatten() - reference.flatten()).norm() / reference.norm())


def _said(error: float | None) -> str:
    return "-" if error is None else f"{error:.1e}"


if __name__ == "__main__":
    main()
