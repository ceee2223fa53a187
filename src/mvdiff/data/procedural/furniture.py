"""Furniture: chair, table, lamp, clock, book stack."""

from __future__ import annotations

import numpy as np

from .builder import BLACK, DARK_WOOD, GOLD, SILVER, STEEL, WHITE, WOOD, ShapeBuilder
from .shapes import SHAPES


def _frame(kit: ShapeBuilder):
    """The color of legs and frames."""
    return kit.pick(kit.shade(WOOD), kit.shade(DARK_WOOD), STEEL, BLACK, WHITE, kit.color(3))


@SHAPES.register("chair")
def chair(kit: ShapeBuilder) -> None:
    """Four legs, a seat and a back of slats, bars or one panel; sometimes arms or cushions."""
    w, d, seat, back = kit.u(0.42, 0.56), kit.u(0.42, 0.55), kit.u(0.4, 0.55), kit.u(0.4, 0.75)
    frame, panel, t = _frame(kit), kit.color(0), kit.u(0.035, 0.06)
    splay = kit.pick(0.0, 0.05)
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = sx * (d / 2 - t), sy * (w / 2 - t)
            kit.rod((x * (1 + splay), y * (1 + splay), 0), (x, y, seat), t * 0.75, frame)
    kit.box((d, w, 0.05), panel, (0, 0, seat))
    if kit.chance(0.5):
        kit.box((d * 0.92, w * 0.92, 0.07), kit.color(1), (0, 0, seat + 0.05))
    x, tilt = -d / 2 + t / 2, kit.u(0.0, 0.12)
    for sy in (-1, 1):
        kit.rod(
            (x, sy * (w / 2 - t), seat), (x - tilt, sy * (w / 2 - t), seat + back), t * 0.7, frame
        )
    lean = -np.degrees(np.arctan2(tilt, back))
    style = kit.pick("panel", "slats", "bars")
    if style == "panel":
        kit.box(
            (0.05, w - t, back * 0.7), panel, (x - tilt * 0.6, 0, seat + back * 0.62), (0, lean, 0)
        )
    elif style == "slats":
        for f in (0.35, 0.65, 0.95):
            kit.box(
                (0.045, w - t, back * 0.16), panel, (x - tilt * f, 0, seat + back * f), (0, lean, 0)
            )
    else:
        kit.box((0.05, w, 0.09), panel, (x - tilt, 0, seat + back), (0, lean, 0))
        for y in np.linspace(-0.3, 0.3, kit.pick(3, 4)) * w:
            kit.rod((x, y, seat), (x - tilt, y, seat + back), t * 0.4, frame)
    if kit.chance(0.3):
        for sy in (-1, 1):
            y = sy * (w / 2 - t / 2)
            kit.box((d * 0.9, 0.06, 0.045), frame, (0, y, seat + back * 0.45))
            kit.rod((d * 0.38, y, seat), (d * 0.38, y, seat + back * 0.45), t * 0.6, frame)


@SHAPES.register("table")
def table(kit: ShapeBuilder) -> None:
    """A round or square top on four legs or a central foot; sometimes laid."""
    h, top, frame = kit.u(0.5, 0.75), kit.color(0), _frame(kit)
    if kit.chance(0.5):
        top = kit.shade(WOOD)
    x = kit.u(0.35, 0.55)
    y = x if kit.chance(0.4) else kit.u(0.5, 0.8)
    round_top = kit.chance(0.45)
    if round_top:
        y = x = kit.u(0.45, 0.6)
        kit.lathe([(0, 0), (x, 0), (x, 0.06), (0, 0.06)], top, (0, 0, h))
    else:
        kit.box((2 * x, 2 * y, 0.07), top, (0, 0, h + 0.03))
    if round_top and kit.chance(0.6):
        kit.lathe([(0, 0), (0.3, 0), (0.28, 0.05), (0.06, 0.1), (0.06, h), (0, h)], frame)
    else:
        t, reach = kit.u(0.04, 0.07), 0.68 if round_top else 0.9
        for sx in (-1, 1):
            for sy in (-1, 1):
                px, py = sx * (x * reach - t / 2), sy * (y * reach - t / 2)
                kit.rod((px, py, 0), (px, py, h), (t * 0.7, t), frame)
    if not round_top and kit.chance(0.4):
        kit.box((2 * x * 0.3, 2 * y + 0.02, 0.02), kit.color(1), (0, 0, h + 0.075))
    if kit.chance(0.6):
        kit.lathe(
            [(0, 0), (0.1, 0), (0.15, 0.12), (0.07, 0.26), (0.09, 0.3), (0, 0.3)],
            kit.color(2),
            (kit.u(-0.1, 0.1), kit.u(-0.1, 0.1), h + 0.06),
            crease=60,
        )
    if kit.chance(0.4):
        kit.ball(0.09, kit.color(3), (x * 0.4, y * 0.45, h + 0.14))


@SHAPES.register("lamp")
def lamp(kit: ShapeBuilder) -> None:
    """A shade on a stand: a table lamp, or a tall one."""
    tall = kit.chance(0.35)
    h = kit.u(1.3, 1.7) if tall else kit.u(0.45, 0.8)
    low, high, s = kit.u(0.3, 0.42), kit.u(0.14, 0.28), kit.u(0.3, 0.45)
    stand, shade = kit.pick(kit.color(1), GOLD, SILVER, BLACK, kit.shade(WOOD)), kit.color(0)
    kit.lathe([(0, 0), (kit.u(0.2, 0.28), 0), (0.2, 0.05), (0.04, 0.09), (0, 0.09)], stand)
    if not tall and kit.chance(0.6):
        b = kit.u(0.13, 0.2)
        kit.ball((b, b, h * 0.4), kit.color(2), (0, 0, 0.08 + h * 0.38))
    kit.rod((0, 0, 0.05), (0, 0, h + s * 0.5), 0.03, stand)
    paint = kit.stripes(shade, kit.color(3), kit.pick(1, 1, 3), 0, s) if kit.chance(0.5) else shade
    kit.lathe([(low, 0), (high, s)], paint, (0, 0, h), rings=0.03)
    kit.lathe([(high - 0.01, s), (low - 0.015, 0)], (1.0, 0.93, 0.72), (0, 0, h))
    kit.ball(0.09, (1.0, 0.95, 0.7), (0, 0, h + s * 0.45))


@SHAPES.register("clock")
def clock(kit: ShapeBuilder) -> None:
    """An alarm clock: a round face with hands, two bells and feet."""
    r, d, case = kit.u(0.4, 0.5), kit.u(0.2, 0.34), kit.color(0)
    z = r + 0.14
    kit.lathe(
        [
            (0, 0),
            (r * 0.8, 0),
            (r, 0.06),
            (r, d),
            (r * 0.92, d),
            (r * 0.92, d - 0.02),
            (0, d - 0.02),
        ],
        lambda c: np.where(
            (c[:, 2:] > d - 0.03) & (np.hypot(c[:, :1], c[:, 1:2]) < r * 0.9), WHITE, case
        ),
        (-d / 2, 0, z),
        (0, 90, 0),
        crease=30,
    )
    front = d / 2
    for i in range(12):
        a = np.pi / 6 * i
        at = (front - 0.01, 0.76 * r * np.cos(a), z + 0.76 * r * np.sin(a))
        kit.ball(0.03 if i % 3 else 0.045, BLACK, at, detail=1)
    hands = kit.color(1)
    for length, a in ((0.42, kit.u(0, 6.28)), (0.62, kit.u(0, 6.28))):
        tip = (front + 0.01, length * r * np.cos(a), z + length * r * np.sin(a))
        kit.rod((front + 0.01, 0, z), tip, 0.03, hands)
    for side in (-1, 1):
        y = side * r * 0.62
        kit.rod((0, y, z - r * 0.5), (0, side * r * 0.9, 0), 0.05, kit.color(2))
        if r > 0.42:
            kit.ball((0.16, 0.16, 0.12), kit.color(3), (0, y, z + r * 0.92), (-side * 30, 0, 0))
    kit.ball(0.05, hands, (0, 0, z + r + 0.06))


@SHAPES.register("books")
def books(kit: ShapeBuilder) -> None:
    """A stack of books of different sizes, a little turned."""
    z = 0.0
    for i in range(kit.pick(2, 3, 4, 5, 6)):
        x, y, t, cover = kit.u(0.5, 0.7), kit.u(0.7, 0.95), kit.u(0.1, 0.22), kit.color(i)
        turn = (0, 0, kit.u(-20, 20))
        a = np.radians(turn[2])
        for dz in (0, t - 0.025):
            kit.box((x, y, 0.025), cover, (0, 0, z + dz + 0.0125), turn)
        back = x / 2 - 0.0125
        kit.box((0.025, y, t), cover, (back * np.cos(a), back * np.sin(a), z + t / 2), turn)
        kit.box((x - 0.05, y - 0.05, t - 0.05), (0.95, 0.92, 0.83), (0, 0, z + t / 2), turn)
        if kit.chance(0.6):
            kit.box(
                (0.04, y * 0.25, t * 0.5),
                GOLD,
                ((back) * np.cos(a), (back) * np.sin(a), z + t / 2),
                turn,
            )
        z += t
    if kit.chance(0.35):
        kit.ball((0.16, 0.16, 0.15), (0.8, 0.15, 0.12), (0, 0, z + 0.14))
        kit.rod((0, 0, z + 0.26), (0.03, 0.02, z + 0.36), 0.018, DARK_WOOD)
