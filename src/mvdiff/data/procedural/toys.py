"""Figures and toys: snowman, robot, blocks."""

from __future__ import annotations

import numpy as np

from .builder import BLACK, DARK_WOOD, GOLD, GREY, SILVER, WHITE, ShapeBuilder, arc
from .creatures import add_eyes
from .shapes import SHAPES


@SHAPES.register("snowman")
def snowman(kit: ShapeBuilder) -> None:
    """Two or three balls of snow with a carrot, coal, a hat, a scarf and stick arms."""
    snow, z, r, hat = kit.shade(WHITE, 0.02), 0.0, kit.u(0.4, 0.48), kit.pick(BLACK, kit.color(0))
    radii = [r, r * kit.u(0.7, 0.8)] + ([r * kit.u(0.48, 0.58)] if kit.chance(0.75) else [])
    middles = []
    for i, radius in enumerate(radii):
        z += radius * (0.9 if i == 0 else 0.75)
        middles.append(z)
        kit.ball(radius, snow, (0, 0, z))
        z += radius * 0.75
    head, top = radii[-1], middles[-1]
    kit.rod(
        (head * 0.85, 0, top),
        (head * 0.9 + kit.u(0.18, 0.3), 0, top),
        (0.055, 0.005),
        (0.95, 0.5, 0.1),
    )
    add_eyes(kit, (head * 0.88, 0, top + head * 0.3), head * 0.35, 0.035)
    body, chest = radii[-2], middles[-2]
    for f in (-0.35, 0.0, 0.35):
        x = body * np.sqrt(1 - f**2)
        kit.ball(0.04, kit.pick(BLACK, kit.color(2)), (x, 0, chest + body * f), detail=2)
    for side in (-1, 1):
        end = (kit.u(-0.1, 0.15), side * (body + 0.36), chest + kit.u(0.05, 0.35))
        kit.rod((0, side * body * 0.8, chest + 0.08), end, 0.025, DARK_WOOD)
    neck = top - head * 0.82
    scarf = kit.color(1)
    ring = arc(head * 0.78, 0, 360, 24)
    kit.tube([(x, y, neck) for x, y in ring], 0.06, scarf)
    kit.box((0.05, 0.12, 0.28), scarf, (head * 0.85, head * 0.35, neck - 0.14), (0, -10, 0))
    style, w = kit.pick("top", "cone", "none", "top"), head * 0.72
    z = top + head * 0.75
    if style == "top":
        kit.lathe(
            [(0, 0), (w * 1.5, 0), (w * 1.5, 0.04), (w, 0.04), (w, 0.36), (0, 0.36)],
            lambda c: np.where((c[:, 2:] > 0.05) & (c[:, 2:] < 0.12), scarf, hat),
            (0, 0, z),
            rings=0.03,
        )
    elif style == "cone":
        kit.lathe(
            [(0, 0), (w * 1.15, 0), (0, 0.42)],
            kit.stripes(hat, scarf, 2, 0, 0.42),
            (0, 0, z - 0.03),
            rings=0.03,
        )
        kit.ball(0.07, WHITE, (0, 0, z + 0.4), detail=2)


@SHAPES.register("robot")
def robot(kit: ShapeBuilder) -> None:
    """A boxy or round robot: head with eyes and antenna, body with lights, arms and legs."""
    color, second, metal = kit.color(0), kit.color(1), kit.pick(SILVER, GREY, kit.color(3))
    w, d, h = kit.u(0.42, 0.56), kit.u(0.3, 0.4), kit.u(0.42, 0.56)
    leg = kit.u(0.2, 0.34)
    for side in (-1, 1):
        y = side * w * 0.27
        kit.rod((0, y, 0.05), (0, y, leg + 0.05), 0.06, metal)
        kit.box((0.24, 0.17, 0.09), second, (0.03, y, 0.045))
    z = leg
    if kit.chance(0.6):
        kit.box((d, w, h), color, (0, 0, z + h / 2))
    else:
        kit.lathe(
            [(0, 0), (w * 0.42, 0), (w * 0.5, 0.08), (w * 0.5, h - 0.08), (w * 0.4, h), (0, h)],
            color,
            (0, 0, z),
        )
        d = w * 0.9
    kit.box((0.04, w * 0.6, h * 0.45), kit.pick(WHITE, metal), (d / 2, 0, z + h * 0.58))
    for i, y in enumerate((-0.16, 0.0, 0.16)):
        kit.ball(0.035, kit.color(i + 1), (d / 2 + 0.02, y * w / 0.5, z + h * 0.65), detail=2)
    kit.box((0.05, w * 0.4, 0.04), second, (d / 2 + 0.01, 0, z + h * 0.46))
    for side in (-1, 1):
        y, lift = side * (w / 2 + 0.07), kit.u(-0.3, 0.25)
        kit.ball(0.08, metal, (0, y, z + h * 0.85), detail=2)
        hand = (kit.u(0.0, 0.22), y + side * 0.08, z + h * 0.85 + lift)
        kit.rod((0, y, z + h * 0.85), hand, 0.045, metal)
        kit.ball(0.075, second, hand, detail=2)
    z += h
    kit.rod((0, 0, z - 0.02), (0, 0, z + 0.09), 0.08, metal)
    hw, hd, hh = kit.u(0.34, 0.48), kit.u(0.28, 0.36), kit.u(0.26, 0.36)
    if kit.chance(0.6):
        kit.box((hd, hw, hh), kit.pick(color, second), (0, 0, z + 0.06 + hh / 2))
    else:
        dome = arc((hw / 2, hh), 0, 90, 8)
        kit.lathe([(0, 0), *dome], kit.pick(color, second), (0, 0, z + 0.06))
        hd = hw * 0.9
    glow = kit.pick((1.0, 0.95, 0.4), (0.4, 0.9, 1.0), WHITE)
    for side in (-1, 1):
        kit.ball((0.03, 0.06, 0.06), glow, (hd / 2, side * hw * 0.22, z + 0.06 + hh * 0.55))
        kit.ball(
            (0.02, 0.028, 0.028), BLACK, (hd / 2 + 0.022, side * hw * 0.22, z + 0.06 + hh * 0.55)
        )
    if kit.chance(0.7):
        kit.rod((0, 0, z + hh), (0, 0, z + hh + 0.22), 0.018, metal)
        kit.ball(0.05, kit.color(2), (0, 0, z + hh + 0.24), detail=2)


@SHAPES.register("blocks")
def blocks(kit: ShapeBuilder) -> None:
    """A toy tower of colored blocks, cylinders, balls and cones."""
    z, size = 0.0, kit.u(0.5, 0.7)
    for i in range(kit.pick(2, 3, 3, 4, 5)):
        kind = kit.pick("box", "box", "cylinder", "ring", "ball", "arch")
        h, x, y = size * kit.u(0.4, 0.9), kit.u(-0.08, 0.08), kit.u(-0.08, 0.08)
        first, second = kit.color(i), kit.color(i + 1)
        if kind == "box":
            kit.box(
                (size, size * kit.u(0.7, 1.2), h), first, (x, y, z + h / 2), (0, 0, kit.u(-30, 30))
            )
        elif kind == "cylinder":
            r = size * 0.5
            kit.lathe(
                [(0, 0), (r, 0), (r * kit.u(0.6, 1.0), h), (0, h)],
                kit.stripes(first, second, kit.pick(1, 2), 0, h),
                (x, y, z),
                rings=0.03,
            )
        elif kind == "ring":
            h = size * 0.36
            path = [(x + a, y + b, z + h / 2) for a, b in arc(size * 0.4, 0, 360, 28)]
            kit.tube(path, h / 2, first, sections=14)
            kit.rod((x, y, z), (x, y, z + h), size * 0.25, second)
        elif kind == "ball":
            h = size * 0.75
            kit.ball(h / 2, first, (x, y, z + h / 2))
        else:
            for side in (-1, 1):
                kit.box((size * 0.5, size * 0.25, h), first, (x, y + side * size * 0.36, z + h / 2))
            kit.box((size * 0.55, size * 1.05, h * 0.35), second, (x, y, z + h * 1.1))
            h *= 1.27
        z, size = z + h, size * kit.u(0.78, 0.95)
    if kit.chance(0.6):
        if kit.chance(0.5):
            kit.lathe([(0, 0), (size * 0.5, 0), (0, size)], kit.color(3), (0, 0, z))
        else:
            kit.prism(
                [(-size / 2, 0), (size / 2, 0), (0, size * 0.6)],
                size * 0.7,
                kit.color(3),
                (0, 0, z),
            )
    elif kit.chance(0.5):
        kit.ball((0.1, 0.1, 0.12), GOLD, (0, 0, z + 0.1))
