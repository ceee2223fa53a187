"""The reconstructor slot: views of one object → a mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ..registry import Registry
from ..views import Views
from .mesh import Mesh

RECONSTRUCTORS = Registry("reconstructor")

#: Called with a stage's name and the fraction of the whole work done, in [0, 1].
Progress = Callable[[str, float], None]


@runtime_checkable
class Reconstructor(Protocol):
    """Makes a coloured mesh, in the cameras' world, from two or more views of one object.

    Raises MvdiffError when the views show nothing or contradict each other.
    """

    def __call__(self, views: Views, *, progress: Progress | None = None) -> Mesh: ...
