"""Metrics refuse arguments of the wrong type in one sentence.

In another process, because here the annotations themselves are checked.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import trimesh

from mvdiff.errors import MvdiffError
from mvdiff.metrics.checks import check_comparable, check_mesh, check_views

SCRIPT = """
import numpy as np, torch, trimesh
from mvdiff import metrics
from mvdiff.errors import MvdiffError
from mvdiff.evaluation import evaluate_mesh, evaluate_views, score_views

good = torch.rand(2, 3, 16, 16)
box = trimesh.creation.box()
bad = [None, 5, "text", good.numpy(), good.to_sparse(), good.to("meta"), [good]]
bad.append((good * 255).byte())
calls = []
for x in bad:
    calls += [lambda x=x: metrics.psnr(x, good), lambda x=x: metrics.ssim(good, x)]
    for f in (metrics.hull_iou, metrics.photometric_error, metrics.self_consistency, score_views):
        calls.append(lambda x=x, f=f: f(x))
    calls += [lambda x=x: metrics.corrupt(x), lambda x=x: metrics.diversity([x, x])]
    calls += [lambda x=x: metrics.chamfer(x, box), lambda x=x: metrics.volume_iou(box, x)]
    calls += [lambda x=x: evaluate_mesh(box, x, iou=False), lambda x=x: evaluate_views(x, x)]
for i, call in enumerate(calls):
    try:
        print("no error", i, call())
    except MvdiffError as error:
        assert len(str(error)) < 300, str(error)
    except Exception as error:
        print(i, repr(error))
print("done", len(calls))
"""


def test_every_metric_refuses_every_wrong_type():
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert result.stdout.split("\n") == ["done 96", ""], result.stdout + result.stderr


def test_pictures_of_other_types_are_named():
    good = torch.rand(1, 3, 16, 16)
    for bad, says in (
        (good.numpy(), "ndarray"),
        (None, "NoneType"),
        (good.to_sparse(), "sparse"),
        (good.to("meta"), "meta"),
        (good.mul(255).byte(), "uint8"),
        (good.double(), "float64"),
        (good[:0], "shape"),
    ):
        with pytest.raises(MvdiffError, match=says):
            check_comparable(bad, good)
        with pytest.raises(MvdiffError, match=says):
            check_comparable(good, bad)
    empty = good[:0]
    with pytest.raises(MvdiffError, match="empty"):
        check_comparable(empty, empty)


def test_views_and_meshes_of_other_types_are_named():
    with pytest.raises(MvdiffError, match="Tensor"):
        check_views(torch.zeros(1))
    with pytest.raises(MvdiffError, match="ndarray"):
        check_mesh(torch.zeros(3, 3).numpy())
    broken = trimesh.creation.box()
    broken.vertices[0] = float("nan")
    with pytest.raises(MvdiffError, match="NaN"):
        check_mesh(broken)
