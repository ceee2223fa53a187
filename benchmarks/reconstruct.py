"""Reconstructors on views of known objects: which mesh is nearer to the truth, at what price?

    python benchmarks/reconstruct.py [reconstructors=hull,neus] [objects=20 | chicken,cup,…]
        [views=16,8,4] [defects=clean,generated,wrong] [size=256] [minutes=30] [name=NAME]
        [RECONSTRUCTOR.SETTING=VALUE …] [shared=../shared]

Objects are the chicken (published pictures and depth maps) and meshes of `shared`/meshes drawn
by a fixed seed. `objects=N` takes the chicken and the first N of them; `reconstructors` are all
there are by default. Every finished case is a line of results/reconstruct_NAME.jsonl; a rerun
goes on where it stopped, and `minutes` starts no new case after that time. Chamfer and IoU
follow `mvdiff evaluate`; PSNR is that of the mesh, unlit, against the truth in cameras that were
not given, on white.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from origin import origin
from reconstruct_cases import (
    DEFECTS,
    Object,
    chosen,
    load_object,
    spoil,
    stranger,
    wrong_view,
)
from reconstruct_report import report, stem

import mvdiff
from mvdiff import builders
from mvdiff.config.compose import compose
from mvdiff.config.groups import groups
from mvdiff.errors import MvdiffError
from mvdiff.metrics import hull_iou, psnr
from mvdiff.metrics.geometry import (
    inside,
    merge,
    occupancy_iou,
    point_chamfer,
    published_depths,
    unproject_depths,
)
from mvdiff.recon import Mesh, Reconstructor
from mvdiff.recon.view_consistency import view_agreement
from mvdiff.rendering import Raycaster
from mvdiff.utils.files import atomic, write_text
from mvdiff.views.views import Views
from mvdiff.visualization import mesh_renders

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("mvdiff", "torch", "numpy", "scipy", "trimesh", "scikit-image", "mesh2sdf")
#: What makes two cases the same.
KEY = ("object", "views", "defects", "reconstructor", "size", "settings")


def main() -> None:
    """Run what is not there yet, then write the table, the plot and the sheet."""
    args = dict(a.split("=", 1) for a in sys.argv[1:])
    shared = Path(args.pop("shared", "../shared"))
    name, size = args.pop("name", "all"), int(args.pop("size", 256))
    minutes = float(args.pop("minutes", "inf"))
    known = ",".join(name for name in groups()["reconstructor"] if name != "none")
    reconstructors = args.pop("reconstructors", known).split(",")
    counts = [int(n) for n in args.pop("views", "16,8,4").split(",")]
    defects = args.pop("defects", "clean,generated,wrong").split(",")
    objects = _names(args.pop("objects", "20"), shared)
    settings = {r: [] for r in reconstructors}
    for key, value in args.items():
        reconstructor, _, setting = key.partition(".")
        if reconstructor not in settings or not setting:
            sys.exit(f"unknown argument '{key}': see the top of {__file__}")
        settings[reconstructor].append(f"{setting}={value}")
    if unknown := [d for d in defects if d not in DEFECTS]:
        sys.exit(f"unknown defects {unknown}; choose from {', '.join(DEFECTS)}")
    torch.manual_seed(0)
    lines = RESULTS / f"reconstruct_{name}.jsonl"
    pictures = Path("outputs") / f"reconstruct_{name}"
    rows = read(lines)
    done = {_key(row) for row in rows}
    plan = [
        {"object": o, "views": n, "defects": d, "reconstructor": r, "size": size,
         "settings": " ".join(settings[r])}
        for o in objects for n in counts for d in defects for r in reconstructors
    ]  # fmt: skip
    plan = [case for case in plan if _key(case) not in done]
    print(f"{len(plan)} cases to run, {len(done)} there", flush=True)
    start, cache = time.monotonic(), {}
    built = {
        r: builders.build_reconstructor(
            compose("reconstruct", ["views=-", f"reconstructor={r}"]
                    + [f"reconstructor.{s}" for s in settings[r]])
        )
        for r in reconstructors
    }  # fmt: skip
    for i, case in enumerate(plan):
        if time.monotonic() - start > 60 * minutes:
            print(f"{minutes:g} minutes are over: {len(plan) - i} cases left for the next run")
            break
        row = run(case, built[case["reconstructor"]], shared, cache, pictures)
        rows.append(row)
        write_text(lines, "".join(json.dumps(row) + "\n" for row in rows))
        print(f"{i + 1}/{len(plan)} {_sentence(row)}", flush=True)
    report(rows, name, _record(), RESULTS, pictures)


def run(case: dict, reconstructor: Reconstructor, shared: Path, cache: dict, out: Path) -> dict:
    """One case: its figures, or the reason why there is no mesh."""
    thing = _cached(cache, case["object"], shared, case["size"])
    other = None
    if case["defects"] == "wrong":
        name = stranger(thing.name, shared)
        other = _cached(cache, name, shared, case["size"]).given(case["views"])
    views = spoil(thing.given(case["views"]), case["defects"], thing.name, other)
    _reset_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        mesh = reconstructor(views)
    except MvdiffError as error:
        return {**case, "error": str(error)}
    row = {
        **case,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": _peak_mb(),
        "faces": len(mesh.faces),
        **figures(mesh, thing, case["views"]),
        "hull_iou": hull_iou(views),
        "code": code(),
    }
    agreement = view_agreement(mesh, views, supersample=1)
    row |= {"agreement_iou": agreement.iou, "worst": agreement.worst}
    if case["defects"] == "wrong":
        row["wrong_view"] = wrong_view(thing.name, len(views))
    for i, shot in enumerate(mesh_renders(mesh, 2, 224, elevation=20, azimuth=35)):
        with atomic(out / f"{stem(case)}-{i}.png") as part:
            shot.save(part)
    return row


@functools.cache
def code() -> str:
    """Tells states of the package's reconstructors apart: cases of several must not be mixed."""
    folder = Path(mvdiff.__file__).parent / "recon"
    files = sorted(p for p in folder.rglob("*.py"))
    return hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()[:8]


def figures(mesh: Mesh, thing: Object, count: int) -> dict[str, float]:
    """Against the truth: surface, volume, and pictures from cameras that were not given."""
    shape = mesh.to_trimesh()
    points = merge(unproject_depths(*published_depths(shape)))
    out = {
        "chamfer": point_chamfer(points, merge(thing.points)),
        "chamfer_floor": thing.floor,
    }
    try:
        out["iou"] = occupancy_iou(inside(shape), thing.inside)
    except MvdiffError as error:
        out["iou_error"] = str(error)
    truth = thing.held_out(count)
    if truth is not None:
        seen = Raycaster(shape).render(truth.cameras, supersample=2, shading=None)
        out |= picture_figures(seen.views(truth.cameras), truth)
    return out


def picture_figures(seen: Views, truth: Views) -> dict[str, float]:
    """PSNR on white over whole pictures, and over pixels where either shows the object."""
    a, b = seen.rgb, truth.rgb
    either = ((seen.mask > 0) | (truth.mask > 0)).expand_as(a)
    errors = [
        float((x - y)[where].square().mean()) for x, y, where in zip(a, b, either, strict=True)
    ]
    return {
        "psnr": psnr(a, b),
        "psnr_object": float(np.mean([-10 * np.log10(max(e, 1e-10)) for e in errors])),
    }


def read(lines: Path) -> list[dict]:
    """Finished cases."""
    if not lines.is_file():
        return []
    return [json.loads(line) for line in lines.read_text().splitlines()]


def _names(text: str, shared: Path) -> list[str]:
    if text.isdigit():
        return ["chicken", *chosen(shared / "meshes")[: int(text)]]
    return text.split(",")


def _cached(cache: dict, name: str, shared: Path, size: int) -> Object:
    if name not in cache:
        while len(cache) > 2:
            cache.pop(next(iter(cache)))
        cache[name] = load_object(name, shared, size)
    return cache[name]


def _key(row: dict) -> tuple:
    return tuple(row[key] for key in KEY)


def _sentence(row: dict) -> str:
    case = f"{row['object']} {row['views']} views {row['defects']} {row['reconstructor']}"
    if "error" in row:
        return f"{case}: {row['error']}"
    shown = {k: f"{row[k]:.4g}" for k in ("chamfer", "iou", "psnr", "seconds") if k in row}
    return f"{case}: " + ", ".join(f"{k} {v}" for k, v in shown.items())


def _record() -> dict:
    return {
        **origin("cuda" if torch.cuda.is_available() else "cpu"),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _reset_peak() -> None:
    """Linux forgets the peak of the cases before; elsewhere it is that of the whole run."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def _peak_mb() -> float:
    """Peak resident memory of this process, libraries included."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 / (1024 if sys.platform == "darwin" else 1)


if __name__ == "__main__":
    main()
