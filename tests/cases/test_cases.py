"""Situations from public bug reports, run as a user would: `python -m pytest -m slow tests/cases`.

The inputs are reference data beside the repository; without them every test is skipped. The
environment variable MVDIFF names another executable to try, such as an older version's.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cases.verdicts import VERDICTS, Run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mvdiff` with `python` beside it, as the cases' scripts expect them."""
    if "MVDIFF" in os.environ:
        return Path(os.environ["MVDIFF"])
    folder = tmp_path_factory.mktemp("bin")
    for name, words in (("mvdiff", "-m mvdiff"), ("python", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        script.chmod(0o755)
    return folder / "mvdiff"


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_case(name: str, shared_dir: Path, executable: Path, tmp_path: Path) -> None:
    folder = shared_dir / "cases" / name
    if not (folder / "run.sh").is_file():
        pytest.skip(f"no case at '{folder}'")
    done = subprocess.run(
        ["sh", folder / "run.sh"],
        env={**os.environ, "MVDIFF": str(executable), "OUT": str(tmp_path / "out")},
        capture_output=True,
        text=True,
        timeout=900,
    )
    VERDICTS[name](Run(folder, tmp_path / "out", done.stdout + done.stderr))


def test_every_case_has_a_verdict(shared_dir: Path) -> None:
    folders = {p.parent.name for p in (shared_dir / "cases").glob("*/run.sh")}
    assert folders == set(VERDICTS)
