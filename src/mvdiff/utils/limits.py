"""Ranges of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The numbers a setting may have.

    low, high: the ends; None where there is none. above_low, below_high: whether an end itself
        is excluded. whole: integers only.
    """

    low: float | None = None
    high: float | None = None
    above_low: bool = False
    below_high: bool = False
    whole: bool = False

    def __contains__(self, value: float) -> bool:
        if not isinstance(value, int) and not math.isfinite(value):
            return False
        if self.whole and value != int(value):
            return False
        if self.low is not None and (value < self.low or (self.above_low and value == self.low)):
            return False
        return (
            self.high is None or value < self.high or (not self.below_high and value == self.high)
        )

    def __str__(self) -> str:
        unlimited = self.low is None and self.high is None
        kind = "a whole number" if self.whole else "a finite number" if unlimited else "a number"
        if self.low is None or self.high is None:
            if self.low is None:
                return kind
            return f"{kind} {'above' if self.above_low else 'of at least'} {self.low}"
        left, right = "(" if self.above_low else "[", ")" if self.below_high else "]"
        return f"{kind} in {left}{self.low}, {self.high}{right}"


def whole_numbers(low: int, high: int) -> Range:
    """The integers from low to high, both included."""
    return Range(low, high, whole=True)


FINITE = Range()
SHARE = Range(0, 1)
SHARE_BELOW_1 = Range(0, 1, below_high=True)
POSITIVE = Range(0, above_low=True)
NOT_NEGATIVE = Range(0)
SEED = Range(0, 2**62, below_high=True, whole=True)
STEPS = whole_numbers(1, 10**9)
