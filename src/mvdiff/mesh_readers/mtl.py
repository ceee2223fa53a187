"""Wavefront MTL: diffuse colors and textures."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import MvdiffError
from .files import SourceFiles, shorten
from .parts import Material, Notes, Texture
from .wavefront_text import decode_text, split_lines

#: Options of texture statements and how many words follow at most; numbers end early.
_OPTIONS = {
    "-blendu": 1,
    "-blendv": 1,
    "-bm": 1,
    "-boost": 1,
    "-cc": 1,
    "-clamp": 1,
    "-imfchan": 1,
    "-mm": 2,
    "-o": 3,
    "-s": 3,
    "-t": 3,
    "-texres": 1,
    "-type": 1,
}


def read_mtl(
    files: SourceFiles, path: Path, used: set[str], notes: Notes, load_textures: bool = True
) -> dict[str, Material]:
    """The materials of a file by name. Textures are loaded for those in `used` only.

    Diffuse colors are taken as displayed; a diffuse texture replaces the color. Keywords may
    be written in any letter case. Raises InputError when the file cannot be read.
    """
    materials: dict[str, Material] = {}
    name = None
    known = {key.casefold() for key in used}
    for line in split_lines(decode_text(files.read(path, "material file"))):
        line = line.strip().replace("\t", " ")
        key, _, rest = line.partition(" ")
        key, rest = key.lower(), rest.strip()
        if key == "newmtl":
            name = rest
            materials[name] = Material()
            continue
        if name is None or not rest:
            continue
        material = materials[name]
        if key == "kd":
            materials[name] = replace(material, color=_color(rest, material.color))
        elif key in ("map_kd", "map_d") and load_textures and name.casefold() in known:
            materials[name] = _with_texture(material, key, rest, files, path.parent, notes)
        elif key in ("d", "tr"):
            opacity = _color(rest.removeprefix("-halo").strip(), (1.0, 1.0, 1.0))[0]
            if 0 < opacity < 1 and name.casefold() in known:
                notes.add("transparent surfaces are drawn opaque")
        elif key == "ke":
            emission = _color(rest, (0.0, 0.0, 0.0))
            if max(emission) > 0:
                materials[name] = replace(material, emissive_color=emission)
    for name, material in materials.items():
        if material.texture is not None:
            materials[name] = replace(material, color=(1.0, 1.0, 1.0))
    return materials


def _color(text: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
    """One to three numbers as a color; `default` for spectral files and damaged numbers."""
    try:
        numbers = [float(word) for word in text.split()[:3]]
    except ValueError:
        return default
    if not numbers or not np.isfinite(numbers).all():
        return default
    if len(numbers) < 3:
        numbers = [numbers[0]] * 3
    red, green, blue = np.clip(numbers, 0, 1).tolist()
    return red, green, blue


def _with_texture(
    material: Material, key: str, text: str, files: SourceFiles, folder: Path, notes: Notes
) -> Material:
    """The material with a diffuse texture, or with the holes of an opacity map."""
    name, clamp, scale, offset = _texture_statement(text)
    file = files.find(name, folder)
    if file is None:
        notes.add(f"the texture '{shorten(name)}' is missing")
        return material
    if scale != (1.0, 1.0) or offset != (0.0, 0.0):
        notes.add("a texture's scale and offset (-s, -o) are not applied")
    try:
        pixels = files.load_pixels(file, alpha=key == "map_d")
    except MvdiffError as error:
        notes.add(f"the texture '{shorten(name)}' was not read: {error}")
        return material
    wrap = ("clamp", "clamp") if clamp else ("repeat", "repeat")
    if key == "map_kd":
        alpha = None if material.texture is None else material.texture.pixels[..., 3:]
        if alpha is not None and alpha.shape[-1]:
            pixels = _with_alpha(pixels, alpha[..., 0])
        return replace(material, texture=Texture(pixels, wrap))
    opaque = (pixels[..., 3] == 255).all()
    alpha = pixels[..., :3].max(axis=-1) if opaque else pixels[..., 3]
    if material.texture is not None:
        base = material.texture.pixels[..., :3]
    else:
        color = np.rint(np.array(material.color) * 255).astype(np.uint8)
        base = np.broadcast_to(color, (*alpha.shape, 3))
    texture = Texture(_with_alpha(base, alpha), wrap)
    return replace(material, texture=texture, cutoff=0.5)


def _with_alpha(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """RGB with another alpha, which is brought to the same size."""
    height, width = pixels.shape[:2]
    if alpha.shape != (height, width):
        rows = np.arange(height) * alpha.shape[0] // height
        columns = np.arange(width) * alpha.shape[1] // width
        alpha = alpha[rows[:, None], columns]
    return np.concatenate([pixels[..., :3], alpha[..., None]], axis=-1)


def _texture_statement(text: str) -> tuple[str, bool, tuple[float, float], tuple[float, float]]:
    """File name, clamping, scale and offset (u, v) of what follows `map_Kd`."""
    words = text.split()
    clamp, values = False, {"-s": (1.0, 1.0), "-o": (0.0, 0.0)}
    start = 0
    while start < len(words) - 1 and words[start].lower() in _OPTIONS:
        option = words[start].lower()
        taken = 1
        while taken <= _OPTIONS[option] and start + taken < len(words) - 1:
            if _OPTIONS[option] > 1 and not _is_number(words[start + taken]):
                break
            taken += 1
        arguments = words[start + 1 : start + taken]
        if option == "-clamp":
            clamp = arguments == ["on"]
        elif option in values and arguments:
            numbers = [float(word) for word in arguments] + list(values[option])[len(arguments) :]
            values[option] = (numbers[0], numbers[1])
        start += taken
    # the rest of the text, in which blanks may be several
    name = text
    for word in words[:start]:
        name = name.lstrip()[len(word) :]
    name = name.strip()
    if name[:1] in "\"'" and name[-1:] == name[:1]:
        name = "".join(shlex.split(name)) if "\\" not in name else name[1:-1]
    return name, clamp, values["-s"], values["-o"]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
