"""Figures: of pictures, of meshes, and of how well views agree with each other."""

from .consistency import hull_iou
from .geometry import chamfer, volume_iou
from .images import psnr, ssim

__all__ = ["chamfer", "hull_iou", "psnr", "ssim", "volume_iou"]
