"""Growing things: tree, mushroom, cactus, flower."""

from __future__ import annotations

import numpy as np

from .builder import DARK_WOOD, WHITE, WOOD, ShapeBuilder, arc
from .shapes import SHAPES


@SHAPES.register("tree")
def tree(kit: ShapeBuilder) -> None:
    """A fir of stacked cones, a round-headed tree or one of several leaf balls."""
    bark = kit.pick(kit.shade(WOOD), kit.shade(DARK_WOOD))
    leaf = kit.shade(
        kit.pick(
            (0.2, 0.5, 0.2),
            (0.35, 0.6, 0.2),
            (0.12, 0.42, 0.3),
            (0.85, 0.5, 0.15),
            (0.9, 0.6, 0.7),
            (0.75, 0.25, 0.15),
        )
    )
    trunk, t = kit.u(0.3, 0.6), kit.u(0.06, 0.11)
    style = kit.pick("fir", "round", "cloud")
    if style == "fir":
        z, r, layers = trunk * 0.6, kit.u(0.38, 0.5), kit.pick(2, 3, 4)
        kit.rod((0, 0, 0), (0, 0, z + 0.2), (t * 1.2, t), bark)
        for i in range(layers):
            h = kit.u(0.42, 0.55)
            color = tuple(min(1.0, c * (0.9 + 0.12 * i)) for c in leaf)
            kit.lathe([(0, 0), (r, 0), (0, h)], color, (0, 0, z))
            z, r = z + h * 0.55, r * 0.78
        if kit.chance(0.25):
            kit.ball(0.07, (1.0, 0.85, 0.25), (0, 0, z + h * 0.45))
        return
    kit.rod((0, 0, 0), (0, 0, trunk + 0.3), (t * 1.3, t * 0.8), bark)
    if style == "round":
        r, tall = kit.u(0.36, 0.48), kit.u(0.8, 1.5)
        kit.ball((r, r, r * tall), leaf, (0, 0, trunk + r * tall * 0.85))
        top, spread = trunk + r * tall * 0.85, r
    else:
        for i in range(kit.pick(4, 5, 6)):
            a, r = i * 2.4 + kit.u(0, 0.6), kit.u(0.22, 0.34)
            x, y = 0.26 * np.cos(a), 0.26 * np.sin(a)
            kit.ball(r, kit.shade(leaf, 0.04), (x, y, trunk + kit.u(0.15, 0.55)), detail=2)
            if i < 2:
                kit.rod((0, 0, trunk * 0.7), (x * 0.8, y * 0.8, trunk + 0.2), t * 0.5, bark)
        top, spread = trunk + 0.35, 0.42
    if kit.chance(0.4):
        fruit = kit.pick((0.85, 0.12, 0.1), (0.98, 0.6, 0.1), (0.98, 0.85, 0.3))
        for _ in range(12):
            v = kit.rng.normal(size=3)
            v /= np.linalg.norm(v)
            kit.ball(0.05, fruit, np.array([0, 0, top]) + v * spread, detail=1)


@SHAPES.register("mushroom")
def mushroom(kit: ShapeBuilder) -> None:
    """A stem and a domed cap with spots; sometimes a small one beside it."""
    cap, spot = kit.pick((0.85, 0.13, 0.1), kit.color(0), (0.6, 0.38, 0.2)), WHITE

    def one(x: float, y: float, s: float) -> None:
        h, r = kit.u(0.45, 0.75) * s, kit.u(0.4, 0.55) * s
        dome, t = kit.u(0.6, 1.0), kit.u(0.12, 0.2) * s
        kit.lathe(
            [(0, 0), (t * 1.4, 0), (t * 1.1, h * 0.3), (t * 0.9, h), (0, h)],
            (0.95, 0.9, 0.8),
            (x, y, 0),
            crease=60,
        )
        curve = arc((r, r * dome), 0, 90, 12)
        kit.lathe(
            [(0, h * 0.95), (r * 0.9, h - 0.05 * s), *[(a, b + h) for a, b in curve]],
            lambda c: np.where(c[:, 2:] < h, (0.9, 0.82, 0.7), cap),
            (x, y, 0),
        )
        for i in range(14):
            a, up = i * 2.4 + kit.u(0, 0.3), np.radians(kit.u(8, 85))
            n = np.array([np.cos(a) * np.cos(up), np.sin(a) * np.cos(up), np.sin(up)])
            at = n * [r, r, r * dome] + [x, y, h]
            kit.ball(kit.u(0.04, 0.085) * s, spot, at - n * 0.03 * s, detail=2)

    one(0, 0, 1.0)
    if kit.chance(0.4):
        a = kit.u(0, 6.28)
        one(0.5 * np.cos(a), 0.5 * np.sin(a), kit.u(0.4, 0.55))


@SHAPES.register("cactus")
def cactus(kit: ShapeBuilder) -> None:
    """A ribbed column with arms in a pot, sometimes in flower."""
    pot, green = (
        kit.pick(kit.shade((0.78, 0.42, 0.25)), kit.color(0)),
        kit.shade((0.28, 0.58, 0.28)),
    )
    r, h = kit.u(0.28, 0.36), kit.u(0.3, 0.42)
    kit.lathe(
        [
            (0, 0),
            (r * 0.72, 0),
            (r, h),
            (r + 0.05, h),
            (r + 0.05, h + 0.1),
            (r - 0.02, h + 0.1),
            (r - 0.02, h + 0.05),
            (0, h + 0.05),
        ],
        pot,
    )
    kit.lathe([(r - 0.01, h + 0.06), (0, h + 0.07)], (0.35, 0.25, 0.18))
    t, tall = kit.u(0.14, 0.2), kit.u(0.6, 1.0)
    dark = tuple(0.75 * c for c in green)

    def ribs(c: np.ndarray) -> np.ndarray:
        odd = np.floor(np.arctan2(c[:, 1], c[:, 0]) / (2 * np.pi) * 28) % 3 == 0
        return np.where(odd[:, None], dark, green)

    top = arc((t, t), 0, 90, 7)
    kit.lathe([(0, 0), (t, 0), *[(a, b + tall) for a, b in top]], ribs, (0, 0, h))
    for side in kit.pick((1,), (-1, 1), (-1, 1)):
        z, reach, up = h + tall * kit.u(0.35, 0.65), t + kit.u(0.14, 0.24), kit.u(0.2, 0.4)
        kit.rod((0, 0, z), (0, side * reach, z), t * 0.55, green)
        kit.ball(t * 0.55, green, (0, side * reach, z), detail=2)
        kit.rod((0, side * reach, z), (0, side * reach, z + up), t * 0.55, green)
        kit.ball(t * 0.55, green, (0, side * reach, z + up), detail=2)
    if kit.chance(0.6):
        flower = kit.pick((0.95, 0.4, 0.6), (0.98, 0.8, 0.2), kit.color(1))
        for a in np.arange(6) * np.pi / 3:
            kit.ball(
                (0.06, 0.06, 0.035),
                flower,
                (0.06 * np.cos(a), 0.06 * np.sin(a), h + tall + t + 0.01),
                detail=1,
            )


@SHAPES.register("flower")
def flower(kit: ShapeBuilder) -> None:
    """A flower with petals around a heart, leaves and a pot."""
    pot, petal = kit.color(0), kit.color(1)
    r, h = kit.u(0.24, 0.32), kit.u(0.3, 0.45)
    paint = kit.stripes(pot, kit.color(2), 1, 0, h) if kit.chance(0.4) else pot
    kit.lathe(
        [(0, 0), (r * 0.7, 0), (r, h), (r - 0.04, h), (r - 0.05, h - 0.05), (0, h - 0.05)],
        paint,
        rings=0.04,
    )
    kit.lathe([(r - 0.03, h - 0.05), (0, h - 0.03)], (0.35, 0.25, 0.18))
    green = kit.shade((0.3, 0.6, 0.25))
    z, tilt = h + kit.u(0.4, 0.7), np.radians(kit.u(25, 65))
    stem = [(0.12 * t**2, 0.0, h - 0.05 + (z - h) * t) for t in np.linspace(0, 1, 8)]
    kit.tube(stem, 0.03, green)
    for side in (-1, 1):
        kit.ball(
            (0.06, 0.18, 0.02), green, (0.02, side * 0.17, h + (z - h) * 0.4), (side * 30, 0, 0)
        )
    out = np.array([np.sin(tilt), 0, np.cos(tilt)])
    across = np.array([-np.cos(tilt), 0, np.sin(tilt)])
    middle, count, size = np.array(stem[-1]), kit.pick(5, 6, 8), kit.u(0.11, 0.14)
    for i in range(count):
        a = 2 * np.pi * i / count
        v = np.cos(a) * across + np.sin(a) * np.array([0, 1, 0])
        kit.ball((size, size, 0.04), petal, middle + v * 0.21, (0, np.degrees(tilt), 0))
    kit.ball(0.11, kit.pick((0.98, 0.8, 0.2), (0.35, 0.2, 0.1), kit.color(3)), middle + 0.03 * out)
