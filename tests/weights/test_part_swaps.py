"""Published checkpoints with a part replaced: attention, volume, or CLIP from its own file."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from helpers.small_syncdreamer import published_state, small_config, small_model
from helpers.tiny_recipe import picture
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor

from mvdiff import builders
from mvdiff.cameras import ring
from mvdiff.cli.main import main
from mvdiff.errors import MvdiffError
from mvdiff.weights.clip import clip_weights
from mvdiff.weights.convert import convert, fold_polar
from mvdiff.weights.load_model import init_on_meta, load_pretrained
from mvdiff.weights.synthetic import fill_synthetic

CLIP = "clip_image_encoder.model."


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return published_state(init_on_meta(small_model))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Tensor]) -> Path:
    path = tmp_path_factory.mktemp("published") / "syncdreamer.ckpt"
    torch.save({"state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return fill_synthetic(init_on_meta(small_model)).state_dict()


def openai(state: dict[str, Tensor], factor: float = 1.0) -> dict[str, Tensor]:
    """CLIP alone under OpenAI's names, with a tensor of its text tower."""
    tower = {n[len(CLIP) :]: t * factor for n, t in state.items() if n.startswith(CLIP)}
    return tower | {"transformer.resblocks.0.ln_1.bias": torch.zeros(3)}


@pytest.mark.parametrize("slots", [["attention"], ["attention", "volume"]])
def test_a_swapped_part_stays_untrained_and_the_rest_is_published(
    slots: list[str], published: Path, expected: dict[str, Tensor]
) -> None:
    without = [f"{slot}=none" for slot in slots]
    with pytest.warns(UserWarning, match=r"not the published parts .* expect worse pictures"):
        model = builders.build_pipeline(
            small_config(*without, f"weights={published}", "segmentation=alpha")
        ).denoiser
    own = model.state_dict()
    parts = tuple({"attention": "unet.slots.", "volume": "volume."}[slot] for slot in slots)
    assert {n for n in own if not n.startswith(parts)} == {
        n for n in expected if not n.startswith(parts)
    }
    assert all(torch.equal(own[n], expected[n]) for n in own if not n.startswith(parts))
    assert not any(p.is_meta for p in model.parameters())


def test_a_radiance_field_is_swapped_in_fresh_and_the_same_each_time(
    published: Path, expected: dict[str, Tensor]
) -> None:
    config = small_config("radiance=voxels", f"weights={published}", "segmentation=alpha")
    with pytest.warns(UserWarning, match=r"radiance and radiance_stem are not the published parts"):
        own = builders.build_pipeline(config).denoiser.state_dict()
    parts = ("radiance.", "radiance_stem.")
    assert {n.split(".")[0] + "." for n in own.keys() - expected.keys()} == set(parts)
    assert all(torch.equal(own[n], t) for n, t in expected.items())
    assert not own["radiance_stem.weight"].any()  # pictures are the published ones until trained
    with pytest.warns(UserWarning, match="not the published parts"):
        again = builders.build_pipeline(config).denoiser.state_dict()
    assert all(torch.equal(t, again[n]) for n, t in own.items())


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
def test_files_with_our_names_may_differ_in_a_part_whatever_their_kind(
    tmp_path: Path, expected: dict[str, Tensor], suffix: str
) -> None:
    path = tmp_path / f"own{suffix}"
    weights = {k: v.clone() for k, v in expected.items()}
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    config = small_config("attention=none", f"weights={path}", "segmentation=alpha")
    with pytest.warns(UserWarning, match="unused, because their part was swapped"):
        own = builders.build_pipeline(config).denoiser.state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in own.items())
    config = small_config("unet.width=24", f"weights={path}", "segmentation=alpha")
    with pytest.raises(MvdiffError, match=r"belong to another model: '.*' has shape"):
        builders.build_pipeline(config)


def test_a_swap_does_not_hide_other_faults(tmp_path: Path, state: dict[str, Tensor]) -> None:
    partial = {k: v for k, v in state.items() if k != "time_embed.0.bias"}
    torch.save(partial, tmp_path / "partial.ckpt")
    config = small_config("attention=none", f"weights={tmp_path / 'partial.ckpt'}")
    with pytest.raises(MvdiffError, match=r"'time_embed\.0\.bias' is missing"):
        builders.build_pipeline(config)


def test_checkpoint_and_weights_are_one_setting() -> None:
    assert small_config("weights=a.ckpt").weights == "a.ckpt"
    assert small_config("weights=b.ckpt").weights == "b.ckpt"
    assert small_config().weights == "none"


@pytest.mark.parametrize("kind", ["openai", "converted"])
@pytest.mark.parametrize("whole", ["published", "converted"])
def test_clip_from_its_own_file_replaces_the_tower(
    tmp_path: Path, published: Path, state, expected, kind: str, whole: str
) -> None:
    if kind == "openai":
        clip = tmp_path / "ViT-L-14.pt"
        torch.save(openai(state, 2.0), clip)
    else:
        clip = tmp_path / "clip.safetensors"
        weights, found = convert(init_on_meta(small_model), openai(state, 2.0))
        assert found == "clip"
        save_file({k: v.clone() for k, v in weights.items()}, clip, {"mvdiff_kind": found})
    path = published
    if whole == "converted":
        path = tmp_path / "converted.safetensors"
        save_file({k: v.clone() for k, v in expected.items()}, path)
    config = small_config(f"weights={path}", f"clip={clip}", "segmentation=alpha")
    own = builders.build_pipeline(config).denoiser.state_dict()
    for name, tensor in expected.items():
        factor = 2.0 if name.startswith("embedder.") else 1.0
        assert torch.equal(own[name], tensor * factor), name


def test_a_checkpoint_without_its_image_tower_works_with_clip(
    tmp_path: Path, state: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    bare = {k: v for k, v in state.items() if not k.startswith(CLIP)}
    torch.save(bare, tmp_path / "bare.ckpt")
    torch.save(openai(state), tmp_path / "clip.pt")
    with pytest.raises(MvdiffError, match=r"'clip_image_encoder.*' is missing"):
        load_pretrained(small_model, str(tmp_path / "bare.ckpt"), "syncdreamer")
    model = load_pretrained(
        small_model, str(tmp_path / "bare.ckpt"), "syncdreamer", clip=str(tmp_path / "clip.pt")
    )
    assert all(torch.equal(model.state_dict()[n], t) for n, t in expected.items())


def test_clips_of_another_size_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    model = init_on_meta(small_model)
    wide = openai(state) | {"visual.class_embedding": torch.zeros(48)}
    with pytest.raises(MvdiffError, match=r"another size: 'visual.class_embedding' has .* \(32,\)"):
        clip_weights(model, wide)
    deep = openai(state) | {"visual.transformer.resblocks.7.ln_1.bias": torch.zeros(32)}
    with pytest.raises(MvdiffError, match=r"resblocks\.7\.ln_1.bias' has no place"):
        clip_weights(model, deep)
    whole = {n: (t * 100).to(torch.int8) for n, t in openai(state).items()}
    with pytest.raises(MvdiffError, match=r"int8 numbers, expected floating point"):
        clip_weights(model, whole)
    torch.save(wide, tmp_path / "wide.pt")
    with pytest.raises(MvdiffError, match=r"wide\.pt': this is a CLIP of another size"):
        load_pretrained(small_model, "synthetic", "syncdreamer", clip=str(tmp_path / "wide.pt"))


def test_clip_alone_is_no_checkpoint(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(openai(state), tmp_path / "clip.pt")
    with pytest.raises(MvdiffError, match="is CLIP alone: pass it as clip="):
        load_pretrained(small_model, str(tmp_path / "clip.pt"), "syncdreamer")


def test_stable_zero123s_polar_angle_is_folded_into_the_projection() -> None:
    """The same context token from either model's camera values, for any input elevation."""
    torch.manual_seed(0)
    model = small_model()
    weight, bias = torch.randn(24, 28), torch.randn(24)
    folded = fold_polar(model, weight, bias)
    for elevation in (-10.0, 0.0, 25.0):
        pose = model.condition_from(
            torch.zeros(1, 24), torch.zeros(1, 4, 8, 8), torch.tensor([elevation])
        ).pose[0]
        assert torch.equal(pose[:, 3], torch.zeros(16))
        stable = pose.clone()
        stable[:, 3] = math.radians(90 - elevation)
        token = torch.randn(24).expand(16, -1)
        theirs = torch.cat([token, stable], dim=1) @ weight.T + bias
        ours = torch.cat([token, pose], dim=1) @ folded["project.weight"].T + folded["project.bias"]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not torch.equal(folded["project.weight"], weight)


def test_the_polar_angle_needs_one_target_elevation() -> None:
    model = small_model()
    low, high = ring(count=8, size=64), ring(count=8, elevation=10.0, size=64)
    model.rig = type(low)(
        torch.cat([low.K, high.K]), torch.cat([low.w2c, high.w2c]), low.width, low.height
    )
    with pytest.raises(MvdiffError, match="one elevation only"):
        fold_polar(model, torch.zeros(24, 28), torch.zeros(24))


@pytest.mark.parametrize(
    ("name", "polar", "folded"),
    [
        ("stable_zero123.ckpt", "auto", True),
        ("zero123-xl.ckpt", "auto", False),
        ("mine.ckpt", True, True),
    ],
)
def test_convert_says_what_it_took_the_fourth_value_for(
    tmp_path: Path, monkeypatch, capsys, state, name: str, polar: object, folded: bool
) -> None:
    from mvdiff.cli.convert import run

    monkeypatch.setattr(sys.modules["mvdiff.config.compose"], "compose", lambda *_: small_config())
    parts = {
        k.replace("clip_image_encoder.", "cond_stage_model."): v
        for k, v in state.items()
        if "_conditions." not in k and not k.startswith(("spatial_volume.", "time_embed."))
    }
    torch.save({"state_dict": parts}, tmp_path / name)
    out = tmp_path / "start.safetensors"
    settings = {
        "source": str(tmp_path / name),
        "output": str(out),
        "precision": "fp32",
        "fourth_value_is_polar_angle": polar,
        "prompts": [],
        "text_tower": False,
        "tokenizer": None,
    }
    assert run(OmegaConf.create(settings)) == 0
    said = capsys.readouterr().out
    assert ("as Stable-Zero123's" in said) is folded
    from safetensors.torch import load_file

    kept = torch.equal(load_file(out)["project.weight"], state["cc_projection.weight"])
    assert kept is not folded


def test_whole_number_weights_are_refused_in_a_converted_file(
    tmp_path: Path, expected: dict[str, Tensor]
) -> None:
    path = tmp_path / "whole.safetensors"
    save_file({k: (v * 100).to(torch.int8) for k, v in expected.items()}, path)
    with pytest.raises(MvdiffError, match=r"int8 numbers, expected floating point"):
        load_pretrained(small_model, str(path), "syncdreamer")


def test_views_at_a_time_must_be_positive(tmp_path: Path, capsys) -> None:
    picture().save(tmp_path / "a.png")
    args = ["generate", "recipe=syncdreamer", "weights=synthetic", f"image={tmp_path / 'a.png'}"]
    assert main([*args, f"out={tmp_path / 'out'}", "batch_views=0"]) == 2
    assert "batch_views must be a whole number in [1" in capsys.readouterr().err
