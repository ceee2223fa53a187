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
    """Makes a colored mesh, in the cameras' world, from two or more views of one object.

    Raises MvdiffError when the views show nothing or contradict each other.

    Example:
        >>> import numpy as np, torch, trimesh
        >>> from mvdiff import Mesh, Views, ring
        >>> from mvdiff.recon import RECONSTRUCTORS
        >>> from mvdiff.recon.base import Reconstructor
        >>> @RECONSTRUCTORS.register("bounding-cube")
        ... class BoundingCube:
        ...     def __call__(self, views, *, progress=None):
        ...         cube = trimesh.creation.box((1, 1, 1))
        ...         color = views.images.float().mean(dim=(0, 2, 3)).byte().numpy()
        ...         vertices, faces = cube.vertices.astype(np.float32), np.array(cube.faces)
        ...         return Mesh(vertices, faces, np.tile(color, (8, 1)))
        >>> gray = torch.full((4, 3, 16, 16), 128, dtype=torch.uint8)
        >>> mesh = BoundingCube()(Views(gray, None, ring(4, size=16)))
        >>> mesh.vertices.shape, mesh.faces.shape, mesh.colors[0].tolist()
        ((8, 3), (12, 3), [128, 128, 128])
        >>> isinstance(BoundingCube(), Reconstructor)
        True
    """

    def __call__(self, views: Views, *, progress: ProgressCallback | None = None) -> Mesh: ...
