"""glTF 2.0 materials: base color, emission, cutouts, and where texture coordinates come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, MvdiffError
from ..utils.color_space import to_display
from .files import SourceFiles, relative_path, shorten
from .gltf_buffers import Buffers, decode_data_uri, get_dict, get_integer, get_item, get_numbers
from .parts import Material, Notes, Texture, Wrap

#: Blended surfaces have holes where less than this is there; elsewhere they are drawn opaque.
BLEND_CUTOFF = 0.1
_WRAPS: dict[int, Wrap] = {33071: "clamp", 33648: "mirror", 10497: "repeat"}
_NEAREST = 9728
_SPECULAR = "KHR_materials_pbrSpecularGlossiness"
#: Images in formats that need an extension, and whether the format is read.
IMAGE_EXTENSIONS = {
    "EXT_texture_webp": True,
    "EXT_texture_avif": True,
    "KHR_texture_basisu": False,
    "MSFT_texture_dds": False,
}


@dataclass(frozen=True)
class TextureCoordinates:
    """Which TEXCOORD set a texture uses, and the affine map (2, 3) on it (v down, as in glTF)."""

    set: int = 0
    transform: np.ndarray | None = None

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        """Texture coordinates (…, 2) of the file as u right, v up from the bottom."""
        uv = uv.astype(np.float64)
        if self.transform is not None:
            uv = uv @ self.transform[:, :2].T + self.transform[:, 2]
        return np.stack([uv[..., 0], 1 - uv[..., 1]], axis=-1)


@dataclass(frozen=True)
class GltfMaterial:
    """A material and the coordinates of its two textures."""

    material: Material
    base_uv: TextureCoordinates
    emissive_uv: TextureCoordinates


class GltfMaterials:
    """The materials of one file, read when they are first asked for.

    load_textures: False leaves images out, without notes.
    """

    def __init__(
        self, tree: dict, buffers: Buffers, files: SourceFiles, notes: Notes, load_textures: bool
    ) -> None:
        self._tree, self._buffers, self._files = tree, buffers, files
        self._notes, self._load_textures = notes, load_textures
        self._materials: dict[int, GltfMaterial] = {}
        self._pixels: dict[tuple[int, bool], np.ndarray | None] = {}

    def __getitem__(self, index: Any) -> GltfMaterial:
        if index not in self._materials:
            self._materials[index] = self._read(get_item(self._tree, "materials", index))
        return self._materials[index]

    def _read(self, item: dict) -> GltfMaterial:
        extensions = get_dict(item, "extensions")
        metallic = get_dict(item, "pbrMetallicRoughness")
        if _SPECULAR in extensions:
            specular = get_dict(extensions, _SPECULAR)
            factor = get_numbers(specular, "diffuseFactor", [1.0, 1.0, 1.0, 1.0])
            reference = specular.get("diffuseTexture")
        else:
            factor = get_numbers(metallic, "baseColorFactor", [1.0, 1.0, 1.0, 1.0])
            reference = metallic.get("baseColorTexture")
        mode = item.get("alphaMode", "OPAQUE")
        cutoff = 0.0
        if mode == "MASK":
            cutoff = float(get_numbers({"c": [item.get("alphaCutoff", 0.5)]}, "c", [0.5])[0])
        elif mode == "BLEND":
            cutoff = BLEND_CUTOFF
            self._notes.add("transparent surfaces are drawn opaque")
        texture, base_uv = self._texture(reference, alpha=cutoff > 0)
        emission = get_numbers(item, "emissiveFactor", [0.0, 0.0, 0.0])
        strength = get_dict(extensions, "KHR_materials_emissive_strength")
        emission = emission * get_numbers(
            {"s": [strength.get("emissiveStrength", 1.0)]}, "s", [1.0]
        )
        emissive_texture, emissive_uv = None, TextureCoordinates()
        if emission.max() > 0:
            emissive_texture, emissive_uv = self._texture(item.get("emissiveTexture"), alpha=False)
            if emissive_texture is None and "emissiveTexture" in item:
                emission = np.zeros(3)  # an unreadable image must not make all of it glow
        material = Material(
            color=_display(factor[:3]),
            texture=texture,
            emissive_color=_display(emission) if emission.max() > 0 else None,
            emissive_texture=emissive_texture,
            alpha=float(factor[3]),
            cutoff=cutoff,
        )
        return GltfMaterial(material, base_uv, emissive_uv)

    def _texture(self, reference: Any, alpha: bool) -> tuple[Texture | None, TextureCoordinates]:
        if reference is None or not self._load_textures:
            return None, TextureCoordinates()
        if not isinstance(reference, dict):
            raise InputError("a material's texture must be an object in its JSON")
        item = get_item(self._tree, "textures", reference.get("index"))
        pixels = self._image(item, alpha)
        if pixels is None:
            return None, TextureCoordinates()
        sampler = {}
        if "sampler" in item:
            sampler = get_item(self._tree, "samplers", item["sampler"])
        wrap = tuple(
            _WRAPS.get(get_integer(sampler, key, 10497), "repeat") for key in ("wrapS", "wrapT")
        )
        nearest = get_integer(sampler, "magFilter", 9729) == _NEAREST
        return Texture(pixels, wrap, nearest), _coordinates(reference)

    def _image(self, texture: dict, alpha: bool) -> np.ndarray | None:
        """The pixels of a texture; None, with a note, when they cannot be had."""
        extensions = get_dict(texture, "extensions")
        source = texture.get("source")
        for name, readable in IMAGE_EXTENSIONS.items():
            if name in extensions and (readable or source is None):
                source = get_dict(extensions, name).get("source", source)
                if not readable:
                    self._notes.add(f"a texture needs {name}, which is not read")
                    return None
        if source is None:
            self._notes.add("a texture has no image")
            return None
        item = get_item(self._tree, "images", source)
        key = (source, alpha)
        if key not in self._pixels:
            self._pixels[key] = self._load(item, source, alpha)
        return self._pixels[key]

    def _load(self, item: dict, index: int, alpha: bool) -> np.ndarray | None:
        uri = item.get("uri")
        name = str(item.get("name") or f"number {index}")
        try:
            if "bufferView" in item:
                return self._files.load_pixels(bytes(self._buffers.view(item["bufferView"])), alpha)
            if not isinstance(uri, str):
                raise InputError("it has neither a file nor data")
            if uri.startswith("data:"):
                return self._files.load_pixels(decode_data_uri(uri), alpha)
            name = uri
            path = relative_path(self._files.folder, uri)
            if not path.exists():
                path = self._files.find(path.relative_to(self._files.folder).as_posix())
            if path is None:
                self._notes.add(f"the texture '{shorten(name)}' is missing")
                return None
            return self._files.load_pixels(path, alpha)
        except MvdiffError as error:
            self._notes.add(f"the texture '{shorten(name)}' was not read: {error}")
            return None


def _coordinates(reference: dict) -> TextureCoordinates:
    """The texture coordinates of a texture reference, with KHR_texture_transform."""
    chosen = get_integer(reference, "texCoord", 0)
    extensions = get_dict(reference, "extensions")
    if "KHR_texture_transform" not in extensions:
        return TextureCoordinates(chosen)
    item = get_dict(extensions, "KHR_texture_transform")
    chosen = get_integer(item, "texCoord", chosen)
    offset = get_numbers(item, "offset", [0.0, 0.0])
    scale = get_numbers(item, "scale", [1.0, 1.0])
    angle = float(get_numbers({"r": [item.get("rotation", 0.0)]}, "r", [0.0])[0])
    cos, sin = np.cos(angle), np.sin(angle)
    # a rotation by the angle, counter-clockwise as seen with v pointing down
    linear = np.array([[cos, sin], [-sin, cos]]) @ np.diag(scale)
    return TextureCoordinates(chosen, np.concatenate([linear, offset[:, None]], axis=1))


def _display(linear: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = to_display(linear.clip(0, 1)).tolist()
    return red, green, blue
