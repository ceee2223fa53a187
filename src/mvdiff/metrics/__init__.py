"""Figures: of pictures, of meshes, and of how well views agree with each other."""

from .consistency import hull_iou
from .geometry import chamfer, volume_iou
from .images import psnr, ssim
from .lpips import Lpips

__all__ = ["Lpips", "chamfer", "hull_iou", "psnr", "ssim", "volume_iou"]
