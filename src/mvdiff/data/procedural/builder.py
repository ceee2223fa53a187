"""What shapes are built of: colored solids, put together into one mesh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import trimesh

from ..meshes import from_corners

Color = tuple[float, float, float]
Vector = Sequence[float] | np.ndarray
#: One color, or colors of faces by their centers, measured before the part is placed.
Paint = Color | Callable[[np.ndarray], np.ndarray]

WHITE, BLACK = (0.95, 0.95, 0.93), (0.13, 0.13, 0.15)
GREY, SILVER, STEEL = (0.5, 0.51, 0.54), (0.75, 0.77, 0.8), (0.6, 0.63, 0.68)
WOOD, DARK_WOOD = (0.66, 0.45, 0.26), (0.4, 0.26, 0.15)
GOLD, GLASS = (0.9, 0.7, 0.22), (0.62, 0.8, 0.9)
#: Colors that go well together; a shape draws one row and takes colors from it.
PALETTES = (
    ((0.85, 0.2, 0.18), (0.98, 0.83, 0.3), (0.15, 0.35, 0.6), (0.94, 0.92, 0.86)),
    ((0.12, 0.52, 0.48), (0.96, 0.64, 0.38), (0.9, 0.43, 0.32), (0.15, 0.27, 0.33)),
    ((0.55, 0.28, 0.62), (0.96, 0.74, 0.84), (0.3, 0.65, 0.85), (0.98, 0.95, 0.9)),
    ((0.2, 0.6, 0.3), (0.95, 0.9, 0.7), (0.65, 0.3, 0.2), (0.98, 0.76, 0.2)),
    ((0.16, 0.45, 0.8), (0.95, 0.55, 0.15), (0.93, 0.95, 0.97), (0.2, 0.22, 0.3)),
    ((0.95, 0.45, 0.55), (0.45, 0.8, 0.75), (1.0, 0.88, 0.55), (0.35, 0.3, 0.5)),
    ((0.5, 0.7, 0.25), (0.85, 0.35, 0.2), (0.95, 0.85, 0.55), (0.35, 0.25, 0.2)),
    ((0.7, 0.12, 0.25), (0.9, 0.88, 0.85), (0.25, 0.25, 0.28), (0.85, 0.65, 0.3)),
)


class ShapeBuilder:
    """Parts of one object and the random numbers that vary it."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.palette = [PALETTES[rng.integers(len(PALETTES))][i] for i in rng.permutation(4)]
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def u(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, *choices: object):
        return choices[self.rng.integers(len(choices))]

    def shade(self, color: Color, amount: float = 0.06) -> Color:
        """A color near the given one."""
        moved = np.asarray(color) * self.u(1 - 2 * amount, 1 + amount)
        return tuple(np.clip(moved + self.rng.uniform(-amount, amount, 3), 0.03, 1).tolist())

    def color(self, index: int) -> Color:
        """The palette's color, slightly moved."""
        return self.shade(self.palette[index % 4])

    def stripes(self, first: Color, second: Color, count: int, low: float, high: float) -> Paint:
        """Bands of two colors along z between `low` and `high`; `first` outside."""

        def paint(centers: np.ndarray) -> np.ndarray:
            band = np.floor((centers[:, 2] - low) / (high - low) * (2 * count + 1))
            odd = (band % 2 == 1) & (band >= 0) & (band < 2 * count + 1)
            return np.where(odd[:, None], second, first)

        return paint

    def add(
        self,
        mesh: trimesh.Trimesh,
        paint: Paint,
        at: Vector = (0, 0, 0),
        turn: Vector = (0, 0, 0),
        crease: float = 40,
    ) -> None:
        """Place a solid: rotate by `turn` (degrees about x, then y, then z), move to `at`.

        crease: edges sharper than this (degrees) stay sharp, others are shaded smoothly.
        """
        centers = mesh.triangles_center
        rgb = np.broadcast_to(paint(centers) if callable(paint) else paint, (len(centers), 3))
        matrix = trimesh.transformations.euler_matrix(*np.radians(turn), "sxyz")
        matrix[:3, 3] = at
        normals = _smooth_normals(mesh, crease) @ matrix[:3, :3].T
        corners = mesh.triangles @ matrix[:3, :3].T + matrix[:3, 3]
        self._parts.append((corners, normals, np.repeat(rgb[:, None], 3, axis=1)))

    def box(self, size: Vector, paint: Paint, at=(0, 0, 0), turn=(0, 0, 0)) -> None:
        """A box centered on `at`."""
        self.add(trimesh.creation.box(extents=size), paint, at, turn)

    def ball(self, radii, paint: Paint, at=(0, 0, 0), turn=(0, 0, 0), detail: int = 3) -> None:
        """A ball or ellipsoid (three radii) centered on `at`."""
        mesh = trimesh.creation.icosphere(subdivisions=detail)
        mesh.apply_scale(np.broadcast_to(np.asarray(radii, dtype=float), 3))
        self.add(mesh, paint, at, turn)

    def lathe(
        self,
        profile: Sequence[tuple[float, float]],
        paint: Paint,
        at=(0, 0, 0),
        turn=(0, 0, 0),
        sections: int = 28,
        rings: float = 0.0,
        crease: float = 40,
    ) -> None:
        """A profile of (radius, z) points, from bottom to top outside, turned about z.

        rings: longest step in z, for stripes; 0 leaves the profile as it is.
        """
        points = [profile[0]]
        for (r0, z0), (r1, z1) in pairwise(profile):
            steps = max(1, int(np.ceil(abs(z1 - z0) / rings))) if rings else 1
            points += [
                (r0 + (r1 - r0) * i / steps, z0 + (z1 - z0) * i / steps)
                for i in range(1, steps + 1)
            ]
        mesh = trimesh.creation.revolve(np.maximum(points, [[0, -np.inf]]), sections=sections)
        self.add(mesh, paint, at, turn, crease)

    def rod(self, start, end, radius, paint: Paint, sections: int = 14) -> None:
        """A round rod between two points; `radius` one number, or one for each end."""
        r0, r1 = np.broadcast_to(radius, 2)
        start, end = np.asarray(start, dtype=float), np.asarray(end, dtype=float)
        length = float(np.linalg.norm(end - start))
        x, y, z = (end - start) / length
        turn = (0, np.degrees(np.arctan2(np.hypot(x, y), z)), np.degrees(np.arctan2(y, x)))
        profile = [(0, 0), (r0, 0), (r1, length), (0, length)]
        self.lathe(profile, paint, start, turn, sections)

    def hull(self, points, paint: Paint, at=(0, 0, 0), turn=(0, 0, 0), crease=20) -> None:
        """The convex solid around points."""
        self.add(trimesh.convex.convex_hull(np.asarray(points, float)), paint, at, turn, crease)

    def prism(self, outline, depth: float, paint: Paint, at=(0, 0, 0), turn=(0, 0, 0)) -> None:
        """A convex outline in the xz plane, `depth` thick along y, centered on y = 0."""
        flat = np.asarray(outline, dtype=float)
        sides = [np.insert(flat, 1, y, axis=1) for y in (-depth / 2, depth / 2)]
        self.hull(np.concatenate(sides), paint, at, turn)

    def tube(self, path, radius: float, paint: Paint, sections: int = 10) -> None:
        """A round tube along a smooth path of points (n, 3)."""
        path = np.asarray(path, dtype=float)
        along = np.gradient(path, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        spread = np.linalg.svd(path - path.mean(axis=0))[2][2]
        side = np.cross(along, spread)
        side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
        other = np.cross(along, side)
        angle = np.linspace(0, 2 * np.pi, sections, endpoint=False)
        ring = (
            np.cos(angle)[None, :, None] * side[:, None]
            + np.sin(angle)[None, :, None] * (other[:, None])
        )
        vertices = (path[:, None] + radius * ring).reshape(-1, 3)
        i, j = np.meshgrid(np.arange(len(path) - 1), np.arange(sections), indexing="ij")
        a, b = i * sections + j, i * sections + (j + 1) % sections
        quads = np.stack([a, b, b + sections, a, b + sections, a + sections], axis=-1)
        self.add(trimesh.Trimesh(vertices, quads.reshape(-1, 3), process=False), paint)

    def mesh(self) -> trimesh.Trimesh:
        """All parts as one mesh, turned a little about z, so that no pose is special."""
        corners, normals, rgb = (np.concatenate(x) for x in zip(*self._parts, strict=True))
        angle = np.radians(self.u(-11.25, 11.25))
        turn = np.array(
            [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        )
        return from_corners(corners @ turn.T, normals @ turn.T, rgb)


def arc(radius, start: float, end: float, count: int = 14) -> np.ndarray:
    """Points (count, 2) on an arc, degrees; `radius` one number, or one for each axis."""
    angle = np.radians(np.linspace(start, end, count))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.asarray(radius)


def _smooth_normals(mesh: trimesh.Trimesh, crease: float) -> np.ndarray:
    """Normals (face, corner, 3): averages over neighbors that bend less than `crease`."""
    faces, normal = mesh.faces, mesh.face_normals
    weight = mesh.area_faces
    around: list[list[int]] = [[] for _ in range(len(mesh.vertices))]
    for f, corners in enumerate(faces.tolist()):
        for v in corners:
            around[v].append(f)
    width = max(len(a) for a in around)
    table = np.array([a + [a[0] if a else 0] * (width - len(a)) for a in around])
    valid = np.arange(width) < np.array([len(a) for a in around])[:, None]
    near = table[faces]
    alike = np.einsum("fcni,fi->fcn", normal[near], normal) > np.cos(np.radians(crease))
    share = weight[near] * (alike & valid[faces])
    total = np.einsum("fcn,fcni->fci", share, normal[near])
    length = np.linalg.norm(total, axis=-1, keepdims=True)
    return np.where(length > 1e-12, total / np.maximum(length, 1e-12), normal[:, None])
