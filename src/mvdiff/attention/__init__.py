"""Attention slot: what the views learn from space or from each other. One line a variant."""

from . import crossview, depthwise, epidiff, epipolar, epipolar_masked, joint, none, rowwise
from .base import ATTENTION, PLACES, SlotSpec, ViewAttention, ViewContext

__all__ = [
    "ATTENTION",
    "PLACES",
    "SlotSpec",
    "ViewAttention",
    "ViewContext",
    "crossview",
    "depthwise",
    "epidiff",
    "epipolar",
    "epipolar_masked",
    "joint",
    "none",
    "rowwise",
]
