"""The next batches, made by one thread while the model works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(make: Callable[[int], T], keys: range, depth: int = 2) -> Iterator[T]:
    """`make(key)` for every key in order, up to `depth` ahead.

    An error in `make` is raised where its result was expected. Closing the iterator ends the
    thread.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: tuple[T | None, BaseException | None]) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        for key in keys:
            try:
                item = (make(key), None)
            except BaseException as error:
                put((None, error))
                return
            if not put(item):
                return

    thread = threading.Thread(target=work, name="mvdiff-prefetch", daemon=True)
    thread.start()
    try:
        for _ in keys:
            value, error = ready.get()
            if error is not None:
                raise error
            yield value
    finally:
        stop.set()
        thread.join()
