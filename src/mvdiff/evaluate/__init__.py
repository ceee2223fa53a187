"""Figures of results against truth, by the published protocols: views, meshes, folders of both."""

from .folders import evaluate_folder
from .protocol import evaluate_mesh, evaluate_views
from .report import mean, notes, table, write

__all__ = [
    "evaluate_folder",
    "evaluate_mesh",
    "evaluate_views",
    "mean",
    "notes",
    "table",
    "write",
]
