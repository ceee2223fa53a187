"""A published file's tensors beside a model's parameters: what fits, what is missing, what else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from .compatibility import Mismatch, check_floating, describe_mismatch
from .key_maps import KeyMapping


@dataclass(frozen=True)
class KeyMatch:
    """How the parameters of a model are found in a published file.

    mappings: our name → the published tensor that fits it.
    missing: published names that the model needs and the file lacks.
    mismatched: (published name, shape in the file, shape needed).
    own_mismatched: the same under our names, with our shapes.
    unused: names of the file that no parameter asks for.
    """

    mappings: dict[str, KeyMapping]
    missing: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    own_mismatched: tuple[Mismatch, ...]
    unused: tuple[str, ...]

    def fault(self, unexpected: Collection[str] = ()) -> str | None:
        """The first thing that does not fit, in words; None when all does."""
        return describe_mismatch(self.mismatched, self.missing, tuple(unexpected))


def match_keys(
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    mapping_for: Callable[[str], KeyMapping],
    given: Collection[str] = (),
) -> KeyMatch:
    """Compare a model's parameters with a published file, by name and shape.

    own: the model's parameters, under our names; they may be on the meta device.
    mapping_for: our name → where the tensor lies; its errors pass through.
    given: our names whose weights come from elsewhere.
    """
    used, mappings, missing, mismatched, own_mismatched = set(), {}, [], [], []
    for name, parameter in own.items():
        mapping, shape = mapping_for(name), tuple(parameter.shape)
        used.add(mapping.name)
        if name in given:
            continue
        if mapping.name not in tensors:
            missing.append(mapping.name)
        elif not mapping.fits(tensors[mapping.name], shape):
            file_shape = tuple(tensors[mapping.name].shape)
            mismatched.append((mapping.name, file_shape, mapping.shape(shape)))
            own_mismatched.append((name, file_shape, shape))
        else:
            mappings[name] = mapping
    return KeyMatch(
        mappings,
        unique(missing),
        unique(mismatched),
        tuple(own_mismatched),
        tuple(name for name in tensors if name not in used),
    )


def convert_matched(
    match: KeyMatch, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The matched tensors under our names and in our shapes, in the file's type.

    Raises WeightsError for quantized tensors.
    """
    check_floating({mapping.name: tensors[mapping.name] for mapping in match.mappings.values()})
    return {
        name: mapping.convert(tensors[mapping.name], tuple(own[name].shape))
        for name, mapping in match.mappings.items()
    }


def unique(items: Iterable) -> tuple:
    """The items without repetitions, in the order of their first appearance."""
    return tuple(dict.fromkeys(items))
