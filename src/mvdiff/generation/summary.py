"""How the pictures of `mvdiff generate` fared."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import MvdiffError
from ..utils.progress import ProgressDisplay
from .planning import Wanted


@dataclass
class RunSummary:
    """How many pictures there were, how many samples have no mesh, what failed."""

    pictures: int = 0
    meshless: int = 0
    errors: list[MvdiffError] = field(default_factory=list)

    def tell_result(
        self, stages: ProgressDisplay, wanted: Wanted, path: Path, trouble: str | None
    ) -> None:
        """Say where a sample lies, and why it has no mesh where it has none."""
        stages.say(f"{wanted.path} → {path}")
        if trouble:
            self.meshless += 1
            stages.say(f"mvdiff: {wanted.path}: the views are written, but {trouble}")
