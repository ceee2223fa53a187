"""Procedural objects: colored, recognizable things drawn from a seed, one function per family.

Importing a family's file registers it.
"""

from . import crafts, creatures, furniture, nature, places, tableware, toys, vehicles
from .shapes import SHAPES, family_of, make_shape

__all__ = [
    "SHAPES",
    "crafts",
    "creatures",
    "family_of",
    "furniture",
    "make_shape",
    "nature",
    "places",
    "tableware",
    "toys",
    "vehicles",
]
