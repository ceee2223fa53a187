"""Many objects to many pictures: `<out>/<object>/{target,input}/` and an index with the split."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from ..cameras import Cameras, ring, spherical
from ..errors import MvdiffError
from ..files import write_text
from .render_jobs import mesh_jobs, shape_jobs
from .render_object import DEPTH_RANGE, Job, Settings, render_object, rig_distance
from .rendered import cameras_record


def render_objects(
    out: str | Path,
    *,
    meshes: str | Path | None = None,
    shapes: int = 0,
    size: int = 64,
    scale: str = "diagonal",
    up: str = "auto",
    inputs: int = 16,
    rig: Cameras | None = None,
    input_elevation: tuple[float, float] = (-10, 40),
    depth: bool = False,
    normals: bool = False,
    supersample: int = 3,
    seed: int = 0,
    shapes_seed: int = 0,
    copies: int = 0,
    held_out: str | Path | list[str] | None = None,
    val_fraction: float = 0.02,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Render mesh files and procedural shapes; return the index, also written to `index.json`.

    Every object gets the views of `rig` under `target/`, and under `input/` pictures of
    random elevation, the i-th at the azimuth of target view i (arXiv 2309.03453, section 4).
    Objects that are complete are kept when the settings are the recorded ones; objects of
    earlier calls with the same settings stay in the index. A broken mesh is skipped and
    listed with the reason.

    meshes: a folder of GLB, glTF, OBJ and PLY files.
    shapes: procedural objects, of the seeds `shapes_seed`, `shapes_seed + 1`, …
    size: image side in pixels, unless `rig` brings its own.
    scale, up: as in `normalise` and `load_mesh`.
    input_elevation: lowest and highest, degrees in [-90, 90].
    depth, normals: also write `000-depth.png` (16 bit, scale in the index) and
        `000-normal.png` (`(n + 1) / 2`, world axes; both 0 where nothing is hit).
    supersample: samples along each side of a pixel.
    copies: further copies of each training mesh, `NAME~1`, `NAME~2`, …, each of its axes stretched
        by 0.7 to 1.4.
    seed: of lights, input elevations and copies, which also depend on the object's name alone.
    held_out: mesh names of the validation split: a text file (one name or glob pattern a
        line, # comments) or a list; shapes then all train. Without it `val_fraction` of all
        objects, chosen by name.
    workers: processes; default one a core.
    Raises MvdiffError on settings out of range and when nothing could be rendered.
    """
    out = Path(out)
    rig = (ring(size=size) if rig is None else rig).to("cpu", torch.float32)
    low, high = input_elevation
    if not -90 <= low <= high <= 90:
        raise MvdiffError(f"input_elevation must be two degrees in [-90, 90], got {low}, {high}")
    if not 0 <= inputs <= len(rig):
        raise MvdiffError(f"inputs must be between 0 and the rig's {len(rig)} views, got {inputs}")
    if scale not in ("diagonal", "extent") or up not in ("auto", "y", "z"):
        raise MvdiffError(
            f"scale must be 'diagonal' or 'extent' and up 'auto', 'y' or 'z'; got '{scale}', '{up}'"
        )
    if supersample < 1 or min(shapes, copies) < 0 or not 0 <= val_fraction <= 1:
        raise MvdiffError(
            "expected supersample ≥ 1, shapes ≥ 0, copies ≥ 0 and val_fraction in [0, 1]; got "
            f"{supersample}, {shapes}, {copies}, {val_fraction}"
        )
    far = spherical(rig)[2]
    if depth and float(far.max() - far.min()) > 1e-3:
        raise MvdiffError(
            "depth maps share one range, so all cameras must stand equally far: "
            f"got distances from {float(far.min()):.3g} to {float(far.max()):.3g}, use depth=false"
        )
    jobs = mesh_jobs(meshes, held_out, val_fraction, copies) if meshes is not None else []
    jobs += shape_jobs(shapes, shapes_seed, 0.0 if held_out is not None else val_fraction)
    if not jobs:
        raise MvdiffError("nothing to render: give a mesh folder (meshes=DIR) or shapes=N")
    settings = Settings(
        rig, scale, up, inputs, (float(low), float(high)), depth, normals, supersample, seed
    )
    kept, skipped, note = _prepare(out, jobs, settings.record())
    todo = [job for job in jobs if not _complete(out, job, settings)]
    if note and progress:
        print(note)
    reasons = dict(_run(out, todo, settings, workers, progress))

    held = {job.name for job in jobs if job.split == "val"}
    # copies that an earlier call made of what is held out now
    done = {o["name"]: o for o in kept if o["name"].rpartition("~")[0] not in held}
    failed = {s["name"]: s["reason"] for s in skipped}
    for job in jobs:
        done.pop(job.name, None)
        failed.pop(job.name, None)
        if job.name not in reasons:
            done[job.name] = {
                "name": job.name,
                "split": job.split,
                "source": job.source,
                "family": job.family,
            }
    index = {
        "version": 1,
        "size": rig.width,
        "cameras": cameras_record(rig),
        "settings": settings.record(),
        "depth": {"range": DEPTH_RANGE, "offset": rig_distance(rig) - DEPTH_RANGE / 2},
        "objects": [done[name] for name in sorted(done)],
        "skipped": [{"name": n, "reason": r} for n, r in sorted({**failed, **reasons}.items())],
    }
    write_text(out / "index.json", json.dumps(index, indent=1) + "\n")
    if not done:
        first = next(iter(reasons.values()))
        raise MvdiffError(f"none of the {len(jobs)} objects could be rendered; the first: {first}")
    return index


def _prepare(
    out: Path, jobs: list[Job], record: dict[str, Any]
) -> tuple[list[dict], list[dict], str]:
    """Objects and failures of earlier calls to keep in the index; a note on changed settings.

    `settings.json` is written before the first picture, so that an interrupted run can be
    taken up. On other settings every object of this call is first marked incomplete.
    """
    known, index = _read_json(out / "settings.json"), _read_json(out / "index.json") or {}
    if known is None:
        write_text(out / "settings.json", json.dumps(record, indent=1) + "\n")
    if known is None or known == record:
        kept = [o for o in index.get("objects", []) if _present(out, o["name"], "target")]
        return kept, index.get("skipped", []), ""
    changed = sorted(k for k in {*record, *known} if record.get(k) != known.get(k))
    note = (
        f"settings changed since '{out}' was made ({', '.join(changed)}): rendering all "
        f"{len(jobs)} objects again"
    )
    for job in jobs:
        for part in ("target", "input"):
            (out / job.name / part / "transforms.json").unlink(missing_ok=True)
    (out / "index.json").unlink(missing_ok=True)
    write_text(out / "settings.json", json.dumps(record, indent=1) + "\n")
    return [], [], note


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _present(out: Path, name: str, part: str) -> bool:
    """Whether a set of views is complete: `transforms.json` is written after the pictures."""
    return (out / name / part / "transforms.json").is_file()


def _complete(out: Path, job: Job, settings: Settings) -> bool:
    parts = ("target", "input") if settings.inputs else ("target",)
    return all(_present(out, job.name, part) for part in parts)


def _run(
    out: Path, jobs: list[Job], settings: Settings, workers: int | None, progress: bool
) -> Iterator[tuple[str, str]]:
    """Render the jobs; yield name and reason of those that failed, reporting each."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("rendering"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("", total=len(jobs))
        for name, reason in _results(out, jobs, settings, workers):
            bar.advance(task)
            if reason is not None:
                bar.console.print(f"skipped {name}: {reason}", markup=False, highlight=False)
                yield name, reason


def _results(
    out: Path, jobs: list[Job], settings: Settings, workers: int | None
) -> Iterator[tuple[str, str | None]]:
    workers = min(os.cpu_count() or 1 if workers is None else workers, len(jobs))
    if workers <= 1:
        for job in jobs:
            yield job.name, render_object(out, job, settings)
        return
    import multiprocessing

    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        futures: dict[Future, Job] = {
            pool.submit(render_object, out, job, settings): job for job in jobs
        }
        for future in as_completed(futures):
            yield futures[future].name, future.result()
    except BrokenProcessPool as error:
        raise MvdiffError(
            "a rendering process died, perhaps for lack of memory: try fewer workers; the "
            "objects that are complete are kept"
        ) from error
    except BaseException:
        # Workers ignore Ctrl-C: each ends the object in its hands, and nothing is left half.
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


def _start_worker() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
