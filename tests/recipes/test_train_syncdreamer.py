"""The published recipe trained at small sizes: from Zero123's file to one for `generate`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.small_syncdreamer import QUICK, TRAIN, small_config, training_config
from helpers.syncdreamer_data import write_published
from helpers.tiny_recipe import randomize
from safetensors.torch import load_file

from mvdiff import builders
from mvdiff.cli.main import main
from mvdiff.training.checkpointing import save_weights
from mvdiff.weights.convert import NOT_IN_ZERO123


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def zero(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as `mvdiff convert` makes it of Zero123, with weights by their names."""
    model = randomize(builders.build_model(training_config(*QUICK)))
    with torch.no_grad():  # a narrow posterior, as trained ones have
        model.latents.net.quant_conv.bias[4:] = -8
    weights = {n: t for n, t in model.state_dict().items() if not n.startswith(NOT_IN_ZERO123)}
    path = tmp_path_factory.mktemp("zero") / "zero123.safetensors"
    return save_weights(weights, path, {"mvdiff_kind": "zero123"})


def arguments(data: Path, zero: Path, out: Path, *more: str) -> list[str]:
    return [
        "train", "recipe=syncdreamer", *TRAIN, *QUICK, f"data={data}", f"weights={zero}",
        f"out={out}", "validate_every=0", "log_every=1", "tensorboard=false", "train.batch_size=2",
        "train.steps=3", "checkpoint_every=2", "train.warmup=0", "train.precision=fp32", *more,
    ]  # fmt: skip


def train(data: Path, zero: Path, out: Path, *more: str) -> Path:
    """Runs the command; returns the newest checkpoint."""
    assert main(arguments(data, zero, out, *more)) == 0
    return sorted((out / "checkpoints").glob("step-*"))[-1]


def losses(out: Path, figure: str = "loss") -> list[float]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line[figure] for line in lines if figure in line]


@pytest.fixture(scope="module")
def run(data: Path, zero: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps with the settings above."""
    out = tmp_path_factory.mktemp("run")
    train(data, zero, out)
    return out


def test_only_attention_volume_and_time_are_trained(run: Path, zero: Path) -> None:
    checkpoint = run / "checkpoints/step-00000003"
    kept = load_file(checkpoint / "ema.safetensors")
    assert {n for n in kept if not n.startswith(NOT_IN_ZERO123)} <= {
        "embedder.net.vision_model.embeddings.position_ids"
    }
    assert any(kept[n].any() for n in kept if n.endswith("slots.mid.out.5.weight"))
    base = json.loads((checkpoint / "state.json").read_text())["base"]
    assert base["weights"] == str(zero)
    optimizer = torch.load(checkpoint / "optimizer.pt", weights_only=True)["optimizer"]
    groups = optimizer["param_groups"]
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(5e-5, 0.01), (5e-4, 0.01)]


@pytest.mark.parametrize(
    ("words", "trained"),
    [
        (["attention=none"], {"time", "volume"}),
        (["attention=crossview"], {"time", "unet", "volume"}),
        (["radiance=voxels"], {"radiance", "radiance_stem", "time", "unet", "volume"}),
    ],
)
def test_an_ablation_of_it_is_one_word(data, zero, tmp_path, capsys, words, trained) -> None:
    code = main(arguments(data, zero, tmp_path, *words, "train.steps=1"))
    stderr = capsys.readouterr().err
    if words == ["attention=none"]:  # the UNet is frozen, and nothing else of it sees the volume
        assert code == 2
        assert "attention=none leaves nothing to train" in stderr
        return
    assert code == 0, stderr
    kept = load_file(tmp_path / "checkpoints/step-00000001/model.safetensors")
    assert {n.split(".")[0] for n in kept} - {"embedder"} == trained


def test_the_exported_file_is_a_whole_model(
    run: Path, zero: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.safetensors"
    assert main(["export", f"run_dir={run}", f"out={out}", "precision=fp32"]) == 0
    model = builders.build_pipeline(
        small_config(*QUICK, f"weights={out}", "segmentation=none")
    ).denoiser
    start, trained = load_file(zero), load_file(run / "checkpoints/step-00000003/ema.safetensors")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, trained[name] if name in trained else start[name]), name

    moved = tmp_path / "elsewhere.safetensors"
    save_weights(start, moved, {"mvdiff_kind": "zero123"})
    assert main(["export", f"run_dir={run}", f"out={out}", f"weights={moved}"]) == 0
    start["unet.stem.bias"] += 1
    save_weights(start, moved, {"mvdiff_kind": "zero123"})
    assert main(["export", f"run_dir={run}", f"out={out}", f"weights={moved}"]) == 2
    assert "does not hold the frozen weights" in capsys.readouterr().err


def test_a_run_that_was_cut_goes_on_bit_for_bit(
    run: Path, data: Path, zero: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "checkpoints/step-00000002"
    shutil.copytree(run / "checkpoints/step-00000002", cut)
    checkpoint = train(data, zero, tmp_path)
    assert losses(tmp_path) == losses(run)[2:]
    for name in ("model", "ema"):
        ours = load_file(checkpoint / f"{name}.safetensors")
        theirs = load_file(run / f"checkpoints/step-00000003/{name}.safetensors")
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_encoded_pictures_give_the_losses_of_pictures(
    run: Path, data: Path, zero: Path, tmp_path: Path
) -> None:
    assert len(list(data.glob("encoded-*/*.safetensors"))) == 1, "made by the first run"
    train(data, zero, tmp_path, "latent_cache=none")
    assert losses(tmp_path) == pytest.approx(losses(run), rel=1e-5)


def test_computing_activations_twice_and_validating_change_nothing(
    run: Path, data: Path, zero: Path, tmp_path: Path
) -> None:
    validate = [f"val_data={data}", "validate_every=1", "validate_objects=1", "sampler.steps=2"]
    train(data, zero, tmp_path, "activation_checkpointing=true", "train.steps=2", *validate)
    assert losses(tmp_path) == pytest.approx(losses(run)[:2], rel=1e-5)
    assert len(losses(tmp_path, "psnr_sampled")) == 2
    assert len(list((tmp_path / "validation").glob("*-views.png"))) == 2


def test_two_processes_take_the_steps_of_one(
    run: Path, data: Path, zero: Path, tmp_path: Path
) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [
        *launch,
        "-m",
        "mvdiff",
        *arguments(data, zero, tmp_path, f"latent_cache={tmp_path}/cache"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("started from") == 1, "one process speaks"
    for figure in ("loss", "grad_norm"):
        assert losses(tmp_path, figure) == pytest.approx(losses(run, figure), rel=1e-5)
    ours, theirs = (out / "checkpoints/step-00000003" for out in (tmp_path, run))
    # Adam's first moment is a sum of gradients, before it is divided by their size
    mine, expected = (moments(path) for path in (ours, theirs))
    largest = max(float(moment.abs().max()) for moment in expected.values())
    for name, moment in expected.items():
        torch.testing.assert_close(mine[name], moment, rtol=0, atol=3e-6 * largest)
    # Gradients below the moments' tolerance may be rounding errors alone (biases before a norm have
    # no others), which Adam scales up to its rate.
    weights = [load_file(path / "model.safetensors") for path in (ours, theirs)]
    for name, moment in expected.items():
        real = moment.abs() > 1e-4 * largest
        a, b = (w[name][real] for w in weights)
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def moments(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Adam's first moments by name: groups as published, names in the model's order."""
    names = [name for name, _ in builders.build_model(training_config(*QUICK)).named_parameters()]
    slots = [name for name in names if name.startswith("unet.slots.")]
    rest = [name for name in names if name.startswith(("volume.", "time."))]
    state = torch.load(checkpoint / "optimizer.pt")["optimizer"]["state"]
    return {name: state[i]["exp_avg"] for i, name in enumerate(slots + rest)}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["weights=null"], "keeps most of its weights frozen"),
        (["weights=nowhere.safetensors"], "no weights at 'nowhere.safetensors'"),
        (["train.groups=[{match: slots.}]"], "begins with or matches 'slots.'; choose from"),
        (["train.groups=[{match: unet.slots.}]"], "is frozen, yet"),
        (["validate_every=5"], "holds no objects out for validation: pass val_data=FOLDER"),
        (
            ["train.groups=[]", "latent_cache=kept"],
            "latent_cache=kept has nothing to keep: the embedder is",
        ),
        (["train.augment.mirror=0.5", "latent_cache=kept"], "train.augment changes the pictures"),
        (
            ["sizes.photo_features=8", "train.num_input_images=[1,2]", "latent_cache=kept"],
            "only one is cached",
        ),
        (["data=nowhere"], "no data at 'nowhere'"),
        (["rig.elevation=20.0"], "16 of the 16 target cameras of 'a1' are not the recipe's"),
    ],
)
def test_settings_that_cannot_work_are_reported(
    data: Path,
    zero: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    sentence: str,
) -> None:
    changed = {s.partition("=")[0] for s in settings}
    rest = [a for a in arguments(data, zero, tmp_path) if a.partition("=")[0] not in changed]
    assert main([*rest, *settings]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
