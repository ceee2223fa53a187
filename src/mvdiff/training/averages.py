"""Means of figures over the steps since the last log line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


class RunningMean:
    """Adds figures up where they are computed; reading them is the only wait for the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, float] = {}

    def add(self, figures: Mapping[str, Tensor | float]) -> None:
        """One observation of some figures; they need not be the same ones each time."""
        for name, value in figures.items():
            value = value.detach().double().mean() if isinstance(value, Tensor) else value
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0.0) + 1

    def state(self) -> dict[str, tuple[float, float]]:
        """Sum and count of every figure, exact enough to go on from."""
        return {name: (float(total), self._counts[name]) for name, total in self._sums.items()}

    def load(self, state: Mapping[str, Sequence[float]]) -> None:
        self._sums = {name: float(total) for name, (total, _) in state.items()}
        self._counts = {name: float(count) for name, (_, count) in state.items()}

    def gather(self, processes: int) -> None:
        """Average over processes, so that each of them goes on from the same figures."""
        if processes == 1:
            return
        from accelerate.utils import gather_object

        merged: dict[str, tuple[float, float]] = {}
        for state in gather_object([self.state()]):
            for name, (total, count) in state.items():
                before = merged.get(name, (0.0, 0.0))
                merged[name] = (before[0] + total, before[1] + count)
        # Divided, so that what follows on each process weighs as much as what came before.
        self.load({name: (t / processes, c / processes) for name, (t, c) in merged.items()})

    def means(self) -> dict[str, float]:
        return {name: total / count for name, (total, count) in self.state().items()}
