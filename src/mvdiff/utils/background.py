"""A thread that writes results while the main thread goes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType

from .progress import ProgressDisplay


class WorkerStopped(Exception):
    """Ends a writing thread's work in the middle, where the main thread gave up."""


class BackgroundWorker:
    """A thread that does jobs in order while the main thread goes on; at most `depth` wait.

    What a job raises is raised in the main thread: at the next `put`, or at the end.
    """

    def __init__(self, stages: ProgressDisplay, depth: int) -> None:
        self.jobs: queue.Queue[Callable[[ProgressDisplay], None] | None] = queue.Queue(
            maxsize=depth
        )
        self.error: BaseException | None = None
        self.stop = threading.Event()
        self.stages = stages.beside(self._check)
        self.thread = threading.Thread(target=self._work, name="mvdiff-writer", daemon=True)

    def __enter__(self) -> BackgroundWorker:
        self.thread.start()
        return self

    def put(self, job: Callable[[ProgressDisplay], None] | None) -> None:
        """Wait for a free place, then queue the job; None is the last."""
        while self.error is None:
            try:
                return self.jobs.put(job, timeout=0.1)
            except queue.Full:
                continue
        raise self.error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.put(None)
                while self.thread.is_alive():  # in short waits, so that Ctrl-C comes through
                    self.thread.join(0.1)
                if self.error is not None:
                    raise self.error
        finally:
            self.stop.set()
            self.thread.join(20)

    def _check(self) -> None:
        if self.stop.is_set():
            raise WorkerStopped

    def _work(self) -> None:
        while not self.stop.is_set():
            try:
                job = self.jobs.get(timeout=0.1)
            except queue.Empty:
                continue
            if job is None:
                return
            try:
                job(self.stages)
                self.stages.hide()
            except WorkerStopped:
                return
            except BaseException as error:
                self.error = error
                return
