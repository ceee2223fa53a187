"""glTF 2.0 and GLB: scenes, nodes, instances, skins in rest pose, and primitives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import InputError
from ..utils.color_space import to_display
from .draco import DRACO, decode_draco, is_draco_available
from .files import SourceFiles, shorten
from .gltf_buffers import (
    MESHOPT,
    Buffers,
    dequantize,
    get_dict,
    get_item,
    get_list,
    get_numbers,
    read_container,
)
from .gltf_materials import IMAGE_EXTENSIONS, GltfMaterial, GltfMaterials, TextureCoordinates
from .parts import MAX_FACES, LoadedMesh, MeshPart, Notes, check_faces, unit

#: Extensions that a file may require: what they add is read, or does not change what is drawn.
_HARMLESS = {
    "EXT_mesh_gpu_instancing",
    "EXT_texture_avif",
    "EXT_texture_webp",
    "KHR_animation_pointer",
    "KHR_lights_punctual",
    "KHR_materials_variants",
    "KHR_mesh_quantization",
    "KHR_node_visibility",
    "KHR_texture_transform",
    "KHR_xmp_json_ld",
    "MSFT_lod",
    "VRM",
    "VRMC_vrm",
}
_INSTANCING = "EXT_mesh_gpu_instancing"
#: Visits of nodes, beside several for each: a file with more has a loop.
_MAX_VISITS = 1000
_TRIMESH = "trimesh"


def read_gltf(files: SourceFiles, content: bytes, load_textures: bool) -> LoadedMesh:
    """The triangles of the default scene. Raises InputError for what cannot be read in full."""
    tree, binary = read_container(content)
    notes = Notes()
    _check_required(tree)
    buffers = Buffers(tree, files, binary)
    materials = GltfMaterials(tree, buffers, files, notes, load_textures)
    parts = list(_Reader(tree, buffers, materials, notes).read())
    return LoadedMesh(parts, "y", list(notes))


def _check_required(tree: dict) -> None:
    """Raise InputError when the file requires an extension that is not decoded."""
    for name in get_list(tree, "extensionsRequired"):
        if name == DRACO and not is_draco_available():
            raise InputError(
                f"it is compressed with {DRACO}: pip install 'mvdiff[draco]' reads it, or "
                "decompress the file ('gltf-transform copy' writes plain files)"
            )
        known = name in _HARMLESS or name == DRACO or name in MESHOPT
        if known or str(name).startswith("KHR_materials_"):
            continue
        what = "its textures need" if name in IMAGE_EXTENSIONS else "it requires"
        raise InputError(
            f"{what} the extension {shorten(str(name))}, which is not read: convert the file"
        )


class _Reader:
    """One file while it is read."""

    def __init__(
        self, tree: dict, buffers: Buffers, materials: GltfMaterials, notes: Notes
    ) -> None:
        self._tree, self._buffers, self._materials = tree, buffers, materials
        self._notes = notes
        self._primitives: dict[tuple[int, int], MeshPart | None] = {}
        generator = str(get_dict(tree, "asset").get("generator", ""))
        # trimesh writes 8-bit vertex colors as they are displayed; glTF means linear light
        self._bytes_are_display = _TRIMESH in generator
        self._face_count = 0

    def read(self) -> Iterator[MeshPart]:
        """The parts of the default scene, in world coordinates."""
        nodes = self._place_nodes()
        if nodes is None:  # no nodes at all: every mesh where it is
            for index in range(len(get_list(self._tree, "meshes"))):
                yield from self._mesh(index, {}, np.eye(4), None)
            return
        placed = {index: matrix for index, matrix, _ in nodes}
        for index, matrix, visible in nodes:
            node = get_item(self._tree, "nodes", index)
            if "mesh" not in node or not visible:
                continue
            joints = self._joint_matrices(node, placed) if "skin" in node else None
            for instance in self._instances(node):
                yield from self._mesh(node["mesh"], node, matrix @ instance, joints)

    def _place_nodes(self) -> list[tuple[int, np.ndarray, bool]] | None:
        """Index, world matrix and visibility of every node of the default scene, in its order."""
        scenes, nodes = get_list(self._tree, "scenes"), get_list(self._tree, "nodes")
        if scenes:
            roots = get_list(get_item(self._tree, "scenes", self._tree.get("scene", 0)), "nodes")
        elif nodes:
            children = {
                child
                for i in range(len(nodes))
                for child in get_list(get_item(self._tree, "nodes", i), "children")
                if isinstance(child, int)
            }
            roots = [i for i in range(len(nodes)) if i not in children]
        else:
            return None
        stack = [(root, np.eye(4), True, 0) for root in reversed(roots)]
        placed = []
        while stack:
            index, parent, visible, depth = stack.pop()
            if len(placed) > _MAX_VISITS + 16 * len(nodes) or depth > len(nodes):
                raise InputError("its nodes form a loop, or are used again and again")
            node = get_item(self._tree, "nodes", index)
            visibility = get_dict(get_dict(node, "extensions"), "KHR_node_visibility")
            visible = visible and visibility.get("visible", True) is not False
            matrix = parent @ _local_matrix(node)
            placed.append((index, matrix, visible))
            for child in reversed(get_list(node, "children")):
                stack.append((child, matrix, visible, depth + 1))
        return placed

    def _instances(self, node: dict) -> Iterator[np.ndarray]:
        """Matrices of the copies of a node's mesh; one without EXT_mesh_gpu_instancing."""
        extension = get_dict(node, "extensions").get(_INSTANCING)
        if not isinstance(extension, dict):
            yield np.eye(4)
            return
        attributes = get_dict(extension, "attributes")
        values = {
            name: self._values(attributes[name], width)
            for name, width in (("TRANSLATION", 3), ("ROTATION", 4), ("SCALE", 3))
            if name in attributes
        }
        for i in range(max((len(v) for v in values.values()), default=1)):
            local = {
                name.lower(): values[name][i].tolist() for name in values if i < len(values[name])
            }
            yield _local_matrix(local)

    def _joint_matrices(self, node: dict, placed: dict[int, np.ndarray]) -> np.ndarray | None:
        """World matrices (joint, 4, 4) of a skin in the pose that the nodes give."""
        skin = get_item(self._tree, "skins", node["skin"])
        joints = get_list(skin, "joints")
        self._notes.add("it has a skeleton: shown in its rest pose")
        if any(not isinstance(joint, int) or joint not in placed for joint in joints):
            return None
        inverse = np.broadcast_to(np.eye(4), (len(joints), 4, 4))
        if "inverseBindMatrices" in skin:
            inverse = self._values(skin["inverseBindMatrices"], 16).reshape(-1, 4, 4)
            inverse = inverse.swapaxes(1, 2)  # glTF stores columns
        if len(inverse) < len(joints) or not joints:
            return None
        return np.stack([placed[joint] @ inverse[i] for i, joint in enumerate(joints)])

    def _mesh(
        self, index: Any, node: dict, matrix: np.ndarray, joints: np.ndarray | None
    ) -> Iterator[MeshPart]:
        mesh = get_item(self._tree, "meshes", index)
        weights = node.get("weights", mesh.get("weights"))
        for number in range(len(get_list(mesh, "primitives"))):
            primitive = get_item(mesh, "primitives", number)
            key = (index, number)
            if primitive.get("targets"):
                part = self._primitive(primitive, weights, joints)
            elif joints is not None:
                part = self._primitive(primitive, None, joints)
            else:
                if key not in self._primitives:
                    self._primitives[key] = self._primitive(primitive, None, None)
                part = self._primitives[key]
            if part is None:
                continue
            self._face_count += len(part.faces)
            if self._face_count > MAX_FACES:
                raise InputError(f"it has more than {MAX_FACES} triangles: simplify it first")
            # a skin's joints place the vertices, whatever the node says
            skinned = joints is not None and "JOINTS_0" in get_dict(primitive, "attributes")
            yield part if skinned else part.transformed(matrix)

    def _primitive(
        self, primitive: dict, weights: Any, joints: np.ndarray | None
    ) -> MeshPart | None:
        """A primitive's triangles in its own coordinates; None for lines, points and nothing."""
        mode = primitive.get("mode", 4)
        attributes = get_dict(primitive, "attributes")
        if mode not in (4, 5, 6):
            if mode not in (0, 1, 2, 3):
                raise InputError(f"a primitive has the unknown mode {str(mode)[:20]}")
            self._notes.add("lines and points are not drawn")
            return None
        if "POSITION" not in attributes:
            return None
        get, indices = self._attribute_source(primitive, attributes)
        vertices = np.array(get("POSITION", 3), dtype=np.float64)
        if indices is None:
            indices = np.arange(len(vertices))
        faces = _triangles(indices, mode)
        check_faces(faces, len(vertices))
        if not len(faces):
            return None
        normals = unit(get("NORMAL", 3).astype(np.float64)) if "NORMAL" in attributes else None
        if primitive.get("targets"):
            vertices = self._morphed(primitive, vertices, weights)
        if joints is not None and "JOINTS_0" in attributes and "WEIGHTS_0" in attributes:
            vertices, normals = self._skinned(get, attributes, vertices, normals, joints)
        if normals is not None and not (np.linalg.norm(normals, axis=1) > 0.5).all():
            normals = None
        material = self._materials[primitive["material"]] if "material" in primitive else None
        uv, emissive_uv = self._coordinates(get, attributes, material, faces, len(vertices))
        colors = self._colors(get("COLOR_0", None)) if "COLOR_0" in attributes else None
        return MeshPart(
            vertices=vertices,
            faces=faces,
            normals=None if normals is None else normals[faces],
            uv=uv,
            emissive_uv=emissive_uv,
            colors=None if colors is None else colors[faces],
            material=None if material is None else material.material,
        )

    def _attribute_source(self, primitive: dict, attributes: dict) -> tuple[Any, Any]:
        """A function from attribute name and width to values, and the vertex numbers or None."""
        draco = get_dict(primitive, "extensions").get(DRACO)
        position = get_item(self._tree, "accessors", attributes["POSITION"])
        indices = None
        if isinstance(draco, dict) and (is_draco_available() or "bufferView" not in position):
            data = bytes(self._buffers.view(draco.get("bufferView")))
            decoded = decode_draco(data, get_dict(draco, "attributes"))

            def get(name: str, width: int | None) -> np.ndarray:
                item = get_item(self._tree, "accessors", attributes[name])
                if name not in decoded.attributes:
                    return self._values(attributes[name], width)
                values = decoded.attributes[name]
                normalized = item.get("normalized") is True or name.startswith("COLOR")
                return _of_width(dequantize(values) if normalized else values, width, name)

            indices = decoded.faces.reshape(-1)
        else:

            def get(name: str, width: int | None) -> np.ndarray:
                if name.startswith(("COLOR", "JOINTS")):
                    values = self._buffers.accessor(attributes[name], normalize=False)
                    return _of_width(values, width, name)
                return self._values(attributes[name], width)

            if "indices" in primitive:
                values = self._buffers.accessor(primitive["indices"], normalize=False)
                if values.dtype.kind != "u" or values.shape[1] != 1:
                    raise InputError("the vertex numbers of a primitive must be unsigned integers")
                indices = values.reshape(-1).astype(np.int64)
        return get, indices

    def _values(self, accessor: Any, width: int | None) -> np.ndarray:
        return _of_width(self._buffers.accessor(accessor), width, "an attribute")

    def _morphed(self, primitive: dict, vertices: np.ndarray, weights: Any) -> np.ndarray:
        """Vertices with the file's default weights of its morph targets."""
        targets = get_list(primitive, "targets")
        weights = weights if isinstance(weights, list) else []
        weights = get_numbers({"weights": weights}, "weights", [0.0] * len(weights))
        self._notes.add("it has morph targets: shown with the file's weights")
        for target, weight in zip(targets, weights, strict=False):
            if weight and isinstance(target, dict) and "POSITION" in target:
                moved = self._values(target["POSITION"], 3)
                if len(moved) != len(vertices):
                    raise InputError("a morph target has another number of vertices")
                vertices = vertices + weight * moved
        return vertices

    def _skinned(
        self, get: Any, attributes: dict, vertices: np.ndarray, normals: Any, joints: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Vertices and normals moved by their joints."""
        total = np.zeros((len(vertices), 4, 4))
        for number in range(4):
            if f"JOINTS_{number}" not in attributes or f"WEIGHTS_{number}" not in attributes:
                break
            index = get(f"JOINTS_{number}", 4).astype(np.int64)
            weight = get(f"WEIGHTS_{number}", 4).astype(np.float64)
            if len(index) != len(vertices) or len(weight) != len(vertices):
                raise InputError("the skin has another number of vertices")
            if len(index) and int(index.max()) >= len(joints):
                raise InputError("the skin names joints that are not there")
            for k in range(4):
                total += weight[:, k, None, None] * joints[index[:, k]]
        sums = total[:, 3, 3]
        total /= np.where(np.abs(sums) > 1e-6, sums, 1)[:, None, None]
        vertices = np.einsum("nij,nj->ni", total[:, :3, :3], vertices) + total[:, :3, 3]
        if normals is not None:
            normals = unit(np.einsum("nij,nj->ni", total[:, :3, :3], normals))
        return vertices, normals

    def _coordinates(
        self,
        get: Any,
        attributes: dict,
        material: GltfMaterial | None,
        faces: np.ndarray,
        count: int,
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Texture coordinates of the corners for base color and emission."""
        if material is None:
            return None, None

        def corners(coordinates: TextureCoordinates) -> np.ndarray | None:
            name = f"TEXCOORD_{coordinates.set}"
            if name not in attributes:
                self._notes.add(f"a textured part has no {name}: its texture is not shown")
                return None
            uv = get(name, 2)
            if len(uv) != count:
                raise InputError(f"{name} has {len(uv)} elements for {count} vertices")
            return coordinates(uv)[faces]

        uv = emissive_uv = None
        if material.material.texture is not None:
            uv = corners(material.base_uv)
        if material.material.emissive_texture is not None:
            emissive_uv = corners(material.emissive_uv)
        return uv, emissive_uv

    def _colors(self, values: np.ndarray) -> np.ndarray:
        """COLOR_0 as RGBA for display, in [0, 1]."""
        if values.shape[1] not in (3, 4):
            raise InputError("COLOR_0 must have 3 or 4 components")
        is_display = values.dtype == np.uint8 and self._bytes_are_display
        colors = np.ones((len(values), 4))
        colors[:, : values.shape[1]] = dequantize(values).astype(np.float64).clip(0, 1)
        colors = np.nan_to_num(colors, nan=1.0)
        if not is_display:
            colors[:, :3] = to_display(colors[:, :3])
        return colors


def _of_width(values: np.ndarray, width: int | None, name: str) -> np.ndarray:
    if width is not None and values.shape[1] != width:
        raise InputError(f"{name} must have {width} components, got {values.shape[1]}")
    return values


def _triangles(indices: np.ndarray, mode: int) -> np.ndarray:
    """Vertex numbers (face, 3) of a triangle list (4), strip (5) or fan (6)."""
    indices = indices.astype(np.int64)
    count = len(indices)
    if mode == 4:
        return indices[: count // 3 * 3].reshape(-1, 3)
    if count < 3:
        return np.zeros((0, 3), np.int64)
    i = np.arange(count - 2)
    if mode == 5:
        odd = i % 2  # every other triangle of a strip is turned, so that all face one way
        faces = np.stack([i, i + 1 + odd, i + 2 - odd], axis=1)
    else:
        faces = np.stack([i + 1, i + 2, np.zeros_like(i)], axis=1)
    return indices[faces]


def _local_matrix(node: dict) -> np.ndarray:
    """A node's matrix relative to its parent."""
    if "matrix" in node:
        return get_numbers(node, "matrix", [0.0] * 16).reshape(4, 4).T
    x, y, z, w = get_numbers(node, "rotation", [0.0, 0.0, 0.0, 1.0])
    scale = get_numbers(node, "scale", [1.0, 1.0, 1.0])
    matrix = np.eye(4)
    length = x * x + y * y + z * z + w * w
    s = 2 / length if length > 1e-12 else 0.0
    matrix[:3, :3] = [
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)],
    ]
    matrix[:3, :3] *= scale
    matrix[:3, 3] = get_numbers(node, "translation", [0.0, 0.0, 0.0])
    return matrix
