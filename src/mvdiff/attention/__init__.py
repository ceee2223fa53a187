"""Attention slot: what the views learn from space or from each other. One line a variant."""

from . import crossview, depthwise, epidiff, epipolar, epipolar_masked, joint, none, rowwise
from .base import ATTENTION, PLACES, PairwiseAttention, SlotSpec, ViewAttention, ViewContext
from .encodings import CameraEncoding, Tokens, pixel_tokens

__all__ = [
    "ATTENTION",
    "PLACES",
    "CameraEncoding",
    "PairwiseAttention",
    "SlotSpec",
    "Tokens",
    "ViewAttention",
    "ViewContext",
    "crossview",
    "depthwise",
    "epidiff",
    "epipolar",
    "epipolar_masked",
    "joint",
    "none",
    "pixel_tokens",
    "rowwise",
]
