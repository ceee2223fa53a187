"""`mvdiff generate`: pictures → views → meshes, with everything written beside each other.

Planning, and finding out what is finished, imports neither torch nor diffusers, so that errors
and finished pictures are told at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..config.schema import GenerateConfig
from ..errors import MvdiffError
from .command import Command, Job

if TYPE_CHECKING:
    from ..generation.planning import Wanted
    from ..generation.summary import RunSummary
    from ..utils.progress import ProgressDisplay
    from ..utils.warnings import NoteBook


def run(config: GenerateConfig) -> int:
    """All pictures; 1 when some failed or have no mesh, and 2 when all failed."""
    from ..generation.planning import plan
    from ..generation.sharding import Share

    wanted, share = plan(config), Share.read(config.shard)
    tally = make(config, wanted[share.index :: share.count], alone=len(wanted) == 1)
    counts = share.added([len(tally.errors), tally.meshless, tally.pictures])
    if len(wanted) == 1 and tally.errors:
        raise tally.errors[0]
    return exit_code(*counts)


def exit_code(failed: int, meshless: int, pictures: int) -> int:
    """1 when some pictures failed or have no mesh, 2 when all of them failed."""
    if failed and failed == pictures:
        return 2
    return 1 if failed or meshless else 0


def make(config: GenerateConfig, wanted: Sequence[Wanted], *, alone: bool) -> RunSummary:
    """Some of the pictures. alone: there is one in all, and its error is left to the caller."""
    from ..generation.summary import RunSummary
    from ..utils.progress import ProgressDisplay
    from ..utils.warnings import NoteBook, route_warnings_by_thread

    tally, book = RunSummary(), NoteBook([str(shot.path) for each in wanted for shot in each.shots])
    if not wanted:
        return tally
    with route_warnings_by_thread(), ProgressDisplay("looking for what is finished") as stages:
        try:
            rest = _skip_finished(config, wanted, stages, tally, book)
            if rest:
                _make_rest(config, rest, stages, tally, book, tell=not alone)
        finally:
            for line in book.take():
                stages.say(f"note: {line}")
    return tally


def _skip_finished(
    config: GenerateConfig,
    wanted: Sequence[Wanted],
    stages: ProgressDisplay,
    tally: RunSummary,
    book: NoteBook,
) -> list[Wanted]:
    """Tell of the objects with nothing left to do; the others are returned."""
    from ..generation.planning import FINISHED, samples_of
    from ..generation.sample_store import read_record

    rest = []
    for each in wanted:
        try:
            samples = samples_of(config, each)
        except MvdiffError:  # told by the stage that reads
            rest.append(each)
            continue
        done = samples.finished() if config.resume else {}
        if not samples.in_order(done):
            rest.append(each)
            continue
        tally.pictures += 1
        book.add(str(each.path), FINISHED)
        for path in sorted(done.values(), key=lambda p: int(p.name.removeprefix("sample-"))):
            tally.tell_result(stages, each, path, read_record(path).get("trouble"))
    return rest


def _make_rest(
    config: GenerateConfig,
    wanted: Sequence[Wanted],
    stages: ProgressDisplay,
    tally: RunSummary,
    book: NoteBook,
    *,
    tell: bool,
) -> None:
    """Load the model and make what is missing."""
    from .. import builders
    from ..generation.batch_generator import BatchGenerator
    from ..generation.sharding import choose_gpu
    from ..generation.writer import Timer
    from ..pipeline import check_projection

    timer = Timer()
    stages.start("loading the model", None)
    choose_gpu()
    model = builders.build_pipeline(config)
    check_projection(model)
    reconstructor = builders.build_reconstructor(config)
    timer.lap("setup")
    setup = timer.seconds["setup"]
    stream = BatchGenerator(
        config, model, reconstructor, stages, tally, book, setup=setup, tell=tell
    )
    stream.run(wanted)


def read(overrides: Sequence[str]) -> tuple[Any, Job]:
    """One process; with `jobs=N` or Hydra's launcher settings, N jobs."""
    from ..config.compose import compose
    from ..config.launcher import split_hydra_overrides

    hydra, words = split_hydra_overrides(overrides)
    config = compose("generate", words)
    if not hydra and config.jobs is None:
        return config, partial(run, config)

    def run_sharded() -> int:
        from .generate_sharded import Jobs
        from .generate_sharded import run as run_jobs

        return run_jobs(Jobs(config, words, hydra))

    return config, run_sharded


COMMAND = Command(
    name="generate",
    summary="one picture → views from all around → a mesh",
    description="One picture of an object → consistent views from all around → a mesh.",
    config=GenerateConfig,
    run=run,
    read=read,
    examples=(
        "mvdiff generate image=photo.png elevation=20",
        "mvdiff generate image=photos/ samples=4 seed=7 out=results",
        "mvdiff generate image=[front.png,side.png] azimuth=[0,90] elevation=[10,30]",
        "mvdiff generate image=photos/ shard=0/4               (one job of four; each has its own)",
        "mvdiff generate image=photos/ jobs=4 hydra/launcher=joblib hydra.launcher.n_jobs=4",
        "mvdiff generate image=photos/ jobs=8 hydra/launcher=submitit_slurm "
        "hydra.launcher.gpus_per_node=1",
        "mvdiff generate image=photo.png attention=none sampler=dpmpp sampler.steps=20",
        "mvdiff generate recipe=syncdreamer weights=syncdreamer-pretrain.ckpt image=photo.png "
        "elevation=30",
    ),
)
