"""Shapes are checked in the benchmarks' tests, too."""

from helpers.shape_checking import check_shapes

check_shapes()
