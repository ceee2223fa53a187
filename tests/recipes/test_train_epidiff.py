"""New blocks on a frozen Zero123, trained at small sizes: from its file to views."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.syncdreamer_data import write_published
from safetensors.torch import load_file

from mvdiff import builders
from mvdiff.cli.main import main
from mvdiff.config.compose import compose
from mvdiff.training.checkpointing import save_weights
from mvdiff.weights.convert import convert
from mvdiff.weights.initialize import init_for_training
from mvdiff.weights.key_maps.epidiff import epidiff_mapping
from mvdiff.weights.load_model import init_on_meta, load_pretrained
from mvdiff.weights.synthetic import rule_weight
from mvdiff.weights.zero123 import zero123_mapping

#: all levels and blocks as published, so that the names are; only widths and sides are small
SMALL = [
    "size=64",
    "sizes.time_dim=16",
    "unet.width=16",
    "unet.groups=8",
    "latents.widths=[8,8,16,16]",
    "latents.groups=4",
    "embedder.width=32",
    "embedder.layers=2",
    "embedder.heads=2",
    "embedder.size=28",
]
#: what is trained on a frozen Zero123, and where the new parts' parameters are
RUNS = {
    "epipolar": [
        "recipe=zero123",
        "rig.count=16",
        "attention=epipolar",
        "place=beside",
        "train.groups=[{match: unet.slots., lr: 2.0e-3}]",
    ],
    "epidiff": ["recipe=epidiff", "rig=ring", "attention.head_width=16"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def zero123(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file as Zero123's authors publish it, with weights by the rule."""
    model = init_on_meta(
        lambda: builders.build_model(compose("generate", ["recipe=zero123", "image=none", *SMALL]))
    )
    tensors = {}
    for name, parameter in model.state_dict().items():
        if not name.startswith("time."):
            origin = zero123_mapping(name)
            tensors[origin.name] = rule_weight(origin.name, origin.shape(tuple(parameter.shape)))
    # a narrow posterior, as trained ones have
    tensors["first_stage_model.quant_conv.bias"][4:] = -8
    path = tmp_path_factory.mktemp("zero123") / "zero123-xl.ckpt"
    torch.save({"state_dict": tensors}, path)
    return path


def train(run: str, data: Path, zero123: Path, out: Path, *more: str) -> None:
    arguments = [
        "train", *RUNS[run], *SMALL, f"data={data}", f"weights={zero123}", f"out={out}",
        "validate_every=0", "log_every=1", "tensorboard=false", "train.batch_size=2",
        "train.views=3", "train.warmup=0", "train.precision=fp32",
    ]  # fmt: skip
    changed = {word.partition("=")[0] for word in more}
    kept = [word for word in arguments if word.partition("=")[0] not in changed]
    assert main([*kept, *more]) == 0


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.fixture(scope="module", params=RUNS)
def run(request, data, zero123, tmp_path_factory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp(request.param)
    steps = ["train.steps=4", "checkpoint_every=2"]
    train(request.param, data, zero123, out, *steps)
    return request.param, out


def test_the_new_blocks_alone_are_trained(run, zero123):
    out = run[1]
    checkpoint = out / "checkpoints/step-00000004"
    kept = load_file(checkpoint / "ema.safetensors")
    assert {n for n in kept if not n.startswith(("unet.slots.", "time."))} <= {
        "embedder.net.vision_model.embeddings.position_ids"
    }
    before, after = (
        load_file(out / f"checkpoints/step-{step:08d}/model.safetensors") for step in (2, 4)
    )
    moved = [
        n for n in after if n.startswith("unet.slots.") and not torch.equal(before[n], after[n])
    ]
    assert moved
    base = json.loads((checkpoint / "state.json").read_text())["base"]
    assert base["weights"] == str(zero123)


def test_a_run_that_was_cut_goes_on_bit_for_bit(run, data, zero123, tmp_path):
    name, out = run
    half = "checkpoints/step-00000002"
    shutil.copytree(out / half, tmp_path / half)
    train(name, data, zero123, tmp_path, "train.steps=4", "checkpoint_every=2")
    assert losses(tmp_path) == losses(out)[2:]
    ours, whole = (
        load_file(folder / "checkpoints/step-00000004/model.safetensors")
        for folder in (tmp_path, out)
    )
    assert all(torch.equal(ours[key], whole[key]) for key in whole)


def test_the_exported_file_holds_the_frozen_zero123(run, zero123, tmp_path):
    out = run[1]
    file = tmp_path / "model.safetensors"
    assert main(["export", f"run_dir={out}", f"out={file}", "precision=fp32"]) == 0
    model = load_file(file)
    published = torch.load(zero123, weights_only=True)["state_dict"]
    for own in ("unet.stem.weight", "unet.middle.1.proj_in.weight", "project.weight"):
        origin = zero123_mapping(own)
        assert torch.equal(model[own], origin.convert(published[origin.name], model[own].shape))


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_loss_falls(name, data, zero123, tmp_path):
    """On one object, seen again and again."""
    one = write_published(tmp_path / "one", uids=("a1",))
    fast = "train.groups=[{match: unet.slots., lr: 5.0e-3}]"
    steps = ["train.steps=40", "checkpoint_every=40", "train.batch_size=4", fast]
    train(name, one, zero123, tmp_path / "run", *steps)
    seen = losses(tmp_path / "run")
    first, last = sum(seen[:8]) / 8, sum(seen[-8:]) / 8
    assert last < 0.9 * first, (first, last)


def test_training_starts_from_epidiffs_file_too(tmp_path):
    settings = ["recipe=epidiff", "image=none", *SMALL, "attention.head_width=16"]

    def make():
        return builders.build_model(compose("generate", settings))

    tensors = {}
    for name, parameter in init_on_meta(make).state_dict().items():
        if not name.startswith("time."):
            origin = epidiff_mapping(name)
            tensors[origin.name] = rule_weight(origin.name, origin.shape(tuple(parameter.shape)))
    torch.save({"state_dict": tensors}, tmp_path / "epidiff.ckpt")
    start = init_for_training(make, str(tmp_path / "epidiff.ckpt"), "epidiff", family="epidiff")
    assert start.untrained == ()
    own = start.model.state_dict()
    for name in ("unet.slots.up11.weight.weight", "unet.stem.bias", "latents.net.quant_conv.bias"):
        assert torch.equal(own[name], tensors[epidiff_mapping(name).name])
    # the same file under our names, as `mvdiff convert` writes it
    weights, kind = convert(init_on_meta(make), tensors)
    assert kind == "epidiff"
    path = save_weights(weights, tmp_path / "epidiff.safetensors", {"mvdiff_kind": kind})
    converted = load_pretrained(make, str(path), "epidiff", family="epidiff").state_dict()
    assert all(torch.equal(converted[n], t) for n, t in own.items() if not n.startswith("time."))


def test_stable_zero123_is_taken_as_it_is(zero123, tmp_path):
    """EpiDiff's fourth camera value is 0, whatever the projection learned to find there."""
    path = tmp_path / "stable_zero123.ckpt"
    shutil.copy(zero123, path)
    config = compose(
        "generate", ["recipe=epidiff", "image=none", *SMALL, "attention.head_width=16"]
    )
    start = init_for_training(
        lambda: builders.build_model(config), str(path), "epidiff", family="epidiff"
    )
    published = torch.load(path, weights_only=True)["state_dict"]["cc_projection.weight"]
    assert torch.equal(start.model.project.weight, published)
