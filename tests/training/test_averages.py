"""Running means of the logged figures."""

from __future__ import annotations

import json

import torch

from mvdiff.training.averages import RunningMean


def test_figures_are_averaged_over_their_own_counts() -> None:
    meter = RunningMean()
    meter.add({"loss": torch.tensor(1.0), "rare": 8.0})
    meter.add({"loss": torch.tensor([3.0, 5.0])})
    assert meter.means() == {"loss": 2.5, "rare": 8.0}
    again = RunningMean()
    again.load(json.loads(json.dumps(meter.state())))
    again.add({"loss": 4.0})
    assert again.means() == {"loss": 3.0, "rare": 8.0}
