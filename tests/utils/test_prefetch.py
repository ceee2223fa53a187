"""Results computed ahead of time by one thread."""

from __future__ import annotations

import threading
import time

import pytest

from mvdiff.errors import MvdiffError
from mvdiff.utils.prefetch import prefetch


def test_results_come_in_order_and_a_bounded_number_ahead() -> None:
    made: list[int] = []

    def make(key: int) -> int:
        made.append(key)
        return key * key

    stream = prefetch(make, range(3, 20), depth=2)
    assert next(stream) == 9
    deadline = time.monotonic() + 10
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert made == [3, 4, 5]  # the one taken and two ahead
    assert list(stream) == [k * k for k in range(4, 20)]


def test_an_error_is_raised_where_its_result_was_expected() -> None:
    def make(key: int) -> int:
        if key == 2:
            raise MvdiffError("no such picture")
        return key

    stream = prefetch(make, range(5))
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(MvdiffError, match="no such picture"):
        next(stream)


def test_closing_the_iterator_ends_the_thread() -> None:
    stream = prefetch(lambda key: key, range(10**6))
    next(stream)
    assert any(t.name.startswith("mvdiff-prefetch") for t in threading.enumerate())
    stream.close()
    assert not any(t.name.startswith("mvdiff-prefetch") for t in threading.enumerate())
