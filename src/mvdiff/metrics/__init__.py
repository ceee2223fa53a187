"""Figures: of pictures, of meshes, and of how well views agree with each other."""

from .controls import corrupted
from .diversity import diversity
from .geometry import chamfer, volume_iou
from .halves import self_consistency
from .images import psnr, ssim
from .lpips import Lpips
from .photometric import photometric_error
from .silhouettes import hull_iou

__all__ = [
    "Lpips",
    "chamfer",
    "corrupted",
    "diversity",
    "hull_iou",
    "photometric_error",
    "psnr",
    "self_consistency",
    "ssim",
    "volume_iou",
]
