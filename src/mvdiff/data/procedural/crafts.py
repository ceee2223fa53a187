"""Things that sail and fly: boat, airplane, rocket."""

from __future__ import annotations

import numpy as np

from .builder import BLACK, DARK_WOOD, GLASS, GREY, SILVER, WHITE, WOOD, ShapeBuilder, arc
from .shapes import SHAPES
from .vehicles import add_wheel


@SHAPES.register("boat")
def boat(kit: ShapeBuilder) -> None:
    """A hull with a keel line and a sail or a cabin with a funnel."""
    length, w, h = kit.u(1.1, 1.4), kit.u(0.4, 0.52), kit.u(0.22, 0.32)
    half = length / 2
    low, high = kit.color(0), kit.pick(WHITE, kit.color(1))

    def ring(z: float, s: float) -> list:
        side = [(-half * 0.9 * s, 0.4 * w * s), (0, 0.5 * w * s), (half * 0.6 * s, 0.34 * w * s)]
        return [
            (half * (0.75 + 0.3 * z / h) * s, 0, z),
            *[(x, e * y, z) for x, y in side for e in (-1, 1)],
        ]

    kit.hull([*ring(0, 0.7), *ring(h * 0.7, 1.0)], low)
    kit.hull([*ring(h * 0.68, 1.02), *ring(h, 1.04)], high)
    deck = [(x * 0.92, y * 0.86, h + d) for d in (-0.02, 0.012) for x, y, _ in ring(h, 1.0)]
    kit.hull(deck, kit.shade(WOOD))
    if kit.chance(0.55):
        tall, mast = kit.u(0.9, 1.2), kit.shade(DARK_WOOD)
        kit.rod((0.05, 0, h * 0.5), (0.05, 0, h + tall), 0.025, mast)
        kit.rod((0.05, 0, h + 0.12), (-half * 0.85, 0, h + 0.12), 0.018, mast)
        sail, jib = kit.pick(WHITE, kit.color(2)), kit.pick(WHITE, kit.color(3))
        kit.prism([(0.02, 0.15), (-half * 0.82, 0.15), (0.02, tall * 0.97)], 0.03, sail, (0, 0, h))
        kit.prism([(0.09, 0.12), (half * 0.85, 0.08), (0.09, tall * 0.85)], 0.03, jib, (0, 0, h))
        if kit.chance(0.5):
            kit.box((0.16, 0.02, 0.09), kit.color(0), (-0.04, 0, h + tall))
        return
    c = kit.u(0.2, 0.28)
    kit.box((length * 0.4, w * 0.6, c), WHITE, (-half * 0.2, 0, h + c / 2))
    for side in (-1, 1):
        for x in (-0.35, -0.05):
            kit.box((0.1, 0.02, 0.09), GLASS, (half * x, side * w * 0.3, h + c * 0.6))
    kit.box((length * 0.22, w * 0.5, c * 0.7), WHITE, (-half * 0.1, 0, h + c * 1.35))
    kit.box((0.02, w * 0.4, c * 0.35), GLASS, (half * 0.125, 0, h + c * 1.4))
    kit.box((length * 0.27, w * 0.56, 0.04), kit.color(2), (-half * 0.1, 0, h + c * 1.72))
    for x in kit.pick((-0.38,), (-0.45, -0.25)):
        kit.lathe(
            [(0, 0), (0.08, 0), (0.07, 0.36), (0, 0.36)],
            kit.stripes(kit.color(3), BLACK, 1, 0.1, 0.4),
            (half * x, 0, h + c),
            rings=0.03,
        )


@SHAPES.register("airplane")
def airplane(kit: ShapeBuilder) -> None:
    """A fuselage with wings, a tail, windows, and propellers or jets."""
    r, half, color, trim = (
        kit.u(0.13, 0.18),
        kit.u(0.55, 0.7),
        kit.pick(WHITE, kit.color(0)),
        kit.color(1),
    )
    z = 0.35
    nose = arc((0.2, r), 90, 0, 8)
    body = [
        (0, -half),
        (r * 0.35, -half),
        (r, -half * 0.3),
        (r, half - 0.2),
        *[(y, half - 0.2 + x) for x, y in nose[::-1]][::-1],
    ]

    def paint(c: np.ndarray) -> np.ndarray:
        return np.where((np.abs(c[:, :1]) < 0.3 * r), trim, color)

    kit.lathe(body, paint if kit.chance(0.5) else color, (0, 0, z), (0, 90, 0), sections=24)
    span, chord, sweep = kit.u(0.6, 0.8), kit.u(0.24, 0.34), kit.u(0.0, 0.25)
    high = kit.pick(-0.4, 0.0, 0.8) * r
    wing = kit.pick(trim, color)
    for side in (-1, 1):
        plan = [
            (chord / 2, 0),
            (-chord / 2, 0),
            (-chord * 0.3 - sweep, span),
            (chord * 0.15 - sweep, span),
        ]
        kit.hull(
            [(x + 0.06, side * y, t) for x, y in plan for t in (-0.018, 0.018)],
            wing,
            (0, 0, z + high),
        )
        small = [(0.1, 0), (-0.1, 0), (-0.14, 0.28), (-0.02, 0.28)]
        kit.hull(
            [(x - half + 0.12, side * y, t) for x, y in small for t in (-0.014, 0.014)],
            wing,
            (0, 0, z),
        )
        for x in np.linspace(-0.25, 0.5, 5) * half:
            kit.ball(
                (0.035, 0.015, 0.035),
                (0.3, 0.45, 0.6),
                (x, side * r * 0.96, z + 0.25 * r),
                detail=1,
            )
    kit.prism(
        [(0.14, 0), (-0.1, 0), (-0.16, 0.32), (-0.02, 0.32)], 0.03, trim, (-half + 0.1, 0, z + 0.02)
    )
    kit.ball((0.13, 0.09, 0.08), (0.3, 0.5, 0.7), (half - 0.22, 0, z + r * 0.75))
    if kit.chance(0.5):
        kit.ball(0.06, trim, (half + 0.02, 0, z))
        for a in (kit.u(0, 90), 90 + kit.u(0, 30)):
            kit.box((0.015, 0.05, 0.44), (0.25, 0.25, 0.28), (half + 0.03, 0, z), (a, 0, 0))
    else:
        for side in (-1, 1):
            at = (0.0 - sweep * 0.4, side * span * 0.42, z + high - 0.09)
            kit.lathe(
                [(0, 0), (0.06, 0), (0.075, 0.2), (0, 0.17)], GREY, at, (0, 90, 0), sections=16
            )
    if kit.chance(0.5):
        for x, y in ((half * 0.6, 0), (-0.05, -0.15), (-0.05, 0.15)):
            kit.rod((x, y, z), (x, y, 0.06), 0.02, GREY)
            add_wheel(kit, x, y, 0.06, 0.05, SILVER)


@SHAPES.register("rocket")
def rocket(kit: ShapeBuilder) -> None:
    """A pointed body with fins, portholes, bands and a nozzle."""
    r, h, nose = kit.u(0.2, 0.3), kit.u(0.7, 1.1), kit.u(0.4, 0.6)
    body, trim = kit.pick(WHITE, SILVER, kit.color(2)), kit.color(0)
    z0 = 0.24
    bulge = kit.u(0.0, 0.06)
    side = [
        (r * 0.85 + (r * 0.15 + bulge) * np.sin(np.pi * f), z0 + h * f)
        for f in np.linspace(0, 1, 8)
    ]
    tip = [
        (r * 0.85 * np.cos(t), z0 + h + nose * np.sin(t) ** 1.2)
        for t in np.linspace(0, np.pi / 2, 9)
    ]
    bands = kit.stripes(body, kit.color(1), kit.pick(1, 2), z0, z0 + h * kit.u(0.3, 1.0))

    def paint(c: np.ndarray) -> np.ndarray:
        return np.where(c[:, 2:] > z0 + h, trim, bands(c))

    kit.lathe([(0, z0), *side, *tip[1:]], paint, rings=0.03, crease=60)
    kit.lathe([(0, 0), (r * 0.7, 0), (r * 0.4, 0.14), (0, 0.14)], GREY, (0, 0, z0 - 0.14))
    count, reach = kit.pick(3, 4, 4), kit.u(0.25, 0.38)
    for i in range(count):
        a = 360 * i / count + 45
        outline = [(r * 0.7, z0 + 0.4), (r * 0.7, z0), (r + reach, 0), (r + reach, 0.12)]
        kit.prism(outline, 0.05, trim, (0, 0, 0), (0, 0, a))
    for f in kit.pick((0.72,), (0.5, 0.78)):
        x = r * 0.85 + (r * 0.15 + bulge) * np.sin(np.pi * f)
        for turn, width, paint_ in ((0, 0.1, kit.color(3)), (0, 0.07, (0.35, 0.6, 0.8))):
            kit.ball(
                (0.05 if width > 0.08 else 0.07, width, width),
                paint_,
                (x - 0.01, 0, z0 + h * f),
                (0, 0, turn),
            )
    if kit.chance(0.4):
        kit.lathe([(0, 0), (r * 0.4, 0.24), (0, 0.26)], (1.0, 0.6, 0.15), (0, 0, z0 - 0.38))
