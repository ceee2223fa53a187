"""Animals: fish, duck, rabbit, penguin."""

from __future__ import annotations

import numpy as np

from .builder import BLACK, WHITE, ShapeBuilder, arc
from .shapes import SHAPES


def add_eyes(kit: ShapeBuilder, at, apart: float, size: float, white: bool = False) -> None:
    """Two eyes that look along +x, `apart` along y."""
    x, y, z = at
    for side in (-1, 1):
        if white:
            kit.ball(size * 1.6, WHITE, (x - size * 0.6, y + side * apart, z), detail=2)
        kit.ball(size, BLACK, (x + (size * 0.35 if white else 0), y + side * apart, z), detail=2)


@SHAPES.register("fish")
def fish(kit: ShapeBuilder) -> None:
    """An oval body with fins and a tail, banded or two-toned."""
    length, h, w = kit.u(0.5, 0.65), kit.u(0.26, 0.42), kit.u(0.14, 0.2)
    first, second, fin = kit.color(0), kit.color(1), kit.color(2)
    count, style = kit.pick(2, 3, 4), kit.pick("bands", "belly", "plain")

    def paint(c: np.ndarray) -> np.ndarray:
        if style == "bands":
            odd = np.floor((c[:, :1] / length + 1) / 2 * (2 * count + 1)) % 2 == 1
        else:
            odd = (c[:, 2:] < -0.25 * h) & (style == "belly")
        return np.where(odd, second, first)

    kit.ball((length, w, h), paint, detail=4)
    tail = kit.u(0.24, 0.34)
    kit.prism(
        [(0.06, -0.04), (0.06, 0.04), (-tail, tail), (-tail * 0.9, 0)], 0.05, fin, (-length, 0, 0)
    )
    kit.prism(
        [(0.06, -0.04), (0.06, 0.04), (-tail * 0.9, 0), (-tail, -tail)], 0.05, fin, (-length, 0, 0)
    )
    kit.prism([(0.22, 0), (-0.3, 0), (-0.34, 0.2), (-0.05, 0.22)], 0.04, fin, (0, 0, h * 0.9))
    kit.prism([(0.05, 0), (-0.15, 0), (-0.24, -0.16)], 0.04, fin, (-0.05, 0, -h * 0.9))
    for side in (-1, 1):
        kit.ball((0.15, 0.02, 0.08), fin, (0.05, side * (w + 0.05), -0.08), (side * 35, 25, 0))
    at = length * 0.68
    out = w * np.sqrt(1 - 0.68**2 - 0.1)
    for side in (-1, 1):
        kit.ball(0.075, WHITE, (at, side * out, h * 0.2), detail=2)
        kit.ball(0.045, BLACK, (at + 0.02, side * (out + 0.045), h * 0.2), detail=2)
    kit.ball((0.05, 0.07, 0.035), fin, (length * 0.98, 0, -0.05), detail=2)


@SHAPES.register("duck")
def duck(kit: ShapeBuilder) -> None:
    """A rubber duck: round body, head, bill, wings and a tail."""
    color = kit.pick(kit.shade((0.98, 0.82, 0.15)), kit.color(0), WHITE)
    bill, length, w = kit.shade((0.97, 0.5, 0.1)), kit.u(0.46, 0.58), kit.u(0.34, 0.42)
    h = kit.u(0.28, 0.36)
    kit.ball((length, w, h), color, (0, 0, h * 0.9))
    kit.hull(
        [(-length * 0.6, y, z) for y in (-0.18, 0.18) for z in (h * 0.7, h * 1.4)]
        + [(-length - 0.16, 0, h * 1.75)],
        color,
    )
    r, x = kit.u(0.24, 0.3), length * 0.52
    z = h * 1.6 + r * 0.75
    kit.rod((x * 0.9, 0, h), (x, 0, z), (r * 0.9, r * 0.6), color)
    kit.ball(r, color, (x, 0, z))
    kit.ball((0.16, 0.12, 0.035), bill, (x + r + 0.02, 0, z - 0.02), (0, -8, 0))
    kit.ball((0.13, 0.1, 0.03), tuple(0.85 * c for c in bill), (x + r, 0, z - 0.07), (0, 8, 0))
    for side in (-1, 1):
        y = side * r * 0.48
        kit.ball(0.04, BLACK, (x + r * 0.8, y, z + r * 0.36), detail=2)
        kit.ball(
            (0.26, 0.06, 0.14),
            kit.shade(color, 0.04),
            (-0.08, side * w * 0.93, h * 1.1),
            (0, 15, 0),
        )
    if kit.chance(0.3):
        kit.lathe(
            [(0, 0), (r * 0.9, 0), (r * 0.9, 0.03), (r * 0.55, 0.04), (r * 0.5, 0.24), (0, 0.24)],
            kit.color(1),
            (x, 0, z + r * 0.82),
        )
    elif kit.chance(0.4):
        kit.tube(
            [(x - 0.02 + a, b, z - r * 0.82) for a, b in arc(r * 0.8, 0, 360, 24)],
            0.05,
            kit.color(2),
        )


@SHAPES.register("rabbit")
def rabbit(kit: ShapeBuilder) -> None:
    """A sitting rabbit or bear: body, head, ears, paws, tail."""
    fur = kit.pick(kit.shade((0.6, 0.45, 0.32)), kit.shade((0.75, 0.72, 0.7)), WHITE, kit.color(0))
    light, r, h = kit.pick(WHITE, (0.95, 0.85, 0.75)), kit.u(0.3, 0.38), kit.u(0.36, 0.46)
    kit.ball((r, r, h), fur, (0, 0, h))
    kit.ball((r * 0.3, r * 0.68, h * 0.68), light, (r * 0.76, 0, h * 0.92))
    head = kit.u(0.25, 0.32)
    z = 2 * h + head * 0.6
    kit.ball((head, head * 1.05, head * 0.95), fur, (0.04, 0, z))
    kit.ball((0.12, 0.14, 0.1), light, (head * 0.95, 0, z - 0.08))
    kit.ball((0.04, 0.05, 0.035), (0.85, 0.4, 0.45), (head * 0.95 + 0.11, 0, z - 0.04), detail=2)
    add_eyes(kit, (head * 0.92, 0, z + 0.07), head * 0.42, 0.042)
    bear = kit.chance(0.4)
    for side in (-1, 1):
        if bear:
            kit.ball((0.06, 0.12, 0.12), fur, (0, side * head * 0.8, z + head * 0.75))
            kit.ball((0.04, 0.07, 0.07), light, (0.045, side * head * 0.8, z + head * 0.75))
        else:
            tall, lean = kit.u(0.26, 0.36), kit.u(5, 25)
            y = side * (head * 0.42 + tall * np.sin(np.radians(lean)))
            top = z + head * 0.75 + tall * 0.8
            kit.ball((0.05, 0.09, tall), fur, (0, y, top), (-side * lean, 0, 0))
            kit.ball(
                (0.03, 0.055, tall * 0.8), (0.95, 0.65, 0.7), (0.035, y, top), (-side * lean, 0, 0)
            )
        kit.ball((0.2, 0.1, 0.08), fur, (r * 0.8, side * r * 0.6, 0.08))
        kit.ball((0.09, 0.08, 0.16), fur, (r * 0.85, side * r * 0.62, h * 1.15), (0, -30, 0))
    kit.ball(0.11, WHITE if not bear else fur, (-r * 1.02, 0, h * 0.45))
    if kit.chance(0.5):
        kit.tube([(a, b, 2 * h - 0.02) for a, b in arc(r * 0.62, 0, 360, 24)], 0.05, kit.color(1))


@SHAPES.register("penguin")
def penguin(kit: ShapeBuilder) -> None:
    """A penguin or owl: dark back, white belly, beak, flippers and feet."""
    back = kit.pick(kit.shade((0.15, 0.17, 0.22)), kit.color(0))
    r, h, orange = kit.u(0.32, 0.4), kit.u(0.5, 0.62), (0.97, 0.6, 0.12)
    kit.ball((r, r, h), back, (0, 0, h))
    kit.ball((r * 0.5, r * 0.76, h * 0.76), WHITE, (r * 0.56, 0, h * 0.9))
    z, head = 1.75 * h, r * kit.u(0.72, 0.85)
    kit.ball(head, back, (0.02, 0, z))
    for side in (-1, 1):
        kit.ball(
            (0.08, head * 0.42, head * 0.5), WHITE, (head * 0.84, side * head * 0.36, z + 0.02)
        )
        kit.ball(0.042, BLACK, (head * 0.84 + 0.085, side * head * 0.34, z + 0.06), detail=2)
        lift = kit.u(10, 50)
        kit.ball((0.12, 0.05, h * 0.5), back, (0, side * (r + 0.08), h * 1.05), (side * lift, 0, 0))
        kit.ball((0.17, 0.11, 0.05), orange, (r * 0.6, side * r * 0.45, 0.03))
    kit.rod((head * 0.85, 0, z - 0.04), (head + 0.18, 0, z - 0.07), (0.075, 0.01), orange)
    if kit.chance(0.5):
        kit.tube(
            [(a, b, z - head * 0.78) for a, b in arc(head * 0.9, 0, 360, 24)], 0.06, kit.color(1)
        )
    if kit.chance(0.4):
        kit.lathe(
            [(head * 0.75, 0), (head * 0.6, 0.14), (0, 0.26)], kit.color(2), (0, 0, z + head * 0.65)
        )
        kit.ball(0.07, WHITE, (0, 0, z + head * 0.65 + 0.27), detail=2)
