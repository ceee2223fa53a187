"""sRGB and linear light (IEC 61966-2-1)."""

from __future__ import annotations

import numpy as np


def to_display(linear: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB."""
    curve = 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, curve)


def to_linear(display: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light."""
    return np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)


def multiply(display: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The product of two sRGB colors in linear light, as sRGB; exact where one is white."""
    if (np.asarray(factor) == 1).all():
        return display
    if (np.asarray(display) == 1).all():
        return np.broadcast_to(factor, np.broadcast_shapes(np.shape(display), np.shape(factor)))
    return to_display(to_linear(display) * to_linear(factor))


def add(display: np.ndarray, light: np.ndarray) -> np.ndarray:
    """The sum of two sRGB colors in linear light, as sRGB, at most 1."""
    return to_display(np.minimum(to_linear(display) + to_linear(light), 1.0))
