"""When a run ends early: signals and time budgets, agreed on by all processes."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import torch

from ..utils.timing import Stopwatch

#: A closed terminal sends SIGHUP, which Windows does not have.
_SIGNALS = [signal.SIGINT, signal.SIGTERM, *filter(None, [getattr(signal, "SIGHUP", None)])]


class GracefulStop:
    """Context in which the first Ctrl-C, SIGTERM or SIGHUP requests a stop; a second one aborts.

    time_budget: minutes from now; None has no end.
    """

    def __init__(self, accelerator: Any, time_budget: float | None) -> None:
        self.signalled = False
        self._accelerator = accelerator
        self._minutes, self._watch = time_budget, Stopwatch()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> GracefulStop:
        # Only the main thread may set handlers; elsewhere the caller's stay in force.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as SIGHUP under nohup
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.signalled = True
        self._restore()

    def agree(self, save_due: bool) -> tuple[bool, bool, bool]:
        """(interrupted, out of time, save due): true if so on any process."""
        late = self._minutes is not None and self._watch.elapsed() >= 60 * self._minutes
        wishes = [self.signalled, late, save_due]
        if self._accelerator.num_processes > 1:
            flags = torch.tensor(wishes, dtype=torch.float32, device=self._accelerator.device)
            wishes = (self._accelerator.reduce(flags, "sum") > 0).tolist()
        return bool(wishes[0]), bool(wishes[1]), bool(wishes[2])
