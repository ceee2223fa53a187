"""Whether a file's tensors fit a model, and the sentence for when they do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from ..errors import WeightsError

#: our prefixes of parts a user may swap → where a published file keeps them. A swapped part starts
#: untrained, the rest must fit.
SWAPPABLE: dict[str, tuple[str, ...]] = {
    "unet.slots.": (
        "model.diffusion_model.middle_conditions.",
        "model.diffusion_model.output_conditions.",
    ),
    "volume.": ("spatial_volume.",),
    "radiance.": (),
    "radiance_stem.": (),
    "pose.": (),
}

#: a name, its shape in the file, and the shape needed
Mismatch = tuple[str, tuple[int, ...], tuple[int, ...]]


def swappable(own: Iterable[str], given: Iterable[str]) -> tuple[str, ...]:
    """Prefixes of names that a model and its weights may differ in.

    The whole UNet is among them where only one side has one: half a UNet is no part.
    """

    def has_unet(names: Iterable[str]) -> bool:
        return any(name.startswith("unet.") for name in names)

    return (*SWAPPABLE,) if has_unet(own) == has_unet(given) else (*SWAPPABLE, "unet.")


def check_compatible(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    may_differ: tuple[str, ...],
    refusal: str,
    advice: str,
) -> None:
    """MvdiffError unless tensors under our names fit a model by name and shape.

    may_differ: prefixes of names that either side may lack.
    refusal, advice: how the sentence begins, and how it ends where nothing better is known.
    """
    own = model.state_dict()
    mismatches = [
        (name, tuple(tensors[name].shape), tuple(parameter.shape))
        for name, parameter in own.items()
        if name in tensors and tensors[name].shape != parameter.shape
    ]
    missing = [n for n in own if n not in tensors and not n.startswith(may_differ)]
    unknown = [n for n in tensors if n not in own and not n.startswith(may_differ)]
    if difference := describe_mismatch(mismatches, missing, unknown):
        reason = _explain_photo_mismatch(model, tensors, mismatches)
        reason = reason or explain_volume_mismatch(model, mismatches)
        raise WeightsError(f"{refusal}: {reason or f'{difference}; {advice}'}")


def describe_mismatch(
    mismatches: Sequence[Mismatch], missing: Sequence[str], unknown: Sequence[str]
) -> str | None:
    """The first thing that does not fit, in words, and how many more; None when all does."""
    total = len(mismatches) + len(missing) + len(unknown)
    if mismatches:
        name, shape, needed = mismatches[0]
        first = f"'{name}' has shape {shape}, this model needs {needed}"
    elif missing:
        first = f"'{missing[0]}' is missing"
    elif unknown:
        first = f"'{unknown[0]}' is unknown to this model"
    else:
        return None
    return first + (f" (and {total - 1} more differences)" if total > 1 else "")


def explain_volume_mismatch(model: nn.Module, mismatches: Sequence[Mismatch]) -> str | None:
    """What is wrong where the volume's first layer alone has another shape, as it has for
    another number of views or another way of joining them; None where it is something else.

    mismatches: under our names.
    """
    volume = getattr(model, "volume", None)
    if not _is_the_stem(mismatches):
        return None
    if not hasattr(volume, "views_of"):
        return None
    views = volume.views_of(mismatches[0][1][1])
    if views is None:
        return (
            f"they were trained with another volume than '{volume.name}': choose the one they were "
            f"trained with, or train with volume={volume.name}"
        )
    return (
        f"they are for {views} views, and volume '{volume.name}' is bound to that number; the rig "
        f"has {volume.views}: use a rig of {views} cameras, or weights trained with "
        "volume=meanvar, which takes any number"
    )


def _explain_photo_mismatch(
    model: nn.Module, tensors: Mapping[str, Tensor], mismatches: Sequence[Mismatch]
) -> str | None:
    """What is wrong where the volume's first layer has another shape since only the model or only
    the file lifts the input pictures; None where it is something else.

    tensors: the file's, under our names.
    """
    model_lifts, file_lifts = (
        any(name.startswith("volume.photo_encoder.") for name in names)
        for names in (model.state_dict(), tensors)
    )
    if model_lifts == file_lifts or not _is_the_stem(mismatches):
        return None
    if file_lifts:
        return (
            "they were trained with sizes.photo_features above 0, and this model has 0: give the "
            "number they were trained with"
        )
    return (
        "they were trained with sizes.photo_features=0, and this model has "
        f"{model.volume.photo_features}: set it to 0, or train with it"
    )


def _is_the_stem(mismatches: Sequence[Mismatch]) -> bool:
    return [name for name, *_ in mismatches] == ["volume.net.stem.weight"]


def check_floating(tensors: Mapping[str, Tensor], path: str | Path | None = None) -> None:
    """MvdiffError when there are other numbers than floating-point ones; it names the path."""
    where = f"'{path}': " if path else ""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise WeightsError(
                f"{where}'{name}' holds {tensor.dtype} numbers, expected floating point: quantised "
                "weights cannot be loaded"
            )
