"""Fixtures for tests of training."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def child_env() -> dict[str, str]:
    """The environment of a training subprocess: the tests' helpers, one thread."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
