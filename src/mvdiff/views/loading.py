"""Loading views: pictures and cameras that other programs made, in any known form.

Sizes are compared before a picture is decoded, pictures are decoded one at a time, and scaled
before lenses are undistorted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from ..cameras.camera import Cameras
from ..cameras.colmap import is_colmap_model, read_colmap_frames
from ..cameras.frames import Frame, check_one_projection, relative_to, scene_origin, stack_cameras
from ..cameras.syncdreamer_pickle import read_meta_pickle
from ..cameras.transforms import is_file, read_frames
from ..errors import InputError, MvdiffError
from ..utils.images import open_image
from .canvas import make_canvas, rescaled
from .masks import apply_masks, read_mask
from .sizes import Fit, fit_picture
from .views import Views, check_same_size, to_uint8, views_from_arrays

#: Pixels of the largest picture that is opened at all: 12,000 × 12,000 take 0.6 GB.
MAX_PIXELS = 144_000_000
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".ppm")
#: A mask and whether black pixels are the ones that are used (instant-ngp).
_Mask = tuple[Path, bool]


@dataclass(frozen=True)
class LoadedViews:
    """Views with what a user should know about them.

    views: cameras float32; `views.origin` is not zero for scenes far from their origin.
    notes: one sentence each.
    form: "transforms.json", "COLMAP", "meta.pkl" or "rig": where the cameras came from.
    """

    views: Views
    notes: list[str]
    form: str


@dataclass(frozen=True)
class _Source:
    """Frames with the files of their pictures and masks.

    listing: names the cameras' file in messages.
    """

    frames: list[Frame]
    paths: list[Path]
    masks: list[_Mask | None]
    listing: str
    form: str
    notes: list[str] = field(default_factory=list)


def load_views(
    path: str | Path,
    rig: Cameras | None = None,
    images: str | Path | None = None,
    max_size: int | None = None,
) -> LoadedViews:
    """Views from a folder or file.

    path: a folder with `transforms.json` (or that file), with SyncDreamer's `meta.pkl`, or with a
        COLMAP model (text or binary; also the project's folder around `sparse/0`); with `rig`, also
        a folder of pictures in the rig's order, or one picture with square views side by side or
        in rows.
    rig: cameras of pictures that have none; default for a strip: SyncDreamer's ring of 16.
    images: folder of the pictures, where they do not lie where the cameras' file says.
    max_size: longest side in pixels, at least 16; larger pictures are scaled down.
    Raises InputError when nothing readable is there.
    """
    for name, value in (("views", path), ("images", images)):
        if not isinstance(value, str | Path) and not (name == "images" and value is None):
            raise InputError(
                f"{name} must be the path of a folder or file, got {type(value).__name__}"
            )
    if rig is not None and not isinstance(rig, Cameras):
        raise InputError(f"rig must be Cameras, got {type(rig).__name__}")
    if max_size is not None and max_size < 16:
        raise InputError(f"max_size must be at least 16 pixels, got {max_size}")
    path = Path(path)
    if path.suffix.lower() in IMAGE_SUFFIXES and is_file(path):
        return _load_strip(path, rig, max_size)
    source = _find_source(path, rig, None if images is None else Path(images))
    return _load(source, max_size)


# finding cameras, pictures and masks


def _find_source(path: Path, rig: Cameras | None, images: Path | None) -> _Source:
    folder = _is_dir(path)
    if images is not None and not _is_dir(images):
        raise InputError(f"images='{images}' is no folder: name the folder of the pictures")
    if rig is not None and _has_cameras(path):
        raise InputError(
            f"'{path}' has cameras of its own, so rig cannot be given: leave rig out, or give a "
            "folder with nothing but the pictures"
        )
    if folder and is_file(path / "meta.pkl"):
        return _published(path)
    if folder and is_file(path / "transforms.json"):
        return _transforms(path / "transforms.json", images)
    if folder and (model := _colmap_folder(path)) is not None:
        return _colmap(model, images)
    if folder and (listed := sorted(path.glob("transforms*.json"))):
        named = path / "transforms_train.json"
        chosen = named if named in listed else listed[0]
        note = f"'{path}' has no transforms.json: {chosen.name} was read"
        others = [file.name for file in listed if file != chosen]
        note += f", not {', '.join(others)}" if others else ""
        return _transforms(chosen, images, [note])
    if rig is not None and folder:
        return _rig_pictures(path, rig)
    if path.suffix.lower() == ".json" and is_file(path):
        return _transforms(path, images)
    raise _nothing(path)


def _has_cameras(path: Path) -> bool:
    if not _is_dir(path):
        return path.suffix.lower() == ".json"
    listed = is_file(path / "meta.pkl") or any(path.glob("transforms*.json"))
    return listed or _colmap_folder(path) is not None


def _nothing(path: Path) -> MvdiffError:
    """Why there are no views, and what to do."""
    pictures = _pictures(path) if _is_dir(path) else []
    if not pictures:
        got = f"; got a file of the kind '{path.suffix or path.name}'" if is_file(path) else ""
        return MvdiffError(
            f"no views at '{path}': expected a folder with transforms.json, meta.pkl or a COLMAP "
            f"model, that transforms.json, or a picture with square views side by side{got}"
        )
    return MvdiffError(
        f"no views at '{path}': it has {len(pictures)} pictures, but no transforms.json, meta.pkl "
        "or COLMAP model says where their cameras stood; add one, or name the rig, e.g. rig=ring "
        f"rig.count={len(pictures)} rig.elevation=30"
    )


def _pictures(folder: Path) -> list[Path]:
    """Pictures of a folder in natural order: numbered ones if there are any, else all."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and is_file(p)]
    files = [file for file in files if not file.name.startswith(".")]
    numbered = [file for file in files if file.stem.isdigit()]

    def key(file: Path) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", file.name)
        return [(1, int(x), "") if x.isdecimal() and len(x) < 19 else (0, 0, x) for x in parts]

    return sorted(numbered or files, key=key)


def _transforms(file: Path, images: Path | None, notes: Sequence[str] = ()) -> _Source:
    read = read_frames(file)
    folder = file.parent
    paths = [_picture(folder, images, frame.name) for frame in read.frames]
    named = [frame.mask for frame in read.frames]
    masks: list[_Mask | None] = [None] * len(paths)
    if any(named):
        if not all(named):
            count = sum(mask is not None for mask in named)
            raise InputError(
                f"'{file}' names masks for {count} of {len(named)} pictures: name one for each, or "
                "for none"
            )
        masks = [(folder / str(mask), False) for mask in named]
    else:
        dynamic = [path.with_name(f"dynamic_mask_{path.stem}.png") for path in paths]
        masks = [(mask, True) if is_file(mask) else None for mask in dynamic]
    return _Source(read.frames, paths, masks, str(file), "transforms.json", [*notes, *read.notes])


def _picture(folder: Path, images: Path | None, name: str) -> Path:
    """Where a listed picture lies; with `images`, below that folder, by its name at least."""
    if images is None:
        return folder / name
    own = images / name
    return own if is_file(own) else images / Path(name).name


def _published(folder: Path) -> _Source:
    cameras = read_meta_pickle(folder / "meta.pkl")
    names = [f"{i:03d}.png" for i in range(len(cameras))]
    frames = _frames_of(cameras, names)
    paths = [folder / name for name in names]
    return _Source(frames, paths, [None] * len(names), str(folder / "meta.pkl"), "meta.pkl")


def _frames_of(cameras: Cameras, names: list[str]) -> list[Frame]:
    cameras = cameras.to("cpu")
    K, w2c = cameras.K.double().numpy(), cameras.w2c.double().numpy()
    return [
        Frame(name, k, pose, cameras.width, cameras.height, projection=cameras.projection)
        for name, k, pose in zip(names, K, w2c, strict=True)
    ]


def _rig_pictures(folder: Path, rig: Cameras) -> _Source:
    paths = _pictures(folder)
    if not paths:
        raise InputError(f"no pictures in '{folder}': expected one for each of {len(rig)} cameras")
    if len(paths) != len(rig):
        raise InputError(
            f"the rig has {len(rig)} cameras and '{folder}' {len(paths)} pictures: give "
            f"rig.count={len(paths)}, or a rig with as many cameras"
        )
    sizes = [_header(path)[0] for path in paths]
    check_same_size(paths, sizes)
    width, height = sizes[0]
    if width != height:
        raise InputError(
            f"a rig's cameras take square pictures, and those in '{folder}' are {width}×{height}: "
            "pad them, or give transforms.json"
        )
    frames = _frames_of(rig.resize(height), [path.name for path in paths])
    note = f"cameras of the rig for the pictures {_listing([path.name for path in paths])}"
    return _Source(frames, paths, [None] * len(paths), "the rig", "rig", [note])


def _colmap_folder(path: Path) -> Path | None:
    """The model of a project's folder, or the folder itself."""
    for model in (path, path / "sparse" / "0", path / "sparse", path / "colmap" / "sparse" / "0"):
        if is_colmap_model(model):
            return model
    return None


def _colmap(model: Path, images: Path | None) -> _Source:
    frames = read_colmap_frames(model)
    if images is None:
        root = model.resolve()
        near = [root, *list(root.parents)[:3]]
        tried = [p for folder in near for p in (folder / "images", folder)]
        images = next((p for p in tried if is_file(p / frames[0].name)), None)
        if images is None:
            raise InputError(
                f"the pictures of the COLMAP model '{model}' (such as '{frames[0].name}') were not "
                f"found in '{tried[4]}' or nearby: give images=FOLDER"
            )
    paths = [_picture(images, images, frame.name) for frame in frames]
    masks: list[_Mask | None] = [None] * len(paths)
    folder = images.parent / "masks"
    if _is_dir(folder):
        for form in ("{}.png", None):  # COLMAP adds a suffix to the picture's whole name
            found = [
                folder / (form.format(f.name) if form else Path(f.name).with_suffix(".png"))
                for f in frames
            ]
            if all(map(is_file, found)):
                masks = [(mask, False) for mask in found]
                break
    return _Source(frames, paths, masks, str(model), "COLMAP")


# reading pictures


def _load(source: _Source, max_size: int | None) -> LoadedViews:
    """Pictures of a source at one size, undistorted, with their cameras."""
    check_one_projection(source.frames, f"'{source.listing}'")
    notes = list(source.notes)
    sizes, fits = _fit_all(source, notes)
    # cameras of the pictures' sizes
    frames = [
        rescaled(frame, fit.scale, size)
        for frame, fit, size in zip(source.frames, fits, sizes, strict=True)
    ]
    scale = 1.0
    if max_size is not None:
        scale = min(1.0, max_size / max(max(size) for size in sizes))
    for _ in range(3):
        arrays, small_frames = _read_all(source, frames, fits, scale)
        arrays, placed, more = make_canvas(small_frames).place(arrays, small_frames)
        width, height = placed[0].width, placed[0].height
        if max_size is None or max(width, height) <= max_size:
            break
        # undistorted pictures are larger than the originals
        scale *= (max_size - 1) / max(width, height)
    if any(mask is not None for mask in source.masks):
        notes.append(_mask_note(source.masks))
    notes += more
    frames = placed
    if scale < 1:
        original = f"{sizes[0][0]}×{sizes[0][1]}"
        notes.append(
            f"the views are {original} pixels: they were scaled down to {width}×{height} "
            "(max_size=… changes that)"
        )
    origin = scene_origin(frames)
    if any(origin):
        x, y, z = origin
        notes.append(
            f"the scene lies far from the origin, where float32 would round it: coordinates are "
            f"relative to ({x!r}, {y!r}, {z!r}), add that point to get the cameras' world"
        )
    cameras = stack_cameras(relative_to(frames, origin))
    return LoadedViews(views_from_arrays(arrays, cameras, origin), notes, source.form)


def _read_all(
    source: _Source, frames: list[Frame], fits: list[Fit], scale: float
) -> tuple[list[UInt8[np.ndarray, "height width _"]], list[Frame]]:
    """Pictures at a scale of at most 1, less what their masks leave out, and their frames."""
    arrays, masks, small_frames = [], [], []
    for frame, path, mask, fit in zip(frames, source.paths, source.masks, fits, strict=True):
        size = (frame.width, frame.height)
        small = size
        if scale < 1:
            small = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        arrays.append(_read_picture(path, small, fit, small != size))
        masks.append(None if mask is None else _read_turned_mask(path, mask, small, fit))
        small_frames.append(rescaled(frame, (small[0] / size[0], small[1] / size[1]), small))
    if any(mask is not None for mask in masks):
        arrays = apply_masks(arrays, masks)
    return arrays, small_frames


def _fit_all(source: _Source, notes: list[str]) -> tuple[list[tuple[int, int]], list[Fit]]:
    """Sizes of the pictures, turned where need be, and how they fit their cameras."""
    missing = [path for path in source.paths if not is_file(path)]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise InputError(
            f"the view '{missing[0]}' is listed but missing{more}: add it, or take its entry out "
            f"of '{source.listing}'"
        )
    sizes, fits, ignored = [], [], 0
    for frame, path in zip(source.frames, source.paths, strict=True):
        stored, orientation = _header(path)
        camera = (frame.width, frame.height)
        fit = fit_picture(stored, orientation, camera, path.name, source.listing)
        sizes.append(stored[::-1] if fit.is_turned else stored)
        fits.append(fit)
        ignored += orientation != 1 and not fit.is_turned
    turned = sum(fit.is_turned for fit in fits)
    if turned:
        notes.append(
            f"{turned} pictures were turned as their EXIF orientation says, since the cameras are "
            "for turned pictures"
        )
    if ignored:
        notes.append(
            f"{ignored} pictures have an EXIF orientation, which is not applied: cameras belong to "
            "the stored pixels, as in COLMAP and nerfstudio"
        )
    scaled = next((i for i, fit in enumerate(fits) if fit.scale != (1.0, 1.0)), None)
    _check_one_scale(source, sizes, fits)
    if scaled is not None:
        frame, (width, height) = source.frames[scaled], sizes[scaled]
        notes.append(
            f"the pictures are {width}×{height} pixels and the cameras for {frame.width}×"
            f"{frame.height}: the cameras were scaled with them"
        )
    return sizes, fits


def _check_one_scale(source: _Source, sizes: list[tuple[int, int]], fits: list[Fit]) -> None:
    """Raise InputError where some pictures are resized and others not, or otherwise."""
    scales = [fit.scale[0] for fit in fits]
    usual = sorted(scales)[len(scales) // 2]
    odd = next((i for i, x in enumerate(scales) if abs(x / usual - 1) > 2 / min(sizes[i])), None)
    if odd is None:
        return
    frame, (width, height) = source.frames[odd], sizes[odd]
    raise InputError(
        f"the picture '{source.paths[odd].name}' is {width}×{height} pixels and its camera in "
        f"'{source.listing}' is for {frame.width}×{frame.height}, unlike the other pictures: give "
        "all pictures at one scale"
    )


def _header(path: Path) -> tuple[tuple[int, int], int]:
    """(width, height) as stored, and the EXIF orientation, 1 for none."""
    with open_image(path, MAX_PIXELS) as image:
        size = image.size
        try:
            orientation = image.getexif().get(0x0112, 1)
        except Exception:  # broken EXIF: Pillow raises anything
            orientation = 1
    return size, orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def _read_picture(
    path: Path, size: tuple[int, int], fit: Fit, is_resized: bool
) -> UInt8[np.ndarray, "height width _"]:
    with open_image(path, MAX_PIXELS) as image:
        if is_resized:
            # JPEG decodes at a fraction of the size
            image.draft("RGB", size[::-1] if fit.is_turned else size)
        picture = to_uint8(ImageOps.exif_transpose(image) if fit.is_turned else image, path)
        if is_resized:
            # Pillow resizes RGBA multiplied by alpha, so clear pixels do not leak.
            picture = picture.resize(size, Image.Resampling.BOX)
        return np.array(picture)


def _read_turned_mask(
    path: Path, mask: _Mask, size: tuple[int, int], fit: Fit
) -> Float[np.ndarray, "height width"]:
    file, keeps_black = mask
    if not is_file(file):
        raise InputError(f"the mask '{file}' of the picture '{path.name}' is missing")
    stored, orientation = _header(path)
    small = size[::-1] if fit.is_turned else size
    values, has_other_aspect = read_mask(file, keeps_black, stored, small)
    if has_other_aspect and not fit.is_turned:
        raise InputError(
            f"the mask '{file}' is turned by a quarter against its picture '{path.name}': give "
            "masks of the pictures' size"
        )
    if fit.is_turned and not has_other_aspect:  # as the picture is stored
        turn = {5: "transpose", 6: -1, 7: "transverse", 8: 1}[orientation]
        if isinstance(turn, int):
            values = np.rot90(values, turn)
        else:
            values = values.T if turn == "transpose" else np.rot90(values, 2).T
    return np.ascontiguousarray(values)


def _mask_note(masks: list[_Mask | None]) -> str:
    given = [mask for mask in masks if mask is not None]
    name = given[0][0].name
    left_out = "all but black" if given[0][1] else "black"
    return (
        f"masks were applied to {len(given)} of {len(masks)} pictures ('{name}', …): {left_out} "
        "pixels are taken as not the object"
    )


# strips and grids


def _load_strip(path: Path, rig: Cameras | None, max_size: int | None) -> LoadedViews:
    """Square views side by side in one picture, or in rows, the first row first."""
    from ..cameras.rigs import ring

    (width, height), _ = _header(path)
    count = 16 if rig is None else len(rig)
    rows = 1 if rig is None else count
    grid = _grid(width, height, count, rows)
    if grid is None:
        raise InputError(_no_grid(path, width, height, count))
    columns, rows = grid
    side = width // columns
    with open_image(path, MAX_PIXELS) as image:
        pixels = np.array(to_uint8(image, path))
    tiles = pixels.reshape(rows, side, columns, side, -1).swapaxes(1, 2)
    arrays = list(tiles.reshape(count, side, side, -1))
    notes = []
    size = side
    if max_size is not None and side > max_size:
        size = max_size
        notes.append(
            f"the views are {side}×{side} pixels: they were scaled down to {size}×{size} "
            "(max_size=… changes that)"
        )
        arrays = [
            np.array(Image.fromarray(a).resize((size, size), Image.Resampling.BOX)) for a in arrays
        ]
    cameras = ring(size=size) if rig is None else rig.to("cpu").resize(size)
    return LoadedViews(views_from_arrays(arrays, cameras), notes, "rig")


def _grid(width: int, height: int, count: int, max_rows: int) -> tuple[int, int] | None:
    """Columns and rows of so many square views; None where they do not fill the picture."""
    for rows in range(1, max_rows + 1):
        columns, rest = divmod(count, rows)
        if not rest and width % columns == 0 and width // columns * rows == height:
            return columns, rows
    return None


def _no_grid(path: Path, width: int, height: int, count: int) -> str:
    text = (
        f"a strip of {count} square views of side {height} is {count * height} wide; '{path}' is "
        f"{width}×{height}"
    )
    if width * 3 == height * 2:
        return (
            f"{text}: for Zero123++'s grid of 3 rows and 2 columns give rig=alternating, for other "
            "grids rig=custom with rig.azimuth=[…] and rig.elevation=[…], row by row"
        )
    return (
        f"{text}: a strip holds no cameras, so give the rig of its views, e.g. rig=ring "
        "rig.count=8 rig.elevation=30, or a folder with transforms.json"
    )


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _listing(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, …, {names[-1]}"
