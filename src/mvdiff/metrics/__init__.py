"""Figures: of pictures, of meshes, and of how well views agree with each other."""

from .corruptions import corrupt
from .diversity import diversity
from .geometry import chamfer, volume_iou
from .hull_iou import hull_iou
from .images import psnr, ssim
from .lpips import Lpips
from .photometric import photometric_error
from .self_consistency import self_consistency

__all__ = [
    "Lpips",
    "chamfer",
    "corrupt",
    "diversity",
    "hull_iou",
    "photometric_error",
    "psnr",
    "self_consistency",
    "ssim",
    "volume_iou",
]
