"""A thread that writes results while the main thread goes on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from .progress import ProgressDisplay


class WorkerStopped(Exception):
    """Ends a writing thread's work in the middle, where the main thread gave up."""


class BackgroundWorker:
    """A thread that does jobs in order while the main thread goes on; at most `depth` wait.

    What a job raises is raised in the main thread, at the next `put` or at the end; jobs after it
    are not done. An error in the main thread (Ctrl-C) ends the running job when it next reports
    its progress.
    """

    def __init__(self, stages: ProgressDisplay, depth: int) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mvdiff-writer")
        self._jobs: deque[Future[None]] = deque()
        self._depth = depth
        self._stop = threading.Event()
        self._stages = stages.beside(self._check)

    def __enter__(self) -> BackgroundWorker:
        return self

    def put(self, job: Callable[[ProgressDisplay], None]) -> None:
        """Wait for a free place, then queue the job."""
        self._wait_for_all_but(self._depth)
        self._jobs.append(self._pool.submit(self._do, job))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._wait_for_all_but(0)
        finally:
            self._stop.set()
            self._pool.shutdown(cancel_futures=True)

    def _wait_for_all_but(self, most: int) -> None:
        """Wait until at most so many jobs are left; raise what a finished one raised."""
        while self._jobs and (len(self._jobs) > most or self._jobs[0].done()):
            self._jobs.popleft().result()

    def _check(self) -> None:
        if self._stop.is_set():
            raise WorkerStopped

    def _do(self, job: Callable[[ProgressDisplay], None]) -> None:
        if self._stop.is_set():
            return
        try:
            job(self._stages)
            self._stages.hide()
        except WorkerStopped:
            pass
        except BaseException:
            self._stop.set()
            raise
