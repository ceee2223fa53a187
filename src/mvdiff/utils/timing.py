"""Wall-clock time: a stopwatch, seconds by stage, and durations as text."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from .callbacks import ProgressCallback


class Stopwatch:
    """Seconds since it was made, or since the last lap."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def elapsed(self) -> float:
        """Seconds of the running lap."""
        return time.perf_counter() - self._since

    def lap(self) -> float:
        """Seconds of the lap that ends now; the next one begins."""
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        return seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done within does not count."""
        pause = Stopwatch()
        yield
        self._since += pause.elapsed()


class StageTimer:
    """Seconds by stage; a stage that comes again is added to.

    seconds: of stages before.
    """

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self._seconds = dict(seconds or {})
        self._stage: str | None = None
        self._watch = Stopwatch()

    @property
    def seconds(self) -> dict[str, float]:
        """Stage → seconds, to the millisecond, in the order of the stages; ended ones only."""
        return {stage: round(spent, 3) for stage, spent in self._seconds.items()}

    def lap(self, stage: str) -> None:
        """Count the time since the last lap or start as `stage`."""
        self._seconds[stage] = self._seconds.get(stage, 0.0) + self._watch.lap()

    def start(self, stage: str | None) -> None:
        """End the running stage, and start another (None: none)."""
        if self._stage is None:
            self._watch.lap()
        else:
            self.lap(self._stage)
        self._stage = stage

    def within(self, progress: ProgressCallback) -> ProgressCallback:
        """A progress callback that times each of its stages and passes on what it is told.

        Numbers do not count: "fitting 25/1500 color 0.01" is the stage "fitting". "done" is none.
        """

        def update(name: str, share: float) -> None:
            stage = re.sub(r"\s*\d.*", "", name)
            if stage != self._stage:
                self.start(None if stage == "done" else stage)
            progress(name, share)

        return update

    def __str__(self) -> str:
        """The sum, and the stages that took at least 0.05 s: "3.2 s (reading 0.4, mesh 2.8)"."""
        parts = [f"{stage} {spent:.1f}" for stage, spent in self._seconds.items() if spent >= 0.05]
        return f"{sum(self._seconds.values()):.1f} s ({', '.join(parts)})"


def format_duration(seconds: float) -> str:
    """Hours, minutes and seconds: 3725.4 is "1:02:05"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
