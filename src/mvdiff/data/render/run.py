"""Many objects to many images: `<out>/<object>/{target,input}/` and an index with the split."""

from __future__ import annotations

import json
import os
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from ...errors import ConfigError, DataError
from ...utils.files import check_writable, read_json, write_text
from ...utils.locking import exclusive_lock
from ...utils.progress import ProgressDisplay
from ..memmap import is_object_name
from ..meshes import describe_passed_over
from .cameras import cameras_record
from .manifest import ObjectRecord
from .plan import plan_jobs
from .settings import ObjectSelection, RenderSettings, check_range
from .worker import DEPTH_RANGE, Job, mark_incomplete, render_object, rig_distance

#: Objects whose notes are printed one by one.
_MAX_WARNINGS = 8


def render_objects(
    out: str | Path,
    objects: ObjectSelection,
    settings: RenderSettings | None = None,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Render mesh files and procedural shapes; return the index, also written to `index.json`.

    Every object gets the views of the rig under `target/`, and under `input/` images of
    random elevation, the i-th at the azimuth of target view i (arXiv 2309.03453, section 4).
    Objects that are complete are kept when the settings are the recorded ones; objects of
    earlier calls with the same settings stay in the index. Objects whose mesh file changed, or
    whose images are missing or cut short, are rendered again. A broken mesh is skipped and
    listed with the reason; what of a mesh was not used is warned of and listed as its notes.

    settings: default `RenderSettings()`, the 16 views of SyncDreamer at 64².
    workers: processes; default one per core.
    Raises ConfigError on settings out of range, DataError when nothing could be rendered.

    Example:
        >>> import tempfile
        >>> from mvdiff import ring
        >>> quick = RenderSettings(rig=ring(4, size=16), num_inputs=1, supersample=1)
        >>> with tempfile.TemporaryDirectory() as out:
        ...     shapes = ObjectSelection(num_shapes=2)
        ...     index = render_objects(out, shapes, quick, workers=1, progress=False)
        >>> len(index["objects"]), index["size"]
        (2, 16)
    """
    out, settings = Path(out), settings or RenderSettings()
    if workers is not None:
        check_range("workers", workers)
    jobs = plan_jobs(objects)
    if not jobs:
        raise ConfigError("nothing to render: give a mesh folder (meshes=DIR) or num_shapes=N")
    if objects.meshes is not None and (others := describe_passed_over(objects.meshes)):
        warnings.warn(others, stacklevel=2)
    check_writable(out)
    with exclusive_lock(out):
        return _render(out, jobs, settings, workers, progress)


def _render(
    out: Path, jobs: list[Job], settings: RenderSettings, workers: int | None, progress: bool
) -> dict[str, Any]:
    """Render what is not there yet, and write the index."""
    rig = settings.rig
    kept, skipped, notes = _prepare(out, jobs, settings.record())
    todo, reasons_to_render = _incomplete(out, jobs, settings)
    for note in notes + reasons_to_render if progress else []:
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
            done[job.name] = _index_entry(out, job)
    _warn_of_notes([done[job.name] for job in todo if job.name in done])
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
        raise DataError(f"none of the {len(jobs)} objects could be rendered; the first: {first}")
    return index


def _index_entry(out: Path, job: Job) -> dict[str, Any]:
    """An object as the index lists it."""
    record = ObjectRecord.read(out / job.name) or ObjectRecord()
    entry = {
        "name": job.name,
        "split": job.split,
        "source": job.source,
        "family": job.family,
        "pictures": record.digest[:16],
    }
    if record.sources:
        entry["mesh"] = record.source_digest()
    if record.notes:
        entry["notes"] = record.notes
    return entry


def _warn_of_notes(entries: list[dict[str, Any]]) -> None:
    """One warning an object for what of its mesh was not used; of many, the first."""
    noted = [entry for entry in entries if entry.get("notes")]
    for entry in noted[:_MAX_WARNINGS]:
        warnings.warn(f"{entry['name']}: {'; '.join(entry['notes'])}", stacklevel=3)
    if len(noted) > _MAX_WARNINGS:
        warnings.warn(
            f"{len(noted) - _MAX_WARNINGS} more objects have such notes: index.json lists them",
            stacklevel=3,
        )


def _prepare(
    out: Path, jobs: list[Job], record: dict[str, Any]
) -> tuple[list[dict], list[dict], list[str]]:
    """Objects and failures of earlier calls to keep in the index; a note on changed settings.

    `settings.json` is written before the first picture, so that an interrupted run can be
    taken up. On other settings every object of this call is first marked incomplete.
    """
    index = read_json(out / "index.json", dict) or {}
    known = read_json(out / "settings.json", dict)
    if known is None and isinstance(index.get("settings"), dict):
        known = index["settings"]
    if known is None and any((out / job.name).is_dir() for job in jobs):
        known = {}  # nobody knows with what settings these were made
    if known is None or known == record:
        write_text(out / "settings.json", json.dumps(record, indent=1) + "\n")
        kept = [o for o in _named(index.get("objects")) if _present(out, o["name"])]
        skipped = [s for s in _named(index.get("skipped")) if isinstance(s.get("reason"), str)]
        return kept, skipped, []
    changed = sorted(k for k in {*record, *known} if record.get(k) != known.get(k))
    note = (
        f"settings changed since '{out}' was made ({', '.join(changed)}): rendering all "
        f"{len(jobs)} objects again"
    )
    for job in jobs:
        mark_incomplete(out / job.name)
    (out / "index.json").unlink(missing_ok=True)
    write_text(out / "settings.json", json.dumps(record, indent=1) + "\n")
    return [], [], [note]


def _named(entries: Any) -> list[dict[str, Any]]:
    """The entries of a list in an index that name an object, one folder below the index."""
    if not isinstance(entries, list):
        return []
    named = [entry for entry in entries if isinstance(entry, dict)]
    return [e for e in named if isinstance(e.get("name"), str) and is_object_name(e["name"])]


def _present(out: Path, name: str) -> bool:
    """Whether target views are complete: `transforms.json` is written after the pictures."""
    return (out / name / "target" / "transforms.json").is_file()


def _incomplete(
    out: Path, jobs: list[Job], settings: RenderSettings
) -> tuple[list[Job], list[str]]:
    """The jobs to do, and sentences on those that were done before."""
    parts = ("target", "input") if settings.num_inputs else ("target",)
    todo, changed, damaged = [], [], []
    for job in jobs:
        folder = out / job.name
        record = ObjectRecord.read(folder)
        if record is None:
            todo.append(job)
        elif not all((folder / part / "transforms.json").is_file() for part in parts) or not (
            record.pictures_are_whole(folder)
        ):
            todo.append(job)
            damaged.append(job.name)
        elif job.source == "mesh" and not record.sources_are_unchanged(Path(job.path).parent):
            todo.append(job)
            changed.append(job.name)
    notes = []
    for names, what in (
        (changed, "the mesh files of {} changed since their pictures were made"),
        (damaged, "pictures of {} are missing or damaged"),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            notes.append(f"{what.format(', '.join(names[:3]) + more)}: rendering them again")
    return todo, notes


def _run(
    out: Path, jobs: list[Job], settings: RenderSettings, workers: int | None, progress: bool
) -> Iterator[tuple[str, str]]:
    """Render the jobs; yield name and reason of those that failed, reporting each."""
    with ProgressDisplay("rendering objects", show=progress, lines_every=15.0) as display:
        for done, (name, reason) in enumerate(_results(out, jobs, settings, workers), start=1):
            display.advance(done, len(jobs))
            if reason is not None:
                display.say(f"skipped {name}: {reason}")
                yield name, reason


def _results(
    out: Path, jobs: list[Job], settings: RenderSettings, workers: int | None
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
        raise DataError(
            "a rendering process died, perhaps for lack of memory: try fewer workers; the "
            "objects that are complete are kept"
        ) from error
    except BaseException:
        # Workers ignore Ctrl-C: each ends the object in its hands, and nothing is left half.
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


def _start_worker() -> None:
    """Leave signals to the parent, which lets each worker end its object, and end with it."""
    import signal

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
