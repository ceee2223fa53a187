"""Ctrl-C that does not get lost.

Libraries turn whatever interrupts their import into an error of their own, or swallow it; so
while something is being imported the interrupt waits, a second or two at most.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: seconds between two looks whether the import is over
_RETRY = 0.1


@contextlib.contextmanager
def orderly_interrupts() -> Iterator[None]:
    """Within it, Ctrl-C raises KeyboardInterrupt as ever, but not inside an import.

    Does nothing where signals cannot be handled (not the main thread, not Unix) or where the
    surrounding program handles Ctrl-C itself.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or os.name != "posix":
        yield
        return
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    if before != (signal.default_int_handler, signal.SIG_DFL):
        yield
        return
    signal.signal(signal.SIGINT, _handle)
    signal.signal(signal.SIGALRM, _handle)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGALRM, before[1])


def _handle(number: int, frame: FrameType | None) -> None:
    if _importing(frame):
        signal.setitimer(signal.ITIMER_REAL, _RETRY)
    else:
        raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
