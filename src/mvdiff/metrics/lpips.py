"""LPIPS with VGG16 (Zhang et al., CVPR 2018, version 0.1), with weights the user brings.

Two trained parts are needed and neither ships with this package: the convolutions of an
ImageNet VGG16, and the five linear heads trained on human judgements.

The network is written out here, since the reference package `lpips` imports torchvision, whose
wheels on PyPI are built for CUDA: there is none that fits a CPU build of torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import WeightsError
from .checks import check_comparable

#: What a weights file must be; part of every error.
EXPECTED = (
    "expected the state dict of lpips.LPIPS(net='vgg'), saved by torch.save or as safetensors, or "
    "two files: torchvision's vgg16-397923af.pth and vgg.pth, the heads of the lpips package"
)

#: Convolutions of VGG16 up to relu5_3, by level: their numbers in torchvision's `features`, and
#: their channels (Simonyan & Zisserman, 2015, configuration D). A 2×2 pooling precedes all
#: levels but the first.
_LEVELS = (
    ((0, 2), (3, 64, 64)),
    ((5, 7), (64, 128, 128)),
    ((10, 12, 14), (128, 256, 256, 256)),
    ((17, 19, 21), (256, 512, 512, 512)),
    ((24, 26, 28), (512, 512, 512, 512)),
)
#: ImageNet's mean and standard deviation as LPIPS applies them to colors in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
#: Views compared at once; bounds the memory of the first level's features.
_CHUNK = 2


class Lpips(nn.Module):
    """Perceptual distance of pictures; 0 for equal ones, lower is better.

    state: tensors named as in the files of `EXPECTED`; others are ignored.
    Raises WeightsError naming the first tensor that is missing or of another shape.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        state = _canonical(state)
        self.convs = nn.ModuleList()
        for numbers, channels in _LEVELS:
            level = nn.ModuleList()
            for i, number in enumerate(numbers):
                conv = nn.Conv2d(channels[i], channels[i + 1], 3, padding=1)
                conv.weight = _taken(state, f"features.{number}.weight", conv.weight)
                conv.bias = _taken(state, f"features.{number}.bias", conv.bias)
                level.append(conv)
            self.convs.append(level)
        self.heads = nn.ParameterList(
            _taken(state, f"lin{i}.model.1.weight", torch.empty(1, channels[-1], 1, 1))
            for i, (_, channels) in enumerate(_LEVELS)
        )
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])
        self.eval().requires_grad_(False)

    @staticmethod
    def load(files: str | Path | Sequence[str | Path]) -> Lpips:
        """Read one file or several that complete each other (see `EXPECTED`).

        No code in the files is executed. Raises WeightsError when they are not what is expected.
        """
        state: dict[str, Tensor] = {}
        for file in [files] if isinstance(files, str | Path) else files:
            state |= _read(Path(file).expanduser())
        return Lpips(state)

    @torch.no_grad()
    def forward(
        self,
        pred: Float[Tensor, "view 3 height width"],
        truth: Float[Tensor, "view 3 height width"],
    ) -> Float[Tensor, "view"]:
        """The distance of every view, for colors in [0, 1].

        Raises WeightsError when shapes differ, on NaN, on colors outside [0, 1], and for
        pictures under 16 pixels a side, of which the last level has nothing.
        """
        check_comparable(pred, truth)
        if min(pred.shape[-2:]) < 16:
            raise WeightsError(
                f"LPIPS needs pictures of at least 16 pixels a side, got {tuple(pred.shape[-2:])}"
            )
        pairs = zip(pred.split(_CHUNK), truth.split(_CHUNK), strict=True)
        return torch.cat([self._distance(a, b) for a, b in pairs])

    def _distance(self, pred: Tensor, truth: Tensor) -> Tensor:
        x = (torch.cat([pred, truth]) * 2 - 1 - self.shift) / self.scale
        total = x.new_zeros(len(pred))
        for i, (level, head) in enumerate(zip(self.convs, self.heads, strict=True)):
            x = nn.functional.max_pool2d(x, 2) if i else x
            for conv in level:
                x = conv(x).relu()
            a, b = (x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)).chunk(2)
            total += ((a - b).square() * head).sum(dim=1).mean(dim=(-2, -1))
        return total


def _canonical(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """lpips names the convolutions `net.slice3.10.weight`; torchvision `features.10.weight`."""
    return {re.sub(r"^net\.slice\d+\.", "features.", key): value for key, value in state.items()}


def _taken(state: dict[str, Tensor], name: str, like: Tensor) -> nn.Parameter:
    value = state.get(name)
    if value is None:
        raise WeightsError(f"the LPIPS weights lack '{name}': {EXPECTED}")
    if value.shape != like.shape:
        raise WeightsError(
            f"the LPIPS weights' '{name}' has shape {tuple(value.shape)}, not "
            f"{tuple(like.shape)}: {EXPECTED}"
        )
    return nn.Parameter(value.float())


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"no LPIPS weights at '{path}': {EXPECTED}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises anything on files that are something else
        raise WeightsError(f"cannot read the LPIPS weights '{path}': {EXPECTED}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"'{path}' holds no state dict: {EXPECTED}")
    return state
