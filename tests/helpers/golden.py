"""Comparison with golden files; the errors are printed at the end of the run."""

from __future__ import annotations

from torch import Tensor

TOLERANCE = 1e-4
#: what was compared → relative error
ERRORS: dict[str, float] = {}


def assert_agrees(what: str, ours: Tensor, theirs: Tensor, tolerance: float = TOLERANCE) -> None:
    """‖ours − theirs‖ / ‖theirs‖ is within the tolerance; `what` names it in the table."""
    error = float((ours.flatten() - theirs.flatten()).norm() / theirs.norm())
    ERRORS[what] = error
    assert error <= tolerance, f"{what}: relative error {error:.2e}"
