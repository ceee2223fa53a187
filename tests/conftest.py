"""Fixtures every test may use."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from helpers.shape_checking import check_shapes

#: imported after this file, that is, with the signatures checked
pytest_plugins = ["helpers.photographs"]

# Started in the background, this process ignores Ctrl-C, and what it starts would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
check_shapes()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference data beside the repository; tests skip when it is missing."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"reference data not found at '{folder}': this check needs it")
    return folder


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the relative errors of the comparisons with golden files."""
    from helpers.golden import ERRORS

    if ERRORS:
        terminalreporter.section("relative errors against the golden files")
        for what, error in ERRORS.items():
            terminalreporter.write_line(f"{what:<44}{error:.1e}")
