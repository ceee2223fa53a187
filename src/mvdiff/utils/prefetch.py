"""The next batches, made by one thread while the model works on this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def prefetch(make: Callable[[int], T], keys: range, depth: int = 2) -> Iterator[T]:
    """`make(key)` for every key in order, up to `depth` ahead of the one that is taken.

    An error in `make` is raised where its result was expected. Closing the iterator waits for
    the call of `make` that is running, and ends the thread.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="mvdiff-prefetch")
    rest = iter(keys)
    try:
        ahead = deque(pool.submit(make, key) for key in islice(rest, depth))
        while ahead:
            ahead.extend(pool.submit(make, key) for key in islice(rest, 1))
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
