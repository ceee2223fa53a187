"""Photo → Views → Mesh, readable top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .denoiser.joint import MultiViewDenoiser
from .errors import MvdiffError
from .inputs.elevation import check_elevation, read_elevation
from .inputs.framing import Framing
from .inputs.latents import check_finite
from .inputs.photo import Photo, load_photo
from .sampling import sample, start_noise
from .views import Views


@dataclass(frozen=True)
class Sampler:
    """How noise becomes views.

    scheduler: makes a fresh diffusers scheduler (they keep state).
    steps, eta: see `sampling.sample`. guidance: classifier-free guidance scale, 1 is off.
    """

    scheduler: Callable[[], Any]
    steps: int
    eta: float = 0.0
    guidance: float = 1.0


@torch.no_grad()
def generate_views(
    model: MultiViewDenoiser,
    sampler: Sampler,
    photo: Float[Tensor, "batch 4 height width"],
    elevation: Float[Tensor, "batch"],
    seeds: Sequence[int],
    *,
    batch_views: int | None = None,
    callback: Callable[[int, int, Tensor], None] | None = None,
) -> list[Views]:
    """All target views of each photo, denoised together.

    photo: RGBA in [0, 1], colours on white, of the rig's size. elevation: degrees.
    seeds: one an object; the same seed gives the same views, whatever else is in the batch.
    callback: called with (step, steps, latents) after every step.
    """
    device = model.device
    condition = model.condition(photo.to(device), elevation.to(device))
    noise, generators = start_noise(model.latent_shape(len(photo)), list(seeds), device)

    def denoise(x: Tensor, timestep: Tensor) -> Tensor:
        return model(
            x, timestep, condition, batch_views=batch_views, guidance=sampler.guidance
        ).float()

    latents = sample(
        denoise,
        sampler.scheduler(),
        noise,
        steps=sampler.steps,
        eta=sampler.eta,
        generators=generators,
        callback=callback,
    )
    results = []
    for latent in check_finite(latents):
        rgb, alpha = model.latents.decode(latent)
        results.append(Views.from_white(rgb, alpha, model.rig))
    return results


@dataclass(frozen=True)
class Model:
    """A recipe ready to use: what `mvdiff.load` returns.

    denoiser: the network, on its device, in eval mode.
    sampler: how noise becomes views.
    foreground: finds the object in a photo.
    framing: frames the cut-out photo: (RGBA photo, side in pixels) → Photo.
    precision: "fp32", or "bf16" for autocast.
    config: the resolved config it was built from.
    """

    denoiser: MultiViewDenoiser
    sampler: Sampler
    foreground: Callable[[Any], Any]
    framing: Framing
    precision: str
    config: Any

    def prepare(self, image: Any) -> Photo:
        """Read, cut out and frame a picture (path, PIL image, array or tensor)."""
        size = self.denoiser.rig.height
        return self.framing(self.foreground(load_photo(image)), size)

    def generate(
        self,
        image: Any,
        *,
        elevation: float | str | None = None,
        seed: int = 0,
        batch_views: int | None = None,
        callback: Callable[[int, int, Tensor], None] | None = None,
    ) -> Views:
        """One picture → consistent views of the object from the recipe's cameras.

        image: path, PIL image, array (height, width, 3 or 4) or tensor.
        elevation: degrees the picture's camera stood above the object, in [-90, 90]; None (or
            "auto") estimates it from the picture.
        seed: the same seed gives the same views.
        Raises MvdiffError on pictures and numbers that make no sense.
        """
        photo = self.prepare(image)
        degrees = read_elevation(elevation, photo).degrees
        return self.generate_many(
            [photo], [degrees], [seed], batch_views=batch_views, callback=callback
        )[0]

    def generate_many(
        self,
        photos: Sequence[Photo],
        elevations: Sequence[float],
        seeds: Sequence[int],
        *,
        batch_views: int | None = None,
        callback: Callable[[int, int, Tensor], None] | None = None,
    ) -> list[Views]:
        """As `generate`, for several prepared photos (or several seeds of one) in one batch."""
        if batch_views is not None and not (_is_whole(batch_views) and batch_views >= 1):
            raise MvdiffError(f"batch_views must be a whole number from 1, got {batch_views}")
        for seed in seeds:
            if not _is_whole(seed) or not 0 <= seed < 2**63:
                raise MvdiffError(f"seed must be a whole number in [0, 2^63), got {seed}")
        elevations = [check_elevation(elevation) for elevation in elevations]
        rgba = torch.stack([photo.rgba for photo in photos])
        device = self.denoiser.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            return generate_views(
                self.denoiser,
                self.sampler,
                rgba,
                torch.tensor(elevations),
                seeds,
                batch_views=batch_views,
                callback=callback,
            )


def _is_whole(number: Any) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)
