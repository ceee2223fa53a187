"""Sweeps at toy size, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.toy_sweep import WORDS, write_balls

from mvdiff.cli.main import main


@pytest.fixture(scope="session", autouse=True)
def quick() -> Iterator[None]:
    """Figures of reconstructions are tested elsewhere; a toy's steps need no long timing."""
    from mvdiff.ablation import profiling as cost
    from mvdiff.evaluation import scores

    with pytest.MonkeyPatch.context() as patch:
        known = {"self_chamfer": 0.01, "self_psnr": 20.0}
        patch.setattr(scores, "self_consistency", lambda views: known)
        patch.setattr(scores, "photometric_error", lambda views: 0.05)
        patch.setattr(cost, "WARM_UP", 1)
        patch.setattr(cost, "MIN_STEPS", 2)
        yield


@pytest.fixture
def bare(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No plots and no controls, which take longer than the toy's training; `swept` has them."""
    monkeypatch.setattr("mvdiff.ablation.plots.write_plots", lambda out, rows: [])
    truth = {"truth": {"ball6": {"hull_iou": 1.0}}}
    monkeypatch.setattr("mvdiff.ablation.scoring.controls", lambda *_: truth)


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered objects to train on and to hold out."""
    return write_balls(tmp_path_factory.mktemp("balls"))


@pytest.fixture(scope="session")
def ablate(balls: Path) -> Callable[..., int]:
    """`mvdiff ablate` on them: exit code."""

    def run(out: Path, *words: str) -> int:
        return main(["ablate", f"data={balls}", *WORDS, f"out={out}", *words])

    return run


@pytest.fixture(scope="session")
def swept(ablate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished sweep of two variants and two seeds; not to be changed."""
    out = tmp_path_factory.mktemp("swept")
    assert ablate(out, "attention=none,depthwise", "seeds=0,1", "budget.steps=4") == 0
    return out
