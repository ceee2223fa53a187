"""From a reconstructor's mesh to one that people use: fewer faces, closed, textured."""

from __future__ import annotations

from dataclasses import replace

from ..errors import InputError
from ..silhouettes.scene_bounds import move_cameras_back
from ..utils.callbacks import ProgressCallback
from ..views import Views
from .mesh import Mesh
from .repair import make_watertight

#: Faces of a textured mesh unless told otherwise: the picture holds the detail, and unwrapping
#: takes more than twice as long for twice as many.
TEXTURED_FACES = 20_000


def postprocess(
    mesh: Mesh,
    views: Views,
    *,
    faces: int | None = None,
    watertight: bool = False,
    texture: int | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[Mesh, list[str]]:
    """Simplify, close, texture, in this order; and notes on what was done about holes.

    faces: triangles at most (closing holes may add a few); None keeps what the reconstructor
        made, and 20,000 of it with a texture.
    watertight: close holes where there are any, see `close.close`.
    texture: side in texels, painted from `views`; None keeps vertex colors alone.
    Raises InputError for a wrong number of faces or texels.
    """
    report = progress or (lambda stage, share: None)
    views = replace(views, cameras=move_cameras_back(views.cameras))
    if faces is None and texture is not None:
        faces = TEXTURED_FACES
    report("simplifying", 0.0)
    if faces is not None:
        mesh = mesh.simplify(faces)
    notes = []
    if watertight:
        report("closing", 0.05)
        mesh, done = make_watertight(mesh)
        if faces is not None and len(mesh.faces) > 1.05 * faces:
            fewer = mesh.simplify(faces)
            if fewer.to_trimesh(textured=False).is_watertight:
                mesh = fewer
            else:
                done += f"; {len(mesh.faces)} faces, since fewer would open it again"
        notes.append(f"watertight: {done}")
    if texture is not None:
        from .texture import bake

        mesh = bake(
            mesh,
            views,
            size=texture,
            progress=lambda stage, share: report(stage, 0.1 + 0.9 * share),
        )
    return mesh, notes


def texture_side(setting: object, *, holds: bool = True) -> int | None:
    """The side a `texture_size=` setting means, None for vertex colors.

    setting: a whole number, "none" (or 0), or None for the default: 1024 where the file format
        holds a texture (`holds`), else none.
    Raises InputError for anything else.
    """
    if setting is None:
        return 1024 if holds else None
    if setting == "none" or (setting == 0 and not isinstance(setting, bool)):
        return None
    if isinstance(setting, int) and not isinstance(setting, bool) and 16 <= setting <= 8192:
        return setting
    raise InputError(
        f"texture must be a side in texels, a whole number in [16, 8192], or none; got {setting}"
    )
