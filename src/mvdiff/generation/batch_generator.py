"""Many pictures: read ahead, denoised in batches, decoded and written behind, all at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..config.schema import GenerateConfig
from ..errors import MvdiffError
from ..pipeline import MultiViewPipeline
from ..utils.background import BackgroundWorker
from ..utils.oom import AdaptiveChunk, is_out_of_memory
from ..utils.prefetch import prefetch
from ..utils.progress import ProgressDisplay
from ..utils.timing import Stopwatch
from ..utils.warnings import NoteBook
from .job import JobState, arrange, read, remark, remark_foreground, write
from .planning import ObjectPlan
from .summary import RunSummary


@dataclass(frozen=True)
class SampleTask:
    """One sample of a picture to be denoised."""

    work: JobState
    seed: int


class BatchGenerator:
    """Takes pictures through their three stages, each in a thread of its own.

    Reading (with cut-out and encoding) stays at most a batch ahead, and finished latents wait
    for at most a batch's writing (with decoding and meshes). A picture's result depends neither
    on the order nor on what shares its batch, up to rounding (other batch sizes sum in another
    order: 1e-5 of a latent's unit variance); with batch_size=1 not at all.

    tally: counts what comes of the pictures. book: what is noted about them, to be told at the
    end. setup: seconds that loading took. tell: say at once why a picture failed.
    """

    def __init__(
        self,
        config: GenerateConfig,
        model: MultiViewPipeline,
        reconstructor: Any,
        stages: ProgressDisplay,
        tally: RunSummary,
        book: NoteBook,
        *,
        setup: float,
        tell: bool,
    ) -> None:
        self.config, self.model, self.reconstructor = config, model, reconstructor
        self.stages, self.setup, self.tell = stages, setup, tell
        self.batch = config.batch_size or default_batch(model)
        self.at_once: AdaptiveChunk = model.views_at_once(config.batch_views)
        self.tally, self.book = tally, book
        self.read_so_far: list[JobState] = []
        self.ended = 0  # pictures that are finished or failed

    def run(self, plans: Sequence[ObjectPlan]) -> None:
        """All pictures. Raises what is not one picture's fault."""
        self.tally.pictures += len(plans)
        self.ended = self.tally.pictures - len(plans)
        if self.tally.pictures > 1:
            self.stages.count(self.ended, self.tally.pictures)
        self.stages.start(f"{plans[0].path.name}: reading", None)
        reader = prefetch(lambda i: self._read(plans[i]), range(len(plans)), self.batch)
        try:
            with (
                BackgroundWorker(self.stages, depth=self.batch) as writer,
                contextlib.closing(reader),
            ):
                batch: list[SampleTask] = []
                for i, work in enumerate(reader):
                    self._take(work, plans[i], batch, writer)
                    while len(batch) >= self.batch:
                        full, batch = batch[: self.batch], batch[self.batch :]
                        self._denoise(full, writer)
                self._denoise(batch, writer)
        finally:
            for work in self.read_so_far:
                work.release()

    def _read(self, plan: ObjectPlan) -> JobState | MvdiffError:
        try:
            work = read(self.config, self.model, plan, self.setup)
        except MvdiffError as error:
            return error
        self.read_so_far.append(work)
        return work

    def _take(
        self,
        work: JobState | MvdiffError,
        plan: ObjectPlan,
        batch: list[SampleTask],
        writer: BackgroundWorker,
    ) -> None:
        """A picture that was read: its missing samples join the batch."""
        if isinstance(work, MvdiffError):
            return self._fail(plan, work)
        remark(work, self.book)
        if not self.tell:  # the only picture: before it takes its time
            for line in self.book.take():
                self.stages.say(f"note: {line}")
        if work.missing:
            batch += [SampleTask(work, seed) for seed in work.missing]
        else:
            writer.put(lambda stages: self._finish(work, stages))

    def _denoise(self, batch: Sequence[SampleTask], writer: BackgroundWorker) -> None:
        """A batch, in parts where memory does not suffice even one view at a time."""
        most = self.batch
        if len(batch) > most:
            self._denoise(batch[:most], writer)
            return self._denoise(batch[most:], writer)
        if not batch:
            return None
        self.stages.start(self._title(batch), self.model.sampler.steps)
        watch = Stopwatch()
        try:
            latents = self.model.denoise(
                [part.work.known.condition for part in batch],
                [part.seed for part in batch],
                self.at_once,
                callback=lambda done, steps, _: self.stages.advance(done, steps),
            )
        except (MemoryError, RuntimeError) as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            latents = None
        if latents is None:  # out of the handler, which holds on to the failed call's tensors
            self.batch = len(batch) // 2
            self.stages.say(f"note: not enough memory: going on with batch_size={self.batch}")
            return self._denoise(batch, writer)
        seconds = watch.elapsed() / len(batch)
        for part, latent in zip(batch, latents, strict=True):
            writer.put(self._writing(part, latent, seconds))

    def _title(self, batch: Sequence[SampleTask]) -> str:
        name = batch[0].work.plan.path.name
        if len(batch) > 1:
            name += f" and {len(batch) - 1} more"
        elif self.config.samples > 1:
            seeds = batch[0].work.samples.seeds
            name += f", sample {seeds.index(batch[0].seed) + 1} of {len(seeds)}"
        return f"{name}: denoising"

    def _writing(
        self, part: SampleTask, latent: Tensor, seconds: float
    ) -> Callable[[ProgressDisplay], None]:
        def job(stages: ProgressDisplay) -> None:
            work = part.work
            if work.failed:
                return
            try:
                write(
                    self.config,
                    self.model,
                    self.reconstructor,
                    work,
                    part.seed,
                    latent,
                    seconds,
                    stages,
                )
            except MvdiffError as error:
                work.failed = True
                work.release()
                return self._fail(work.plan, error)
            if work.finished:
                self._finish(work, stages)

        return job

    def _finish(self, work: JobState, stages: ProgressDisplay) -> None:
        """All samples of a picture are there: the best one first, and what came out is told."""
        stages.start(f"{work.plan.path.name}: comparing the samples", None)
        try:
            results = arrange(self.model, work)
        except MvdiffError as error:
            return self._fail(work.plan, error)
        finally:
            work.release()
        for path, trouble in results:
            self.tally.tell_result(stages, work.plan, path, trouble)
        remark_foreground(work, self.book)
        self._count()

    def _fail(self, plan: ObjectPlan, error: MvdiffError) -> None:
        self.tally.errors.append(error)
        if self.tell:
            named = f"'{plan.path}'" in str(error)
            self.stages.say(f"mvdiff: {error}" if named else f"mvdiff: {plan.path}: {error}")
        self._count()

    def _count(self) -> None:
        self.ended += 1
        if self.tally.pictures > 1:
            self.stages.count(self.ended, self.tally.pictures)


def default_batch(model: MultiViewPipeline) -> int:
    """Objects a batch: on a GPU four (small maps leave it idle), elsewhere one."""
    return 4 if model.denoiser.device.type == "cuda" else 1
