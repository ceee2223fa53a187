"""Imports between the packages point one way: down the list, never up, never in a cycle."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]

#: Rooms from the top down. A room may import those below it, and no others.
ROOMS = (
    "__main__",
    "cli",
    "ablation",
    "api",
    "generation",
    "builders",
    "training",
    "weights",
    "pipeline",
    "visualization",
    "evaluation",
    "metrics",
    "recon",
    "denoiser",
    "radiance",
    "latents",
    "diffusion",
    "preprocessing",
    "attention",
    "volumes",
    "data",
    "mesh",
    "silhouettes",
    "rendering",
    "mesh_readers",
    "views",
    "cameras",
    "config",
    "registry",
    "utils",
    "errors",
)


@pytest.fixture(scope="module")
def house() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", ROOT / "tools" / "house.py")
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name
    import sys

    sys.modules["house"] = module
    spec.loader.exec_module(module)
    return module


def upward(house: ModuleType, source: Path) -> list[str]:
    floor = {room: -number for number, room in enumerate(ROOMS)}
    found = []
    for arrow in house.arrows(source):
        importer, imported = house.room_of(arrow.importer), house.room_of(arrow.imported)
        if importer == imported or "__init__" in (importer, imported):
            continue
        if floor[importer] <= floor[imported]:
            found.append(f"{arrow.importer} imports {arrow.imported} (line {arrow.line})")
    return found


def test_every_room_has_a_floor(house: ModuleType) -> None:
    rooms = {house.room_of(name) for name in house.module_files(ROOT / "src" / "mvdiff")}
    assert rooms - {"__init__", "conf"} == set(ROOMS)


def test_no_import_points_upward(house: ModuleType) -> None:
    assert upward(house, ROOT / "src" / "mvdiff") == []


def test_no_circle_between_rooms(house: ModuleType) -> None:
    assert house.circles(house.room_edges(ROOT / "src" / "mvdiff")) == []


def test_the_check_finds_upward_imports_and_circles(house: ModuleType, tmp_path: Path) -> None:
    """Also those inside functions, of packages, and of names that are modules."""
    for room, text in {
        "cameras": "from ..recon import hull\n",
        "recon": "def f():\n    from mvdiff.cameras.camera import Cameras\n",
    }.items():
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").touch()
        name = "camera" if room == "cameras" else "hull"
        (tmp_path / room / f"{name}.py").write_text(text)
    assert upward(house, tmp_path) == ["cameras.camera imports recon.hull (line 1)"]
    assert house.circles(house.room_edges(tmp_path)) == [["cameras", "recon"]]
