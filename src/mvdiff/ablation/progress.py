"""What a sweep says while it runs: which run of how many, and how long the rest will take."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from ..utils.files import read_json, write_json
from ..utils.progress import ProgressDisplay
from ..utils.timing import format_duration
from .runs import Run


class RunReporter:
    """Lines about one run. bar, every: for the training loop's own progress.

    Only a sweep that runs here, one run after the other, shows bars; elsewhere a run says when
    it begins and ends.
    """

    def __init__(self, run: Run) -> None:
        plan: dict[str, Any] = read_json(run.folder.parent.parent / "sweep.json", dict) or {}
        names = plan.get("runs", [run.folder.name])
        number = names.index(run.folder.name) + 1 if run.folder.name in names else 0
        self._run, self._plan = run, [run.folder.parent / name for name in names]
        self._head = f"run {number} of {len(names)}: {run.name}"
        self.bar: bool = not plan.get("parallel", False)
        self.every = 120.0
        self._display = ProgressDisplay(self._head, show=self.bar)
        self._stage = ""

    def training(self, steps: int, start: int, warmup: int) -> None:
        """Training begins."""
        self.close()
        begun = f" from step {start}" if start else ""
        print(f"{self._head}: {steps} steps{begun}", flush=True)
        if warmup >= steps:
            print(
                f"note: the budget's {steps} steps end within train.warmup={warmup}: lower it",
                file=sys.stderr,
            )

    def stage(self, what: str, done: int, total: int) -> None:
        """Something else is going on; shown on a terminal only, in one line."""
        self._display.open()
        if what != self._stage:
            self._stage = what
            self._display.start(f"{self._head}: {what}", total)
        self._display.advance(done, total)

    def done(self, figures: dict[str, float], seconds: float) -> None:
        """The run is finished. seconds: it took, in this process."""
        self.close()
        write_json(self._run.folder / "took.json", seconds)
        shown = [("psnr", "PSNR", 2), ("hull_iou", "hull IoU", 3)]
        text = ", ".join(f"{n} {figures[k]:.{d}f}" for k, n, d in shown if k in figures)
        print(f"{self._head}: {text} in {format_duration(seconds)}{self._left()}", flush=True)

    def failed(self, sentence: str) -> None:
        """The run failed."""
        self.close()
        print(f"mvdiff: {self._run.name} failed: {sentence}", file=sys.stderr, flush=True)

    def _left(self) -> str:
        """How long the runs without result will take, by those that have one."""
        took = [read_json(Path(f) / "took.json", float) for f in self._plan]
        known = [float(t) for t in took if t is not None]
        missing = sum(
            not (f / "result.json").is_file() and not (f / "failed.json").is_file()
            for f in self._plan
        )
        if not (missing and known and self.bar):
            return ""
        return f"; {missing} to go, about {format_duration(missing * statistics.median(known))}"

    def close(self) -> None:
        """Nothing is going on; take away what says so."""
        self._display.close()
