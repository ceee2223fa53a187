"""Loading a recipe's weights into a model whose parts the user may have swapped."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from torch import Tensor, nn

from ..errors import WeightsError
from .compatibility import check_compatible, check_floating, swappable
from .safe_load import read_weights


@dataclass(frozen=True)
class LoadReport:
    """What became of a weight file.

    loaded: number of tensors that went into the model.
    untrained: the model's tensors that the file lacks (parts swapped for others).
    unused: the file's tensors that the model lacks.
    metadata: the file's header.
    """

    loaded: int
    untrained: tuple[str, ...]
    unused: tuple[str, ...]
    metadata: dict[str, str]


def bundled_path(name: str) -> Path:
    """Path of the weights that ship with the package; WeightsError when there are none."""
    path = Path(str(resources.files("mvdiff") / "assets" / f"{name}.safetensors"))
    if not path.is_file():
        raise WeightsError(
            f"this installation has no embedded weights for recipe '{name}': pass "
            "weights=FILE.safetensors, or train them with `mvdiff train`"
        )
    return path


def load_file_into(model: nn.Module, path: str | Path) -> LoadReport:
    """Load a file with our names into `model`, strictly but for swapped slots: `load_tensors`."""
    tensors, metadata = read_weights(path)
    return load_tensors(model, tensors, path, metadata)


def load_tensors(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    path: str | Path,
    metadata: Mapping[str, str],
) -> LoadReport:
    """Copy a file's tensors into `model`, strictly but for swapped slots.

    A slot's weights that the file lacks leave that slot as initialised, and a warning names it;
    weights of a slot the model no longer has are left out.
    path, metadata: of the file, for sentences and the report.
    Raises WeightsError for other shapes, missing or unknown names, and quantised weights.
    """
    check_floating(tensors, path)
    own = model.state_dict()
    recipe = f"recipe={metadata['recipe']}" if "recipe" in metadata else "the recipe"
    check_compatible(
        model,
        tensors,
        swappable(own, tensors),
        f"the weights '{path}' belong to another model",
        f"use {recipe} and the sizes they were trained with",
    )
    untrained = [name for name in own if name not in tensors]
    unused = [name for name in tensors if name not in own]
    model.load_state_dict({k: v for k, v in tensors.items() if k in own}, strict=False)
    if untrained:
        warnings.warn(
            f"{len(untrained)} tensors of swapped parts are not in the weights and stay untrained "
            f"({untrained[0]}, …): train the model with these parts before judging it",
            stacklevel=3,
        )
    if unused:
        warnings.warn(
            f"{len(unused)} tensors of the weights are unused, because their part was swapped "
            f"({unused[0]}, …): the rest was trained with it, so expect worse pictures",
            stacklevel=3,
        )
    return LoadReport(len(tensors) - len(unused), tuple(untrained), tuple(unused), dict(metadata))
