"""`Views`: pictures of one object with their cameras; the noun every room exchanges."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ..cameras.camera import Cameras, as_view_index, check_dense, same_tensor
from ..cameras.formats import write_transforms
from ..errors import InputError
from ..utils.files import atomic
from ..utils.images import open_image

#: Alpha from here on is opaque: lossy pictures and rounding miss 255 by a little.
OPAQUE = 250


@dataclass(frozen=True, eq=False)
class Views:
    """Images of one object and the cameras that took them.

    images: colors, 8 bit, not multiplied by alpha.
    alpha: opacity, 8 bit; None when the pictures have none (then they stand on white).
    cameras: one camera an image, of the images' size.
    origin: world point (x, y, z) where the cameras' coordinates have their origin. It is not zero
        where a file places the scene so far away that float32 would round it (map coordinates):
        world = cameras' coordinates + origin.
    `==` compares all numbers and gives a bool; views are hashed by count and size.

    Example:
        >>> import torch
        >>> from mvdiff import Views, ring
        >>> gray = torch.full((4, 3, 32, 32), 128, dtype=torch.uint8)
        >>> opaque = torch.full((4, 1, 32, 32), 255, dtype=torch.uint8)
        >>> views = Views(gray, opaque, ring(4, elevation=30, size=32))
        >>> len(views), views.rgb.shape, views.mask.shape  # floats in [0, 1]
        (4, torch.Size([4, 3, 32, 32]), torch.Size([4, 1, 32, 32]))
        >>> views[[0, 2]].cameras.w2c.shape
        torch.Size([2, 3, 4])
    """

    images: UInt8[Tensor, "view 3 height width"]
    alpha: UInt8[Tensor, "view 1 height width"] | None
    cameras: Cameras
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        check_dense("views' images", self.images)
        if self.alpha is not None:
            check_dense("views' alpha", self.alpha)
        if not isinstance(self.cameras, Cameras):
            raise InputError(f"views need Cameras, got {type(self.cameras).__name__}")
        if self.images.ndim != 4 or self.images.shape[1] != 3:
            raise InputError(
                "views need images of shape (view, 3, height, width), got "
                f"{tuple(self.images.shape)}"
            )
        if self.images.dtype != torch.uint8:
            raise InputError(
                f"views hold 8-bit images, got {self.images.dtype}: make them by Views.from_white, "
                "which also finds NaN"
            )
        n, height, width = self.images.shape[0], *self.images.shape[-2:]
        if len(self.cameras) != n or (self.cameras.height, self.cameras.width) != (height, width):
            raise InputError(
                f"{n} images of {width}×{height} need as many cameras of that size; got "
                f"{len(self.cameras)} of {self.cameras.width}×{self.cameras.height}"
            )
        if self.alpha is None:
            return
        if self.alpha.shape != (n, 1, height, width) or self.alpha.dtype != torch.uint8:
            raise InputError(
                f"alpha must be 8-bit of shape {(n, 1, height, width)}, got {self.alpha.dtype} of "
                f"{tuple(self.alpha.shape)}"
            )

    def __len__(self) -> int:
        return self.images.shape[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Views):
            return NotImplemented
        if (self.alpha is None) != (other.alpha is None) or self.origin != other.origin:
            return False
        return (
            same_tensor(self.images, other.images)
            and (self.alpha is None or same_tensor(self.alpha, other.alpha))
            and self.cameras == other.cameras
        )

    def __hash__(self) -> int:
        return hash((tuple(self.images.shape), self.cameras))

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Views:
        """The chosen views, always as a set. Raises InputError for what are no numbers."""
        chosen = as_view_index(index)
        alpha = None if self.alpha is None else self.alpha[chosen]
        return Views(self.images[chosen], alpha, self.cameras[chosen], self.origin)

    @staticmethod
    def from_white(
        images: Float[Tensor, "view 3 height width"],
        alpha: Float[Tensor, "view 1 height width"] | None,
        cameras: Cameras,
    ) -> Views:
        """From colors in [0, 1] composited on white (what models make), and alpha in [0, 1]."""
        images = images.detach().float().cpu()
        alpha = None if alpha is None else alpha.detach().float().cpu()
        for what, numbers in (("images", images), ("alpha", alpha)):
            if numbers is not None and not torch.isfinite(numbers).all():
                raise InputError(
                    f"the {what} hold NaN or infinite numbers: the model diverged, or the input "
                    "is broken"
                )
        images = images.clamp(0, 1)
        if alpha is None:
            return Views(_to_bytes(images), None, cameras.to("cpu"))
        alpha = alpha.clamp(0, 1)
        straight = 1 - (1 - images) / alpha.clamp(min=1 / 255)
        return Views(_to_bytes(straight), _to_bytes(alpha), cameras.to("cpu"))

    @property
    def rgb(self) -> Float[Tensor, "view 3 height width"]:
        """Colors in [0, 1] composited on white."""
        images = self.images.float() / 255
        return images if self.alpha is None else images * self.mask + (1 - self.mask)

    @property
    def mask(self) -> Float[Tensor, "view 1 height width"]:
        """Opacity in [0, 1]; without alpha, how far a pixel is from white (keyed softly)."""
        if self.alpha is not None:
            return self.alpha.float() / 255
        distance = (1 - self.images.float() / 255).amax(dim=1, keepdim=True)
        return (distance / 0.05).clamp(0, 1)

    def resize(self, size: int) -> Views:
        """The same views at another square size, area-averaged down, bilinear up."""
        rgba = torch.cat([self.rgb, self.mask], dim=1)
        down = size < self.images.shape[-1]
        kind = {"mode": "area"} if down else {"mode": "bilinear", "align_corners": False}
        rgba = torch.nn.functional.interpolate(rgba, size=(size, size), **kind)
        alpha = None if self.alpha is None else rgba[:, 3:]
        small = Views.from_white(rgba[:, :3], alpha, self.cameras.resize(size))
        return replace(small, origin=self.origin)

    def pil(self, index: int) -> Image.Image:
        """View `index` as an RGBA picture (RGB without alpha)."""
        pixels = self.images[index]
        if self.alpha is not None:
            pixels = torch.cat([pixels, self.alpha[index]])
        return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))

    def strip(self) -> Image.Image:
        """All views side by side on white, the published output form."""
        row = (self.rgb * 255).round().byte().permute(2, 0, 3, 1).flatten(1, 2)
        return Image.fromarray(np.ascontiguousarray(row.numpy()))

    def save(
        self,
        folder: str | Path,
        subfolder: str = "",
        *,
        inputs: Cameras | None = None,
        input_names: Sequence[str] = (),
    ) -> Path:
        """Write `000.png…` (into `subfolder`, if given) and `transforms.json`; return its path.

        inputs, input_names: cameras and files of the images that the views were generated from,
            see `write_transforms`.
        `transforms.json` is written last, and one of earlier views is removed first: a folder that
        has it is complete.
        """
        if not isinstance(folder, str | Path):
            raise InputError(f"views are saved into a folder, got {type(folder).__name__}")
        folder = Path(folder)
        (folder / "transforms.json").unlink(missing_ok=True)
        names = [str(Path(subfolder) / f"{i:03d}.png") for i in range(len(self))]
        for i, name in enumerate(names):
            with atomic(folder / name) as part:
                self.pil(i).save(part)
        target = folder / "transforms.json"
        write_transforms(target, self.cameras, names, self.origin, inputs, input_names)
        return target

    @staticmethod
    def load(
        path: str | Path, rig: Cameras | None = None, *, images: str | Path | None = None
    ) -> Views:
        """Read views in any known form.

        path: a folder with `transforms.json` (or that file), with SyncDreamer's `meta.pkl` or
            with a COLMAP model; a folder of pictures or a picture with square views side by side.
        rig: cameras of pictures without any; default of a strip: SyncDreamer's ring.
        images: folder of the pictures, where they do not lie where the cameras' file says.
        Lenses are undistorted and masks applied (see `view_loading` and `view_masks`), with a
        warning. Raises InputError when nothing readable is there.
        """
        from .loading import load_views

        loaded = load_views(path, rig, images)
        for note in loaded.notes:
            warnings.warn(note, stacklevel=2)
        return loaded.views

    def map(self, change: Callable[[Tensor], Tensor]) -> Views:
        """Apply `change` to images and alpha alike (rolling or reordering pixels, say)."""
        alpha = None if self.alpha is None else change(self.alpha)
        return replace(self, images=change(self.images), alpha=alpha)


def _to_bytes(x: Tensor) -> Tensor:
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def load_images(paths: list[Path], cameras: Cameras) -> Views:
    """Pictures of one size with their cameras.

    Views have alpha where any picture is transparent anywhere; those without are opaque then.
    Raises InputError for pictures that are missing, damaged, of different sizes, or of numbers
    `to_uint8` refuses.
    """
    arrays = []
    for path in paths:
        with open_image(path) as image:
            arrays.append(np.array(to_uint8(image, path)))
    check_same_size(paths, [(a.shape[1], a.shape[0]) for a in arrays])
    return views_from_arrays(arrays, cameras)


def to_uint8(image: Image.Image, path: Path) -> Image.Image:
    """An opened picture as RGB, or as RGBA where it has transparency.

    16-bit gray is scaled from [0, 65535], float gray from [0, 1].
    Raises InputError, naming `path`, for NaN, infinite numbers, and those outside that range.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        image = _gray_8_bit(image, path)
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def check_same_size(paths: list[Path], sizes: list[tuple[int, int]]) -> None:
    """Raise InputError, naming the first odd picture, unless all (width, height) are the same."""
    usual, count = Counter(sizes).most_common(1)[0] if sizes else ((0, 0), 0)
    if count == len(sizes):
        return
    odd = next(i for i, size in enumerate(sizes) if size != usual)
    shown, got = (f"{width}×{height}" for width, height in (usual, sizes[odd]))
    name = paths[odd].name
    raise InputError(
        f"views must share one size: '{paths[sizes.index(usual)].name}' is {shown} and '{name}' is "
        f"{got} pixels, {count} of {len(sizes)} are {shown}: make '{name}' anew in that size, or "
        "leave it out"
    )


def views_from_arrays(
    arrays: list[UInt8[np.ndarray, "height width _"]],
    cameras: Cameras,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Views:
    """Views of 8-bit RGB and RGBA pictures of one size, which may be mixed.

    Without alpha where all pixels of all pictures are opaque, for then it tells no object from
    its background.
    """
    shape = len(arrays), *arrays[0].shape[:2]
    images = torch.empty(shape[0], 3, *shape[1:], dtype=torch.uint8)
    alpha = torch.full((shape[0], 1, *shape[1:]), 255, dtype=torch.uint8)
    for i, array in enumerate(arrays):
        pixels = torch.from_numpy(array).movedim(-1, 0)
        images[i] = pixels[:3]
        alpha[i] = pixels[3:] if len(pixels) == 4 else 255
    return Views(images, None if (alpha >= OPAQUE).all() else alpha, cameras, origin)


def _gray_8_bit(image: Image.Image, path: Path) -> Image.Image:
    pixels, clear = np.array(image), image.info.get("transparency")
    if not np.isfinite(pixels).all():
        raise InputError(f"the view '{path}' holds NaN or infinite numbers: make it anew")
    most = 1 if image.mode == "F" else 65535
    low, high = pixels.min(), pixels.max()
    slack = most / 255 / 2  # what rounds to 0 or 255 anyway
    if low < -slack or high > most + slack:
        raise InputError(
            f"the view '{path}' holds numbers from {low:g} to {high:g}, expected 0 to {most}: "
            "scale them, or save it with 8 bits"
        )
    gray = Image.fromarray((pixels * (255.0 / most)).round().clip(0, 255).astype(np.uint8))
    if isinstance(clear, int):  # the one value that a PNG calls transparent
        gray = Image.merge("LA", [gray, Image.fromarray((pixels != clear).astype(np.uint8) * 255)])
    return gray
