"""Where several pictures of one object were taken from, around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError


def check_azimuths(azimuth: Any, count: int) -> list[float]:
    """Azimuths of `count` pictures of one object, degrees; None is 0 for a single picture.

    Raises ConfigError unless there is a number for each.
    """
    if azimuth is None and count == 1:
        return [0.0]
    several = isinstance(azimuth, Sequence) and not isinstance(azimuth, str)
    values = list(azimuth) if several else [azimuth]
    numbers = all(type(v) in (int, float) and math.isfinite(v) for v in values)
    if len(values) != count or not numbers:
        raise ConfigError(
            "azimuth must hold a number of degrees for each picture of the object, such as "
            f"azimuth=[0,90] for a front and a side; got {azimuth} for {count} "
            f"{'picture' if count == 1 else 'pictures'}"
        )
    return [float(v) for v in values]
