"""The reconstructor slot: views of one object → a mesh."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..mesh.mesh import Mesh
from ..registry import Registry
from ..utils.callbacks import ProgressCallback
from ..views import Views

RECONSTRUCTORS = Registry("reconstructor")


@runtime_checkable
class Reconstructor(Protocol):
    """Makes a coloured mesh, in the cameras' world, from two or more views of one object.

    Raises MvdiffError when the views show nothing or contradict each other.
    """

    def __call__(self, views: Views, *, progress: ProgressCallback | None = None) -> Mesh: ...
