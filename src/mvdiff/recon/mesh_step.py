"""Views → finished mesh: reconstruct, post-process, compare with the views.

The one mesh step of `mvdiff.reconstruct`, `mvdiff reconstruct` and `mvdiff generate`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..mesh.mesh import Mesh
from ..mesh.postprocess import postprocess
from ..utils.callbacks import ProgressCallback
from ..views import Views
from .base import Reconstructor
from .plausibility import judge, reconstruct_explained
from .view_consistency import Agreement, view_agreement

#: share of the progress that reconstruction, and then post-processing, have reached
_RECONSTRUCTED, _POSTPROCESSED = 0.6, 0.99


@dataclass(frozen=True)
class MeshResult:
    """A finished mesh.

    notes: everything that may make it wrong, and what was done about holes.
    agreement: of the mesh with the views; None where it was not measured.
    """

    mesh: Mesh
    notes: list[str] = field(default_factory=list)
    agreement: Agreement | None = None


def make_mesh(
    reconstructor: Reconstructor,
    views: Views,
    *,
    form: str | None = None,
    faces: int | None = None,
    watertight: bool = False,
    texture: int | None = None,
    min_agreement: float | None = None,
    progress: ProgressCallback | None = None,
) -> MeshResult:
    """Reconstruct a mesh and make it fit for use.

    form: kind of the camera file, see `views.loading.LoadedViews`, so that errors can say how
        else its poses may be read; "" for cameras made in Python, None for generated views, whose
        cameras are known.
    faces, watertight, texture: as for `mesh.postprocess.postprocess`.
    min_agreement: mean silhouette IoU in [0, 1] below which the mesh is rejected; None: the
        agreement is not measured.
    progress: called with a stage's name and the share done, in [0, 1].
    Raises ReconstructionError where no mesh can be made, or where it agrees less than
    `min_agreement`.
    """
    report = progress or (lambda stage, share: None)

    # reconstruct
    def first(stage: str, share: float) -> None:
        report(stage, _RECONSTRUCTED * share)

    if form is None:
        mesh = reconstructor(views, progress=first)
    else:
        mesh = reconstruct_explained(reconstructor, views, form, first)

    # simplify, close, texture
    mesh, notes = postprocess(
        mesh,
        views,
        faces=faces,
        watertight=watertight,
        texture=texture,
        progress=lambda stage, share: report(
            stage, _RECONSTRUCTED + (_POSTPROCESSED - _RECONSTRUCTED) * share
        ),
    )
    if min_agreement is None:
        return MeshResult(mesh, notes)

    # compare with the views
    report("agreement", _POSTPROCESSED)
    agreement = view_agreement(mesh, views)
    notes += judge(agreement, views, form or "", min_agreement)
    if agreement.worst:
        notes.append(agreement.summary())
    return MeshResult(mesh, notes, agreement)
