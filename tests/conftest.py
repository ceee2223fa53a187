"""Fixtures every test may use."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Started in the background, this process ignores Ctrl-C, and what it starts would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Every public signature's shapes and types are checked in the whole test run.
sys.path.insert(0, str(Path(__file__).parent))
install_import_hook("mvdiff", "shapecheck.check")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of reference data beside the repository; tests skip when it is missing."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"reference data not found at '{folder}': this check needs it")
    return folder


def pytest_terminal_summary(terminalreporter) -> None:
    """How near the published model the run came, where golden files were compared."""
    from agreement import ERRORS

    if ERRORS:
        terminalreporter.section("relative errors against the golden files")
        for what, error in ERRORS.items():
            terminalreporter.write_line(f"{what:<44}{error:.1e}")
