"""Procedural objects: colored, recognisable things drawn from a seed, one family a function."""

from __future__ import annotations

import zlib

import numpy as np
import trimesh

from ...errors import ConfigError
from ...registry import Registry
from .builder import ShapeBuilder

#: Family name → function that fills a `ShapeBuilder`. Fronts face +x, up is +z.
SHAPES = Registry("shape")


def make_shape(family: str | None, seed: int) -> trimesh.Trimesh:
    """One object, the same for the same family and seed; vertex colors, z up, not scaled.

    family: a name in `SHAPES`; None takes the one that belongs to the seed.
    seed: at least 0.
    Raises ConfigError for an unknown family or a negative seed.
    """
    if seed < 0:
        raise ConfigError(f"a shape's seed must be at least 0, got {seed}")
    family = family_of(seed) if family is None else family
    if family not in SHAPES:
        raise ConfigError(f"unknown shape '{family}'; choose from {', '.join(SHAPES)}")
    kit = ShapeBuilder(np.random.default_rng([zlib.crc32(family.encode()), seed]))
    SHAPES[family](kit)
    return kit.mesh()


def family_of(seed: int) -> str:
    """The family a seed belongs to: all families in turn."""
    names = list(SHAPES)
    return names[seed % len(names)]
