"""Things on wheels: car, truck, train."""

from __future__ import annotations

from .builder import BLACK, GLASS, GOLD, GREY, SILVER, WHITE, ShapeBuilder
from .shapes import SHAPES


def add_wheel(kit: ShapeBuilder, x: float, y: float, r: float, width: float, hub) -> None:
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
def car(kit: ShapeBuilder) -> None:
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
            add_wheel(kit, half * x, side * (w / 2 - 0.02), r, 0.11, hub)
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
def truck(kit: ShapeBuilder) -> None:
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
            add_wheel(kit, x, side * (w / 2 - 0.03), r, 0.12, hub)


@SHAPES.register("train")
def train(kit: ShapeBuilder) -> None:
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
            add_wheel(kit, wx, side * (w / 2 - 0.04), wheel, 0.07, kit.color(2))
    kit.prism(
        [(0, 0), (0.22, 0), (0, 0.18)], w * 0.8, kit.color(2), (length / 2 + 0.18, 0, z * 0.3)
    )
    kit.ball((0.03, 0.07, 0.07), (1, 0.95, 0.7), (start + length + 0.05, 0, z + r * 1.3))
