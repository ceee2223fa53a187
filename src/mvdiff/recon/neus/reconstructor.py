"""NeuS: a signed distance fitted to the views by volume rendering (arXiv 2106.10689)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...errors import DeviceError, ReconstructionError
from ...mesh.mesh import Mesh
from ...silhouettes.visual_hull import SignedField
from ...utils.callbacks import ProgressCallback
from ...views import Views
from ..base import RECONSTRUCTORS
from ..hull_steps import (
    VisualHull,
    build_visual_hull,
    drop_small_components,
    mesh_from_surface,
)
from ..photohull import PhotoHull
from . import checkpoint as files
from .field import Field
from .fit import Fit
from .initialize import NormalizedBox, sdf_from_hull
from .rays import gather_rays
from .settings import NeusSettings

#: Room around the hull, as a share of its longest side; and how far from the hull's surface, in
#: box units, rays are still looked at: silhouettes that the hull falls short of end there.
_MARGIN, _BAND = 0.06, 0.03
#: How blurred the surface is at the beginning, 1 / box unit.
_SHARPNESS = 60.0


@RECONSTRUCTORS.register("neus")
@dataclass(kw_only=True)
class Neus(NeusSettings):
    """Colored surface whose volume rendering matches the views' silhouettes and colors.

    Starts from the visual hull's distance, so that only what lies near it is ever sampled. It
    differs from the paper where a CPU asks for it: the distance is a sum of grids instead of a
    network, slopes are finite differences, colors are the same from all directions (with a
    gain and an offset per view), and views that fit badly count less.

    Settings: see `NeusSettings`. After a call, `fitted` holds the number of steps, the seconds
    they took (with those of the runs it resumed) and the losses, see `Fit`.
    """

    fitted: dict[str, object] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._device = _resolve_device(self.device)

    def __call__(self, views: Views, *, progress: ProgressCallback | None = None) -> Mesh:
        """Two or more views → mesh.

        Raises ReconstructionError as `hull` does and when the fit leaves nothing, InputError for
        a checkpoint that cannot be used.
        """
        report = progress or (lambda stage, fraction: None)
        # the surface that the fit starts from
        hull = build_visual_hull(views, self, lambda stage, done: report(stage, 0.05 * done))
        report("start", 0.05)
        start = self._photohull().hollowed(hull) if self.init_from_photohull else hull.grid
        box, base = sdf_from_hull(start, margin=_MARGIN, cells=round(0.75 * self.resolution))
        # the fit
        fit = self._make_fit(hull, box, base)
        self._run(fit, views, report)
        seconds = round(fit.seconds, 3)
        self.fitted = {"steps": fit.step, "seconds": seconds, "losses": fit.losses}
        # the mesh
        report("surface", 0.92)
        gain, offset = (x.detach().cpu() for x in fit.field.corrections())
        cells = round(1.25 * self.resolution)
        mesh = mesh_from_surface(
            _extract_surface(fit.field, box, cells, self.min_component_ratio),
            _remove_color_drift(hull.views, gain, offset),
            hull.edges,
            self,
            view_weights=fit.view_weights().cpu(),
            tick=lambda: report("colors", 0.96),
        )
        report("done", 1.0)
        return mesh

    def _photohull(self) -> PhotoHull:
        """With this fit's settings of the hull, except those of the mesh."""
        shared = ("resolution", "max_outlier_views", "bound", "min_component_ratio", "trim_caps")
        return PhotoHull(**{name: getattr(self, name) for name in shared})

    def _make_fit(self, hull: VisualHull, box: NormalizedBox, base: Tensor) -> Fit:
        rays = gather_rays(hull.views, box, base, band=_BAND, size=self.max_image_side)
        initial = Field(
            base,
            box.half,
            levels=self.grid_cells,
            color_levels=list(self.color_levels),
            features=self.features,
            width=self.width,
            views=len(hull.views),
            sharpness=_SHARPNESS,
            seed=self.seed,
        )
        return Fit(initial.to(self._device), rays.to(self._device), self)

    def _run(self, fit: Fit, views: Views, report: ProgressCallback) -> None:
        """Take the steps, from the checkpoint's state and with saves when there is one."""
        steps = self.steps

        def tick(done: int, losses: dict[str, float]) -> None:
            parts = " ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
            report(f"fitting {done}/{steps} {parts}", 0.08 + 0.84 * done / steps)

        if self.checkpoint is None:
            fit.run(tick)
            return
        path = Path(self.checkpoint).expanduser()
        owner = files.fingerprint(views, self.fingerprint())
        state = files.load(path, owner)
        if state is not None:
            fit.restore(state)
        last = fit.step

        def save(done: int) -> None:
            nonlocal last
            if done - last >= self.checkpoint_every or done == steps:
                files.save(path, fit.state(), owner)
                last = done

        fit.run(tick, save)


def _extract_surface(
    field: Field, box: NormalizedBox, cells: int, min_component_ratio: float
) -> tuple[Float[np.ndarray, "vertex 3"], Int[np.ndarray, "face 3"]]:
    """The zero level in the world, closed, without loose parts."""
    with torch.no_grad():
        inside = -field.dense(box.shape(cells))[0, 0].cpu()
    if not torch.isfinite(inside).all():
        raise ReconstructionError("the fit diverged (NaN): lower lr, or check the views")
    for axis in range(3):
        for end in (0, -1):
            inside.select(axis, end).clamp_(max=-1e-4)
    inside = torch.from_numpy(drop_small_components(inside.numpy(), min_component_ratio))
    if not (inside > 0).any():
        raise ReconstructionError("the fit left nothing: the views disagree too much, use the hull")
    step = [2 * float(s) / (n - 1) for s, n in zip(box.half.flip(0), inside.shape, strict=True)]
    vertices, faces = SignedField(inside, torch.zeros(3), 1.0).surface()
    vertices = torch.from_numpy(vertices) * torch.tensor(step[::-1]) - box.half
    return box.to_world(vertices).numpy(), faces


def _remove_color_drift(views: Views, gain: Tensor, offset: Tensor) -> Views:
    """The views in the object's own colors, with each view's drift taken out."""
    images = (views.images.float() / 255 - offset[..., None, None]) / gain[..., None, None]
    return Views((images.clamp(0, 1) * 255).round().byte(), views.alpha, views.cameras)


def _resolve_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if torch.device(name).type not in ("cpu", "cuda"):
            raise RuntimeError(name)
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"neus: device '{name}' cannot be used here: choose auto, cpu or cuda"
        ) from error
