"""Generation of many objects: skip what is finished, load the model, denoise and write the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..config.schema import GenerateConfig
from ..errors import MvdiffError
from ..utils.progress import ProgressDisplay
from ..utils.timing import StageTimer
from ..utils.warnings import NoteBook, route_warnings_by_thread
from .planning import FINISHED, ObjectPlan, samples_of
from .sample_store import read_record
from .summary import RunSummary

if TYPE_CHECKING:
    from ..pipeline import MultiViewPipeline


def run_plans(
    config: GenerateConfig,
    plans: Sequence[ObjectPlan],
    *,
    report_errors: bool,
    model: MultiViewPipeline | None = None,
) -> RunSummary:
    """Generate objects; finished samples are skipped unless `config.resume` is false.

    plans: as `planning.plan_objects` makes them, or some of those.
    report_errors: print why an object failed; the summary has the errors either way.
    model: a loaded pipeline; None builds the one of the config when something is missing.
    """
    summary = RunSummary()
    named = [[image.path for image in plan.images] or [plan.path] for plan in plans]
    book = NoteBook([str(path) for paths in named for path in paths])
    if not plans:
        return summary
    with route_warnings_by_thread(), ProgressDisplay("looking for finished samples") as display:
        try:
            unfinished = _skip_finished(config, plans, display, summary, book)
            if unfinished:
                _generate(config, unfinished, display, summary, book, model, report_errors)
        finally:
            for line in book.take():
                display.say(f"note: {line}")
    return summary


def _skip_finished(
    config: GenerateConfig,
    plans: Sequence[ObjectPlan],
    display: ProgressDisplay,
    summary: RunSummary,
    book: NoteBook,
) -> list[ObjectPlan]:
    """Report the objects whose samples all exist; the others are returned."""
    unfinished = []
    for plan in plans:
        try:
            samples = samples_of(config, plan)
        except MvdiffError:  # reported by the stage that reads
            unfinished.append(plan)
            continue
        done = samples.finished() if config.resume else {}
        if not samples.in_order(done):
            unfinished.append(plan)
            continue
        summary.pictures += 1
        book.add(str(plan.path), FINISHED)
        for path in sorted(done.values(), key=lambda p: int(p.name.removeprefix("sample-"))):
            summary.tell_result(display, plan, path, read_record(path).get("trouble"))
    return unfinished


def _generate(
    config: GenerateConfig,
    plans: Sequence[ObjectPlan],
    display: ProgressDisplay,
    summary: RunSummary,
    book: NoteBook,
    model: MultiViewPipeline | None,
    report_errors: bool,
) -> None:
    """Load the model where there is none, and generate what is missing."""
    from .. import builders
    from ..pipeline import check_projection
    from .batch_generator import BatchGenerator
    from .sharding import set_local_device

    timer = StageTimer()
    display.start("loading the model", None)
    if model is None:
        set_local_device()
        model = builders.build_pipeline(config)
    check_projection(model)
    reconstructor = builders.build_reconstructor(config)
    timer.lap("setup")
    BatchGenerator(
        config,
        model,
        reconstructor,
        display,
        summary,
        book,
        setup=timer.seconds["setup"],
        tell=report_errors,
    ).run(plans)
