"""The Python entry points: they compose exactly as the command line does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from . import build
from .config import compose
from .errors import MvdiffError
from .pipeline import Model
from .recon.finish import finish, texture_side
from .recon.mesh import Mesh
from .views import Views


def load(
    recipe: str = "tiny",
    checkpoint: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    device: str = "auto",
) -> Model:
    """A recipe with its weights, ready to generate.

    checkpoint: a .safetensors file; None takes the weights that ship with the recipe.
    overrides: as on the command line, e.g. ["attention=none", "sampler.steps=20"].
    device: "auto", "cpu", "cuda", ….
    Raises MvdiffError on unknown names (the message lists the choices) and on weights that
    do not fit.
    """
    settings = [f"recipe={recipe}", "image=none", f"device={device}", *_list(overrides)]
    config = compose("generate", settings)
    if checkpoint is not None:
        config.weights = str(checkpoint)
    return build.pipeline(config)


def reconstruct(
    views: Views | str | Path,
    reconstructor: str = "hull",
    overrides: Sequence[str] = (),
    *,
    progress: Callable[[str, float], None] | None = None,
) -> Mesh:
    """Views (or where they lie) → textured mesh.

    reconstructor: a registered name. overrides: e.g. ["reconstructor.resolution=96",
        "texture=none", "faces=5000", "watertight=true"].
    progress: called with a stage's name and the share done.
    """
    settings = [f"reconstructor={reconstructor}", "views=none", *_list(overrides)]
    config = compose("reconstruct", settings)
    side = texture_side(config.texture)
    make = build.reconstructor(config)
    if make is None:
        raise MvdiffError("reconstructor=none makes no mesh: choose another, see mvdiff list")
    if not isinstance(views, Views):
        views = Views.load(views)
    told = progress or (lambda stage, share: None)
    mesh = make(views, progress=lambda stage, share: told(stage, 0.6 * share))
    mesh, _ = finish(
        mesh,
        views,
        faces=config.faces,
        watertight=config.watertight,
        texture=side,
        progress=lambda stage, share: told(stage, 0.6 + 0.4 * share),
    )
    told("done", 1.0)
    return mesh


def _list(overrides: Sequence[str]) -> list[str]:
    """A single override may stand alone."""
    return [overrides] if isinstance(overrides, str) else list(overrides)
