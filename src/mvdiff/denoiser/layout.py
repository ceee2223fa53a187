"""How weights lie in memory."""

from __future__ import annotations

import torch
from torch import nn


def channels_last(*parts: nn.Module | None) -> None:
    """Lay the weights of 2D and 3D convolutions out with channels last, in place.

    The convolutions' results follow. Faster in half precision (benchmarks/NOTES.md); the numbers
    are the same but for the order of sums.
    """
    for module in (m for part in parts if part is not None for m in part.modules()):
        if isinstance(module, nn.Conv2d):
            last = torch.channels_last
        elif isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            last = torch.channels_last_3d
        else:
            continue
        module.weight.data = module.weight.data.to(memory_format=last)
