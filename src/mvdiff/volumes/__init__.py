"""Volume slot: noisy views → world volume → each camera's frustum. One line a variant."""

from . import concat, meanvar, none
from .base import VOLUMES, VolumeInputs

__all__ = ["VOLUMES", "VolumeInputs", "concat", "meanvar", "none"]
