"""Ctrl-C during an import waits for its end, and is never lost."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import textwrap
import time

import pytest

from mvdiff.interrupt import orderly_interrupts

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on Unix")


def importing(name: str) -> None:
    importlib.import_module(name)
    time.sleep(5)


def interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def test_an_import_that_swallows_everything_does_not_swallow_ctrl_c(tmp_path, monkeypatch):
    (tmp_path / "greedy_module.py").write_text(
        textwrap.dedent(
            """
            import os, signal, time
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.3)
            except BaseException:
                pass
            finished = True
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt), orderly_interrupts():
        importing("greedy_module")
    assert sys.modules.pop("greedy_module").finished


def test_elsewhere_it_comes_at_once_and_the_handlers_are_given_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), orderly_interrupts():
        interrupted()
    assert time.monotonic() - begun < 2
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM))


def test_a_program_that_handles_ctrl_c_itself_keeps_its_handler():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with orderly_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [1]
