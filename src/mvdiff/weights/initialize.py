"""What a training starts from: nothing, weights of this recipe, or Zero123's."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import MvdiffError, WeightsError
from .bundled import bundled_path
from .compatibility import check_compatible, check_floating, swappable
from .convert import NOT_IN_ZERO123, convert
from .epidiff import is_epidiff
from .key_maps.syncdreamer import is_published
from .load_model import MAPPINGS, init_on_meta
from .mvdream import EXTRAS, NAMES, UNREAD
from .safe_load import read_weights
from .synthetic import fill_synthetic
from .zero123 import looks_like_stable_zero123

_POLAR = "; its 4th camera value was taken for a polar angle, as Stable-Zero123's"


@dataclass(frozen=True)
class InitResult:
    """A model to be trained.

    model: with the weights. untrained: names of the parameters that the file does not have.
    summary: one line for people; empty for a fresh model.
    """

    model: nn.Module
    untrained: tuple[str, ...]
    summary: str


def init_for_training(
    make: Callable[[], nn.Module],
    weights: str | None,
    recipe: str,
    *,
    swapped: Sequence[str] = (),
    betas: Tensor | None = None,
    family: str = "syncdreamer",
) -> InitResult:
    """A model made by `make`, with the weights it is to be trained from.

    weights: None leaves it as it was made; "embedded" or "synthetic" as in `load_pretrained`;
        otherwise a file: Zero123's as `mvdiff convert` writes it or as published, SyncDreamer's
        likewise, or one of this recipe. What Zero123 does not have (depth attention, volume,
        radiance, time), and parts swapped for others, stay as made: the attention as the identity.
    recipe: its name, for "embedded".
    swapped: prefixes of parts that are not the published ones.
    betas: of the noise schedule; a published file's is compared with it, as its cameras are.
    family: of the recipe; "epidiff" reads EpiDiff's files, and Stable-Zero123's as they are.
    Raises WeightsError when the rest does not fit by name and shape.
    """
    model = make()
    if weights is None:
        return InitResult(model, tuple(name for name, _ in model.named_parameters()), "")
    if weights == "synthetic":
        warnings.warn(
            "weights=synthetic: training starts from synthetic numbers, for tests and benchmarks",
            stacklevel=2,
        )
        model = fill_synthetic(model, mapping_for=MAPPINGS[family])
        return InitResult(model, (), "started from numbers made by a rule")
    path = bundled_path(recipe) if weights == "embedded" else Path(weights).expanduser()
    tensors, metadata = read_weights(path)
    polar = is_published(tensors) and family != "epidiff" and looks_like_stable_zero123(path)
    kind = metadata.get("mvdiff_kind", "")
    if is_published(tensors) or is_epidiff(tensors):
        _check_epidiff(path, tensors, family)
        try:
            tensors, kind = convert(
                init_on_meta(make), tensors, polar=polar, swapped=swapped, betas=betas
            )
        except MvdiffError as error:
            raise WeightsError(f"'{path}': {error}") from error
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(EXTRAS)}
    own = model.state_dict()
    untrained = tuple(name for name in own if name not in tensors)
    unused = [name for name in tensors if name not in own]
    absent = NOT_IN_ZERO123 if kind == "zero123" else UNREAD if kind in (*NAMES, "epidiff") else ()
    check_floating(tensors, path)
    check_compatible(
        model,
        tensors,
        (*swappable(own, tensors), *absent),
        f"the weights '{path}' cannot start this training",
        "use weights of this recipe and these sizes, or Zero123's as written by mvdiff convert",
    )
    model.load_state_dict({k: v for k, v in tensors.items() if k in own}, strict=False)
    summary = f"started from '{path}': {len(own) - len(untrained)} tensors"
    summary += _POLAR if polar else ""
    return InitResult(model, untrained, summary + _counts(untrained, unused))


def _check_epidiff(path: Path, tensors: Mapping[str, Tensor], family: str) -> None:
    if is_epidiff(tensors) and family != "epidiff":
        raise WeightsError(f"'{path}' is EpiDiff's checkpoint: use recipe=epidiff")


def zero_unread(model: nn.Module, untrained: Sequence[str]) -> tuple[str, ...]:
    """Zeros in the volume's embedding of the noise level where it is frozen and nothing reads it.

    untrained: names of the parameters without weights. Returns those that still need some: the
    same frozen weights are then made whenever the model is, whatever the random numbers.
    """
    if getattr(model.volume, "name", "") != "none":
        return tuple(untrained)
    parameters = dict(model.named_parameters())
    unread = [n for n in untrained if n.startswith(UNREAD) and not parameters[n].requires_grad]
    with torch.no_grad():
        for name in unread:
            parameters[name].zero_()
    return tuple(name for name in untrained if name not in unread)


def _counts(untrained: Sequence[str], unused: Sequence[str]) -> str:
    """How many tensors stay untrained or unused, and of which parts."""
    text = ""
    for word, names in (("untrained", untrained), ("unused", unused)):
        if names:
            text += f"; {word}: {len(names)} of {', '.join(dict.fromkeys(map(_part, names)))}"
    return text


def sha256_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors as float32: the same however the file they came from is written."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _part(name: str) -> str:
    return next((part for part in NOT_IN_ZERO123 if name.startswith(part)), name.split(".")[0])
