"""Colors of glTF: vertex colors, factors, textures, their coordinates, holes, emission."""

from __future__ import annotations

import io

import numpy as np
import pytest
from helpers.gltf_files import GltfFile, box, square
from PIL import Image

from mvdiff.cameras import look_at
from mvdiff.data.meshes import load_mesh, normalize_to_rig
from mvdiff.rendering import Raycaster
from mvdiff.utils.color_space import to_display

RED, GREEN, BLUE, YELLOW = [200, 20, 30], [20, 180, 40], [40, 60, 220], [230, 220, 50]


def png(pixels: np.ndarray, form: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(out, form, **options)
    return out.getvalue()


def quarters(size: int = 32) -> np.ndarray:
    """Red and green above, blue and yellow below."""
    cells = np.array([[RED, GREEN], [BLUE, YELLOW]], np.uint8)
    return cells.repeat(size, axis=0).repeat(size, axis=1)


def seen(path, azimuth: float = -90, elevation: float = 0, size: int = 9) -> np.ndarray:
    """Bare colors and alpha (height, width, 4); glTF's +z side faces the camera."""
    mesh = load_mesh(path)
    picture = Raycaster(normalize_to_rig(mesh)).render(
        look_at([azimuth], [elevation], size=size), shading=None
    )
    rgba = np.concatenate([picture.color[0].numpy(), picture.alpha[0].numpy()])
    return rgba.transpose(1, 2, 0).astype(int)


def assert_color(got, expected, within: int = 1) -> None:
    assert np.abs(np.asarray(got)[..., :3] - np.asarray(expected)).max() <= within, (got, expected)


def assert_quarters(picture: np.ndarray, cells=(RED, GREEN, BLUE, YELLOW)) -> None:
    n = len(picture)
    for (row, column), expected in zip(
        ((0.35, 0.35), (0.35, 0.65), (0.65, 0.35), (0.65, 0.65)), cells, strict=True
    ):
        assert_color(picture[int(n * row), int(n * column)], expected)


LINEAR = np.array([0.6, 0.05, 0.01, 1.0])


@pytest.mark.parametrize("kind", ["float", "ushort", "ubyte"])
@pytest.mark.parametrize("width", [3, 4])
@pytest.mark.parametrize("with_material", [True, False])
def test_vertex_colors_are_linear_light(tmp_path, kind, width, with_material):
    rows = np.tile(LINEAR[:width], (8, 1))
    dtype = {"float": "<f4", "ushort": "<u2", "ubyte": "u1"}[kind]
    values = rows if kind == "float" else np.rint(rows * np.iinfo(dtype).max)
    file = GltfFile()
    colors = file.accessor(
        values.astype(dtype), **({} if kind == "float" else {"normalized": True})
    )
    extra = (
        {"material": file.material(pbrMetallicRoughness={"metallicFactor": 0})}
        if with_material
        else {}
    )
    file.mesh({**box(file, COLOR_0=colors), **extra})
    expected = np.rint(255 * to_display(LINEAR[:3]))
    # 8 bits of dark linear light are coarse: 1 step at 0.01 is 9 of 255 displayed
    assert_color(seen(file.write(tmp_path / "a.glb"))[4, 4], expected, 10 if kind == "ubyte" else 1)


def test_8_bit_vertex_colors_of_trimesh_are_as_displayed(tmp_path):
    file = GltfFile()
    file.tree["asset"]["generator"] = "https://github.com/mikedh/trimesh"
    colors = file.accessor(np.tile(np.array([250, 30, 60, 255], np.uint8), (8, 1)), normalized=True)
    file.mesh(box(file, COLOR_0=colors))
    assert_color(seen(file.write(tmp_path / "a.glb"))[4, 4], [250, 30, 60])


def test_vertex_colors_multiply_texture_and_factor_in_linear_light(tmp_path):
    file = GltfFile()
    texture = file.image(png(np.full((4, 4, 3), 188)))
    factor = [0.5, 1.0, 0.25, 1.0]
    material = file.material(
        pbrMetallicRoughness={"baseColorTexture": {"index": texture}, "baseColorFactor": factor}
    )
    tint = file.accessor(np.tile(np.array([1, 0.5, 1], np.float32), (4, 1)))
    primitive = square(file, material=material)
    primitive["attributes"]["COLOR_0"] = tint
    file.mesh(primitive)
    linear = ((188 / 255 + 0.055) / 1.055) ** 2.4 * np.array([0.5, 0.5, 0.25])
    assert_color(seen(file.write(tmp_path / "a.glb"))[4, 4], np.rint(255 * to_display(linear)))


@pytest.mark.parametrize("dtype", ["<f4", "<u2", "u1"])
def test_normalized_texture_coordinates(tmp_path, dtype):
    file = GltfFile()
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float64)
    whole = dtype == "<f4"
    stored = uv.astype(dtype) if whole else (uv * np.iinfo(dtype).max).astype(dtype)
    material = file.material(
        pbrMetallicRoughness={"baseColorTexture": {"index": file.image(png(quarters()))}}
    )
    primitive = square(file, stored, material=material)
    if not whole:
        item = file.tree["accessors"][primitive["attributes"]["TEXCOORD_0"]]
        item["normalized"] = True
    file.mesh(primitive)
    assert_quarters(seen(file.write(tmp_path / "a.glb"), size=33))


@pytest.mark.parametrize(
    ("transform", "cells"),
    [
        ({"offset": [0.5, 0]}, (GREEN, RED, YELLOW, BLUE)),
        ({"offset": [0, 0.5]}, (BLUE, YELLOW, RED, GREEN)),
        ({"scale": [-1, 1], "offset": [1, 0]}, (GREEN, RED, YELLOW, BLUE)),
        # the image turned by a quarter clockwise: its lower left comes to the upper left
        ({"rotation": np.pi / 2, "offset": [0, 1]}, (BLUE, RED, YELLOW, GREEN)),
    ],
)
def test_texture_transforms(tmp_path, transform, cells):
    file = GltfFile()
    reference = {
        "index": file.image(png(quarters())),
        "extensions": {"KHR_texture_transform": transform},
    }
    material = file.material(pbrMetallicRoughness={"baseColorTexture": reference})
    file.mesh(square(file, material=material))
    file.tree["extensionsRequired"] = ["KHR_texture_transform"]
    picture = seen(file.write(tmp_path / "a.glb"), size=33)
    if "rotation" in transform:  # by the formula of the specification, at each quarter's middle
        angle = transform["rotation"]
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        colors = np.array([[RED, GREEN], [BLUE, YELLOW]])
        cells = []
        for uv in ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)):
            u, v = turn @ uv + transform["offset"]
            cells.append(colors[int(v % 1 * 2), int(u % 1 * 2)])
    assert_quarters(picture, tuple(cells))


def test_second_texture_coordinates(tmp_path):
    file = GltfFile()
    reference = {"index": file.image(png(quarters())), "texCoord": 1}
    material = file.material(pbrMetallicRoughness={"baseColorTexture": reference})
    primitive = square(file, np.full((4, 2), 0.75, np.float32), material=material)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    primitive["attributes"]["TEXCOORD_1"] = file.accessor(uv)
    file.mesh(primitive)
    assert_quarters(seen(file.write(tmp_path / "a.glb"), size=33))


@pytest.mark.parametrize(
    ("wrap", "left", "right"),
    [(10497, GREEN, RED), (33071, RED, GREEN), (33648, RED, GREEN)],
)
def test_wrapping(tmp_path, wrap, left, right):
    """u from −1 to 2, at −0.25 and 1.25: repeated, clamped, mirrored."""
    file = GltfFile()
    stripes = np.array([[RED, GREEN]], np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    texture = file.image(png(stripes))
    file.tree["samplers"] = [{"wrapS": wrap}]
    file.tree["textures"][texture]["sampler"] = 0
    material = file.material(pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    uv = np.array([[-1, 1], [2, 1], [2, 0], [-1, 0]], np.float32)
    file.mesh(square(file, uv, material=material))
    picture = seen(file.write(tmp_path / "a.glb"), size=49)
    inside = np.flatnonzero(picture[24, :, 3] == 255)
    first, last = inside[0], inside[-1]
    at = lambda u: round(first + (u + 1) / 3 * (last - first))  # noqa: E731
    assert_color(picture[24, at(-0.25)], left)
    assert_color(picture[24, at(1.25)], right)


def test_specular_glossiness(tmp_path):
    file = GltfFile()
    extension = {
        "diffuseFactor": [1, 1, 1, 1],
        "diffuseTexture": {"index": file.image(png(quarters()))},
    }
    material = file.material(extensions={"KHR_materials_pbrSpecularGlossiness": extension})
    file.mesh(square(file, material=material))
    file.tree["extensionsRequired"] = ["KHR_materials_pbrSpecularGlossiness"]
    assert_quarters(seen(file.write(tmp_path / "a.glb"), size=33))


def test_webp_textures(tmp_path):
    file = GltfFile()
    texture = file.image(png(quarters(), "WEBP", lossless=True), "image/webp")
    item = file.tree["textures"][texture]
    item["extensions"] = {"EXT_texture_webp": {"source": item.pop("source")}}
    material = file.material(pbrMetallicRoughness={"baseColorTexture": {"index": texture}})
    file.mesh(square(file, material=material))
    file.tree["extensionsRequired"] = ["EXT_texture_webp"]
    assert_quarters(seen(file.write(tmp_path / "a.glb"), size=33))


def test_textures_of_16_bit_gray_are_scaled(tmp_path):
    gray = io.BytesIO()
    Image.fromarray(np.full((8, 8), 128 * 257, np.uint16)).save(gray, "PNG")
    file = GltfFile()
    texture = {"baseColorTexture": {"index": file.image(gray.getvalue())}}
    file.mesh(square(file, material=file.material(pbrMetallicRoughness=texture)))
    assert_color(seen(file.write(tmp_path / "a.glb"))[4, 4], [128, 128, 128])


def test_several_textured_parts_keep_their_own_textures_and_factors(tmp_path):
    """A tiled texture beside one with a white factor, which trimesh would pack into one atlas."""
    file = GltfFile()
    tiles = file.image(png(quarters()))
    plain = file.image(png(np.concatenate([np.full((8, 8, 3), RED), np.full((8, 8, 3), BLUE)])))
    uv = np.array([[0, 11], [11, 11], [11, 0], [0, 0]], np.float32)
    white = [1.0, 1.0, 1.0, 1.0]
    for texture, x, coordinates in ((tiles, -0.5, uv), (plain, 0.5, None)):
        pbr = {"baseColorTexture": {"index": texture}, "baseColorFactor": white}
        material = file.material(pbrMetallicRoughness=pbr)
        file.mesh(square(file, coordinates, material=material), translation=[x, 0, 0])
    picture = seen(file.write(tmp_path / "a.glb"), size=129)
    inside = picture[..., 3] == 255
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    middle = (columns[0] + columns[-1]) // 2
    height = rows[-1] - rows[0]
    assert_color(picture[rows[0] + height // 4, (middle + columns[-1]) // 2], RED)
    assert_color(picture[rows[-1] - height // 4, (middle + columns[-1]) // 2], BLUE)
    # as many changes of color down the tiled square as 11 tiles have
    column = picture[rows[0] : rows[-1], middle - height // 2, :3]
    is_blue_or_yellow = np.abs(column[:, None] - [BLUE, YELLOW]).sum(axis=2).min(axis=1) < 60
    assert 19 <= np.count_nonzero(np.diff(is_blue_or_yellow.astype(int))) <= 23


def mask_texture() -> np.ndarray:
    """Green, there in the middle half only."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., :3] = GREEN
    pixels[16:48, 16:48, 3] = 255
    return pixels


@pytest.mark.parametrize("mode", ["MASK", "BLEND"])
def test_holes_show_what_is_behind(tmp_path, mode):
    file = GltfFile()
    pbr = {"baseColorTexture": {"index": file.image(png(mask_texture()))}}
    leaf = file.material(pbrMetallicRoughness=pbr, alphaMode=mode)
    back = file.material(pbrMetallicRoughness={"baseColorFactor": [1, 0, 0, 1]})
    file.mesh(square(file, material=leaf), translation=[0, 0, 0.1])
    uv_free = square(file, material=back)
    file.mesh(uv_free)
    picture = seen(file.write(tmp_path / "a.glb"), size=33)
    assert_color(picture[16, 16], GREEN)
    assert_color(picture[16, 8], [255, 0, 0])
    file.tree["scenes"][0]["nodes"] = [0]
    picture = seen(file.write(tmp_path / "b.glb"), size=33)
    assert picture[16, 16, 3] == 255
    assert picture[16, 8, 3] == 0
    assert picture[16, 7].tolist() == [0, 0, 0, 0]


def test_depth_and_normals_pass_holes(tmp_path):
    file = GltfFile()
    pbr = {"baseColorTexture": {"index": file.image(png(mask_texture()))}}
    file.mesh(square(file, material=file.material(pbrMetallicRoughness=pbr, alphaMode="MASK")))
    file.mesh(square(file), translation=[0, 0, -0.2])
    mesh = load_mesh(file.write(tmp_path / "a.glb"))
    picture = Raycaster(mesh).render(look_at([-90], [0], size=33, distance=1.5))
    assert float(picture.depth[0, 16, 16]) == pytest.approx(1.5, abs=1e-4)
    assert float(picture.depth[0, 16, 9]) == pytest.approx(1.7, abs=1e-4)


def test_glass_is_opaque_and_noted(tmp_path):
    file = GltfFile()
    pbr = {"baseColorFactor": [0.2, 0.4, 1, 0.3]}
    file.mesh(box(file) | {"material": file.material(pbrMetallicRoughness=pbr, alphaMode="BLEND")})
    path = file.write(tmp_path / "a.glb")
    assert seen(path)[4, 4, 3] == 255
    assert any("transparent" in note for note in load_mesh(path).metadata["notes"])


def test_invisible_parts_do_not_count(tmp_path):
    file = GltfFile()
    hidden = file.material(
        pbrMetallicRoughness={"baseColorFactor": [1, 1, 1, 0]}, alphaMode="BLEND"
    )
    file.mesh(box(file) | {"material": hidden}, scale=[50, 50, 50])
    file.mesh(box(file))
    mesh = load_mesh(file.write(tmp_path / "a.glb"))
    assert mesh.extents.max() == pytest.approx(1)


def test_emission_is_added_in_linear_light(tmp_path):
    file = GltfFile()
    material = file.material(
        pbrMetallicRoughness={"baseColorFactor": [0.2, 0, 0, 1]}, emissiveFactor=[0.1, 0.5, 0]
    )
    file.mesh(box(file) | {"material": material})
    expected = np.rint(255 * to_display(np.array([0.3, 0.5, 0])))
    assert_color(seen(file.write(tmp_path / "a.glb"))[4, 4], expected)


def test_emissive_textures(tmp_path):
    file = GltfFile()
    material = file.material(
        pbrMetallicRoughness={"baseColorFactor": [0, 0, 0, 1]},
        emissiveFactor=[1, 1, 1],
        emissiveTexture={"index": file.image(png(quarters()))},
    )
    file.mesh(square(file, material=material))
    assert_quarters(seen(file.write(tmp_path / "a.glb"), size=33))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ({"uri": "textures/gone.png"}, "textures/gone.png"),
        ({"uri": "https://example.org/a.png"}, "URL"),
        ({"uri": "/etc/hostname"}, "/etc/hostname"),
        ({"uri": "text.png"}, "text.png"),
        ({"uri": "data:image/png;base64,AAAA"}, "image"),
        ({}, "neither"),
    ],
)
def test_textures_that_are_not_there_are_named(tmp_path, image, says):
    (tmp_path / "text.png").write_text("no picture")
    file = GltfFile()
    file.tree["images"], file.tree["textures"] = [image], [{"source": 0}]
    pbr = {"baseColorTexture": {"index": 0}, "baseColorFactor": [1, 0, 0, 1]}
    file.mesh(square(file, material=file.material(pbrMetallicRoughness=pbr)))
    mesh = load_mesh(file.write(tmp_path / "a.glb"))
    (note,) = mesh.metadata["notes"]
    assert says in note
    assert_color(seen(tmp_path / "a.glb")[4, 4], [255, 0, 0])


def test_ktx2_is_named_and_a_fallback_is_used(tmp_path):
    file = GltfFile()
    ktx = file.view(b"\xabKTX 20\xbb\r\n\x1a\n" + b"\0" * 64)
    file.tree["images"] = [{"bufferView": ktx, "mimeType": "image/ktx2"}]
    file.tree["textures"] = [{"extensions": {"KHR_texture_basisu": {"source": 0}}}]
    material = file.material(pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
    file.mesh(square(file, material=material))
    (note,) = load_mesh(file.write(tmp_path / "a.glb")).metadata["notes"]
    assert "KHR_texture_basisu" in note
    file.tree["images"].append({"bufferView": file.view(png(quarters())), "mimeType": "image/png"})
    file.tree["textures"][0]["source"] = 1
    assert_quarters(seen(file.write(tmp_path / "b.glb"), size=33))
    assert load_mesh(tmp_path / "b.glb").metadata["notes"] == []


def test_external_textures_with_blanks(tmp_path):
    (tmp_path / "my tex").mkdir()
    (tmp_path / "my tex" / "a b.png").write_bytes(png(quarters()))
    file = GltfFile()
    file.tree["images"], file.tree["textures"] = [{"uri": "my%20tex/a%20b.png"}], [{"source": 0}]
    material = file.material(pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
    file.mesh(square(file, material=material))
    path = file.write(tmp_path / "a.glb")
    assert_quarters(seen(path, size=33))
    assert [f.rpartition("/")[2] for f in load_mesh(path).metadata["files"]] == ["a.glb", "a b.png"]
