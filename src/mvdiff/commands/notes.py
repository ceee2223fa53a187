"""What our own warnings say of a picture, kept apart by the thread that works on it."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator

from ..cli import is_ours

_here = threading.local()


@contextlib.contextmanager
def notes_by_thread() -> Iterator[None]:
    """Within it, `collect` works in every thread; to be entered while no other one runs.

    Python's own way to catch warnings changes what all threads do.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)  # of every picture, not of the first one
        before = warnings.showwarning

        def show(message, category, filename, lineno, file=None, line=None) -> None:
            kept = getattr(_here, "kept", None)
            if kept is None:
                before(message, category, filename, lineno, file, line)
            elif is_ours(filename):
                kept.append(str(message))

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def collect() -> Iterator[list[str]]:
    """Within it, this thread's warnings of ours go into the list, and others nowhere."""
    _here.kept = []
    try:
        yield _here.kept
    finally:
        _here.kept = None
