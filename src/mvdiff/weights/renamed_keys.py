"""Names that our own parameters had in weight files of earlier versions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

#: pattern of a name in earlier files → its replacement
RENAMED: dict[str, str] = {
    r"^unet\.slots\.middle\.": "unet.slots.mid.",
    r"^unet\.slots\.(\d+)\.": r"unet.slots.up\1.",
    r"^(volume\.(?:.+\.)?)view\.": r"\1pose.",
}


def rename_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names of today; names that never changed stay."""
    return {_current_name(name): tensor for name, tensor in tensors.items()}


def _current_name(name: str) -> str:
    for pattern, replacement in RENAMED.items():
        name = re.sub(pattern, replacement, name)
    return name
