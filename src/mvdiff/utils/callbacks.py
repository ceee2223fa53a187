"""Types of the functions that long work calls back."""

from __future__ import annotations

from collections.abc import Callable

#: Called with a stage's name and the fraction of the whole work done, in [0, 1].
ProgressCallback = Callable[[str, float], None]
