"""Random cameras: any rotation, position, lens and image size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mvdiff.cameras import Cameras


def _random_cameras(seed: int, projection: str = "perspective", count: int = 3) -> Cameras:
    g = torch.Generator().manual_seed(seed)
    R, _ = torch.linalg.qr(torch.randn(count, 3, 3, generator=g, dtype=torch.float64))
    R = R * torch.linalg.det(R).sign()[:, None, None]
    t = torch.randn(count, 3, 1, generator=g, dtype=torch.float64)
    height, width = torch.randint(2, 40, (2,), generator=g).tolist()
    K = torch.zeros(count, 3, 3, dtype=torch.float64)
    K[:, 0, 0] = width * (0.5 + torch.rand(count, generator=g, dtype=torch.float64))
    K[:, 1, 1] = height * (0.5 + torch.rand(count, generator=g, dtype=torch.float64))
    K[:, :2, 2] = torch.tensor([width, height]) * torch.rand(count, 2, generator=g).double()
    K[:, 2, 2] = 1
    return Cameras(K, torch.cat([R, t], dim=2), height, width, projection)


@pytest.fixture(scope="session")
def random_cameras() -> Callable[..., Cameras]:
    """`random_cameras(seed, projection, count)`: float64 cameras."""
    return _random_cameras
