"""The condition of a run, how training drops it, and classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras.camera import Cameras


@dataclass(frozen=True)
class Condition:
    """What the denoiser knows about the input pictures; computed once a run.

    token: embedding of the picture.
    latent: clean latent, concatenated to every noisy view.
    view: pose of each target view relative to the picture.
    cameras: the pictures' own cameras, at the latents' resolution.
    keep_token, keep_latent, keep_volume: 1 keeps that condition of an object, 0 drops it.
    """

    token: Float[Tensor, "batch embedding"]
    latent: Float[Tensor, "batch channel height width"]
    view: Float[Tensor, "batch view pose"]
    cameras: Cameras
    keep_token: Float[Tensor, "batch"]
    keep_latent: Float[Tensor, "batch"]
    keep_volume: Float[Tensor, "batch"]

    def unconditional(self) -> Condition:
        """Everything dropped (spec of the published sampler: token, latent, volumes zero)."""
        zero = torch.zeros_like(self.keep_token)
        return replace(self, keep_token=zero, keep_latent=zero, keep_volume=zero)


def drop(
    condition: Condition,
    *,
    everything: float,
    latent: float,
    volume: float,
    token: float,
    generator: torch.Generator | Sequence[torch.Generator],
) -> Condition:
    """Drop conditions at random, object by object (SyncDreamer's training: 5 % each).

    One draw an object decides: the four probabilities are shares of the same interval.
    generator: one for all objects in turn, or one an object.
    """
    count = len(condition.token)
    generators = [generator] * count if isinstance(generator, torch.Generator) else generator
    draw = torch.cat([torch.rand(1, generator=g) for g in generators])
    draw = draw.to(condition.token.device)
    limits = torch.tensor([everything, latent, volume, token]).cumsum(0).tolist()
    drop_all = draw < limits[0]
    drop_latent = drop_all | ((draw >= limits[0]) & (draw < limits[1]))
    drop_volume = drop_all | ((draw >= limits[1]) & (draw < limits[2]))
    drop_token = drop_all | ((draw >= limits[2]) & (draw < limits[3]))
    return replace(
        condition,
        keep_token=condition.keep_token * ~drop_token,
        keep_latent=condition.keep_latent * ~drop_latent,
        keep_volume=condition.keep_volume * ~drop_volume,
    )


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598): move away from the unconditional answer."""
    return unconditional + scale * (conditional - unconditional)
