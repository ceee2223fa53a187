"""EpiDiff's checkpoint → our model: strictly by name and shape, with a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..utils.mmap import cast_mapped
from .compatibility import SWAPPABLE
from .diffusers_folder import read_diffusers_folder
from .key_maps.epidiff import BLOCKS, CLIP, PROJECTION, UNET_PREFIX, VAE, epidiff_mapping
from .published import convert_matched, match_keys
from .safe_load import read_weights
from .zero123 import convert_zero123

#: entries without a parameter in our model: networks of image metrics, and position numbers
_IGNORED = ("val_lpips.", "test_lpips.", f"{CLIP}vision_model.embeddings.position_ids")
#: parts of a whole checkpoint, and what they are
_PARTS = {
    BLOCKS: "EpiDiff's blocks",
    UNET_PREFIX: "the UNet",
    VAE: "the autoencoder",
    CLIP: "CLIP's image tower",
    PROJECTION: "the projection of the camera values",
}


@dataclass(frozen=True)
class EpiDiffReport:
    """What became of EpiDiff's state dict.

    loaded: number of our parameters that were set from it.
    from_base: our parameters that it lacks and the base file has.
    untrained: our parameters of swapped parts, which no published file has.
    ignored: names of the file left out on purpose.
    """

    loaded: int
    from_base: tuple[str, ...]
    untrained: tuple[str, ...]
    ignored: tuple[str, ...]


def is_epidiff(names: Iterable[str]) -> bool:
    """Whether these are names of EpiDiff's checkpoint, or of a part of it."""
    return any(name.startswith(("mv_model.", PROJECTION)) for name in names)


def convert_epidiff(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    base: Mapping[str, Tensor] | None = None,
    swapped: Sequence[str] = (),
    given: Iterable[str] = (),
) -> tuple[dict[str, Tensor], EpiDiffReport]:
    """EpiDiff's weights under our names, each in the type of our parameter.

    model: the recipe `epidiff`; it may be on the meta device, and is not changed.
    base: weights under our names for parts that the file lacks, of a Zero123 (see `read_base`).
    swapped: prefixes of our parts that are not the published ones; they are left out.
    given: our names whose weights come from elsewhere.
    Raises WeightsError when anything is missing, unknown or of another shape.
    """
    base, given = dict(base or {}), set(given)
    skipped = (*swapped, "time.")  # the volume's embedding of the noise level: nothing reads it
    own = model.state_dict(keep_vars=True)
    needed = {name: tensor for name, tensor in own.items() if not name.startswith(skipped)}
    match = match_keys(needed, tensors, epidiff_mapping, given)
    missing = [n for n in needed if n not in match.mappings and n not in given]
    missing = [n for n in missing if n not in {name for name, *_ in match.own_mismatched}]
    from_base = tuple(n for n in missing if n in base and base[n].shape == needed[n].shape)
    absent = tuple(epidiff_mapping(n).name for n in missing if n not in from_base)
    ignored = [n for n in match.unused if n.startswith(_IGNORED)]
    if any(part.startswith("unet.slots") for part in swapped):
        ignored += [n for n in match.unused if n.startswith(BLOCKS)]
    unknown = [n for n in match.unused if n not in set(ignored)]
    _check(tensors, absent, match.mismatched, unknown)
    weights = convert_matched(match, needed, tensors)
    weights |= {name: base[name] for name in from_base}
    report = EpiDiffReport(
        loaded=len(match.mappings),
        from_base=from_base,
        untrained=tuple(n for n in own if n.startswith(tuple(swapped))) if swapped else (),
        ignored=tuple(ignored),
    )
    return {name: cast_mapped(tensor, own[name]) for name, tensor in weights.items()}, report


def unread_zeros(model: nn.Module) -> dict[str, Tensor]:
    """Zeros for the volume's embedding of the noise level, which is built and read by no part."""
    own = model.state_dict()
    return {n: torch.zeros(p.shape, dtype=p.dtype) for n, p in own.items() if n.startswith("time.")}


def read_base(model: nn.Module, path: str | Path) -> dict[str, Tensor]:
    """The (Stable-)Zero123 that EpiDiff stands on, under our names.

    model: the recipe `epidiff`, on the meta device.
    path: a single file as Zero123's authors publish it, or a folder in diffusers' layout.
    Raises WeightsError, with the path, for anything else and where a network is missing.
    """
    path = Path(path).expanduser()
    skip = (*SWAPPABLE, "time.")
    if path.is_dir():
        folder = read_diffusers_folder(path)
        prefixed = {
            ("mv_model." if n.startswith("unet.") else "") + n: t for n, t in folder.items()
        }
        own = {n: p for n, p in model.state_dict().items() if not n.startswith(skip)}
        match = match_keys(own, prefixed, epidiff_mapping)
        if fault := match.fault():
            raise WeightsError(f"'{path}' is not the Zero123 that EpiDiff stands on: {fault}")
        return convert_matched(match, own, prefixed)
    tensors, _ = read_weights(path)
    if is_epidiff(tensors):
        raise WeightsError(f"'{path}' is EpiDiff's checkpoint: pass it as weights=, not as base=")
    try:
        return convert_zero123(model, tensors, skip)
    except WeightsError as error:
        raise WeightsError(f"'{path}': {error}") from error


def _check(
    tensors: Mapping[str, Tensor],
    absent: Sequence[str],
    mismatched: Sequence[tuple],
    unknown: Sequence[str],
) -> None:
    """Raise WeightsError for the first thing that does not fit."""
    if mismatched:
        name, shape, needed = mismatched[0]
        raise WeightsError(
            f"this is not EpiDiff's checkpoint at these sizes: '{name}' has shape {shape}, "
            f"expected {needed}"
        )
    for prefix, what in _PARTS.items():
        if any(n.startswith(prefix) for n in absent) and not any(
            n.startswith(prefix) for n in tensors
        ):
            advice = (
                "pass the whole checkpoint"
                if prefix == BLOCKS
                else "pass the whole checkpoint, or base=FILE of the Zero123 it stands on"
            )
            raise WeightsError(f"this holds no {what.removeprefix('the ')} ('{prefix}…'): {advice}")
    if absent:
        raise WeightsError(f"this is not a whole EpiDiff checkpoint: '{absent[0]}' is missing")
    if unknown:
        raise WeightsError(f"this is not EpiDiff's checkpoint: '{unknown[0]}' is unknown to it")
