"""Attention slot: what the views learn from space or from each other. One line a variant."""

from . import crossview, depthwise, epipolar, epipolar_masked, none, rowwise
from .base import ATTENTION, Scene, SlotSpec, ViewAttention

__all__ = [
    "ATTENTION",
    "Scene",
    "SlotSpec",
    "ViewAttention",
    "crossview",
    "depthwise",
    "epipolar",
    "epipolar_masked",
    "none",
    "rowwise",
]
