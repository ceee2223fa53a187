"""Things on a table: mug, bottle, teapot, ice cream, cake, gift, barrel."""

from __future__ import annotations

import numpy as np

from .builder import DARK_WOOD, SILVER, WHITE, WOOD, ShapeBuilder, arc
from .shapes import SHAPES


@SHAPES.register("mug")
def mug(kit: ShapeBuilder) -> None:
    """A hollow cup with a handle, plain, striped or with a colored inside; sometimes full."""
    r, h, taper = kit.u(0.32, 0.45), kit.u(0.7, 1.1), kit.u(0.8, 1.12)
    outer, inner, wall = kit.color(0), kit.pick(WHITE, kit.color(1)), 0.05
    low = r * taper
    paint = outer
    if kit.chance(0.5):
        paint = kit.stripes(outer, kit.color(1), kit.pick(1, 1, 2, 3), 0.12 * h, 0.88 * h)
    kit.lathe([(0, 0), (low * 0.96, 0), (low, 0.03), (r, h)], paint, rings=0.03)
    kit.lathe([(r, h), (r - wall, h), (low - wall, wall), (0, wall)], inner)
    if kit.chance(0.5):
        level = h * kit.u(0.75, 0.88)
        kit.lathe([(r - 0.8 * wall, level - 0.01), (0, level)], kit.shade((0.35, 0.2, 0.1)))
    bow = arc((kit.u(0.2, 0.3), h * kit.u(0.25, 0.32)), -95, 95)
    at = (r + low) / 2 - 0.03
    path = [(0.0, at + x, h / 2 + z) for x, z in bow]
    kit.tube(path, kit.u(0.045, 0.065), kit.pick(outer, kit.color(1)))


@SHAPES.register("bottle")
def bottle(kit: ShapeBuilder) -> None:
    """A bottle with a shoulder, a neck, a cap and a label."""
    r, body, neck = kit.u(0.22, 0.34), kit.u(0.6, 1.0), kit.u(0.08, 0.13)
    shoulder, top = kit.u(0.15, 0.35), kit.u(0.15, 0.4)
    glass = kit.pick(
        kit.color(0),
        kit.shade((0.15, 0.4, 0.2)),
        kit.shade((0.4, 0.22, 0.1)),
        kit.shade((0.6, 0.8, 0.88)),
    )
    curve = [
        (neck + (r - neck) * np.cos(t), body + shoulder * np.sin(t))
        for t in np.linspace(0, np.pi / 2, 7)
    ]
    height = body + shoulder + top
    kit.lathe([(0, 0), (r * 0.92, 0), (r, 0.05), *curve, (neck, height), (0, height)], glass)
    kit.lathe(
        [(0, 0), (neck + 0.03, 0), (neck + 0.03, 0.12), (0, 0.13)],
        kit.color(1),
        at=(0, 0, height - 0.06),
    )
    if kit.chance(0.8):
        low, high = body * kit.u(0.15, 0.3), body * kit.u(0.7, 0.9)
        label = kit.stripes(kit.pick(WHITE, kit.color(2)), kit.color(3), kit.pick(1, 2), low, high)
        kit.lathe(
            [(r * 0.98, low), (r + 0.012, low), (r + 0.012, high), (r * 0.98, high)],
            label,
            rings=0.03,
        )


@SHAPES.register("teapot")
def teapot(kit: ShapeBuilder) -> None:
    """A round pot with a spout, a handle and a lid."""
    r, squash, color = kit.u(0.42, 0.52), kit.u(0.72, 1.0), kit.color(0)
    second = kit.color(1)
    sphere = arc((r, r * squash), -70, 62, 16)
    base = -sphere[0, 1]
    paint = kit.stripes(color, second, kit.pick(1, 2), base * 0.4, base * 1.3)
    if kit.chance(0.5):
        paint = color
    kit.lathe(
        [(0, 0), *[(x, z + base) for x, z in sphere], (0, sphere[-1, 1] + base)], paint, rings=0.04
    )
    lid = sphere[-1, 1] + base
    width = sphere[-1, 0]
    kit.lathe([(width + 0.02, lid), (width * 0.8, lid + 0.08), (0, lid + 0.12)], second)
    kit.ball(0.07, kit.color(2), (0, 0, lid + 0.17))
    bow = arc((0.28, base * 0.62), 70, 290)
    kit.tube([(-r * 0.92 + x, 0.0, base * 1.02 + z) for x, z in bow], 0.05, second)
    lift = kit.u(0.25, 0.4)
    spout = [
        (r * 0.7 + t * 0.5, 0.0, base * 0.75 + lift * t**1.5 + 0.2 * t)
        for t in np.linspace(0, 1, 6)
    ]
    for i in range(5):
        kit.rod(spout[i], spout[i + 1], (0.13 - 0.016 * i, 0.13 - 0.016 * (i + 1)), color)


@SHAPES.register("icecream")
def icecream(kit: ShapeBuilder) -> None:
    """A waffle cone with one to three scoops, sometimes a cherry or a wafer."""
    r, h = kit.u(0.26, 0.34), kit.u(0.7, 1.0)
    waffle = kit.shade((0.87, 0.62, 0.32))
    kit.lathe(
        [(0, 0), (0.03, 0), (r, h)],
        kit.stripes(waffle, kit.shade((0.72, 0.46, 0.2), 0.03), kit.pick(3, 4, 5), 0, h),
        rings=0.03,
    )
    kit.lathe([(r, h - 0.04), (r + 0.04, h - 0.04), (r + 0.04, h + 0.05), (0, h + 0.05)], waffle)
    flavours = [
        (0.98, 0.75, 0.8),
        (0.36, 0.2, 0.12),
        (0.98, 0.93, 0.75),
        (0.65, 0.88, 0.7),
        (0.75, 0.2, 0.35),
        (0.98, 0.7, 0.35),
        (0.6, 0.75, 0.95),
    ]
    order = kit.rng.permutation(len(flavours))
    z, size = h + 0.05, r * kit.u(1.0, 1.12)
    for i in range(kit.pick(1, 2, 2, 3)):
        kit.ball(
            (size, size, size * 0.92), kit.shade(flavours[order[i]], 0.03), (0, 0, z + size * 0.5)
        )
        z += size * 1.05
        size *= 0.88
    if kit.chance(0.4):
        kit.ball(0.09, (0.8, 0.08, 0.12), (0, 0, z + 0.08))
    elif kit.chance(0.5):
        kit.rod((0.05, 0.1, z - 0.3), (0.2, 0.25, z + 0.25), 0.045, waffle)


@SHAPES.register("cake")
def cake(kit: ShapeBuilder) -> None:
    """A layer cake on a plate, with icing, dots or candles."""
    tiers, z, r = kit.pick(1, 1, 2, 3), 0.05, kit.u(0.5, 0.6)
    kit.lathe([(0, 0), (r + 0.1, 0), (r + 0.16, 0.05), (0, 0.05)], kit.pick(WHITE, SILVER))
    sponge, icing, dots = kit.shade((0.87, 0.7, 0.45)), kit.color(0), kit.color(1)
    for _ in range(tiers):
        h = kit.u(0.26, 0.36)
        body = kit.stripes(sponge, icing, kit.pick(1, 2), z, z + h) if tiers == 1 else icing
        kit.lathe(
            [(0, 0), (r, 0), (r, h), (0, h)],
            lambda c, p=body, base=z: (
                p(c + np.array([0, 0, base])) if callable(p) else np.broadcast_to(p, c.shape)
            ),
            at=(0, 0, z),
            rings=0.03,
        )
        kit.lathe(
            [(r * 0.98, -0.05), (r + 0.025, -0.03), (r + 0.02, 0.02), (0, 0.035)],
            kit.pick(WHITE, icing),
            at=(0, 0, z + h),
        )
        z += h + 0.03
        for a in np.linspace(0, 2 * np.pi, kit.pick(8, 10, 12), endpoint=False):
            kit.ball(0.045, dots, (0.84 * r * np.cos(a), 0.84 * r * np.sin(a), z), detail=1)
        r *= kit.u(0.6, 0.72)
    if kit.chance(0.6):
        for a in np.linspace(0, 2 * np.pi, kit.pick(1, 3, 5), endpoint=False) + 0.3:
            x, y = 0.55 * r * np.cos(a), 0.55 * r * np.sin(a)
            kit.rod((x, y, z - 0.02), (x, y, z + 0.22), 0.03, kit.color(2))
            kit.ball((0.03, 0.03, 0.055), (1.0, 0.75, 0.2), (x, y, z + 0.27), detail=1)


@SHAPES.register("gift")
def gift(kit: ShapeBuilder) -> None:
    """A wrapped box with a ribbon and a bow."""
    x, y, z = kit.u(0.6, 1.0), kit.u(0.6, 1.0), kit.u(0.4, 0.9)
    paper, ribbon, w = kit.color(0), kit.color(1), kit.u(0.1, 0.16)
    kit.box((x, y, z), paper, (0, 0, z / 2))
    lid = kit.chance(0.6)
    if lid:
        kit.box((x + 0.06, y + 0.06, 0.16), kit.shade(paper), (0, 0, z))
    grow, top = (0.08, z + 0.09) if lid else (0.02, z + 0.01)
    kit.box((x + grow, w, top), ribbon, (0, 0, top / 2))
    kit.box((w, y + grow, top), ribbon, (0, 0, top / 2))
    for side in (-1, 1):
        loop = arc((0.2, 0.13), 0, 360, 18)
        kit.tube(
            [(0.0, side * (0.19 + a), top + 0.1 + b + 0.2 * abs(a)) for a, b in loop], 0.045, ribbon
        )
    kit.ball(0.08, ribbon, (0, 0, top + 0.06))


@SHAPES.register("barrel")
def barrel(kit: ShapeBuilder) -> None:
    """A wooden barrel or a drum, with hoops, standing or lying."""
    r, h, belly = kit.u(0.3, 0.4), kit.u(0.8, 1.05), kit.u(0.02, 0.12)
    wood = kit.pick(kit.shade(WOOD), kit.shade(DARK_WOOD), kit.color(0))
    other = tuple(0.8 * c for c in wood)

    def radius(z: float) -> float:
        return r + belly * (1 - (2 * z / h - 1) ** 2)

    def staves(c: np.ndarray) -> np.ndarray:
        odd = np.floor(np.arctan2(c[:, 1], c[:, 0]) / (2 * np.pi) * 28) % 2 == 1
        return np.where(odd[:, None], wood, other)

    turn, at = ((0, 90, 0), (-h / 2, 0, r + belly)) if kit.chance(0.3) else ((0, 0, 0), (0, 0, 0))
    side = [(radius(z), z) for z in np.linspace(0, h, 9)]
    kit.lathe(
        [
            (0, 0.04),
            (r - 0.03, 0.04),
            (r - 0.03, 0),
            *side,
            (r - 0.03, h),
            (r - 0.03, h - 0.04),
            (0, h - 0.04),
        ],
        staves,
        at,
        turn,
    )
    hoop = kit.pick((0.3, 0.32, 0.35), kit.color(1))
    for z in (0.08 * h, 0.3 * h, 0.7 * h, 0.92 * h):
        a, b = z - 0.03, z + 0.03
        kit.lathe(
            [
                (radius(a) - 0.02, a),
                (radius(a) + 0.015, a),
                (radius(b) + 0.015, b),
                (radius(b) - 0.02, b),
            ],
            hoop,
            at,
            turn,
        )
