"""Figures of results against truth, by the published protocols: views, meshes, folders of both."""

from .folders import evaluate_folder
from .protocol import evaluate_mesh, evaluate_views
from .report import check_target, mean, notes, table, write
from .scores import control_scores, score_views

__all__ = [
    "check_target",
    "control_scores",
    "evaluate_folder",
    "evaluate_mesh",
    "evaluate_views",
    "mean",
    "notes",
    "score_views",
    "table",
    "write",
]
