"""The Python entry points: they compose exactly as the command line does."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config.compose import compose
from .errors import ConfigError
from .pipeline import MultiViewPipeline

if TYPE_CHECKING:
    from .generation.summary import RunSummary
    from .mesh.mesh import Mesh
    from .views import Views


@dataclass(frozen=True)
class LoadedPipeline(MultiViewPipeline):
    """What `mvdiff.load` returns: a `MultiViewPipeline` that also generates whole folders.

    overrides: those that it was composed from.
    """

    overrides: tuple[str, ...] = ()

    def generate_many(
        self,
        images: str | Path | Sequence[str | Path],
        out: str | Path,
        overrides: Sequence[str] = (),
    ) -> RunSummary:
        """`mvdiff generate` with this model: many images → views, meshes and records in `out`.

        Images are read ahead and results written in the background. Finished samples are
        skipped, so that the same call resumes after an interruption; one failed image does not
        stop the others. The files are those of the command with the same settings.

        images: a folder, a path or a list of paths. out: folder of the results,
            `<out>/<image>/sample-<k>/`.
        overrides: settings of `mvdiff generate`, e.g. ["samples=4", "elevation=20",
            "batch_size=2", "reconstructor=none", "turntable=false"]. What the network is made of
            cannot be changed here.
        Returns a summary: `results` (folders of samples), `errors`, `meshless` and `pictures`.
        Raises InputError where there is no image, ConfigError on unknown settings.

        Example:
            >>> import tempfile, mvdiff
            >>> from importlib.resources import files
            >>> model = mvdiff.load("tiny", overrides=["sampler.steps=1"], device="cpu")
            >>> image = files("mvdiff") / "assets" / "example.png"
            >>> quick = ["elevation=20", "reconstructor=none"]
            >>> with tempfile.TemporaryDirectory() as out:
            ...     summary = model.generate_many(image, out, quick)
            ...     sorted(file.name for file in summary.results[0].iterdir())
            ['input.png', 'preview.png', 'run.json', 'strip.png', 'transforms.json', 'views']
        """
        from .builders import build_sampler
        from .generation.planning import plan_objects
        from .generation.run import run_plans

        config = compose("generate", [*self.overrides, f"out={out}", *_list(overrides)])
        config.image = [str(i) for i in images] if isinstance(images, list | tuple) else str(images)
        for part in ("unet", "volume", "attention", "latents", "embedder", "radiance", "rig"):
            if config[part] != self.config[part] or config.weights != self.config.weights:
                raise ConfigError(
                    f"generate_many cannot change the network ({part} or weights): pass these "
                    "settings to mvdiff.load"
                )
        model = replace(self, sampler=build_sampler(config), config=config)
        return run_plans(config, plan_objects(config), report_errors=True, model=model)


def load(
    recipe: str = "tiny",
    checkpoint: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    device: str = "auto",
    rig: str | Mapping[str, Any] | None = None,
) -> LoadedPipeline:
    """A recipe with its weights, ready to generate.

    The network is in eval mode and frozen (`requires_grad` is False everywhere), since it is made
    for inference. To train it: `model.denoiser.train().requires_grad_(True)`.

    checkpoint: a .safetensors file; None takes the weights that ship with the recipe.
    overrides: as on the command line, e.g. ["attention=none", "sampler.steps=20"].
    device: "auto", "cpu", "cuda", ….
    rig: the cameras of the views: a name ("sphere"), or its settings, such as
        {"name": "ring", "count": 8, "elevation": 10}; None takes the recipe's.
    Raises ConfigError on unknown names (the message lists the choices) and on arguments of another
    type, WeightsError on weights that do not fit.

    Example:
        >>> import mvdiff
        >>> from importlib.resources import files
        >>> model = mvdiff.load("tiny", overrides=["sampler.steps=1"], device="cpu")
        >>> image = files("mvdiff") / "assets" / "example.png"
        >>> views = model.generate(image, elevation=20, seed=0)
        >>> views.images.shape  # 16 views of 64 × 64 pixels
        torch.Size([16, 3, 64, 64])
    """
    from . import builders
    from .pipeline import check_projection

    for name, value in (("recipe", recipe), ("device", str(device))):
        if not isinstance(value, str):
            raise ConfigError(f"{name} must be a name, got {type(value).__name__}")
    if checkpoint is not None and not isinstance(checkpoint, str | Path):
        raise ConfigError(f"checkpoint must be a path, got {type(checkpoint).__name__}")
    settings = [f"recipe={recipe}", "image=none", f"device={device}"]
    config = compose("generate", [*settings, *_rig_settings(rig), *_list(overrides)])
    if checkpoint is not None:
        config.weights = str(checkpoint)
    model = builders.build_pipeline(config)
    check_projection(model)
    weights = [] if checkpoint is None else [f"weights={checkpoint}"]
    given = (*settings, *_rig_settings(rig), *_list(overrides), *weights)
    fields = {name: value for name, value in vars(model).items() if name != "overrides"}
    return LoadedPipeline(**fields, overrides=given)


def _rig_settings(rig: Any) -> list[str]:
    """Overrides for a rig's name or its settings."""
    if rig is None:
        return []
    settings = {"name": rig} if isinstance(rig, str) else rig
    if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
        raise ConfigError(
            "rig must be a rig's name or a mapping of its settings, such as {'name': 'ring', "
            f"'count': 8}}, got {type(rig).__name__}"
        )
    settings = dict(settings)
    name = settings.pop("name", None)
    chosen = [] if name is None else [f"rig={name}"]
    return chosen + [f"rig.{key}={_as_override(value)}" for key, value in settings.items()]


def _as_override(value: Any) -> str:
    """A setting's value in the grammar of overrides."""
    if hasattr(value, "tolist"):  # of numpy and torch
        value = value.tolist()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_as_override, value))}]"
    return "null" if value is None else str(value)


def reconstruct(
    views: Views | str | Path,
    reconstructor: str = "hull",
    overrides: Sequence[str] = (),
    *,
    progress: Callable[[str, float], None] | None = None,
) -> Mesh:
    """Views (or where they lie) → textured mesh.

    views: also a path as `mvdiff reconstruct views=…` takes it.
    reconstructor: a registered name. overrides: e.g. ["reconstructor.resolution=96",
        "texture_size=none", "max_faces=5000", "watertight=true", "rig=ring", "images=photos"].
    progress: called with a stage's name and the share done.
    The mesh lies in the cameras' coordinates; where these have their origin elsewhere in the world
    (`Views.origin`, for scenes far from it), a warning says so.
    Warns of everything that may make the mesh wrong. Raises ConfigError for views that nothing
    can be made of, and where mesh and views agree less than `min_agreement`.

    Example:
        >>> import mvdiff, torch
        >>> cameras = mvdiff.look_at([0, 90, 180, 270, 0, 180], [0, 0, 0, 0, 80, -80], size=48)
        >>> origins, directions = cameras.rays()
        >>> distance = torch.linalg.cross(origins.expand_as(directions), directions).norm(dim=-1)
        >>> alpha = (distance < 0.4).float()[:, None]  # silhouettes of a ball of radius 0.4
        >>> views = mvdiff.Views.from_white(1 - alpha.expand(-1, 3, -1, -1), alpha, cameras)
        >>> settings = ["reconstructor.resolution=48", "texture_size=none"]
        >>> mesh = mvdiff.reconstruct(views, "hull", settings)
        >>> mesh.vertices.max(axis=0).round(1)
        array([0.4, 0.4, 0.4], dtype=float32)
        >>> mesh.to_trimesh().is_watertight
        True
    """
    from . import builders
    from .builders.views import read_configured_views
    from .mesh.postprocess import texture_side
    from .recon.mesh_step import make_mesh
    from .views import Views

    if not isinstance(views, Views | str | Path):
        raise ConfigError(
            f"views must be Views or the path of a folder or file, got {type(views).__name__}"
        )
    if not isinstance(reconstructor, str):
        raise ConfigError(
            f"reconstructor must be a name such as 'hull', got {type(reconstructor).__name__}"
        )
    settings = [f"reconstructor={reconstructor}", "views=none", *_list(overrides)]
    config = compose("reconstruct", settings)
    side = texture_side(config.texture_size)
    make = builders.build_reconstructor(config)
    if make is None:
        raise ConfigError("reconstructor=none makes no mesh: choose another, see mvdiff list")
    notes: list[str] = []
    form = ""
    if not isinstance(views, Views):
        loaded = read_configured_views(Path(views), config)
        views, notes, form = loaded.views, list(loaded.notes), loaded.form
    elif any(views.origin):
        notes.append(f"the mesh's coordinates are relative to the world point {views.origin}")
    result = make_mesh(
        make,
        views,
        form=form,
        faces=config.max_faces,
        watertight=config.watertight,
        texture=side,
        min_agreement=config.min_agreement,
        progress=progress,
    )
    for note in [*notes, *result.notes]:
        warnings.warn(note, stacklevel=2)
    if progress is not None:
        progress("done", 1.0)
    return result.mesh


def _list(overrides: Any) -> list[str]:
    """A single override may stand alone; ConfigError for what is no list of texts."""
    if isinstance(overrides, str):
        return [overrides]
    if not isinstance(overrides, Sequence) or not all(isinstance(o, str) for o in overrides):
        raise ConfigError(
            "overrides must be texts as on the command line, such as ['sampler.steps=20'], got "
            f"{overrides!r}"
        )
    return list(overrides)
