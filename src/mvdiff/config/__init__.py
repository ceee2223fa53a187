"""Configs: composition by Hydra, ranges of numbers, and variants made from their entries."""

from .compose import compose

__all__ = ["compose"]
