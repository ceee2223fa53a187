"""Training of the elevation network: batches, calibration, the command."""

from __future__ import annotations

import pytest
import torch
from helpers.rendering import render_objects
from safetensors.torch import load_file

from mvdiff.cameras import ring
from mvdiff.data.augment import Augment
from mvdiff.data.dataset import RenderedDataset
from mvdiff.errors import MvdiffError
from mvdiff.preprocessing.elevation import ElevationNet
from mvdiff.training.train_elevation import EACH, Inputs, answers, calibrate, errors, main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("elevation")
    render_objects(
        out, num_shapes=4, rig=ring(8, size=24), num_inputs=8, supersample=1, workers=1,
        val_fraction=0.3, progress=False,
    )  # fmt: skip
    return out


def test_shares_put_together_are_the_batch(folder):
    inputs = Inputs(RenderedDataset(folder, "train"), Augment())

    def batch(shard: int, shards: int):
        return inputs.batch_at(
            3, batch_size=2 * EACH, seed=1, shard=shard, shards=shards, device="cpu"
        )

    whole, parts = batch(0, 1), [batch(0, 2), batch(1, 2)]
    assert torch.equal(whole.rgba, torch.cat([p.rgba for p in parts]))
    assert torch.equal(whole.elevation, torch.cat([p.elevation for p in parts]))
    assert whole.rgba.shape == (2 * EACH, 4, 64, 64)
    assert float(whole.rgba.min()) >= 0
    assert float(whole.rgba.max()) <= 1


def test_calibration_makes_the_spread_hold(folder):
    data = RenderedDataset(folder, "train")
    torch.manual_seed(0)
    model = ElevationNet().eval()
    model.calibration *= 0.01
    assert errors(model, data)["within"] < 0.2
    calibrate(model, data)
    count = answers(model, data)[0].numel()
    assert errors(model, data)["within"] == pytest.approx(0.68, abs=2 / count)


def test_the_command_trains_and_writes_weights(folder, tmp_path, capsys):
    args = [f"data={folder}", f"out={tmp_path / 'run'}", "steps=2", f"batch_size={EACH}"]
    main([*args, f"weights={tmp_path / 'w.safetensors'}"])
    assert "constant" in capsys.readouterr().out
    weights = load_file(tmp_path / "w.safetensors")
    net = ElevationNet()
    net.load_state_dict({k: v.float() for k, v in weights.items()})
    assert float(net.calibration) != 1
    with pytest.raises(MvdiffError, match="usage"):
        main(["nonsense=1"])
