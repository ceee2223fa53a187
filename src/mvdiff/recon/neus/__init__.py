"""NeuS: a signed distance fitted to the views by volume rendering (arXiv 2106.10689)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...errors import MvdiffError
from ...mesh.mesh import Mesh
from ...silhouettes.visual_hull import VoxelGrid
from ...utils.callbacks import ProgressCallback
from ...views import Views
from ..base import RECONSTRUCTORS
from ..hull_steps import CarvedHull, Carving, carve_hull, drop_pieces, finish_mesh, is_whole
from ..photohull import PhotoHull
from ..validation import check_number, check_setting
from . import checkpoint as files
from .field import Field
from .fit import Fit, Schedule
from .initialize import Box, hull_distance
from .rays import gather_rays

#: Room around the hull, as a share of its longest side; and how far from the hull's surface, in
#: box units, rays are still looked at: silhouettes that the hull falls short of end there.
_MARGIN, _BAND = 0.06, 0.03
#: How blurred the surface is at the beginning, 1 / box unit.
_SHARPNESS = 60.0


@RECONSTRUCTORS.register("neus")
class Neus:
    """Coloured surface whose volume rendering matches the views' silhouettes and colours.

    Starts from the visual hull's distance, so that only what lies near it is ever sampled. It
    differs from the paper where a CPU asks for it: the distance is a sum of grids instead of a
    network, slopes are finite differences, colours are the same from all directions (with a
    gain and an offset for each view), and views that fit badly lose their say.

    steps: of the fit; more is finer.
    resolution: cells of the finest grid along the object's longest side.
    rays, samples, coarse, rate, huber, seed: see `fit.Schedule`.
    mask, eikonal, smooth: weights of the losses beside colour's; `smooth` counts curvature.
    robust: let views that disagree with the rest count less.
    pictures: larger views are averaged down to this longest side for the fit.
    hollow: start from the photo hull (see `photohull`) instead of the visual hull: hollows that
        no silhouette shows are seldom found by descent alone.
    levels: grids of distances, each with half the cells of the next finer one.
    color_levels, features, width: of the colour's grids and network, see `field.Field`.
    checkpoint: file that keeps the state; the fit goes on from it when it is there.
    every: steps between two saves.
    device: "auto" takes a GPU when there is one. Two runs on a CPU give the same mesh; on a
        GPU sums are taken in any order, so that they differ in the last digits.
    faces, power, polish: as for `hull`. tolerance, bound, pieces, trim: see `shape.Carving`.

    After a call, `fitted` says how the fit ended: its steps, the seconds they took (with those of
    the runs it resumed) and its losses, see `fit.Fit`.
    """

    fitted: dict[str, object] | None = None

    def __init__(
        self,
        steps: int = 1500,
        resolution: int = 128,
        rays: int = 1024,
        samples: int = 16,
        coarse: int = 32,
        rate: float = 5e-4,
        mask: float = 0.5,
        eikonal: float = 0.1,
        smooth: float = 2e-3,
        huber: float = 0.05,
        robust: bool = True,
        pictures: int = 384,
        hollow: bool = True,
        levels: int = 4,
        color_levels: Sequence[int] = (32, 96),
        features: int = 6,
        width: int = 32,
        checkpoint: str | Path | None = None,
        every: int = 250,
        seed: int = 0,
        device: str = "auto",
        faces: int = 40_000,
        power: float = 6.0,
        polish: int = 0,
        tolerance: int | None = None,
        bound: float | None = None,
        pieces: float = 0.02,
        trim: bool = True,
    ) -> None:
        self.carving = Carving(resolution, tolerance, 0.5, bound, pieces, trim)
        self.carving.check("neus")
        counts = {"steps": steps, "rays": rays, "levels": levels, "features": features}
        counts |= {"width": width, "every": every}
        for name, value in counts.items():
            check_number("neus", name, value, 1)
        for name, value in {"samples": samples, "coarse": coarse, "faces": faces}.items():
            check_number("neus", name, value, 4)
        for name, value in {"polish": polish, "power": power, "seed": seed}.items():
            check_number("neus", name, value)
        for name, value in {"mask": mask, "eikonal": eikonal, "smooth": smooth}.items():
            check_number("neus", name, value)
        check_number("neus", "pictures", pictures, 16)
        check_number("neus", "huber", huber, 1e-6)
        check_number("neus", "rate", rate, 0, 1)
        listed = isinstance(color_levels, Sequence) and not isinstance(color_levels, str)
        good = listed and len(color_levels) > 0 and all(is_whole(n, 1) for n in color_levels)
        wanted = "a list of whole numbers of cells, each at least 1, such as [32, 96]"
        check_setting("neus", good, "color_levels", color_levels, wanted)
        self.schedule = Schedule(
            steps=steps,
            rays=rays,
            samples=samples,
            coarse=coarse,
            rate=rate,
            mask=mask,
            eikonal=eikonal,
            smooth=smooth,
            huber=huber,
            robust=robust,
            cells=resolution,
            seed=seed,
        )
        same = {"resolution": resolution, "tolerance": tolerance, "bound": bound}
        same |= {"pieces": pieces, "trim": trim}
        self.start = PhotoHull(**same) if hollow else None
        self.pictures, self.every = pictures, every
        self.levels = [max(2, round(resolution / 2**i)) for i in reversed(range(levels))]
        self.color_levels, self.features, self.width = list(color_levels), features, width
        self.checkpoint = None if checkpoint is None else Path(checkpoint).expanduser()
        self.device = _device(device)
        self.faces, self.power, self.polish = faces, power, polish

    def __call__(self, views: Views, *, progress: ProgressCallback | None = None) -> Mesh:
        """Two or more views → mesh.

        Raises MvdiffError as `hull` does, for a checkpoint that cannot be used, and when the
        fit leaves nothing.
        """
        report = progress or (lambda stage, fraction: None)
        hull = carve_hull(views, self.carving, lambda stage, done: report(stage, 0.05 * done))
        report("start", 0.05)
        start = hull.grid if self.start is None else self.start.hollowed(hull)
        box, base = hull_distance(start, margin=_MARGIN, cells=round(0.75 * self.schedule.cells))
        fit = self._fit(hull, box, base)
        self._run(fit, views, report)
        seconds = round(fit.seconds, 3)
        self.fitted = {"steps": fit.step, "seconds": seconds, "losses": fit.losses}
        report("surface", 0.92)
        gain, offset = (x.detach().cpu() for x in fit.field.corrections())
        mesh = finish_mesh(
            _surface(fit.field, box, round(1.25 * self.schedule.cells), self.carving.pieces),
            _corrected(hull.views, gain, offset),
            hull.edges,
            faces=self.faces,
            polish=self.polish,
            power=self.power,
            trust=fit.trust().cpu(),
            tick=lambda: report("colours", 0.96),
        )
        report("done", 1.0)
        return mesh

    def _fit(self, hull: CarvedHull, box: Box, base: Tensor) -> Fit:
        rays = gather_rays(hull.views, box, base, band=_BAND, size=self.pictures)
        field = Field(
            base,
            box.half,
            levels=self.levels,
            color_levels=self.color_levels,
            features=self.features,
            width=self.width,
            views=len(hull.views),
            sharpness=_SHARPNESS,
            seed=self.schedule.seed,
        )
        return Fit(field.to(self.device), rays.to(self.device), self.schedule)

    def _run(self, fit: Fit, views: Views, report: ProgressCallback) -> None:
        """Take the steps, from the checkpoint's state and with saves when there is one."""
        steps = self.schedule.steps

        def tick(done: int, losses: dict[str, float]) -> None:
            parts = " ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
            report(f"fitting {done}/{steps} {parts}", 0.08 + 0.84 * done / steps)

        if self.checkpoint is None:
            fit.run(tick)
            return
        settings = (self.schedule, self.carving, self.levels, self.color_levels)
        settings += (self.features, self.width, self.pictures, self.start is None)
        owner = files.fingerprint(views, repr(settings))
        state = files.load(self.checkpoint, owner)
        if state is not None:
            fit.restore(state)
        last = fit.step

        def save(done: int) -> None:
            nonlocal last
            if done - last >= self.every or done == steps:
                files.save(self.checkpoint, fit.state(), owner)
                last = done

        fit.run(tick, save)


def _surface(
    field: Field, box: Box, cells: int, pieces: float
) -> tuple[Float[np.ndarray, "vertex 3"], Int[np.ndarray, "face 3"]]:
    """The zero level in the world, closed, without loose parts."""
    with torch.no_grad():
        inside = -field.dense(box.shape(cells))[0, 0].cpu()
    if not torch.isfinite(inside).all():
        raise MvdiffError("the fit diverged (NaN): lower rate, or check the views")
    for axis in range(3):
        for end in (0, -1):
            inside.select(axis, end).clamp_(max=-1e-4)
    inside = torch.from_numpy(drop_pieces(inside.numpy(), pieces))
    if not (inside > 0).any():
        raise MvdiffError("the fit left nothing: the views disagree too much, use the hull")
    step = [2 * float(s) / (n - 1) for s, n in zip(box.half.flip(0), inside.shape, strict=True)]
    vertices, faces = VoxelGrid(inside, torch.zeros(3), 1.0).surface()
    vertices = torch.from_numpy(vertices) * torch.tensor(step[::-1]) - box.half
    return box.to_world(vertices).numpy(), faces


def _corrected(views: Views, gain: Tensor, offset: Tensor) -> Views:
    """The views in the object's own colours, with each view's drift taken out."""
    images = (views.images.float() / 255 - offset[..., None, None]) / gain[..., None, None]
    return Views((images.clamp(0, 1) * 255).round().byte(), views.alpha, views.cameras)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if torch.device(name).type not in ("cpu", "cuda"):
            raise RuntimeError(name)
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise MvdiffError(
            f"neus: device '{name}' cannot be used here: choose auto, cpu or cuda"
        ) from error
