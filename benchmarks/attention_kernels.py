"""View attention: what does each variant cost, by kernel, size of the map and number of views?

    python benchmarks/attention_kernels.py [variants=crossview,crossview+stride=2,…]
        [kernels=sdpa,xformers,math] [sizes=32,16,8] [views=16,64] [channels=320] [batch_size=1]
        [precision=fp32|bf16] [device=auto] [repeat=5] [minutes=30] [timeout=300] [memory=GB]
        [name=DEVICE-PRECISION]

One slot of the UNet by itself, with frusta as the published volume has them. Each case is timed
`repeat` times, in rounds over all cases, so that what else the machine does meets all alike: the
second of two calls (the first, where that took more than 5 s). `forward` is without gradients,
`training` forward and backward. Memory is the largest during the call beyond what was there
before: allocated on a GPU; on a CPU the resident size of a process of its own. A case is given
up, and the reason recorded, when it needs more than `memory` (default: 80 % of what is free) or
`timeout` seconds. Every measurement is kept in results/attention_kernels_NAME.jsonl: a rerun goes
on where it stopped, and `minutes` starts nothing new after that time.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import torch
from origin import origin

from mvdiff import builders
from mvdiff.attention import ATTENTION, SlotSpec, ViewContext
from mvdiff.config.compose import compose
from mvdiff.config.groups import groups
from mvdiff.config.instantiate import instantiate
from mvdiff.errors import MvdiffError
from mvdiff.utils.files import write_text

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("mvdiff", "torch", "xformers")
#: the published volume's frusta by factor (recipe syncdreamer): channels; depth planes at 32²
FRUSTA, PLANES, LATENT = {1: 64, 2: 128, 4: 256, 8: 512}, 48, 32
KEY = ("variant", "kernel", "size", "views", "channels", "batch", "precision")
#: some variants need rows that are epipolar lines
RIGS = {
    "published ring": [],
    "level orthographic ring": ["rig.projection=orthographic", "rig.elevation=0"],
}
SLOW = 5.0  # seconds above which the first call counts
DEFAULTS = {
    "kernels": "sdpa,xformers,math", "sizes": "32,16,8", "views": "16,64", "channels": "320",
    "batch": "1", "precision": "fp32", "device": "auto", "repeat": "5", "minutes": "inf",
    "timeout": "300",
}  # fmt: skip


def main() -> None:
    """Measure what is not there yet, round by round; then the table and the record."""
    args = DEFAULTS | dict(a.split("=", 1) for a in sys.argv[1:])
    if unknown := set(args) - {*DEFAULTS, "variants", "memory", "name"}:
        sys.exit(f"unknown arguments {sorted(unknown)}: see the top of {__file__}")
    device = builders.resolve_device(args["device"]).type
    limits = {"device": device, "timeout": float(args["timeout"])}
    limits["memory"] = float(args.get("memory", 0.8 * free_memory(device)))
    name = args.get("name", f"{device}-{args['precision']}")
    lines = RESULTS / f"attention_kernels_{name}.jsonl"
    rows = [json.loads(x) for x in lines.read_text().splitlines()] if lines.is_file() else []
    cases, start = plan(args, device), time.monotonic()
    for turn in range(int(args["repeat"])):
        for i, case in enumerate(cases):
            row = next((r for r in rows if key(r) == key(case)), None)
            row = row or {**case, "runs": []}
            if "skipped" in row or len(row["runs"]) > turn:
                continue
            if time.monotonic() - start > 60 * float(args["minutes"]):
                print(f"{args['minutes']} minutes are over: run again to go on")
                return report(rows, name, device)
            found = (in_child if device == "cpu" else measure)(case, limits)
            rows += [row] if row not in rows else []
            row |= found if "skipped" in found else {"runs": [*row["runs"], found]}
            write_text(lines, "".join(json.dumps(r) + "\n" for r in rows))
            print(f"round {turn + 1}, {i + 1}/{len(cases)}: {sentence(row)}", flush=True)
    report(rows, name, device)


def plan(args: dict[str, str], device: str) -> list[dict[str, Any]]:
    """All cases, small ones first."""
    variants = args.get("variants", ",".join(v for v in groups()["attention"] if v != "none"))
    kernels = [k for k in args["kernels"].split(",") if k != "xformers" or device == "cuda"]
    fixed = {k: int(args[k]) for k in ("channels", "batch")} | {"precision": args["precision"]}
    return [
        {"variant": variant, "kernel": kernel, "size": size, "views": views, **fixed}
        for views in sorted(int(v) for v in args["views"].split(","))
        for size in sorted(int(s) for s in args["sizes"].split(","))
        for variant in variants.split(",")
        for kernel in kernels
    ]


def key(row: dict[str, Any]) -> tuple:
    return tuple(row[k] for k in KEY)


def in_child(case: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """`measure` in a process of its own, which may be refused memory or be ended."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hydra", "mvdiff.builders.inference", "mvdiff.attention"])
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=measure, args=(case, limits, theirs))
    child.start()
    theirs.close()
    try:
        if not ours.poll(limits["timeout"]):
            return {"skipped": f"takes more than {limits['timeout']:g} s"}
        return ours.recv()
    except EOFError:
        child.join()
        if child.exitcode >= 0:
            raise RuntimeError(f"{case} failed: see above") from None
        return {"skipped": f"the system ended it (signal {-child.exitcode}): out of memory"}
    finally:
        child.kill()
        child.join()


def measure(
    case: dict[str, Any], limits: dict[str, Any], pipe: Any = None
) -> dict[str, Any] | None:
    """Seconds and peak GB of one case, without and with gradients; into a pipe, where given."""
    if pipe is not None:
        return pipe.send(measure(case, limits))
    device = limits["device"]
    try:
        call, cameras = prepare(case, device)
        one = torch.ones(1, requires_grad=True)
        one.exp().backward(one)  # what autograd imports at its first call is not the case's
        if device == "cpu":
            data = _status("VmData") + limits["memory"] * 1e9
            resource.setrlimit(resource.RLIMIT_DATA, (int(data), int(data)))
        forward = timed(lambda: call(False), device)
        training = timed(lambda: call(True), device)
    except MvdiffError as error:
        return {"skipped": str(error)}
    except (RuntimeError, MemoryError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "memory" not in text and not isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        return {"skipped": f"does not fit in {limits['memory']:.1f} GB"}
    figures = {f"forward_{k}": x for k, x in forward.items()}
    return figures | {f"training_{k}": x for k, x in training.items()} | {"cameras": cameras}


def prepare(case: dict[str, Any], device: str) -> tuple[Callable[[bool], None], str]:
    """The call to be timed, and which cameras it has."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[case["precision"]]
    views, size, channels = case["views"], case["size"], case["channels"]
    factor = LATENT // size
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(case["batch"], *shape, generator=generator).to(device, dtype)

    for cameras in RIGS:
        config = configure(case, RIGS[cameras])
        slot = SlotSpec(channels, factor, FRUSTA, 256)
        module = instantiate(ATTENTION, config.attention, slot=slot).to(device, dtype)
        frusta = {}
        if "frusta" in module.needs:
            frusta = {factor: random(views, FRUSTA[factor], PLANES // factor, size, size)}
        rig = builders.build_rig(config).to(device).resize(LATENT)
        scene = ViewContext(rig, frusta, random(256), torch.arange(views))
        if not refused(module, scene, random(views, channels, 2, 2)):
            break
    x = random(views, channels, size, size)

    def call(gradients: bool) -> None:
        inner = x.detach().requires_grad_(gradients)
        with torch.set_grad_enabled(gradients):
            out = module(inner, scene)
        if gradients:
            out.backward(torch.ones_like(out))
            module.zero_grad(set_to_none=True)

    return call, cameras


def configure(case: dict[str, Any], settings: list[str]) -> Any:
    name, *own = case["variant"].split("+")
    chosen = [f"attention={name}", f"attention.kernel={case['kernel']}", *settings]
    chosen += [f"attention.{setting}" for setting in own]
    return compose(
        "generate", ["recipe=syncdreamer", "image=none", f"rig.count={case['views']}", *chosen]
    )


def refused(module: torch.nn.Module, scene: ViewContext, small: Any) -> bool:
    """Whether a variant that looks at cameras does not take these."""
    if "all_views" not in module.needs:
        return False
    try:
        with torch.no_grad():
            module(small, scene)
    except MvdiffError:
        return True
    return False


def timed(call: Callable[[], None], device: str) -> dict[str, float]:
    """Seconds (and CPU seconds) of a call, and the largest memory beyond that before, GB."""
    for attempt in range(2):
        if device == "cuda":
            torch.cuda.synchronize()
        before = reset_peak(device)
        start, work = time.perf_counter(), time.process_time()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds, work = time.perf_counter() - start, time.process_time() - work
        if attempt == 0:
            # what the first call leaves behind is not the call's
            memory = max(0.0, peak(device) - before)
        if seconds > SLOW:
            break
    return {"s": seconds, "cpu_s": work, "gb": memory / 1e9}


def reset_peak(device: str) -> float:
    """Bytes in use; the peak starts again from here."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # Linux forgets VmHWM
    return _status("VmRSS")


def peak(device: str) -> float:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def free_memory(device: str) -> float:
    """GB that a case may take."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] / 1e9
    text = Path("/proc/meminfo").read_text()
    return int(text.partition("MemAvailable:")[2].split()[0]) / 1e6


def _status(what: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition(f"{what}:")[2].split()[0]) * 1024


def sentence(row: dict[str, Any]) -> str:
    head = f"{row['variant']} {row['kernel']} {row['size']}² {row['views']} views"
    if "skipped" in row:
        return f"{head}: skipped, {row['skipped']}"
    run = row["runs"][-1]
    return (
        f"{head}: {run['forward_s']:.3f} s {run['forward_gb']:.2f} GB, training "
        f"{run['training_s']:.3f} s {run['training_gb']:.2f} GB"
    )


def report(rows: list[dict[str, Any]], name: str, device: str) -> None:
    """Table on the terminal and as Markdown, figures as JSON."""
    head = ["views", "map", "variant", "kernel"]
    head += ["forward ms", "training ms", "forward GB", "training GB"]
    table = [head, ["---"] * len(head)]
    for row in sorted(rows, key=lambda r: (r["views"], -r["size"], r["variant"], r["kernel"])):
        start = [str(row["views"]), f"{row['size']}²", row["variant"], row["kernel"]]
        if "skipped" in row:
            table.append([*start, row["skipped"], "", "", ""])
            continue
        for what in ("forward", "training"):
            ms = sorted(1e3 * run[f"{what}_s"] for run in row["runs"])
            row[f"{what}_ms"] = {"median": median(ms), "least": ms[0], "most": ms[-1]}
            row[f"{what}_gb"] = median(run[f"{what}_gb"] for run in row["runs"])
            start.append(f"{median(ms):.1f} ({ms[0]:.1f}–{ms[-1]:.1f})")
        table.append([*start, f"{row['forward_gb']:.3f}", f"{row['training_gb']:.3f}"])
    text = "\n".join(f"| {' | '.join(line)} |" for line in table)
    print(text)
    write_text(RESULTS / f"attention_kernels_{name}.md", text + "\n")
    installed = {d.name for d in metadata.distributions()}
    record = {
        "rows": rows,
        **origin(device),
        "packages": {p: metadata.version(p) for p in PACKAGES if p in installed},
    }
    write_text(RESULTS / f"attention_kernels_{name}.json", json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
