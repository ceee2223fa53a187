"""Ctrl-C, SIGTERM and SIGHUP as exceptions, so that they end a command in order.

Libraries turn whatever interrupts their import into an error of their own, or swallow it; while
something is being imported the signal therefore waits, a second or two at most. (Without that,
6 of 80 interrupts in the first seconds of `mvdiff generate` were lost or ended in a traceback.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

#: seconds between two looks whether the import is over
_RETRY = 0.1


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: handled as Ctrl-C is, with another exit code."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal_name = signal.Signals(number).name
        self.exit_code = 128 + number


@contextlib.contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Within it, SIGINT raises KeyboardInterrupt, SIGTERM and SIGHUP raise `Terminated`.

    None of them is raised inside an import, and where native code makes another error of one, that
    error becomes the signal's exception again. Does nothing where signals cannot be handled (not
    the main thread, not Unix) or where the surrounding program handles Ctrl-C itself; a signal that
    is ignored (as SIGHUP under nohup, and SIGINT in background jobs of scripts) stays ignored.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or os.name != "posix":
        yield
        return
    # a shell script starts background jobs (`mvdiff … &`) with SIGINT ignored
    is_ours = signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN)
    if not is_ours or signal.getsignal(signal.SIGALRM) != signal.SIG_DFL:
        yield
        return
    handler = _Handler()
    replaced: dict[int, Any] = {}
    for number in (signal.SIGINT, signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            replaced[number] = signal.signal(number, handler)
    try:
        yield
    except Exception as error:
        if handler.raised is None:
            raise
        raise handler.raised from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, previous in replaced.items():
            signal.signal(number, previous)


class _Handler:
    """Raises the exception of a signal, after the import that is running."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._pending: int | None = None
        self.raised: KeyboardInterrupt | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker: end as if nothing had been set
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if number == signal.SIGALRM:
            if self._pending is None:
                return
            number = self._pending
        if _importing(frame):
            self._pending = number
            signal.setitimer(signal.ITIMER_REAL, _RETRY)
            return
        self._pending = None
        self.raised = KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
        raise self.raised


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
