"""Buildings: house, castle, windmill, lighthouse."""

from __future__ import annotations

import numpy as np

from .builder import DARK_WOOD, GLASS, GREY, WHITE, WOOD, ShapeBuilder
from .shapes import SHAPES


@SHAPES.register("house")
def house(kit: ShapeBuilder) -> None:
    """Walls under a gabled or pyramid roof, a door, windows and often a chimney."""
    x, y, h, rise = kit.u(0.7, 1.0), kit.u(0.8, 1.2), kit.u(0.5, 0.85), kit.u(0.3, 0.6)
    wall = kit.pick(kit.color(0), kit.shade((0.93, 0.88, 0.76)), kit.shade((0.72, 0.35, 0.28)))
    roof = kit.pick(kit.color(1), kit.shade((0.65, 0.25, 0.18)), kit.shade((0.3, 0.33, 0.4)))
    trim, eave = kit.pick(WHITE, kit.color(2)), 0.1
    kit.box((x, y, h), wall, (0, 0, h / 2))
    if kit.chance(0.7):
        kit.prism([(-x / 2, 0), (x / 2, 0), (0, rise)], y, wall, (0, 0, h))
        slope, length = np.degrees(np.arctan2(rise, x / 2)), np.hypot(rise, x / 2) + eave
        for side in (-1, 1):
            a = np.radians(slope)
            at = (side * length / 2 * np.cos(a), 0, h + rise - length / 2 * np.sin(a) + 0.03)
            kit.box((length, y + 2 * eave, 0.07), roof, at, (0, side * slope, 0))
    else:
        base = [(sx * (x / 2 + eave), sy * (y / 2 + eave), 0) for sx in (-1, 1) for sy in (-1, 1)]
        ridge = y * kit.pick(0.0, 0.25)
        kit.hull([*base, (0, ridge, rise), (0, -ridge, rise)], roof, (0, 0, h))
    front = x / 2
    door = kit.pick(kit.shade(WOOD), kit.shade(DARK_WOOD), kit.color(3))
    dh = h * kit.u(0.5, 0.65)
    dy = y * kit.pick(-0.22, 0.0, 0.22)
    kit.box((0.05, 0.24, dh + 0.04), trim, (front, dy, dh / 2))
    kit.box((0.08, 0.18, dh), door, (front, dy, dh / 2))
    for wy in (-0.3, 0.3):
        if abs(wy * y - dy) > 0.22:
            _window(kit, (front, wy * y, h * 0.6), trim, along="y")
        _window(kit, (-front, wy * y, h * 0.6), trim, along="y")
        for side in (-1, 1):
            _window(kit, (wy * x * 0.9, side * y / 2, h * 0.6), trim, along="x")
    if kit.chance(0.65):
        kit.box(
            (0.16, 0.16, rise), kit.shade((0.55, 0.3, 0.25)), (-x * 0.22, y * 0.25, h + rise * 0.75)
        )


def _window(kit: ShapeBuilder, at, trim, along: str, size: float = 0.2) -> None:
    """A framed pane in a wall that runs along x or y."""
    frame, pane = (0.04, size + 0.06, size + 0.06), (0.06, size, size)
    if along == "x":
        frame, pane = (frame[1], frame[0], frame[2]), (pane[1], pane[0], pane[2])
    kit.box(frame, trim, at)
    kit.box(pane, GLASS, at)


@SHAPES.register("castle")
def castle(kit: ShapeBuilder) -> None:
    """Walls with battlements between corner towers with pointed roofs, a gate and flags."""
    stone = kit.pick(kit.shade((0.7, 0.68, 0.65)), kit.shade((0.8, 0.72, 0.58)), kit.color(2))
    roof, s, h = kit.color(0), kit.u(0.42, 0.55), kit.u(0.4, 0.55)
    dark = tuple(0.85 * c for c in stone)
    for side in (-1, 1):
        kit.box((2 * s, 0.12, h), stone, (0, side * s, h / 2))
        kit.box((0.12, 2 * s, h), stone, (side * s, 0, h / 2))
        for t in np.linspace(-0.7, 0.7, 5) * s:
            kit.box((0.1, 0.13, 0.1), dark, (t, side * s, h + 0.04))
            kit.box((0.13, 0.1, 0.1), dark, (side * s, t, h + 0.04))
    r, tall, cone = kit.u(0.15, 0.2), h * kit.u(1.4, 1.8), kit.chance(0.75)
    for sx in (-1, 1):
        for sy in (-1, 1):
            at = (sx * s, sy * s, 0)
            kit.lathe(
                [
                    (0, 0),
                    (r * 1.08, 0),
                    (r, 0.1),
                    (r, tall),
                    (r * 1.15, tall + 0.03),
                    (r * 1.15, tall + 0.1),
                    (0, tall + 0.1),
                ],
                stone,
                at,
                sections=20,
            )
            if cone:
                kit.lathe(
                    [(r * 1.3, 0), (0, r * 2.2)], roof, (sx * s, sy * s, tall + 0.1), sections=20
                )
                kit.lathe(
                    [(0, 0.001), (r * 1.3, 0)], roof, (sx * s, sy * s, tall + 0.1), sections=20
                )
    kit.box((0.16, 0.26, h * 0.6), kit.shade(DARK_WOOD), (s, 0, h * 0.3))
    if kit.chance(0.7):
        keep = h * kit.u(1.7, 2.3)
        kit.box((s * 0.8, s * 0.8, keep), dark, (0, 0, keep / 2))
        kit.hull(
            [*[(x * s * 0.5, y * s * 0.5, 0) for x in (-1, 1) for y in (-1, 1)], (0, 0, s * 0.7)],
            roof,
            (0, 0, keep),
        )
        pole = keep + s * 0.65
        kit.rod((0, 0, pole), (0, 0, pole + 0.25), 0.02, GREY)
        kit.box((0.02, 0.2, 0.12), kit.color(1), (0, 0.1, pole + 0.19))


@SHAPES.register("windmill")
def windmill(kit: ShapeBuilder) -> None:
    """A tapering tower with a cap and four sails."""
    r, h, wall = kit.u(0.34, 0.42), kit.u(0.85, 1.1), kit.pick(WHITE, kit.color(0))
    top = r * kit.u(0.6, 0.75)
    paint = kit.stripes(wall, kit.color(1), 1, 0, h) if kit.chance(0.4) else wall
    kit.lathe([(0, 0), (r, 0), (top, h), (0, h)], paint, rings=0.05, sections=kit.pick(8, 28))
    kit.lathe([(top * 1.12, 0), (top * 0.8, 0.16), (0, 0.28)], kit.color(2), (0, 0, h), crease=60)
    kit.box((0.1, 0.2, 0.34), kit.shade(DARK_WOOD), (r * 0.93, 0, 0.17))
    hub, spin, length = (top + 0.14, 0.0, h + 0.06), kit.u(0, 90), kit.u(0.6, 0.75)
    kit.rod((0, 0, hub[2]), (hub[0] + 0.06, 0, hub[2]), 0.05, kit.shade(DARK_WOOD))
    sail = kit.pick(WHITE, kit.color(3))
    for i in range(4):
        a = np.radians(spin + 90 * i)
        out = np.array([0, np.cos(a), np.sin(a)])
        kit.rod(hub, np.array(hub) + out * length, 0.022, kit.shade(WOOD))
        at = np.array(hub) + out * length * 0.6 + 0.07 * np.array([0, -np.sin(a), np.cos(a)])
        kit.box((0.025, length * 0.72, 0.15), sail, at, (np.degrees(a), 0, 0))


@SHAPES.register("lighthouse")
def lighthouse(kit: ShapeBuilder) -> None:
    """A banded tower on a rock, with a gallery, a lamp and a cap."""
    r, h = kit.u(0.24, 0.32), kit.u(1.0, 1.4)
    top, first, second = r * kit.u(0.6, 0.8), WHITE, kit.color(0)
    kit.lathe([(0, 0), (r * 1.7, 0), (r * 1.5, 0.12), (0, 0.14)], kit.shade(GREY), sections=9)
    kit.lathe(
        [(0, 0), (r, 0), (top, h), (0, h)],
        kit.stripes(first, second, kit.pick(2, 3, 4), 0, h),
        (0, 0, 0.12),
        rings=0.02,
    )
    z = h + 0.12
    kit.lathe([(0, 0), (top * 1.4, 0), (top * 1.4, 0.05), (0, 0.05)], (0.25, 0.26, 0.3), (0, 0, z))
    kit.lathe([(top * 0.72, 0), (top * 0.72, 0.22)], (1.0, 0.9, 0.5), (0, 0, z + 0.05))
    kit.lathe(
        [(0, 0.0), (top * 1.0, 0), (top * 0.5, 0.14), (0, 0.18)],
        kit.pick(second, kit.color(1)),
        (0, 0, z + 0.27),
    )
    kit.ball(0.05, second, (0, 0, z + 0.47), detail=2)
    kit.box((0.1, 0.18, 0.3), kit.shade(DARK_WOOD), (r * 0.95, 0, 0.27))
    for f in (0.45, 0.75):
        kit.box((0.06, 0.1, 0.12), (0.3, 0.4, 0.5), (r + (top - r) * f, 0, 0.12 + h * f))
