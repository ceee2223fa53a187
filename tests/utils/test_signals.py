"""Ctrl-C during an import waits for its end, and is never lost."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import textwrap
import time

import pytest

from mvdiff.cli import main as cli
from mvdiff.utils.signals import Terminated, signals_as_exceptions


@pytest.fixture(autouse=True)
def default_handlers():
    """Signals as a program in a terminal has them: under nohup SIGHUP is ignored."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as on Unix")


def importing(name: str) -> None:
    importlib.import_module(name)
    time.sleep(5)


def interrupted(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)
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
    with pytest.raises(KeyboardInterrupt), signals_as_exceptions():
        importing("greedy_module")
    assert sys.modules.pop("greedy_module").finished


def test_elsewhere_it_comes_at_once_and_the_handlers_are_given_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), signals_as_exceptions():
        interrupted()
    assert time.monotonic() - begun < 2
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM))


def test_an_error_that_native_code_made_of_it_becomes_it_again():
    def converting() -> None:
        try:
            interrupted()
        except KeyboardInterrupt:
            raise ValueError("could not determine the shape") from None

    with pytest.raises(KeyboardInterrupt), signals_as_exceptions():
        converting()


def test_a_program_that_handles_ctrl_c_itself_keeps_its_handler():
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        with signals_as_exceptions():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_other_signals_end_in_order_too(number):
    with pytest.raises(Terminated) as caught, signals_as_exceptions():
        interrupted(number)
    assert caught.value.exit_code == 128 + number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_background_jobs_end_in_order_too(number):
    """Background jobs of scripts ignore SIGINT: that is kept, other signals are handled."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(Terminated), signals_as_exceptions():
            interrupted(number)
        with signals_as_exceptions():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_ignored_hangup_stays_ignored():
    """Under nohup, SIGHUP stays ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_as_exceptions():
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_child_ends_by_the_signal_itself():
    with signals_as_exceptions():
        child = os.fork()
        if child == 0:
            try:
                time.sleep(20)
            finally:
                os._exit(1)
        time.sleep(0.1)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_command_line_says_what_ended_it(number, monkeypatch, capsys):
    def ended(args):
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(cli, "_dispatch", ended)
    assert cli.main(["list"]) == 128 + number
    assert signal.Signals(number).name in capsys.readouterr().err
