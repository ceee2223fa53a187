"""A progress display for commands: one line that says what is going on."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class ProgressDisplay:
    """Shows the running stage with a bar; on a pipe or in a log it prints results only.

    Lines added by `count` and `beside` may be moved by other threads.
    """

    def __init__(self, first: str) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.progress.add_task(first, total=None)
        self.whole: TaskID | None = None
        self.check: Callable[[], None] = lambda: None

    def beside(self, check: Callable[[], None]) -> ProgressDisplay:
        """Another line for another thread's stages; `check` is called whenever it moves.

        What `check` raises ends the work that reports its progress here.
        """
        other = copy.copy(self)
        other.task = self.progress.add_task("", total=None, visible=False)
        other.check = check
        return other

    def count(self, done: int, total: int) -> None:
        """A line for the number of finished pictures."""
        title = f"{done} of {total} pictures"
        if self.whole is None:
            self.whole = self.progress.add_task(title, total=total)
        self.progress.update(self.whole, description=title, completed=done)

    def hide(self) -> None:
        """Take the line away until the next stage starts."""
        self.progress.update(self.task, visible=False)

    def __enter__(self) -> ProgressDisplay:
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def start(self, stage: str, total: float | None) -> None:
        """A new stage; `total` None when its length is unknown."""
        self.check()
        self.progress.reset(self.task, description=stage, total=total, visible=True)

    def advance(self, done: float, total: float) -> None:
        """How much of the stage is done."""
        self.progress.update(self.task, completed=done, total=total)

    def within(self, whole: str) -> Callable[[str, float], None]:
        """A callback for (part of the stage, share of the whole stage done)."""

        def update(part: str, share: float) -> None:
            self.check()
            stage = f"{whole}: {part}" if part else whole
            self.progress.update(self.task, description=stage, completed=share, total=1.0)

        return update

    def say(self, line: str) -> None:
        """A line that stays: on standard output when it is a result, else on standard error."""
        if line.startswith(("note:", "mvdiff:")):
            self.console.print(line, markup=False, soft_wrap=True)
        elif self.console.is_terminal and sys.stdout is not None and sys.stdout.isatty():
            # the same screen as the bar, which must move down a line
            self.progress.console.print(line, markup=False, soft_wrap=True)
        else:
            _print(line)


def _print(line: str) -> None:
    """Print on standard output; escaped where its encoding lacks a character (file names)."""
    try:
        print(line, flush=True)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
