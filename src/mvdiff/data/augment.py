"""Augmentation of training objects that keeps the geometry between their views.

A change applies to an object, not to an image: the input and all targets get the same one, so
that they still show the same object. Random parameters are drawn per object
(`Augment.sample_params`), so that a batch is a pure function of its seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..errors import ConfigError
from .degradation import ImageDegradation, sample_degradation

_GRAY = torch.tensor([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class AugmentParams:
    """Random parameters of one object's augmentation.

    roll: index of the target view that becomes view 0.
    mirror: whether the object is mirrored.
    matrix: color mixing, applied to straight RGB.
    gamma: exponent applied after the mixing.
    scale, shift: of the input image, its size factor and offset (fractions of its side; right,
        down).
    extra_views: target views (after rolling) that give the azimuths of extra input images.
    degradation: of the input image; None: none.
    """

    roll: int
    mirror: bool
    matrix: Float[np.ndarray, "3 3"]
    gamma: float
    scale: float
    shift: tuple[float, float]
    extra_views: tuple[int, ...] = ()
    degradation: ImageDegradation | None = None

    @property
    def rotation_only(self) -> bool:
        """Whether only the order of the views changes."""
        still = self.gamma == self.scale == 1 and self.shift == (0.0, 0.0) and not self.mirror
        return bool(still and self.degradation is None and (self.matrix == np.eye(3)).all())


@dataclass(frozen=True)
class Augment:
    """Strength of the augmentation; `Augment.none()` changes nothing.

    roll: turn the object by a random multiple of the ring's step (SyncDreamer's azimuth
        augmentation, arXiv 2309.03453, released training code's data set).
    mirror: probability in [0, 1] of a left-right mirrored object.
    color_prob: probability in [0, 1] of a color change of an object.
    hue: largest rotation about the gray axis, degrees; saturation, gain, gamma: largest factor
        ≥ 1 (and its inverse); channel_shuffle_prob: probability of permuting red, green and blue.
    shift, scale: largest offset (fraction of the side) and relative size change of the input.
    degrade_prob: probability in [0, 1] of degrading the input image, see
        `degradation.ImageDegradation`: a mask offset in [-mask_jitter, mask_jitter], a blur of up
        to `blur_sigma` pixels, JPEG from quality `jpeg_quality`.
    """

    roll: bool = True
    mirror: float = 0.5
    color_prob: float = 0.8
    hue: float = 20.0
    saturation: float = 1.35
    gain: float = 1.2
    gamma: float = 1.25
    channel_shuffle_prob: float = 0.5
    shift: float = 0.02
    scale: float = 0.04
    degrade_prob: float = 0.0
    mask_jitter: float = 1.0
    blur_sigma: float = 0.8
    jpeg_quality: int = 40

    def __post_init__(self) -> None:
        for name in ("mirror", "color_prob", "channel_shuffle_prob", "degrade_prob", "mask_jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"augmentation: {name} must lie in [0, 1], got {getattr(self, name)}"
                )
        if not 1 <= self.jpeg_quality <= 95 or self.blur_sigma < 0:
            raise ConfigError(
                "augmentation: jpeg_quality must lie in [1, 95] and blur_sigma be at least 0; "
                f"got {self.jpeg_quality} and {self.blur_sigma}"
            )
        for name in ("saturation", "gain", "gamma"):
            if not getattr(self, name) >= 1:
                raise ConfigError(
                    f"augmentation: {name} is the largest factor and must be at least 1 (1: off); "
                    f"got {getattr(self, name)}"
                )

    @staticmethod
    def none() -> Augment:
        """No change, for validation."""
        return Augment(roll=False, mirror=0.0, color_prob=0.0, shift=0.0, scale=0.0)

    @property
    def rotation_only(self) -> bool:
        """Whether the images do not change, so that their latents can be cached."""
        return not (self.mirror or self.color_prob or self.shift or self.scale or self.degrade_prob)

    def sample_params(self, random: np.random.Generator, views: int) -> AugmentParams:
        """The numbers of one object with `views` target views.

        Always takes the same count of numbers from `random`, so that switching one change
        off leaves the others as they were.
        """
        u = random.random(14)
        extra = random.random(8)
        recolor = u[2] < self.color_prob
        return AugmentParams(
            roll=int(u[0] * views) if self.roll else 0,
            mirror=bool(u[1] < self.mirror),
            matrix=self._matrix(u[3:9]) if recolor else np.eye(3),
            gamma=_factor(u[9], self.gamma) if recolor else 1.0,
            scale=1 + (2 * u[10] - 1) * self.scale,
            shift=((2 * u[11] - 1) * self.shift, (2 * u[12] - 1) * self.shift),
            degradation=sample_degradation(
                extra[1:], self.mask_jitter, self.blur_sigma, self.jpeg_quality
            )
            if extra[0] < self.degrade_prob
            else None,
        )

    def _matrix(self, u: Float[np.ndarray, "6"]) -> Float[np.ndarray, "3 3"]:
        """gain · saturation · hue · permutation."""
        order = list(range(3))
        if u[0] < self.channel_shuffle_prob:
            order = [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][int(u[1] * 5)]
        permutation = np.eye(3)[order]
        angle = math.radians((2 * u[2] - 1) * self.hue)
        hue = _rotation_about_gray(angle)
        saturation = _factor(u[3], self.saturation)
        gray = np.tile(_GRAY.numpy().astype(np.float64), (3, 1))
        mix = saturation * np.eye(3) + (1 - saturation) * gray
        return _factor(u[4], self.gain) * mix @ hue @ permutation


def _factor(u: float, largest: float) -> float:
    """u in [0, 1] to a factor in [1 / largest, largest], even in its logarithm."""
    return float(largest ** (2 * u - 1))


def _rotation_about_gray(angle: float) -> Float[np.ndarray, "3 3"]:
    """Rodrigues' formula about (1, 1, 1): grays stay, hues turn."""
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def permute_views(views: int, roll: int, mirror: bool) -> list[int]:
    """Indices of the rendered targets after rolling and mirroring.

    Rolled by s, view j shows what was at azimuth s + j. A mirror in the vertical plane
    through azimuth s maps azimuth s + j to s - j; its pictures must also be flipped. Holds for
    an even, closed ring of cameras with a centered principal point, whose photos share their
    target's azimuth, at any elevation.
    """
    return [(roll + (-j if mirror else j)) % views for j in range(views)]


def apply(
    targets: UInt8[Tensor, "batch view 4 height width"],
    photos: UInt8[Tensor, "batch 4 height width"],
    params: list[AugmentParams],
) -> tuple[Float[Tensor, "batch view 4 height width"], Float[Tensor, "batch 4 height width"]]:
    """Change colors and composite on white; the input image is then also shifted and scaled.

    targets, photos: straight RGBA bytes, already flipped and in the order of `permute_views`.
    Returns colors on white and alpha, all in [0, 1], on the tensors' device.
    """
    views = torch.empty(targets.shape, device=targets.device)
    photo = torch.empty(photos.shape, device=photos.device)
    # One object at a time stays in a CPU's cache; a GPU prefers few large calls.
    size = 1 if targets.device.type == "cpu" else len(params)
    for start in range(0, len(params), size):
        part = slice(start, start + size)
        change = _ColorChange(params[part], targets.device)
        views[part] = change(targets[part])
        photo[part] = change(photos[part, None])[:, 0]
    return views, _degrade(_jitter(photo, params), params)


def apply_photo(
    photos: UInt8[Tensor, "batch 4 height width"], params: list[AugmentParams]
) -> Float[Tensor, "batch 4 height width"]:
    """`apply` for input images alone."""
    return _degrade(
        _jitter(_ColorChange(params, photos.device)(photos[:, None])[:, 0], params), params
    )


def _degrade(photo: Tensor, params: list[AugmentParams]) -> Tensor:
    rows = zip(photo, params, strict=True)
    return torch.stack([p if d.degradation is None else d.degradation(p) for p, d in rows])


def composite_on_white(
    pictures: UInt8[Tensor, "picture 4 height width"],
) -> Float[Tensor, "picture 4 height width"]:
    """Straight RGBA bytes → colors on white and alpha, in [0, 1]: `apply` without a change."""
    planes = pictures.float().div_(255)
    planes[:, :3].sub_(1).mul_(planes[:, 3:]).add_(1)
    return planes


class _ColorChange:
    """Bytes → colors on white, with a matrix and an exponent per object."""

    def __init__(self, params: list[AugmentParams], device: torch.device) -> None:
        matrix = np.stack([d.matrix for d in params])
        gamma = np.array([d.gamma for d in params])
        self.idle = bool((matrix == np.eye(3)).all() and (gamma == 1).all())
        self.matrix = torch.from_numpy(matrix).float().to(device)[:, None]
        self.gamma = torch.from_numpy(gamma).float().to(device).view(-1, 1, 1, 1, 1)

    def __call__(self, pictures: Tensor) -> Tensor:
        pictures = pictures.float().div_(255)
        color, alpha = pictures[:, :, :3], pictures[:, :, 3:]
        if not self.idle:
            mixed = self.matrix @ color.flatten(3)
            color.copy_(mixed.clamp_(0, 1).unflatten(3, color.shape[-2:]).pow_(self.gamma))
        # White stays white: colors change before the background comes in.
        color.sub_(1).mul_(alpha).add_(1)
        return pictures


def _jitter(photo: Tensor, params: list[AugmentParams]) -> Tensor:
    """Scale and shift images on white; the border is filled with white."""
    if all(d.scale == 1 and d.shift == (0.0, 0.0) for d in params):
        return photo.contiguous()
    # grid_sample reads where each output pixel comes from, so the inverse map goes in;
    # its coordinates run over [-1, 1], hence the factor 2 on fractions of the side.
    rows = [
        [[1 / d.scale, 0, -2 * d.shift[0] / d.scale], [0, 1 / d.scale, -2 * d.shift[1] / d.scale]]
        for d in params
    ]
    theta = torch.tensor(rows, dtype=photo.dtype).to(photo.device)
    grid = torch.nn.functional.affine_grid(theta, list(photo.shape), align_corners=False)
    background = photo.new_tensor([1.0, 1.0, 1.0, 0.0]).view(1, 4, 1, 1)
    moved = torch.nn.functional.grid_sample(photo - background, grid, align_corners=False)
    return (moved + background).clamp_(0, 1)
