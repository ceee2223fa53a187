"""What real photos suffer on their way in: careless cut-outs, blur, JPEG."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ImageDegradation:
    """How one photo is spoilt.

    edge: in [-1, 1]; the cut-out is wider (> 0, up to a pixel of the old background shows) or
        narrower (< 0) than the object.
    background: the old background's color, in [0, 1].
    blur: standard deviation, pixels. quality: of JPEG, 1 to 95.
    """

    edge: float
    background: tuple[float, float, float]
    blur: float
    quality: int

    def __call__(self, photo: Float[Tensor, "4 height width"]) -> Float[Tensor, "4 height width"]:
        """The photo (colors on white, alpha) after all of it, in that form."""
        photo = self._cut_out(photo)
        if self.blur > 0.1:  # below, the kernel is a single pixel
            photo = _blurred(photo, self.blur)
        color = _jpeg(photo[:3], self.quality)
        return torch.cat([color, photo[3:]])

    def _cut_out(self, photo: Tensor) -> Tensor:
        color, alpha = photo[:3], photo[3:]
        if self.edge >= 0:
            wide = F.max_pool2d(alpha, 3, stride=1, padding=1)
            more = self.edge * (wide - alpha)
            behind = torch.tensor(self.background, device=photo.device).view(3, 1, 1)
            return torch.cat([color + more * (behind - 1), alpha + more])
        narrow = -F.max_pool2d(-alpha, 3, stride=1, padding=1)
        left = alpha + self.edge * (alpha - narrow)
        share = left / alpha.clamp(min=1e-3)
        return torch.cat([1 + (color - 1) * share, left])


def sample_degradation(
    u: Float[np.ndarray, "7"], edge: float, blur: float, jpeg: int
) -> ImageDegradation:
    """From numbers in [0, 1) and the largest edge and blur and the lowest quality."""
    return ImageDegradation(
        edge=(2 * float(u[0]) - 1) * edge,
        background=(float(u[1]), float(u[2]), float(u[3])),
        blur=float(u[4]) * blur,
        quality=round(jpeg + float(u[5]) * (95 - jpeg)),
    )


def _blurred(photo: Tensor, sigma: float) -> Tensor:
    reach = max(1, round(2.5 * sigma))
    x = torch.arange(-reach, reach + 1, device=photo.device, dtype=photo.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(4, 1, -1)
    padded = F.pad(photo[None], [reach] * 4, mode="replicate")
    across = F.conv2d(padded, kernel[:, :, None], groups=4)
    return F.conv2d(across, kernel[:, :, :, None], groups=4)[0]


def _jpeg(color: Tensor, quality: int) -> Tensor:
    from PIL import Image

    picture = (color.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    packed = io.BytesIO()
    # full color resolution: photos are scaled down after their JPEG, which hides coarse chroma
    Image.fromarray(picture).save(packed, "JPEG", quality=quality, subsampling=0)
    again = np.asarray(Image.open(packed).convert("RGB"))
    return torch.from_numpy(again.copy()).permute(2, 0, 1).to(color) / 255
