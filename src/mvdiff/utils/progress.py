"""The progress of long work: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from .timing import Stopwatch, format_duration


class ProgressDisplay:
    """Shows the running stage with a bar; on a pipe or in a log it prints lines only.

    Lines added by `count` and `beside` may be moved by other threads.

    first: the first stage. show: false prints and shows nothing at all.
    lines_every: seconds between lines on how far a stage is, where no bar says so; None: no such
        lines.
    """

    def __init__(self, first: str, *, show: bool = True, lines_every: float | None = None) -> None:
        self.show, self.lines_every = show, lines_every
        self.console = Console(stderr=True, highlight=False, emoji=False)
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            _Count(),
            TextColumn("{task.fields[text]}"),
            TimeElapsedColumn(),
            _TimeLeft(),
            console=self.console,
            transient=True,
            redirect_stdout=self._has_bar_beside_output(),  # not away from a file or a pipe
            disable=not (show and self.console.is_terminal),
            speed_estimate_period=120,
        )
        self.task = self.progress.add_task(first, total=None, text="")
        self._begin(first, 0)
        self.whole: TaskID | None = None
        self.check: Callable[[], None] = lambda: None

    def beside(self, check: Callable[[], None]) -> ProgressDisplay:
        """Another line for another thread's stages; `check` is called whenever it moves.

        What `check` raises ends the work that reports its progress here.
        """
        other = copy.copy(self)
        other.task = self.progress.add_task("", total=None, visible=False, text="")
        other.check = check
        return other

    def count(self, done: int, total: int) -> None:
        """A line for the number of finished pictures."""
        if self.whole is None:
            self.whole = self.progress.add_task("pictures", total=total, text="")
        self.progress.update(self.whole, completed=done)

    def hide(self) -> None:
        """Take the line away until the next stage starts."""
        self.progress.update(self.task, visible=False)

    def open(self) -> None:
        """Show the bar; nothing happens where it is shown already."""
        self.progress.start()

    def close(self) -> None:
        """Take the bar away; it may be opened again."""
        self.progress.stop()

    def __enter__(self) -> ProgressDisplay:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self, stage: str, total: float | None, done: int = 0) -> None:
        """A new stage; `total` None when its length is unknown. done: before it starts here."""
        self.check()
        self.progress.reset(
            self.task, description=stage, total=total, completed=done, visible=True, text=""
        )
        self._begin(stage, done)

    def advance(self, done: float, total: float, text: str = "") -> None:
        """How much of the stage is done, and what else to say of it."""
        self.progress.update(self.task, completed=done, total=total, text=text)
        if self.lines_every is None or not self.show or self._has_bar_beside_output():
            return
        if self._since_line.elapsed() >= self.lines_every or done >= total:
            self._since_line.lap()
            each = self._begun.elapsed() / max(done - self._done_before, 1e-9)
            left = format_duration((total - done) * each)
            _print("  ".join(filter(None, [f"{self._stage} {done}/{total}", text, f"left {left}"])))

    def within(self, whole: str) -> Callable[[str, float], None]:
        """A callback for (part of the stage, share of the whole stage done)."""

        def update(part: str, share: float) -> None:
            self.check()
            stage = f"{whole}: {part}" if part else whole
            self.progress.update(self.task, description=stage, completed=share, total=1.0)

        return update

    def say(self, line: str) -> None:
        """A line that stays: on standard output when it is a result, else on standard error."""
        if not self.show:
            return
        if line.startswith(("note:", "mvdiff:")) or self._has_bar_beside_output():
            # where the bar is, it must move down a line
            self.console.print(line, markup=False, soft_wrap=True)
        else:
            _print(line)

    def _begin(self, stage: str, done: int) -> None:
        self._stage, self._done_before = stage, done
        self._begun, self._since_line = Stopwatch(), Stopwatch()

    def _has_bar_beside_output(self) -> bool:
        """Whether bar and standard output share a terminal."""
        return self.console.is_terminal and sys.stdout is not None and sys.stdout.isatty()


class _Count(MofNCompleteColumn):
    """How many of how many, of stages that count something."""

    def render(self, task: Task) -> Text:
        return super().render(task) if (task.total or 0) > 1 else Text()


class _TimeLeft(TimeRemainingColumn):
    """The time left, once it can be told."""

    def render(self, task: Task) -> Text:
        known = task.time_remaining is not None and not task.finished
        return Text.assemble("left ", super().render(task)) if known else Text()


def _print(line: str) -> None:
    """Print on standard output; escaped where its encoding lacks a character (file names)."""
    try:
        print(line, flush=True)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
