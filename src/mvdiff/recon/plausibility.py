"""Whether views and cameras belong together at all, and which mistake explains it if not.

`view_agreement` compares views with each other; cameras that are all wrong alike pass it. Here
the agreement itself is judged, and the usual mistakes are tried: other axes, inverted poses,
another projection.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..cameras.camera import Cameras
from ..errors import MvdiffError, ReconstructionError
from ..mesh.mesh import Mesh
from ..silhouettes.masks import edge_distance, overlap, reduced
from ..silhouettes.matting import cut_out, object_mask
from ..silhouettes.scene_bounds import move_cameras_back, scene_cube
from ..silhouettes.visual_hull import carve, render_silhouettes
from ..utils.callbacks import ProgressCallback
from ..views import Views
from .base import Reconstructor
from .validation import validate_views
from .view_consistency import Agreement

#: Mean silhouette IoU of mesh and views below which a result is not written by default,
MIN_AGREEMENT = 0.6
#: below which it is called wrong, and below which a note names the likely causes. Right cameras
#: and clean masks give 0.97, and so do generated views; poses in a wrong order give 0.7.
_WRONG, _DOUBTFUL = 0.8, 0.93
#: Another reading of the poses is tried below this IoU,
_TRY = 0.93
#: and it is the right one if its hull agrees so well, and so much better.
_GOOD, _BETTER = 0.85, 0.08
#: Perspective and orthographic cameras differ by less.
_BETTER_PROJECTION = 0.015
#: Shares of a picture's border that an object may cover: more is a background that was missed,
#: and an object that is cut off.
_FILLED, _CUT = 0.5, 0.01
#: Side of the pictures and of the grid that are compared.
_SIZE, _RESOLUTION = 96, 48
#: Another projection is looked for below this IoU of the hull.
_TRY_PROJECTION = 0.985


def reconstruct_explained(
    make: Reconstructor, views: Views, form: str, progress: ProgressCallback | None = None
) -> Mesh:
    """`make(views)`; where it fails because of the poses, the error says how to read them.

    form: of the cameras' file, see `view_loading.LoadedViews`; "" for cameras made in Python.
    """
    try:
        return make(views, progress=progress)
    except MvdiffError as error:
        reading = better_reading(views, form, hull_agreement(views))
        if reading is None:
            raise
        raise ReconstructionError(f"{error}. {reading}") from error


def judge(
    agreement: Agreement, views: Views, form: str, min_agreement: float = MIN_AGREEMENT
) -> list[str]:
    """Notes on how well the mesh and its views agree.

    Raises ReconstructionError where the result is wrong.

    min_agreement: mean silhouette IoU, in [0, 1], below which it is refused; 0 accepts any.
    """
    notes = _border_notes(views, min_agreement)
    iou = agreement.iou
    own = hull_agreement(views) if min(iou, agreement.median_iou) < _TRY_PROJECTION else 1.0
    if own < _TRY and (reading := better_reading(views, form, own)) is not None:
        text = f"the views and their cameras do not fit (silhouettes agree to {iou:.2f}). {reading}"
        if min_agreement > 0:
            raise ReconstructionError(text)
        notes.append(text)
    if own < _TRY_PROJECTION and (note := better_projection(views, own)) is not None:
        notes.append(note)
    if iou < max(min_agreement, _DOUBTFUL):
        text = (
            f"the mesh's silhouettes and the views' agree to {iou:.2f} only (1 is best), so the "
            f"shape is {'probably wrong' if iou < _WRONG else 'doubtful'}: check the lens "
            "(distortion that the file does not name), the pictures' size (cropped or resized), "
            "the poses and their axes, and the masks or backgrounds"
        )
        if iou < min_agreement:
            raise ReconstructionError(
                f"{text}; min_agreement={math.floor(10 * iou) / 10} writes it all the same"
            )
        notes.append(text)
    return notes


def _border_notes(views: Views, min_agreement: float) -> list[str]:
    """Notes on objects that do not end within their images.

    Raises ReconstructionError where most images are filled to their borders.
    """
    solid = object_mask(views)[:, 0] > 0.5
    sides = [solid[:, 0], solid[:, -1], solid[:, 1:-1, 0], solid[:, 1:-1, -1]]
    share = torch.cat(sides, dim=1).float().mean(dim=1)
    if (filled := float(share.median())) > _FILLED:
        text = (
            f"what is taken for the object fills {filled:.0%} of the pictures' borders, so the "
            "background was not recognized: give pictures with alpha, with masks, or on a plain "
            "background"
        )
        if min_agreement > 0:
            raise ReconstructionError(text)
        return [text]
    cut = int((share > _CUT).sum())
    if cut < len(views) / 4:
        return []
    return [
        f"the object reaches the border of {cut} of {len(views)} pictures: what lies beyond is "
        "unknown, and its shape there a guess"
    ]


def hull_agreement(views: Views) -> float:
    """Mean IoU of a coarse hull's silhouettes and the views'; 0 where there is no hull."""
    return _hull_agreement(_prepared(views))


def better_reading(views: Views, form: str, iou: float) -> str | None:
    """A sentence on how the poses should be read, None if no other reading is clearly better.

    iou: `hull_agreement` of the views as they are.
    """
    prepared = _prepared(views)
    if prepared is None:
        return None
    best, found = max(iou + _BETTER, _GOOD), None
    for name, change in _READINGS["transforms.json" if form == "transforms.json" else ""].items():
        cameras = replace(prepared.cameras, w2c=change(prepared.cameras.w2c))
        value = _hull_agreement(replace(prepared, cameras=cameras))
        if value > best:
            best, found = value, name
    if found is None:
        return None
    wanted = (
        "transforms.json holds camera-to-world matrices with OpenGL axes (x right, y up, the "
        "camera looks along -z)"
        if form == "transforms.json"
        else "cameras are world-to-camera matrices with OpenCV axes (x right, y down, z forward)"
    )
    return (
        f"They fit (silhouettes agree to {best:.2f}) when the matrices are read as {found}, but "
        f"{wanted}: convert them"
    )


def better_projection(views: Views, iou: float) -> str | None:
    """A note when the views agree better with the other projection, else None."""
    prepared = _prepared(views)
    if prepared is None:
        return None
    cameras = _other_projection(prepared.cameras)
    value = 0.0 if cameras is None else _hull_agreement(replace(prepared, cameras=cameras))
    if cameras is None or value < max(iou + _BETTER_PROJECTION, _GOOD):
        return None
    return (
        f"the views look {cameras.projection} (silhouettes agree to {value:.3f}) and their cameras "
        f"are {views.cameras.projection} ({iou:.3f}): check the projection"
    )


def _prepared(views: Views) -> Views | None:
    """Small views with alpha; None for views that no reconstruction takes."""
    try:
        cameras = views.cameras.to("cpu", torch.float32)
        if cameras.projection == "orthographic":
            cameras = move_cameras_back(cameras)
        return reduced(validate_views(replace(views, cameras=cameras)), _SIZE)
    except (MvdiffError, RuntimeError):
        return _prepared_anyway(views)


def _prepared_anyway(views: Views) -> Views | None:
    """As `_prepared`, for cameras that look away: their pictures may still be fine."""
    try:
        cameras = views.cameras.to("cpu", torch.float32)
        return reduced(cut_out(replace(views, cameras=cameras)), _SIZE)
    except (MvdiffError, RuntimeError):
        return None


def _hull_agreement(views: Views | None) -> float:
    if views is None or len(views) < 2:
        return 0.0
    mask = views.mask
    edges = edge_distance(mask)

    def score(tolerance: int) -> float:
        try:
            grid = carve(views.cameras, edges, resolution=_RESOLUTION, max_outlier_views=tolerance)
            return float(overlap(render_silhouettes(grid, views.cameras), mask[:, 0]).mean())
        except (MvdiffError, RuntimeError):  # cameras that see nothing in common
            return 0.0

    strict = score(0)
    return strict if strict >= _TRY else max(strict, score(len(views) // 5))


def _flip(w2c: Tensor) -> Tensor:
    """Other camera axes: y and z reversed."""
    return w2c * w2c.new_tensor([1.0, -1.0, -1.0])[:, None]


def _mirror_x_and_z(w2c: Tensor) -> Tensor:
    """From PyTorch3D's camera axes (x left, y up, z forward), read as OpenGL's, to OpenCV's."""
    return w2c * w2c.new_tensor([-1.0, 1.0, -1.0])[:, None]


def _inverse(w2c: Tensor) -> Tensor:
    R = w2c[:, :, :3].mT
    return torch.cat([R, -R @ w2c[:, :, 3:]], dim=-1)


def _flip_world_side(w2c: Tensor) -> Tensor:
    """As `_flip`, for the axes on the other side of the matrix."""
    return w2c * w2c.new_tensor([1.0, -1.0, -1.0, 1.0])


#: What a matrix may have been instead of what the form holds → our world-to-camera of it.
_READINGS: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "transforms.json": {
        "camera-to-world with OpenCV axes": _flip,
        "world-to-camera with OpenGL axes": lambda m: _flip(_flip_world_side(_inverse(m))),
        "world-to-camera with OpenCV axes": lambda m: _flip_world_side(_inverse(m)),
        "camera-to-world with PyTorch3D axes": _mirror_x_and_z,
    },
    "": {
        "world-to-camera with OpenGL axes": _flip,
        "camera-to-world with OpenCV axes": _inverse,
        "camera-to-world with OpenGL axes": lambda m: _flip(_inverse(m)),
        "world-to-camera with PyTorch3D axes": lambda m: _mirror_x_and_z(_flip(m)),
    },
}


def _other_projection(cameras: Cameras) -> Cameras | None:
    """Cameras of the other projection that show the same at the object's distance."""
    try:
        center, _ = scene_cube(cameras)
    except (MvdiffError, RuntimeError):
        return None
    depth = cameras.project(center[None])[1][:, 0]
    if not (depth > 0).all():
        return None
    K = cameras.K.clone()
    if cameras.projection == "perspective":
        K[:, :2, :2] /= depth[:, None, None]
        return replace(cameras, K=K, projection="orthographic")
    K[:, :2, :2] *= depth[:, None, None]
    return replace(cameras, K=K, projection="perspective")
