"""Progress: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mvdiff.utils.progress import ProgressDisplay


def test_lines_for_the_pictures_and_for_the_writer():
    asked = []
    stages = ProgressDisplay("loading")
    writer = stages.beside(lambda: asked.append(1))
    stages.count(2, 5)
    stages.count(3, 5)

    def shown() -> list[tuple[str, float]]:
        return [(t.description, t.completed) for t in stages.progress.tasks if t.visible]

    assert shown() == [("loading", 0), ("pictures", 3)]
    writer.start("mesh", 1.0)
    writer.within("mesh")("texture", 0.5)
    stages.advance(1, 4)
    assert ("mesh: texture", 0.5) in shown()
    assert ("loading", 1) in shown()
    assert len(asked) == 2
    writer.hide()
    assert len(shown()) == 2


def test_off_a_terminal_a_line_says_how_far_a_stage_is(capsys):
    with ProgressDisplay("rendering", lines_every=0) as display:
        display.advance(1, 3)
        display.advance(2, 3, "1 skipped")
    with ProgressDisplay("rare", lines_every=1000) as display:
        display.advance(1, 3)
        display.advance(3, 3)
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "rendering 1/3  left 0:00:00",
        "rendering 2/3  1 skipped  left 0:00:00",
        "rare 3/3  left 0:00:00",
    ]
    assert captured.err == ""


def test_without_lines_and_without_a_terminal_only_results_and_notes_are_printed(capsys):
    with ProgressDisplay("loading") as display:
        display.start("mesh", 2)
        display.advance(1, 2)
        display.count(1, 2)
        display.say("a :cat: [b].png → out")
        display.say("note: something")
    captured = capsys.readouterr()
    assert captured.out == "a :cat: [b].png → out\n"
    assert captured.err == "note: something\n"


def test_what_is_not_shown_prints_nothing(capsys):
    with ProgressDisplay("loading", show=False, lines_every=0) as display:
        display.advance(1, 2)
        display.say("result")
        display.say("note: something")
    assert capsys.readouterr() == ("", "")


SCRIPT = """
import time
from mvdiff.utils.progress import ProgressDisplay
with ProgressDisplay("loading", lines_every=0) as display:
    display.start("rendering", 3)
    display.advance(2, 3)
    time.sleep(0.3)
    display.say("result")
    print("printed")
"""


@pytest.mark.skipif(os.name != "posix", reason="terminals as on Unix")
@pytest.mark.parametrize("output_too", [True, False])
def test_a_terminal_gets_the_bar_and_a_file_beside_it_the_lines(output_too):
    main, terminal = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=terminal if output_too else subprocess.PIPE,
        stderr=terminal,
        env=environment,
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # as Linux reports the end
            break
        if not part:
            break
        shown += part
    os.close(main)
    output = b"" if output_too else process.stdout.read()
    assert process.wait(60) == 0
    assert b"2/3" in shown
    assert b"rendering" in shown
    assert (b"result" in shown) == (b"printed" in shown) == output_too
    expected = [] if output_too else [b"rendering 2/3  left", b"result", b"printed"]
    lines = output.splitlines()
    assert len(lines) == len(expected)
    assert all(line.startswith(head) for line, head in zip(lines, expected, strict=True))
