"""Published weights → our model: strictly by name and shape, with a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..cameras.camera import Cameras
from ..errors import WeightsError
from ..utils.mmap import cast_mapped
from .compatibility import SWAPPABLE, Mismatch, describe_mismatch, explain_volume_mismatch
from .key_maps.clip import TEXT_TOWER
from .key_maps.syncdreamer import CLIP, syncdreamer_mapping
from .published import convert_matched, match_keys

#: side of the pictures the published cameras are given for
_SIZE = 256
#: published entries that are no parameters: never loaded, compared with what the user has
_BUFFERS = (
    "poses",
    "Ks",
    "azimuth",
    "betas",
    "alphas",
    "alphas_cumprod",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
)
#: CLIP's text tower, which nothing here reads
_TEXT = tuple(CLIP + name for name in TEXT_TOWER)


@dataclass(frozen=True)
class SyncDreamerReport:
    """What became of a published state dict.

    loaded: number of our parameters that were set.
    untrained: our parameters of swapped parts, which no published file has.
    missing: published names that our model needs and the file lacks.
    unexpected: names of the file that nothing is known about.
    mismatched: (published name, shape in the file, shape needed).
    ignored: names of the file left out on purpose: buffers, the text tower, swapped parts.
    differences: sentences on buffers that differ from the user's cameras or noise schedule.
    """

    loaded: int
    untrained: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    ignored: tuple[str, ...]
    differences: tuple[str, ...]

    def fault(self) -> str | None:
        """The first thing that does not fit, in words; None when all does."""
        return describe_mismatch(self.mismatched, self.missing, self.unexpected)


def load_syncdreamer(
    model: nn.Module,
    state_dict: Mapping[str, Tensor],
    *,
    strict: bool = True,
    betas: Tensor | None = None,
    swapped: Sequence[str] = (),
    given: Mapping[str, Tensor] | None = None,
) -> SyncDreamerReport:
    """Set a recipe-`syncdreamer` model's parameters from a published state dict.

    Tensors of the model's type are taken as they are, without a copy, others are converted one
    by one; the model may have been built on the meta device. Cameras and schedules of the file
    never enter the model.
    strict: raise when anything is missing, unknown or of another shape; otherwise load the rest.
    betas: of the user's noise schedule, to be compared.
    swapped: of `SWAPPABLE`, the parts that are not the published ones: they keep their values.
    given: weights under our names that replace the file's, such as CLIP's own file.
    Raises WeightsError before anything has been loaded: where strict, and for a model with parts
    that are neither published nor swapped.
    """
    own, given = model.state_dict(keep_vars=True), dict(given or {})
    untrained = [name for name in own if name.startswith(tuple(swapped))]
    published = {name: tensor for name, tensor in own.items() if name not in untrained}
    match = match_keys(published, state_dict, syncdreamer_mapping, given)
    expected = (*_TEXT, *(prefix for part in swapped for prefix in SWAPPABLE[part]))
    ignored = [n for n in match.unused if n in _BUFFERS or n.startswith(expected)]
    report = SyncDreamerReport(
        loaded=len(match.mappings) + len(given),
        untrained=tuple(untrained),
        missing=match.missing,
        unexpected=tuple(n for n in match.unused if n not in ignored),
        mismatched=match.mismatched,
        ignored=tuple(ignored),
        differences=tuple(_differences(state_dict, getattr(model, "rig", None), betas)),
    )
    if strict and report.fault():
        if reason := explain_volume_mismatch(model, match.own_mismatched):
            raise WeightsError(f"these weights belong to another model: {reason}")
        raise WeightsError(
            f"this is not a SyncDreamer checkpoint for this recipe: {report.fault()}; use the "
            "published file, and the sizes it was trained with"
        )
    converted = convert_matched(match, own, state_dict)
    cast = {name: cast_mapped(tensor, own[name]) for name, tensor in converted.items()}
    assign(model, cast | given)
    return report


def assign(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make tensors the model's parameters, without a copy where the type is the same."""
    model.load_state_dict(dict(weights), strict=False, assign=True)


def _differences(
    state_dict: Mapping[str, Tensor], rig: Cameras | None, betas: Tensor | None
) -> list[str]:
    differences = []
    if rig is not None:
        cameras = rig.resize(_SIZE)
        for name, what, ours in (
            ("poses", "other camera poses", cameras.w2c),
            ("Ks", "other intrinsics", cameras.K),
        ):
            if name in state_dict and not _allclose(state_dict[name], ours):
                differences.append(f"the checkpoint was trained with {what} ('{name}') than yours")
    if betas is not None and "betas" in state_dict and not _allclose(state_dict["betas"], betas):
        differences.append(
            "the checkpoint was trained with another noise schedule ('betas') than yours"
        )
    return differences


def _allclose(published: Tensor, own: Tensor) -> bool:
    if published.shape != own.shape:
        return False
    return torch.allclose(published.float(), own.float().cpu(), rtol=1e-3, atol=1e-5)
