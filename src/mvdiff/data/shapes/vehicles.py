"""Things that move: car, truck, train, boat, airplane, rocket."""

from __future__ import annotations

import numpy as np

from . import SHAPES
from .kit import BLACK, DARK_WOOD, GLASS, GOLD, GREY, SILVER, WHITE, WOOD, Kit, arc


def _wheel(kit: Kit, x: float, y: float, r: float, width: float, hub) -> None:
    """A wheel standing on z = 0 with its axle along y."""
    for radius, w, paint in ((r, width, BLACK), (r * 0.55, width + 0.02, hub)):
        kit.lathe(
            [(0, -w / 2), (radius, -w / 2), (radius, w / 2), (0, w / 2)],
            paint,
            (x, y, r),
            (90, 0, 0),
            sections=20,
        )


@SHAPES.register("car")
def car(kit: Kit) -> None:
    """A body with a cabin of glass, four wheels, lights; sometimes striped or a taxi."""
    length, w, r = kit.u(1.1, 1.4), kit.u(0.5, 0.62), kit.u(0.12, 0.16)
    body, h, z = kit.color(0), kit.u(0.2, 0.28), r * 0.8
    nose = kit.u(0.6, 1.0)
    half = length / 2
    outline = [(-half, 0), (half, 0), (half, h * nose), (half * 0.4, h), (-half, h)]
    kit.prism(outline, w, body, (0, 0, z))
    roof, cab = kit.u(0.2, 0.28), z + h
    a, b = -half * kit.u(0.6, 0.95), half * kit.u(0.25, 0.45)
    c, d = a + 0.1, b - kit.u(0.14, 0.25)
    kit.prism([(a, 0), (b, 0), (d, roof), (c, roof)], w * 0.88, (0.35, 0.5, 0.62), (0, 0, cab))
    kit.prism(
        [(c - 0.03, roof - 0.03), (d + 0.03, roof - 0.03), (d, roof + 0.03), (c, roof + 0.03)],
        w * 0.9,
        kit.pick(body, body, kit.color(1), WHITE),
        (0, 0, cab),
    )
    kit.box((0.05, w * 0.89, roof), body, ((c + d) / 2, 0, cab + roof / 2))
    hub = kit.pick(SILVER, kit.color(1), WHITE)
    for x in (-0.6, 0.62):
        for side in (-1, 1):
            _wheel(kit, half * x, side * (w / 2 - 0.02), r, 0.11, hub)
    for side in (-1, 1):
        kit.ball((0.03, 0.06, 0.05), (1.0, 0.95, 0.7), (half, side * w * 0.33, z + h * nose * 0.65))
        kit.box((0.03, 0.12, 0.06), (0.8, 0.08, 0.08), (-half, side * w * 0.34, z + h * 0.7))
    kit.box((0.06, w, 0.06), kit.pick(SILVER, GREY), (half, 0, z + 0.05))
    kit.box((0.06, w, 0.06), kit.pick(SILVER, GREY), (-half, 0, z + 0.05))
    if kit.chance(0.35):
        kit.box((length * 0.99, w * 0.2, h * 0.02 + 0.012), kit.color(2), (0, 0, z + h))
    if kit.chance(0.25):
        kit.box((0.1, 0.22, 0.08), kit.color(3), ((c + d) / 2, 0, cab + roof + 0.06))


@SHAPES.register("truck")
def truck(kit: Kit) -> None:
    """A cab and a load: a box, a tank or an open bed."""
    r, w, length = kit.u(0.13, 0.17), kit.u(0.46, 0.56), kit.u(0.7, 1.0)
    z, cab, color = r * 1.1, kit.u(0.45, 0.55), kit.color(0)
    kit.box((length + 0.5, w * 0.8, 0.08), (0.25, 0.25, 0.28), (0, 0, z))
    front = length / 2 + 0.25
    kit.prism(
        [(-0.34, 0), (0.05, 0), (0.05, cab * 0.5), (-0.04, cab), (-0.34, cab)],
        w,
        color,
        (front, 0, z),
    )
    kit.prism(
        [(-0.02, 0), (0.07, 0), (0.0, 0.18), (-0.1, 0.18)],
        w * 0.86,
        GLASS,
        (front, 0, z + cab * 0.52),
    )
    for side in (-1, 1):
        kit.box((0.16, 0.02, 0.15), GLASS, (front - 0.17, side * w / 2, z + cab * 0.7))
        kit.ball((0.03, 0.05, 0.05), (1.0, 0.95, 0.7), (front + 0.05, side * w * 0.35, z + 0.12))
    back = -length / 2 - 0.25
    middle, load, second = back + length / 2, kit.u(0.4, 0.62), kit.color(1)
    style = kit.pick("box", "box", "tank", "bed")
    if style == "box":
        kit.box((length, w * 1.04, load), second, (middle, 0, z + 0.05 + load / 2))
        if kit.chance(0.6):
            kit.box(
                (length * 0.6, w * 1.05, load * 0.3), kit.color(2), (middle, 0, z + 0.05 + load / 2)
            )
    elif style == "tank":
        t = w * 0.48
        kit.lathe(
            [(0, 0), (t * 0.8, 0), (t, 0.06), (t, length - 0.06), (t * 0.8, length), (0, length)],
            kit.stripes(second, kit.color(2), 1, 0, length),
            (back, 0, z + t),
            (0, 90, 0),
            rings=0.05,
        )
    else:
        for side in (-1, 1):
            kit.box((length, 0.04, 0.2), second, (middle, side * w * 0.48, z + 0.14))
            kit.box((0.04, w, 0.2), second, (middle + side * length * 0.48, 0, z + 0.14))
        for _ in range(5):
            at = (middle + kit.u(-0.3, 0.3) * length, kit.u(-0.25, 0.25) * w, z + 0.17)
            kit.ball(kit.u(0.1, 0.15), kit.pick(kit.color(2), kit.color(3)), at, detail=2)
    hub = kit.pick(SILVER, kit.color(3))
    for x in (front - 0.16, back + 0.16, back + 0.16 + 2.2 * r):
        for side in (-1, 1):
            _wheel(kit, x, side * (w / 2 - 0.03), r, 0.12, hub)


@SHAPES.register("train")
def train(kit: Kit) -> None:
    """A steam engine: boiler, chimney, cab and wheels."""
    r, length, w = kit.u(0.19, 0.24), kit.u(0.6, 0.8), 0.5
    color, second, wheel = kit.color(0), kit.color(1), kit.u(0.12, 0.16)
    z = wheel * 1.5
    kit.box((length + 0.5, w * 0.9, 0.1), kit.pick(BLACK, second), (0, 0, z))
    start = -length / 2 + 0.1
    kit.lathe(
        [(0, 0), (r, 0), (r, length), (r * 0.7, length + 0.05), (0, length + 0.05)],
        kit.stripes(color, second, kit.pick(1, 2, 3), 0, length),
        (start, 0, z + r),
        (0, 90, 0),
        rings=0.03,
    )
    kit.lathe(
        [(0, 0), (0.07, 0), (0.06, 0.2), (0.12, 0.32), (0.1, 0.34), (0, 0.3)],
        BLACK,
        (start + length * 0.8, 0, z + 1.8 * r),
    )
    kit.ball(0.09, GOLD, (start + length * 0.45, 0, z + 2 * r))
    cab, x = kit.u(0.55, 0.65), start - 0.13
    kit.box((0.34, w, cab), color, (x, 0, z + cab / 2))
    kit.box((0.44, w + 0.12, 0.06), second, (x, 0, z + cab + 0.02))
    for side in (-1, 1):
        kit.box((0.18, 0.02, 0.18), GLASS, (x, side * w / 2, z + cab * 0.7))
        for wx in (start - 0.15, start + length * 0.3, start + length * 0.72):
            _wheel(kit, wx, side * (w / 2 - 0.04), wheel, 0.07, kit.color(2))
    kit.prism(
        [(0, 0), (0.22, 0), (0, 0.18)], w * 0.8, kit.color(2), (length / 2 + 0.18, 0, z * 0.3)
    )
    kit.ball((0.03, 0.07, 0.07), (1, 0.95, 0.7), (start + length + 0.05, 0, z + r * 1.3))


@SHAPES.register("boat")
def boat(kit: Kit) -> None:
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
def airplane(kit: Kit) -> None:
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
            _wheel(kit, x, y, 0.06, 0.05, SILVER)


@SHAPES.register("rocket")
def rocket(kit: Kit) -> None:
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
