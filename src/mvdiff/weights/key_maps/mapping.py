"""What a key table is, and how a name is looked up in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class KeyMapping:
    """A published tensor, and what of it is ours.

    name: of the published tensor.
    part, parts: ours is number `part` of `parts` equal blocks of rows.
    transpose: the published matrix is ours transposed.
    """

    name: str
    part: int = 0
    parts: int = 1
    transpose: bool = False

    def shape(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the published tensor, but for trailing ones, for our parameter's shape."""
        if self.transpose:
            return own[::-1]
        return (own[0] * self.parts, *own[1:])

    def fits(self, tensor: Tensor, own: tuple[int, ...]) -> bool:
        """Whether the published tensor holds a parameter of our shape."""
        return _squeeze_trailing(tuple(tensor.shape)) == _squeeze_trailing(self.shape(own))

    def convert(self, tensor: Tensor, own: tuple[int, ...]) -> Tensor:
        """Our parameter, of shape `own`; a view of the published tensor where possible."""
        if self.transpose:
            return tensor.T.contiguous()
        return tensor.chunk(self.parts)[self.part].reshape(own)


#: our module or parameter → the published one. The longest entry that begins a name, at a dot,
#: gives its published beginning; the rest of the name stays.
KeyTable = Mapping[str, str | KeyMapping]


def mapping_for(name: str, table: KeyTable) -> KeyMapping:
    """Where a parameter of ours lies in the published file; KeyError if the table has no entry.

    Example:
        >>> mapping_for("stem.weight", {"stem": "input_blocks.0.0"}).name
        'input_blocks.0.0.weight'
    """
    head = name
    while head not in table:
        head, dot, _ = head.rpartition(".")
        if not dot:
            raise KeyError(name)
    target, tail = table[head], name[len(head) :]
    if isinstance(target, KeyMapping):
        return replace(target, name=target.name + tail)
    return KeyMapping(target + tail)


def with_prefixes(ours: str, theirs: str, table: KeyTable) -> dict[str, str | KeyMapping]:
    """The table of a part, with the prefixes that the part has in the two whole models."""
    return {
        ours + name: replace(target, name=theirs + target.name)
        if isinstance(target, KeyMapping)
        else theirs + target
        for name, target in table.items()
    }


def _squeeze_trailing(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without the trailing ones of 1×1 convolutions, which we keep as Linear layers."""
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
