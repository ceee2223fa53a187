"""Shapes and types in public signatures are checked in tests, and only there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from mvdiff.cameras import Cameras, ring
from mvdiff.preprocessing.photo import PreparedImage, frame_by_fill


def test_wrong_shapes_are_caught_in_this_run():
    # Each passes silently without the checker: nothing in the code itself looks at these.
    with pytest.raises(TypeCheckError):
        PreparedImage(rgb=torch.zeros(4, 8, 8), alpha=torch.zeros(1, 8, 8))
    with pytest.raises(TypeCheckError):
        PreparedImage(rgb=torch.zeros(3, 8, 8), alpha=torch.zeros(1, 8, 9))
    with pytest.raises(TypeCheckError):
        PreparedImage(rgb=torch.zeros(3, 8, 8, dtype=torch.uint8), alpha=torch.zeros(1, 8, 8))


def test_axes_of_one_name_must_agree_across_arguments():
    cameras = ring(2)
    with pytest.raises(TypeCheckError):
        cameras.unproject(torch.zeros(2, 6, 2), torch.zeros(2, 2, 3))
    assert cameras.unproject(torch.zeros(2, 6, 2), torch.zeros(2, 6)).shape == (2, 6, 3)


def test_wrong_types_are_caught_in_this_run():
    with pytest.raises(TypeCheckError):
        frame_by_fill("x.png", 64)
    with pytest.raises(TypeCheckError):
        Cameras([[1.0]], torch.zeros(1, 3, 4), 8, 8)


SCRIPT = """
import torch
from mvdiff.preprocessing.photo import PreparedImage

PreparedImage(rgb=torch.zeros(4, 8, 8), alpha=torch.zeros(1, 9, 9))
"""


def test_nothing_is_checked_outside_tests():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=60)


def test_the_checker_is_what_refuses():
    hook = "from helpers.shape_checking import check_shapes\ncheck_shapes()\n"
    done = subprocess.run(
        [sys.executable, "-c", hook + SCRIPT],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parent,
    )
    assert done.returncode != 0
    assert "TypeCheckError" in done.stderr
