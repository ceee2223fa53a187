"""Volume component: noisy views → world volume → each camera's frustum. One line per variant."""

from . import concat, meanvar, none
from .base import VOLUMES, Volume, VolumeInputs
from .unprojected import UnprojectedVolume
from .unprojection import lift, seen

__all__ = [
    "VOLUMES",
    "UnprojectedVolume",
    "Volume",
    "VolumeInputs",
    "concat",
    "lift",
    "meanvar",
    "none",
    "seen",
]
