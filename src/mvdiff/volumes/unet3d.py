"""The 3D U-Net that both the world volume and the frusta go through."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

GROUPS = 8  # of every GroupNorm in the published volume networks


class ConditionedConv3d(nn.Module):
    """x + time (+ pose) → GroupNorm → SiLU → 3×3×3 convolution, plain, strided or transposed."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        time_dim: int,
        pose_dim: int = 0,
        stride: int = 1,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.time = nn.Linear(time_dim, inputs)
        self.pose = nn.Linear(pose_dim, inputs) if pose_dim else None
        self.norm = nn.GroupNorm(GROUPS, inputs)
        self.conv: nn.Module
        if transposed:
            self.conv = nn.ConvTranspose3d(inputs, outputs, 3, stride, 1, output_padding=stride - 1)
        else:
            self.conv = nn.Conv3d(inputs, outputs, 3, stride, padding=1)

    def forward(self, x: Tensor, time: Tensor, pose: Tensor | None) -> Tensor:
        shift = self.time(time)
        if self.pose is not None:
            shift = shift + self.pose(pose)
        return self.conv(F.silu(self.norm(x + shift[:, :, None, None, None])))


class UNet3D(nn.Module):
    """Strided convolutions down, transposed ones up, skips by addition.

    inputs: channels in.
    dims: channels of the levels, finest first.
    time_dim, pose_dim: of the embeddings added in every block (pose_dim 0: none).
    stem_blocks: conditioned blocks at the finest level after the first convolution.
    level_blocks: blocks at each coarser level after its strided one.
    The published world volume has (1, 2), the published frusta (0, 1).
    Set `checkpointing` to compute blocks again in the backward pass, as in the 2D UNet.
    """

    checkpointing = False

    def __init__(
        self,
        inputs: int,
        dims: Sequence[int],
        time_dim: int,
        pose_dim: int = 0,
        stem_blocks: int = 1,
        level_blocks: int = 2,
    ) -> None:
        super().__init__()

        def block(i: int, o: int, stride: int = 1, transposed: bool = False) -> nn.Module:
            return ConditionedConv3d(i, o, time_dim, pose_dim, stride, transposed)

        self.stem = nn.Conv3d(inputs, dims[0], 3, padding=1)
        self.stem_blocks = nn.ModuleList(block(dims[0], dims[0]) for _ in range(stem_blocks))
        self.down = nn.ModuleList(
            nn.ModuleList([block(a, b, stride=2), *(block(b, b) for _ in range(level_blocks))])
            for a, b in pairwise(dims)
        )
        self.up = nn.ModuleList(
            block(b, a, stride=2, transposed=True) for a, b in reversed(list(pairwise(dims)))
        )

    def forward(
        self,
        x: Float[Tensor, "batch channel depth height width"],
        time: Float[Tensor, "batch time"],
        pose: Float[Tensor, "batch pose"] | None = None,
    ) -> list[Tensor]:
        """Decoded features of every level, finest first. Sides must halve at each level."""
        x = self.stem(x)
        for block in self.stem_blocks:
            x = self._call(block, x, time, pose)
        levels = [x]
        for level in self.down:
            for block in level:
                x = self._call(block, x, time, pose)
            levels.append(x)
        decoded = [x]
        for up, skip in zip(self.up, reversed(levels[:-1]), strict=True):
            x = skip + self._call(up, x, time, pose)
            decoded.append(x)
        return decoded[::-1]

    def _call(self, block: nn.Module, *arguments: Tensor | None) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *arguments, use_reentrant=False)
        return block(*arguments)
