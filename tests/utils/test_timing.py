"""Stopwatch, seconds by stage, durations as text."""

from __future__ import annotations

import pytest

from mvdiff.utils import timing
from mvdiff.utils.timing import StageTimer, Stopwatch, format_duration


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_a_stopwatch_counts_laps_without_pauses(clock: FakeClock) -> None:
    watch = Stopwatch()
    clock.now += 2
    assert watch.elapsed() == 2
    with watch.paused():
        clock.now += 10
    clock.now += 1
    assert watch.lap() == 3
    clock.now += 4
    assert watch.lap() == 4


def test_stages_that_come_again_are_added_to_and_time_between_is_not_counted(
    clock: FakeClock,
) -> None:
    timer = StageTimer({"setup": 1.5})
    clock.now += 7
    timer.start("reading")
    clock.now += 0.25
    timer.start("mesh")
    clock.now += 1.00049
    timer.start("reading")
    clock.now += 0.5
    timer.start(None)
    clock.now += 9
    timer.start("files")
    clock.now += 0.01
    timer.start(None)
    assert timer.seconds == {"setup": 1.5, "reading": 0.75, "mesh": 1.0, "files": 0.01}
    assert str(timer) == "3.3 s (setup 1.5, reading 0.8, mesh 1.0)"


def test_laps_count_all_time_since_the_last_one(clock: FakeClock) -> None:
    timer = StageTimer()
    clock.now += 1
    timer.lap("photo")
    clock.now += 2
    timer.lap("decoding")
    assert timer.seconds == {"photo": 1.0, "decoding": 2.0}


def test_progress_with_numbers_is_booked_as_one_stage() -> None:
    timer, reported = StageTimer(), []
    update = timer.within(lambda *a: reported.append(a[0]))
    for stage in ("carving", "fitting 25/50 loss 0.1", "fitting 50/50 loss 0.05", "done"):
        update(stage, 0.5)
    assert list(timer.seconds) == ["carving", "fitting"]
    assert reported[1] == "fitting 25/50 loss 0.1"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3725.4, "1:02:05")]
)
def test_durations_as_text(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
