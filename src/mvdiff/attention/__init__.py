"""Attention slot: what the views learn from space or from each other. One line a variant."""

from . import depthwise, none
from .base import ATTENTION, Scene, SlotSpec, ViewAttention

__all__ = ["ATTENTION", "Scene", "SlotSpec", "ViewAttention", "depthwise", "none"]
