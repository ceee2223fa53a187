"""A tiny rendered folder: random pixels, real cameras."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mvdiff.cameras.rigs import look_at, ring
from mvdiff.views.views import Views

VIEWS, SIZE, TRAIN, VAL = 4, 8, 6, 2


def write_object(folder: Path, seed: int, size: int = SIZE, inputs: int = VIEWS) -> None:
    """One object with `VIEWS` targets; input i stands at elevation seed + i degrees."""
    random = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 256, (VIEWS, 4, size, size), generator=random, dtype=torch.uint8)
    photos = torch.randint(0, 256, (inputs, 4, size, size), generator=random, dtype=torch.uint8)
    azimuths = [360 / VIEWS * i for i in range(inputs)]
    cameras = look_at(azimuths, [seed + float(i) for i in range(inputs)], size=size)
    Views(targets[:, :3], targets[:, 3:], ring(VIEWS, size=size)).save(folder / "target")
    Views(photos[:, :3], photos[:, 3:], cameras).save(folder / "input")


def write_index(root: Path, objects: list[dict], size: int = SIZE) -> None:
    content = {"version": 1, "size": size, "objects": objects}
    (root / "index.json").write_text(json.dumps(content))


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """Six training objects, of sources mesh and shape in turn, and two for validation."""
    objects = []
    for i in range(TRAIN + VAL):
        write_object(tmp_path / f"object{i}", seed=i)
        objects.append(
            {
                "name": f"object{i}",
                "split": "train" if i < TRAIN else "val",
                "source": "shape" if i % 2 else "mesh",
                "family": "thing",
            }
        )
    write_index(tmp_path, objects)
    return tmp_path
