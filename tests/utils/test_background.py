"""A thread that does jobs in order behind the main one."""

from __future__ import annotations

import threading
import time

import pytest

from mvdiff.errors import MvdiffError
from mvdiff.utils.background import BackgroundWorker
from mvdiff.utils.progress import ProgressDisplay


def ended() -> bool:
    return not any(t.name.startswith("mvdiff-writer") for t in threading.enumerate())


def test_jobs_are_done_in_order_and_a_bounded_number_waits() -> None:
    order: list[int] = []
    free = threading.Event()

    def job(number: int) -> None:
        free.wait(20)
        order.append(number)

    with BackgroundWorker(ProgressDisplay("test"), depth=2) as writer:
        for i in range(3):  # one that runs, two that wait
            writer.put(lambda _, i=i: job(i))
        putting = threading.Thread(target=lambda: writer.put(lambda _: job(3)))
        putting.start()
        putting.join(0.2)
        assert putting.is_alive(), "there is no free place"
        free.set()
        putting.join(20)
        writer.put(lambda _: job(4))
    assert order == [0, 1, 2, 3, 4]
    assert ended()


def test_an_error_is_raised_in_the_main_thread_and_later_jobs_are_not_done() -> None:
    done: list[int] = []
    failed = threading.Event()

    def fails(_: ProgressDisplay) -> None:
        failed.set()
        raise MvdiffError("the disk is full")

    def run(*, more: bool) -> None:
        with BackgroundWorker(ProgressDisplay("test"), depth=8) as writer:
            writer.put(fails)
            writer.put(lambda _: done.append(1))
            failed.wait(20)
            while more:
                writer.put(lambda _: done.append(2))

    for more in (True, False):
        with pytest.raises(MvdiffError, match="the disk is full"):
            run(more=more)
    assert done == []
    assert ended()


def test_an_interrupt_ends_the_running_job_and_drops_those_that_wait() -> None:
    begun, done = threading.Event(), []

    def endless(lines: ProgressDisplay) -> None:
        while True:
            begun.set()
            lines.start("a long mesh", 1.0)
            time.sleep(0.01)

    def interrupted() -> None:
        with BackgroundWorker(ProgressDisplay("test"), depth=2) as writer:
            writer.put(endless)
            writer.put(lambda _: done.append(1))
            begun.wait(5)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == []
    assert ended()
