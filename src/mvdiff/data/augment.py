"""Changing training objects without breaking the geometry between their views.

Every change belongs to an object, not to a picture: the photo and all targets get the same
one, so that they still show one thing. Randomness comes in as numbers drawn per object
(`Augment.draw`), so that a batch is a pure function of its seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..errors import MvdiffError
from .degradation import ImageDegradation, sample_degradation

_GREY = torch.tensor([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Draw:
    """One object's random numbers.

    roll: index of the target view that becomes view 0.
    mirror: whether the object is seen in a mirror.
    matrix: colour mixing, applied to straight RGB.
    gamma: exponent applied after the mixing.
    scale, shift: the photo's size factor and offset (fractions of its side; right, down).
    more: target views (after rolling) whose azimuths further input pictures share.
    spoil: what happens to the photo besides; None: nothing.
    """

    roll: int
    mirror: bool
    matrix: Float[np.ndarray, "3 3"]
    gamma: float
    scale: float
    shift: tuple[float, float]
    more: tuple[int, ...] = ()
    spoil: ImageDegradation | None = None

    @property
    def turns_only(self) -> bool:
        """Whether the pictures stay as they are, in another order at most."""
        still = self.gamma == self.scale == 1 and self.shift == (0.0, 0.0) and not self.mirror
        return bool(still and self.spoil is None and (self.matrix == np.eye(3)).all())


@dataclass(frozen=True)
class Augment:
    """How strongly training objects are changed; `Augment.none()` changes nothing.

    roll: turn the object by a random multiple of the ring's step (SyncDreamer's azimuth
        augmentation, arXiv 2309.03453, released training code's data set).
    mirror: probability in [0, 1] of a left-right mirrored object.
    colour: probability in [0, 1] that an object's colours change.
    hue: largest turn about the grey axis, degrees; saturation, gain, gamma: largest factor
        ≥ 1 (and its inverse); permute: probability of reordering red, green and blue.
    shift, scale: largest offset (fraction of the side) and relative size change of the photo.
    spoil: probability in [0, 1] that a photo is spoilt, see `spoil.Spoil`: by an edge in
        [-edge, edge], a blur up to `blur` pixels and JPEG from quality `jpeg`.
    """

    roll: bool = True
    mirror: float = 0.5
    colour: float = 0.8
    hue: float = 20.0
    saturation: float = 1.35
    gain: float = 1.2
    gamma: float = 1.25
    permute: float = 0.5
    shift: float = 0.02
    scale: float = 0.04
    spoil: float = 0.0
    edge: float = 1.0
    blur: float = 0.8
    jpeg: int = 40

    def __post_init__(self) -> None:
        for name in ("mirror", "colour", "permute", "spoil", "edge"):
            if not 0 <= getattr(self, name) <= 1:
                raise MvdiffError(f"augmentation: {name} lies in [0, 1], got {getattr(self, name)}")
        if not 1 <= self.jpeg <= 95 or self.blur < 0:
            raise MvdiffError(
                "augmentation: jpeg is a lowest quality from 1 to 95 and blur a standard deviation "
                f"from 0 pixels; got {self.jpeg} and {self.blur}"
            )
        for name in ("saturation", "gain", "gamma"):
            if not getattr(self, name) >= 1:
                raise MvdiffError(
                    f"augmentation: {name} is a largest factor, at least 1 (1 is off); "
                    f"got {getattr(self, name)}"
                )

    @staticmethod
    def none() -> Augment:
        """No change at all, for validation."""
        return Augment(roll=False, mirror=0.0, colour=0.0, shift=0.0, scale=0.0)

    @property
    def turns_only(self) -> bool:
        """Whether pictures stay as they are, so that they can be encoded beforehand."""
        return not (self.mirror or self.colour or self.shift or self.scale or self.spoil)

    def draw(self, random: np.random.Generator, views: int) -> Draw:
        """The numbers of one object with `views` target views.

        Always takes the same count of numbers from `random`, so that switching one change
        off leaves the others as they were.
        """
        u = random.random(14)
        more = random.random(8)
        recolour = u[2] < self.colour
        return Draw(
            roll=int(u[0] * views) if self.roll else 0,
            mirror=bool(u[1] < self.mirror),
            matrix=self._matrix(u[3:9]) if recolour else np.eye(3),
            gamma=_factor(u[9], self.gamma) if recolour else 1.0,
            scale=1 + (2 * u[10] - 1) * self.scale,
            shift=((2 * u[11] - 1) * self.shift, (2 * u[12] - 1) * self.shift),
            spoil=sample_degradation(more[1:], self.edge, self.blur, self.jpeg)
            if more[0] < self.spoil
            else None,
        )

    def _matrix(self, u: Float[np.ndarray, "6"]) -> Float[np.ndarray, "3 3"]:
        """gain · saturation · hue · permutation."""
        order = list(range(3))
        if u[0] < self.permute:
            order = [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][int(u[1] * 5)]
        permutation = np.eye(3)[order]
        angle = math.radians((2 * u[2] - 1) * self.hue)
        hue = _rotation_about_grey(angle)
        saturation = _factor(u[3], self.saturation)
        grey = np.tile(_GREY.numpy().astype(np.float64), (3, 1))
        mix = saturation * np.eye(3) + (1 - saturation) * grey
        return _factor(u[4], self.gain) * mix @ hue @ permutation


def _factor(u: float, largest: float) -> float:
    """u in [0, 1] to a factor in [1 / largest, largest], even in its logarithm."""
    return float(largest ** (2 * u - 1))


def _rotation_about_grey(angle: float) -> Float[np.ndarray, "3 3"]:
    """Rodrigues' formula about (1, 1, 1): greys stay, hues turn."""
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def view_order(views: int, roll: int, mirror: bool) -> list[int]:
    """Which rendered target stands at each place after rolling and mirroring.

    Rolled by s, view j shows what was at azimuth s + j. A mirror in the vertical plane
    through azimuth s maps azimuth s + j to s - j; its pictures must also be flipped. Holds for
    an even, closed ring of cameras with a centred principal point, whose photos share their
    target's azimuth, at any elevation.
    """
    return [(roll + (-j if mirror else j)) % views for j in range(views)]


def apply(
    targets: UInt8[Tensor, "batch view 4 height width"],
    photos: UInt8[Tensor, "batch 4 height width"],
    draws: list[Draw],
) -> tuple[Float[Tensor, "batch view 4 height width"], Float[Tensor, "batch 4 height width"]]:
    """Recolour and composite on white; the photo is then moved a little.

    targets, photos: straight RGBA bytes, already flipped and in the order of `view_order`.
    Returns colours on white and alpha, all in [0, 1], on the tensors' device.
    """
    views = torch.empty(targets.shape, device=targets.device)
    photo = torch.empty(photos.shape, device=photos.device)
    # One object at a time stays in a CPU's cache; a GPU prefers few large calls.
    size = 1 if targets.device.type == "cpu" else len(draws)
    for start in range(0, len(draws), size):
        part = slice(start, start + size)
        change = _Recolour(draws[part], targets.device)
        views[part] = change(targets[part])
        photo[part] = change(photos[part, None])[:, 0]
    return views, _spoilt(_move(photo, draws), draws)


def apply_photo(
    photos: UInt8[Tensor, "batch 4 height width"], draws: list[Draw]
) -> Float[Tensor, "batch 4 height width"]:
    """What `apply` makes of photos, without targets."""
    return _spoilt(_move(_Recolour(draws, photos.device)(photos[:, None])[:, 0], draws), draws)


def _spoilt(photo: Tensor, draws: list[Draw]) -> Tensor:
    rows = zip(photo, draws, strict=True)
    return torch.stack([p if d.spoil is None else d.spoil(p) for p, d in rows])


def white(
    pictures: UInt8[Tensor, "picture 4 height width"],
) -> Float[Tensor, "picture 4 height width"]:
    """Straight RGBA bytes → colours on white and alpha, in [0, 1]; what `apply` makes unchanged."""
    planes = pictures.float().div_(255)
    planes[:, :3].sub_(1).mul_(planes[:, 3:]).add_(1)
    return planes


class _Recolour:
    """Bytes to colours on white, each object by its own matrix and exponent."""

    def __init__(self, draws: list[Draw], device: torch.device) -> None:
        matrix = np.stack([d.matrix for d in draws])
        gamma = np.array([d.gamma for d in draws])
        self.idle = bool((matrix == np.eye(3)).all() and (gamma == 1).all())
        self.matrix = torch.from_numpy(matrix).float().to(device)[:, None]
        self.gamma = torch.from_numpy(gamma).float().to(device).view(-1, 1, 1, 1, 1)

    def __call__(self, pictures: Tensor) -> Tensor:
        pictures = pictures.float().div_(255)
        colour, alpha = pictures[:, :, :3], pictures[:, :, 3:]
        if not self.idle:
            mixed = self.matrix @ colour.flatten(3)
            colour.copy_(mixed.clamp_(0, 1).unflatten(3, colour.shape[-2:]).pow_(self.gamma))
        # White stays white: colours change before the background comes in.
        colour.sub_(1).mul_(alpha).add_(1)
        return pictures


def _move(photo: Tensor, draws: list[Draw]) -> Tensor:
    """Scale and shift pictures that stand on white; what comes in at the border is white."""
    if all(d.scale == 1 and d.shift == (0.0, 0.0) for d in draws):
        return photo.contiguous()
    # grid_sample reads where each output pixel comes from, so the inverse map goes in;
    # its coordinates run over [-1, 1], hence the factor 2 on fractions of the side.
    rows = [
        [[1 / d.scale, 0, -2 * d.shift[0] / d.scale], [0, 1 / d.scale, -2 * d.shift[1] / d.scale]]
        for d in draws
    ]
    theta = torch.tensor(rows, dtype=photo.dtype).to(photo.device)
    grid = torch.nn.functional.affine_grid(theta, list(photo.shape), align_corners=False)
    background = photo.new_tensor([1.0, 1.0, 1.0, 0.0]).view(1, 4, 1, 1)
    moved = torch.nn.functional.grid_sample(photo - background, grid, align_corners=False)
    return (moved + background).clamp_(0, 1)
