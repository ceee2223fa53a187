"""Files beside a mesh: safe paths, images from paths and bytes, and what unusable files are."""

from __future__ import annotations

import io
import re
import stat
import warnings
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ..errors import InputError, MvdiffError
from ..utils.images import FORMATS, MAX_DECODING_BYTES, decoding_bytes, open_image

#: Largest texture, pixels: 8192².
MAX_TEXTURE_PIXELS = 2**26
#: Largest mesh file or buffer, bytes.
MAX_BYTES = 2**32


class SourceFiles:
    """A mesh file and the files that it names, as they are asked for.

    path: of the mesh. used: every file that was read or looked for in vain, in that order.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path.parent
        self.used: dict[Path, None] = {}

    def read(self, path: Path, what: str = "mesh file") -> bytes:
        """As `read_regular_file`."""
        self.used.setdefault(path)
        return read_regular_file(path, what)

    def find(self, name: str, folder: Path | None = None) -> Path | None:
        """As `find_texture`, from the mesh's folder or another one."""
        folder = folder or self.folder
        path = find_texture(folder, name)
        if path is None and "\0" not in name and len(name) < 200:
            self.used.setdefault(folder / name)  # it may be there the next time
        return path

    def load_pixels(
        self, source: Path | bytes, alpha: bool = False
    ) -> UInt8[np.ndarray, "height width channel"]:
        """As `load_pixels`."""
        if isinstance(source, Path):
            self.used.setdefault(source)
        return load_pixels(source, alpha)


def read_regular_file(path: Path, what: str = "mesh file") -> bytes:
    """The bytes of a regular file of at most `MAX_BYTES`; InputError otherwise."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"no {what} at '{path}' ({reason}): check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"expected a {what}, but '{path}' is a folder, pipe or device")
    if status.st_size > MAX_BYTES:
        raise InputError(f"'{path}' is larger than {MAX_BYTES // 2**30} GiB: not read")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read '{path}' ({error.strerror or error})") from error


def describe_content(head: bytes) -> str | None:
    """What a file really is when it is no mesh; None when nothing is known against it."""
    text = head[:512].lstrip().lower()
    if not head:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; run 'git lfs pull' to fetch the mesh itself"
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is a web page; download the mesh itself"
    if head.startswith(b"DRACO"):
        return "it is a bare Draco file; convert it to GLB or PLY"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        return "it is a compressed archive; unpack it first"
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        return "it is an image"
    return None


def relative_path(folder: Path, uri: str) -> Path:
    """The file that a relative URI names; InputError for URLs, absolute paths and NUL bytes."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", uri):
        raise InputError(f"'{shorten(uri)}' is a URL, and only files beside the mesh are read")
    name = unquote(uri)
    if not name or "\0" in name or Path(name).is_absolute() or name.startswith("\\\\"):
        raise InputError(f"'{shorten(uri)}' is not a path relative to the mesh")
    path = folder / name
    if not path.exists() and name != uri and (folder / uri).exists():
        return folder / uri  # a name with a per cent sign of its own
    return path


def find_texture(folder: Path, name: str) -> Path | None:
    """The file that a material names, tolerating backslashes, other letter case and paths of the
    author's machine; None when there is no such file."""
    parts = [part for part in re.split(r"[\\/]+", name.strip().strip('"')) if part]
    if not parts or "\0" in name:
        return None
    absolute = name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) is not None
    candidates = [parts[-1:]] if absolute else [parts, parts[-1:]]
    for candidate in candidates:
        path = _match_case(folder, candidate)
        if path is not None:
            return path
    return None


def _match_case(folder: Path, parts: list[str]) -> Path | None:
    path = folder
    for i, part in enumerate(parts):
        below = path / part
        if not below.exists():
            try:
                names = [entry.name for entry in path.iterdir()]
            except OSError:
                return None
            alike = sorted(name for name in names if name.lower() == part.lower())
            if not alike:
                return None
            below = path / alike[0]
        path = below
        if i == len(parts) - 1 and path.is_dir():
            return None
    return path


def load_pixels(
    source: Path | bytes, alpha: bool = False
) -> UInt8[np.ndarray, "height width channel"]:
    """An image as RGB, or RGBA when `alpha` is set; InputError when it cannot be read.

    source: a path, or the content of an image file.
    """
    mode = "RGBA" if alpha else "RGB"
    if isinstance(source, Path):
        with open_image(source, MAX_TEXTURE_PIXELS) as image:
            return _to_8_bit(image, mode)
    if source[:12] == b"\xabKTX 20\xbb\r\n\x1a\n":
        raise InputError("it is KTX2, which is not read: convert the textures to PNG")
    if source[:4] == b"DDS ":
        raise InputError("it is DDS, which is not read: convert the textures to PNG")
    Image.init()  # Pillow fails on names of formats that it was built without
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(source), formats=formats) as image:
                if image.width * image.height > MAX_TEXTURE_PIXELS:
                    raise InputError(
                        f"it has {image.width}×{image.height} pixels, the limit is "
                        f"{MAX_TEXTURE_PIXELS // 2**20} million"
                    )
                if decoding_bytes(image) > MAX_DECODING_BYTES:
                    raise InputError("decoding it would need too much memory")
                return _to_8_bit(image, mode)
    except MvdiffError:
        raise
    except Exception as error:  # Pillow's plug-ins fail on broken files in many ways
        raise InputError("it is not a readable image") from error


def _to_8_bit(image: Image.Image, mode: str) -> UInt8[np.ndarray, "height width channel"]:
    """The pixels in a mode of 8 bits; Pillow's own conversion would cut 16-bit gray off at 255."""
    if image.mode == "F" or image.mode.startswith("I"):
        white = 1.0 if image.mode == "F" else 65535.0
        gray = np.nan_to_num(np.asarray(image).astype(np.float64)) / white
        image = Image.fromarray(np.rint(gray.clip(0, 1) * 255).astype(np.uint8))
    return np.array(image.convert(mode))


def shorten(text: str, length: int = 60) -> str:
    """Text for a sentence: without control characters, and cut when long."""
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= length else text[: length - 1] + "…"
