"""The condition of a run, how training drops it, and classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras.camera import Cameras
from ..errors import ConfigError


@dataclass(frozen=True)
class Condition:
    """The encoded input images, computed once per run.

    token: embedding of the picture: a vector, or tokens.
    photos: clean latents of the input pictures; the first is the one at view 0's azimuth.
    pose: of each target view relative to the picture.
    cameras: the pictures' own, batch · photo of them, at the latents' resolution.
    keep_token, keep_latent, keep_volume: 1 keeps that condition of an object, 0 drops it.
    text: embedding of each object's text; None: the model's own text, or it reads none.
    """

    token: Float[Tensor, "batch *embedding"]
    photos: Float[Tensor, "batch photo channel height width"]
    pose: Float[Tensor, "batch view pose"]
    cameras: Cameras
    keep_token: Float[Tensor, "batch"]
    keep_latent: Float[Tensor, "batch"]
    keep_volume: Float[Tensor, "batch"]
    text: Float[Tensor, "batch word context"] | None = None

    @property
    def latent(self) -> Float[Tensor, "batch channel height width"]:
        """Of the first picture: it is concatenated to every noisy view."""
        return self.photos[:, 0]

    def unconditional(self) -> Condition:
        """Everything dropped (spec of the published sampler: token, latent, volumes zero)."""
        zero = torch.zeros_like(self.keep_token)
        return replace(self, keep_token=zero, keep_latent=zero, keep_volume=zero)


def concat_conditions(conditions: Sequence[Condition]) -> Condition:
    """The conditions of several objects as one batch, in this order.

    Raises ConfigError where they do not fit together (other sizes or kinds of cameras).
    """
    joined = {}
    for field in fields(Condition):
        parts = [getattr(condition, field.name) for condition in conditions]
        if all(part is None for part in parts):
            continue
        if any(part is None for part in parts):
            raise ConfigError(f"all objects of a batch need a {field.name}, or none of them")
        try:
            joined[field.name] = (Cameras if field.name == "cameras" else torch).cat(parts)
        except RuntimeError as error:
            raise ConfigError(f"these conditions do not fit into one batch: {error}") from error
    return Condition(**joined)


def drop_conditions(
    condition: Condition,
    *,
    everything: float,
    latent: float,
    volume: float,
    token: float,
    generator: torch.Generator | Sequence[torch.Generator],
) -> Condition:
    """Drop conditions at random, object by object (SyncDreamer's training: 5 % each).

    One draw per object decides: the four probabilities are shares of the same interval.
    generator: one for all objects in turn, or one per object.
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


def parse_interval(value: Any) -> tuple[float, float] | None:
    """A config's [lowest, highest] within [0, 1], or None; ConfigError when it is neither."""
    if value is None:
        return None
    numbers = isinstance(value, (list, tuple)) and all(type(x) in (int, float) for x in value)
    if not (numbers and len(value) == 2 and 0 <= value[0] < value[1] <= 1):
        raise ConfigError(
            "guidance.interval must be [lowest,highest] with 0 ≤ lowest < highest ≤ 1 (shares of "
            f"the schedule's time, 1 is pure noise) or null, got {value}"
        )
    return float(value[0]), float(value[1])


def classifier_free_guidance(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598): move away from the unconditional answer."""
    return unconditional + scale * (conditional - unconditional)
