"""Half precision: which weights are cast, how large the error is, how they are loaded."""

from __future__ import annotations

import contextlib

import pytest
import torch
from helpers.small_syncdreamer import published_state, small_config, small_model
from helpers.tiny_recipe import picture
from safetensors.torch import save_file

from mvdiff import builders
from mvdiff.denoiser.layout import channels_last
from mvdiff.denoiser.precision import cast_weights
from mvdiff.errors import MvdiffError
from mvdiff.utils.precision import check_precision
from mvdiff.weights.load_model import load_pretrained


def test_an_unknown_precision_names_the_choices():
    with pytest.raises(MvdiffError, match="unknown precision 'fp8'; choose from fp32, bf16, fp16"):
        check_precision("fp8")


@pytest.mark.parametrize("kind", ["ckpt", "safetensors", "synthetic"])
def test_weights_are_loaded_into_their_type(tmp_path, kind):
    full = small_model()
    weights = "synthetic"
    if kind == "ckpt":
        weights = str(tmp_path / "published.ckpt")
        torch.save({"state_dict": published_state(full)}, weights)
    elif kind == "safetensors":
        weights = str(tmp_path / "ours.safetensors")
        save_file({k: v.contiguous() for k, v in full.state_dict().items()}, weights)
    with pytest.warns() if kind == "synthetic" else contextlib.nullcontext():
        half = load_pretrained(lambda: cast_weights(small_model(), "bf16"), weights, "syncdreamer")
        exact = load_pretrained(small_model, weights, "syncdreamer")
    for (name, ours), theirs in zip(half.named_parameters(), exact.parameters(), strict=True):
        assert ours.dtype == torch.bfloat16
        if "unet" in name and ours.ndim == 4:
            assert ours.is_contiguous(memory_format=torch.channels_last), name
        assert torch.equal(ours, theirs.to(torch.bfloat16)), name


def test_half_precision_is_near_float32():
    latents = {}
    for precision in ("fp32", "bf16", "fp16"):
        with pytest.warns(UserWarning, match="very slow" if precision == "fp16" else "trained"):
            model = builders.build_pipeline(
                small_config("weights=synthetic", "segmentation=alpha", f"precision={precision}")
            )
        model.generate(
            picture(),
            elevation=30,
            seed=0,
            callback=lambda step, steps, x, key=precision: latents.update({key: x}),
        )
    exact = latents.pop("fp32")
    apart = {k: float((x - exact).norm() / exact.norm()) for k, x in latents.items()}
    assert 1e-5 < apart["bf16"] < 0.05
    assert 1e-6 < apart["fp16"] < apart["bf16"] / 4  # three more bits
    assert {x.dtype for x in latents.values()} == {torch.float32}


def test_channels_last_keeps_every_number():
    model = small_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    channels_last(model.volume, model.unet, None)
    for module in model.unet.modules():
        if isinstance(module, torch.nn.Conv2d):
            assert module.weight.is_contiguous(memory_format=torch.channels_last)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
