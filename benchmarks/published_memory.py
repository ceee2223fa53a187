"""Memory and time of loading the published model, of one guided joint step, and of decoding.

    python benchmarks/published_memory.py [views=0,4,16] [wanted=16] [width=320] [precision=fp32]
        [repeat=1]

`views` are those that the UNet takes at a time (batch_views); 0 only loads, and touches every
weight. `wanted` of the 16 views are predicted, and the first one is decoded (the VAE decodes view
by view): from two chunks of views on, fewer than 16 shorten the run and leave the peak as it is.
Weights are numbers by rule, written once to a float32 checkpoint as the published one is. Every row
is a fresh process; peaks are the process's largest resident size so far as the system counts it,
with what the interpreter and the libraries hold before the model is touched ("before").
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("encode", "step", "decode", "step_seconds")


def peak() -> float:
    """Largest resident size so far, GB; Linux only (getrusage would count the parent's, too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e6


def recipe(width: int) -> Any:
    """The recipe's config; 320 is the published width of the UNet."""
    from mvdiff.config.compose import compose

    return compose("generate", ["recipe=syncdreamer", "image=none", f"unet.width={width}"])


def write(path: Path, width: int) -> None:
    """A checkpoint under published names, as training frameworks save it."""
    import torch

    from mvdiff import builders
    from mvdiff.weights.key_maps.syncdreamer import syncdreamer_mapping
    from mvdiff.weights.load_model import init_on_meta
    from mvdiff.weights.synthetic import rule_weight

    state = {}
    model = init_on_meta(lambda: builders.build_model(recipe(width)))
    for name, parameter in model.named_parameters():
        origin = syncdreamer_mapping(name)
        if origin.name not in state:
            state[origin.name] = rule_weight(origin.name, origin.shape(tuple(parameter.shape)))
    torch.save({"state_dict": state}, path)


def measure(path: Path, width: int, views: int, wanted: int, precision: str) -> dict[str, float]:
    """Load, encode a picture, take one guided step and decode; views = 0 only loads."""
    import torch

    from mvdiff import builders
    from mvdiff.denoiser.precision import cast_weights
    from mvdiff.utils.precision import DTYPES
    from mvdiff.weights.load_model import load_pretrained

    config = recipe(width)
    sampler = builders.build_sampler(config)
    before, start = peak(), time.perf_counter()
    model = load_pretrained(
        lambda: cast_weights(builders.build_model(config), precision), str(path), "syncdreamer"
    )
    model.eval().requires_grad_(False)
    if not views:
        touched = sum(float(p.sum()) for p in model.parameters())  # mapped pages count once read
        assert touched == touched
    row = {"before": before, "load": peak(), "load_seconds": time.perf_counter() - start}
    if not views:
        return row
    generator = torch.Generator().manual_seed(0)
    half = None if precision == "fp32" else DTYPES[precision]
    photo = torch.rand(1, 4, 256, 256, generator=generator)
    x = torch.randn(model.latent_shape(1), generator=generator)
    with torch.no_grad(), torch.autocast("cpu", half, enabled=half is not None):
        start = time.perf_counter()
        condition = model.condition(photo, torch.tensor([30.0]))
        row |= {"encode": peak(), "encode_seconds": time.perf_counter() - start}
        start, work = time.perf_counter(), time.process_time()
        timestep, some = (
            torch.tensor([981.0]),
            {"target_views": range(wanted), "batch_views": views},
        )
        out = model(x, timestep, condition, guidance=sampler.guidance, **some)
        row |= {"step": peak(), "step_seconds": time.perf_counter() - start}
        row["step_cpu_seconds"] = time.process_time() - work
        start = time.perf_counter()
        model.latents.decode(out[0, :1].float())
        row |= {"decode": peak(), "decode_seconds": time.perf_counter() - start}
    return row


def main() -> None:
    """Run every row in its own process; print the table and write JSON."""
    args = {"views": "0,4,16", "wanted": "16", "width": "320", "precision": "fp32", "repeat": "1"}
    args |= dict(a.split("=", 1) for a in sys.argv[1:])
    width, rows = int(args["width"]), {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "by-rule.ckpt"
        write(path, width)
        size = path.stat().st_size / 1e9
        chunks = [int(v) for v in args["views"].split(",")]
        results: dict[int, list[dict[str, float]]] = {v: [] for v in chunks}
        for _ in range(int(args["repeat"])):
            for views in chunks:
                call = [sys.executable, __file__, f"path={path}", f"width={width}"]
                call += [f"views={views}", *(f"{k}={args[k]}" for k in ("wanted", "precision"))]
                out = subprocess.run(call, capture_output=True, text=True, check=True).stdout
                results[views].append(json.loads(out.splitlines()[-1]))
                print(f"batch_views={views}: {results[views][-1]}", flush=True)
        for views, found in results.items():
            rows[views] = {k: median(f[k] for f in found) for k in found[0]}
    report(rows, size, args)


def report(rows: dict[int, dict[str, float]], size: float, args: dict[str, str]) -> None:
    """The table on the terminal, and the record."""
    from origin import origin
    from rich.console import Console
    from rich.table import Table

    table = Table("batch_views", "load / file", "encoded GB", "step GB", "decoded GB", "step s")
    for views, row in rows.items():
        ratio = (row["load"] - row["before"]) / size
        cells = [f"{row[k]:.2f}" if k in row else "-" for k in COLUMNS]
        table.add_row(str(views), f"{ratio:.3f}", *cells)
    Console().print(f"file {size:.2f} GB; before the model {rows[min(rows)]['before']:.2f} GB")
    Console().print(table)
    record = {"file_gb": size, "rows": rows, "settings": args, **origin()}
    RESULTS.mkdir(exist_ok=True)
    name = f"published_memory_{args['precision']}.json"
    (RESULTS / name).write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    given = dict(a.split("=", 1) for a in sys.argv[1:])
    if "path" in given:
        sizes = int(given["width"]), int(given["views"]), int(given["wanted"])
        print(json.dumps(measure(Path(given["path"]), *sizes, given["precision"])))
    else:
        main()
