"""Loading a recipe's weights into a model whose parts the user may have swapped."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import MvdiffError

#: Parameters of slots a user may swap: a swapped part starts untrained, the rest must fit.
SWAPPABLE = ("unet.slots.", "volume.", "radiance.", "radiance_stem.")


def swappable(own: Iterable[str], given: Iterable[str]) -> tuple[str, ...]:
    """Prefixes of names that a model and its weights may differ in.

    The whole UNet is among them where only one side has one: half a UNet is no part.
    """

    def has_unet(names: Iterable[str]) -> bool:
        return any(name.startswith("unet.") for name in names)

    return SWAPPABLE if has_unet(own) == has_unet(given) else (*SWAPPABLE, "unet.")


@dataclass(frozen=True)
class Report:
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


def embedded_weights(name: str) -> Path:
    """Path of the weights that ship with the package; MvdiffError when there are none."""
    path = Path(str(resources.files("mvdiff") / "assets" / f"{name}.safetensors"))
    if not path.is_file():
        raise MvdiffError(
            f"this installation has no embedded weights for recipe '{name}': pass "
            "weights=FILE.safetensors, or train them with `mvdiff train`"
        )
    return path


def load_into(model: nn.Module, path: str | Path) -> Report:
    """Load safetensors into `model`, strictly but for swapped slots.

    A slot's weights that the file lacks leave that slot as initialised (the identity), and a
    warning names it; weights of a slot the model no longer has are left out.
    Raises MvdiffError for unreadable files, other shapes, and missing or unknown names.
    """
    path = Path(path)
    if not path.is_file():
        raise MvdiffError(f"no weights at '{path}': check the path")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise MvdiffError(
            f"'{path}' is not a readable safetensors file ({error}): mvdiff loads weights from "
            "safetensors only"
        ) from error
    check_floating(path, weights)
    own = model.state_dict()
    clash = [n for n in own if n in weights and own[n].shape != weights[n].shape]
    untrained = [name for name in own if name not in weights]
    unused = [name for name in weights if name not in own]
    swapped = swappable(own, weights)
    strict = [name for name in (*untrained, *unused) if not name.startswith(swapped)]
    if clash or strict:
        if told := other_volume(model, {name: tuple(weights[name].shape) for name in clash}):
            raise MvdiffError(f"the weights '{path}' {told}")
        fault = _first_fault(own, weights, clash, strict)
        raise MvdiffError(
            f"the weights '{path}' belong to another model: {fault}; use the recipe and "
            "sizes they were trained with"
        )
    model.load_state_dict({k: v for k, v in weights.items() if k in own}, strict=False)
    if untrained:
        warnings.warn(
            f"{len(untrained)} tensors of swapped parts are not in the weights and stay untrained "
            f"({untrained[0]}, …): train the model with these parts before judging it",
            stacklevel=2,
        )
    if unused:
        warnings.warn(
            f"{len(unused)} tensors of the weights are unused, because their part was swapped "
            f"({unused[0]}, …): the rest was trained with it, so expect worse pictures",
            stacklevel=2,
        )
    return Report(len(weights) - len(unused), tuple(untrained), tuple(unused), metadata)


def other_volume(model: nn.Module, clash: Mapping[str, tuple[int, ...]]) -> str | None:
    """What is wrong where the volume's first layer alone has another shape, as it has for
    another number of views or another way of joining them; None where it is something else.

    clash: the model's names whose shape differs → the shape in the file.
    """
    volume = getattr(model, "volume", None)
    if list(clash) != ["volume.net.stem.weight"] or not hasattr(volume, "views_of"):
        return None
    views = volume.views_of(clash["volume.net.stem.weight"][1])
    if views is None:
        return (
            f"were trained with another volume than '{volume.name}': choose the one they were "
            f"trained with, or train with volume={volume.name}"
        )
    return (
        f"are for {views} views, and volume '{volume.name}' is bound to that number; the rig has "
        f"{volume.views}: use a rig of {views} cameras, or weights trained with volume=meanvar, "
        "which takes any number"
    )


def check_floating(path: Path, weights: Mapping[str, Tensor]) -> None:
    """MvdiffError when a file holds other numbers than floating-point ones."""
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            raise MvdiffError(
                f"'{path}': '{name}' holds {tensor.dtype} numbers, expected floating point: "
                "quantised weights cannot be loaded"
            )


def _first_fault(own: dict, weights: dict, clash: list[str], strict: list[str]) -> str:
    if clash:
        name = clash[0]
        return (
            f"'{name}' has shape {tuple(weights[name].shape)}, this model needs "
            f"{tuple(own[name].shape)}"
        )
    name = strict[0]
    return f"'{name}' is {'missing' if name in own else 'unknown to this model'}"
