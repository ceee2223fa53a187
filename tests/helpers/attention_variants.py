"""Attention variants by name, and inputs for them, for the contract tests."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from helpers.tiny_recipe import randomize, toy_config
from mvdiff import builders
from mvdiff.attention import ATTENTION, SlotSpec, ViewAttention, ViewContext
from mvdiff.cameras import Cameras
from mvdiff.config.groups import groups
from mvdiff.config.instantiate import instantiate
from mvdiff.errors import MvdiffError

CHANNELS, FRUSTA, TIME = 8, {1: 8, 2: 16}, 6
#: the variant of a package outside this repository
THEIRS, PACKAGE = "view-mean", "view_mean"
HOME = Path(__file__).parents[2] / "examples" / "add_an_attention"
VARIANTS = sorted({*groups()["attention"], *ATTENTION, THEIRS})
ORTHOGRAPHIC = "rig.projection=orthographic"


def chosen(variant: str) -> list[str]:
    """The settings that choose a variant; one that has no YAML is chosen by its name alone."""
    if variant in groups()["attention"]:
        return [f"attention={variant}"]
    if variant == THEIRS:
        return [f"plugins=[{PACKAGE}]", f"attention={variant}"]
    return ["attention=none", f"attention.name={variant}"]


def make(
    variant: str, factor: int = 1, frusta: dict[int, int] = FRUSTA, **settings: object
) -> ViewAttention:
    slot = SlotSpec(CHANNELS, factor, frusta, TIME)
    config = {**toy_config(*chosen(variant)).attention, **settings}
    torch.manual_seed(0)
    return instantiate(ATTENTION, config, slot=slot)


def random_one(variant: str, **settings: object) -> ViewAttention:
    return randomize(make(variant, **settings)).eval()


@functools.cache
def remedy(variant: str) -> tuple[str, ...]:
    """The settings a variant asks for when it refuses the published cameras."""
    refusal = refused(variant, builders.build_rig(toy_config("rig.count=3")))
    return tuple(re.findall(r"rig\.\w+=[\w.-]*\w", refusal))


def refused(variant: str, cameras: Cameras) -> str:
    """Why a variant refuses these cameras; empty when it accepts them."""
    try:
        out = random_one(variant)(features(), scene_for(cameras=cameras))
    except MvdiffError as error:
        return str(error)
    assert torch.isfinite(out).all()
    return ""


def cameras_for(variant: str, views: int = 3, *settings: str) -> Cameras:
    return builders.build_rig(toy_config(f"rig.count={views}", *remedy(variant), *settings))


def scene_for(
    variant: str = "none",
    batch: int = 2,
    views: int = 3,
    height: int = 4,
    width: int = 4,
    seed: int = 0,
    frusta: dict[int, int] = FRUSTA,
    cameras: Cameras | None = None,
) -> ViewContext:
    """Random frusta for maps of height × width at factor 1."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    levels = {
        f: random(batch, views, c, max(1, 5 // f), height // f, width // f)
        for f, c in frusta.items()
    }
    if cameras is None:
        cameras = cameras_for(variant, views)
    cameras = cameras.resize(height, width)
    return ViewContext(cameras, levels, random(batch, TIME), torch.arange(views))


def features(batch: int = 2, views: int = 3, height: int = 4, width: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, views, CHANNELS, height, width, generator=generator)


def take(scene: ViewContext, views: list[int]) -> ViewContext:
    frusta = {f: x[:, views] for f, x in scene.frusta.items()}
    return ViewContext(scene.cameras[views], frusta, scene.time, scene.index[views])


def converted(scene: ViewContext, dtype: torch.dtype) -> ViewContext:
    """Frusta and time of another precision; cameras are float64 at most, float32 at least."""
    frusta = {f: x.to(dtype) for f, x in scene.frusta.items()}
    exact = dtype if dtype == torch.float64 else torch.float32
    return replace(scene, cameras=scene.cameras.to(exact), frusta=frusta, time=scene.time.to(dtype))


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def heard(out: Tensor, other: Tensor) -> list[bool]:
    """Which views of two outputs differ."""
    return ((out - other).abs().amax(dim=(0, 2, 3, 4)) > 1e-5).tolist()


def news(x: Tensor, view: int) -> Tensor:
    """The same features, changed in one view."""
    change = torch.randn(x.shape[2:], generator=torch.Generator().manual_seed(view))
    return x.index_add(1, torch.tensor([view]), change.expand(len(x), 1, *change.shape))
