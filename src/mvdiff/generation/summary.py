"""Summary of a generation run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import MvdiffError
from ..utils.progress import ProgressDisplay
from .planning import ObjectPlan


@dataclass
class RunSummary:
    """Outcome of a generation run.

    pictures: number of objects. results: folders of their samples, in the order of writing.
    meshless: number of samples without a mesh although one was asked for. errors: of the objects
    that failed.
    """

    pictures: int = 0
    meshless: int = 0
    errors: list[MvdiffError] = field(default_factory=list)
    results: list[Path] = field(default_factory=list)

    def tell_result(
        self, stages: ProgressDisplay, plan: ObjectPlan, path: Path, trouble: str | None
    ) -> None:
        """Record and print a sample's folder, and why it has no mesh where it has none."""
        self.results.append(path)
        stages.say(f"{plan.path} → {path}")
        if trouble:
            self.meshless += 1
            stages.say(f"mvdiff: {plan.path}: views were written, but {trouble}")
