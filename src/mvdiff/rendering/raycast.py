"""Pictures of a mesh by casting one ray a sample: colors, alpha, depth and normals.

Rays go through Embree (the `embreex` package); where it is missing, a tracer in numpy
gives the same pictures, more slowly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from jaxtyping import Float, UInt8
from torch import Tensor

from ..cameras.camera import Cameras
from ..errors import InputError
from ..views import Views
from .surface import surface_of
from .tracers import build_tracer

#: Rays traced at once; bounds the memory of large pictures.
_BATCH = 1 << 21
#: A ray passes at most this many holes, each at least this far apart (share of the mesh's size).
_MAX_HOLES, _HOLE_STEP = 64, 1e-4


@dataclass(frozen=True)
class Shading:
    """A distant light and a constant one, in display (sRGB) space.

    light: direction towards the light, in the world; any length.
    ambient: brightness in [0, 1] of surfaces the light does not reach.
    wrap: how far the light reaches around, in [0, 1]: 0 is Lambert's cosine, 1 reaches
        all the way to the side that faces away.
    """

    light: tuple[float, float, float] = (0.5, -0.35, 1.0)
    ambient: float = 0.55
    wrap: float = 0.4

    def __call__(self, normals: np.ndarray) -> np.ndarray:
        """Brightness in [0, 1] for unit normals (n, 3)."""
        light = np.asarray(self.light, dtype=normals.dtype)
        cosine = normals @ (light / np.linalg.norm(light))
        lambert = np.clip((cosine + self.wrap) / (1 + self.wrap), 0, 1)
        return self.ambient + (1 - self.ambient) * lambert


SOFT = Shading()


@dataclass(frozen=True)
class Rendering:
    """What a set of cameras sees of a mesh.

    color: straight (not multiplied by alpha); 0 where alpha is 0.
    alpha: share of the pixel's samples that hit the mesh.
    depth: camera z at the pixel center, world units; 0 where nothing is hit.
    normals: unit normals in the world at the pixel center, turned towards the camera; 0
        where nothing is hit.
    """

    color: UInt8[Tensor, "view 3 height width"]
    alpha: UInt8[Tensor, "view 1 height width"]
    depth: Float[Tensor, "view height width"]
    normals: Float[Tensor, "view 3 height width"]

    def views(self, cameras: Cameras) -> Views:
        """Colors and alpha with the cameras that took them."""
        return Views(self.color, self.alpha, cameras)


class Raycaster:
    """Renders one mesh from any cameras; the ray structure is built once.

    mesh: colored by a texture, a material's base color, vertex or face colors, gray
        without any. Smooth shading uses `mesh.vertex_attributes["normal"]` when present,
        otherwise faces are flat. Both sides of a face are visible.
    Raises InputError when the mesh has no face of positive area.
    """

    def __init__(self, mesh: trimesh.Trimesh) -> None:
        faces = np.asarray(getattr(mesh, "faces", np.zeros((0, 3))), dtype=np.int64)
        corners = np.asarray(mesh.vertices, dtype=np.float64).reshape(-1, 3)[faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(across, axis=1)
        solid = np.flatnonzero((area > 0) & np.isfinite(area))
        if not len(solid):
            raise InputError("the mesh has no faces to render: expected at least one triangle")
        self._corners = corners[solid]
        self._bounds = corners[solid].min(axis=(0, 1)), corners[solid].max(axis=(0, 1))
        smooth = mesh.vertex_attributes.get("normal")
        if smooth is not None and np.shape(smooth) == mesh.vertices.shape:
            normals = np.asarray(smooth)[faces[solid]]
        else:
            normals = np.repeat((across[solid] / area[solid, None])[:, None], 3, axis=1)
        self._surface = surface_of(mesh, faces[solid], solid)
        # One table of all that varies over a face: normal, then what the surface wants.
        table = np.concatenate([normals, self._surface.values], axis=2).astype(np.float32)
        self._flat = bool((table == table[:, :1]).all())
        self._table = np.ascontiguousarray(table.transpose(1, 0, 2))
        self._trace = build_tracer(self._corners)

    def render(
        self, cameras: Cameras, *, supersample: int = 1, shading: Shading | None = SOFT
    ) -> Rendering:
        """Render every camera.

        supersample: samples along each side of a pixel, averaged for color and alpha.
        shading: the light; None gives the bare surface color.
        """
        if supersample < 1:
            raise InputError(f"supersample must be at least 1, got {supersample}")
        n, height, width = len(cameras), cameras.height, cameras.width
        exact = cameras.to("cpu", torch.float64)
        step = max(1, _BATCH // (height * width * supersample**2))
        color = np.zeros((n, height, width, 3), dtype=np.uint8)
        alpha = np.zeros((n, height, width), dtype=np.uint8)
        depth = np.zeros((n, height, width), dtype=np.float32)
        normals = np.zeros((n, height, width, 3), dtype=np.float32)
        for start in range(0, n, step):
            part = slice(start, min(start + step, n))
            hits = self._hits(exact[part])
            depth[part].reshape(-1)[hits.pixel] = self._depth(exact[part], hits)
            normals[part].reshape(-1, 3)[hits.pixel] = hits.normal
            if supersample > 1:
                hits = self._hits(exact[part].resize(height * supersample, width * supersample))
            rgb = self._surface.colors(hits.value, hits.face)
            if shading is not None:
                rgb = rgb * shading(hits.normal)[:, None]
            shape = color[part].shape[:3]
            color[part], alpha[part] = _average(rgb, hits.pixel, shape, supersample)
        return Rendering(
            color=_channels_first(color),
            alpha=torch.from_numpy(alpha)[:, None],
            depth=torch.from_numpy(depth),
            normals=_channels_first(normals),
        )

    def _hits(self, cameras: Cameras) -> _Hits:
        """What the ray through every pixel center meets first."""
        found = []
        for pixel, origins, directions in _rays(cameras, self._bounds):
            face, u, v = self._trace(origins, directions)
            if self._surface.is_solid is not None:
                face, u, v = self._pass_holes(directions, face, u, v)
            hit = np.flatnonzero(face >= 0)
            found.append((pixel[hit], face[hit], u[hit, None], v[hit, None], directions[hit]))
        pixel, face, u, v, ray = (np.concatenate(x) for x in zip(*found, strict=True))
        a, b, c = self._table
        value = a[face] if self._flat else (1 - u - v) * a[face] + u * b[face] + v * c[face]
        normal = value[:, :3]
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        normal[np.einsum("ni,ni->n", normal, ray) > 0] *= -1
        return _Hits(pixel, face, np.concatenate([u, v], axis=1), normal, value[:, 3:])

    def _pass_holes(
        self, directions: np.ndarray, face: np.ndarray, u: np.ndarray, v: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First hits that are no holes: rays go on behind each hole."""
        face, u, v = face.copy(), u.copy(), v.copy()
        step = _HOLE_STEP * float(np.linalg.norm(self._bounds[1] - self._bounds[0]))
        a, b, c = self._table
        ray = np.flatnonzero(face >= 0)
        for _ in range(_MAX_HOLES):
            at, s, t = face[ray], u[ray, None], v[ray, None]
            value = (1 - s - t) * a[at] + s * b[at] + t * c[at]
            hole = ~self._surface.is_solid(value[:, 3:], at)
            ray = ray[hole]
            if not len(ray):
                return face, u, v
            corners, weight = (
                self._corners[face[ray]],
                np.stack([1 - u[ray] - v[ray], u[ray], v[ray]]),
            )
            point = np.einsum("kn,nki->ni", weight.astype(np.float64), corners)
            way = directions[ray].astype(np.float64)
            length = np.linalg.norm(way, axis=1, keepdims=True)
            face[ray], u[ray], v[ray] = self._trace(point + way / length * step, directions[ray])
            ray = ray[face[ray] >= 0]
        face[ray] = -1
        return face, u, v

    def _depth(self, cameras: Cameras, hits: _Hits) -> np.ndarray:
        """Camera z of the hits, in float64 from the faces' corners."""
        b, c = hits.weights.T.astype(np.float64)
        weights = np.stack([1 - b - c, b, c], axis=1)
        point = np.einsum("nk,nki->ni", weights, self._corners[hits.face])
        view = hits.pixel // (cameras.height * cameras.width)
        forward, offset = cameras.R[:, 2].numpy(), cameras.t[:, 2].numpy()
        return np.einsum("ni,ni->n", point, forward[view]) + offset[view]


@dataclass(frozen=True)
class _Hits:
    """The pixels (flat index) whose ray meets a face, and what it meets there.

    weights: of the face's second and third corner. normal: towards the camera.
    value: the rest of the table, for the surface.
    """

    pixel: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    normal: np.ndarray
    value: np.ndarray


def _rays(
    cameras: Cameras, bounds: tuple[np.ndarray, np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """View by view: flat pixel index (ray,), origins (ray or 1, 3) and directions (ray, 3).

    Only pixels inside the bounding box's picture: the others cannot hit.
    """
    height, width = cameras.height, cameras.width
    corners = np.stack(np.meshgrid(*np.stack(bounds, axis=1), indexing="ij"), -1).reshape(-1, 3)
    uv, depth = (x.numpy() for x in cameras.project(torch.from_numpy(corners)))
    # A step of one pixel along u and v, and pixel (0, 0), on the plane of depth 1, in the world.
    K, R = cameras.K.numpy(), cameras.R.numpy()
    steps = np.linalg.inv(K[:, :2, :2]).swapaxes(1, 2) @ R[:, :2]
    zero = -np.einsum("vi,vij->vj", K[:, :2, 2], steps)
    for i, center in enumerate(cameras.centers.numpy()):
        u0, v0, u1, v1 = 0, 0, width, height
        if cameras.projection == "orthographic" or depth[i].min() > 1e-6:
            u0, v0 = np.clip(np.floor(uv[i].min(axis=0)) - 1, 0, [width, height]).astype(int)
            u1, v1 = np.clip(np.ceil(uv[i].max(axis=0)) + 1, 0, [width, height]).astype(int)
        u, v = np.arange(u0, u1), np.arange(v0, v1)
        pixel = ((i * height + v)[:, None] * width + u).reshape(-1)
        du, dv = steps[i]
        plane = (u + 0.5)[:, None] * du + ((v + 0.5)[:, None] * dv + zero[i])[:, None]
        forward = R[i, 2]
        if cameras.projection == "orthographic":
            # Pixels move the origin; the center is the camera frame's origin.
            yield pixel, plane.reshape(-1, 3) + center, np.tile(forward, (len(pixel), 1))
        else:
            directions = (plane + forward).astype(np.float32)
            yield pixel, center[None], directions.reshape(-1, 3)


def _channels_first(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))


def _average(
    rgb: np.ndarray, pixel: np.ndarray, shape: tuple[int, int, int], factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """Samples (color in [0, 1], flat index on the fine grid) to 8-bit color and alpha."""
    n, height, width = shape
    view, rest = np.divmod(pixel, height * width * factor**2)
    row, column = np.divmod(rest, width * factor)
    target = (view * height + row // factor) * width + column // factor
    count = np.bincount(target, minlength=n * height * width)
    sums = [np.bincount(target, rgb[:, i], minlength=len(count)) for i in range(3)]
    color = np.stack(sums, axis=-1) / np.maximum(count, 1)[:, None]
    alpha = np.rint(count * (255 / factor**2)).astype(np.uint8)
    return np.rint(color.clip(0, 1) * 255).astype(np.uint8).reshape(*shape, 3), alpha.reshape(shape)
