"""Initial weights of a training run: which files are accepted, and the errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.small_syncdreamer import published_state, small_config, small_model
from helpers.tiny_recipe import toy_config, toy_model, toy_weights

from mvdiff import builders
from mvdiff.errors import MvdiffError
from mvdiff.training.checkpointing import save_weights
from mvdiff.weights.convert import NOT_IN_ZERO123
from mvdiff.weights.initialize import InitResult, init_for_training, sha256_of

SYNC = "syncdreamer"


@pytest.fixture(scope="module")
def trained() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn_like(t) for name, t in small_model().state_dict().items()}


def zero123(trained: dict, path: Path, **more: torch.Tensor) -> Path:
    weights = {n: t for n, t in trained.items() if not n.startswith(NOT_IN_ZERO123)}
    return save_weights({**weights, **more}, path, {"mvdiff_kind": "zero123"})


def start(weights: str | Path | None) -> InitResult:
    torch.manual_seed(7)
    return init_for_training(small_model, None if weights is None else str(weights), SYNC)


def test_zero123_starts_all_but_what_it_does_not_have(trained: dict, tmp_path: Path) -> None:
    begun, fresh = start(zero123(trained, tmp_path / "z.safetensors")), start(None)
    own, untouched = begun.model.state_dict(), fresh.model.state_dict()
    for name, tensor in own.items():
        lacks = name.startswith(NOT_IN_ZERO123)
        assert (name in begun.untrained) == lacks
        assert torch.equal(tensor, untouched[name] if lacks else trained[name]), name
    for slot in begun.model.unet.slots.values():
        assert not slot.out[-1].weight.any(), "depth attention starts as the identity"
    assert "untrained: 370 of volume., unet.slots., time." in begun.summary
    assert all(p.is_leaf and p.requires_grad for p in begun.model.parameters())


def test_published_files_start_without_a_conversion(tmp_path: Path) -> None:
    state = published_state(small_model())
    torch.save({"state_dict": state}, tmp_path / "sync.ckpt")
    begun = start(tmp_path / "sync.ckpt")
    assert begun.untrained == ()
    ours = begun.model.volume.encoder.stem.weight
    assert torch.equal(ours, state["spatial_volume.target_encoder.init_conv.weight"])

    clip, there = "clip_image_encoder.model.", "cond_stage_model.model."
    parts = ("model.diffusion_model.", "first_stage_model.", "cc_projection.", clip)
    names = [n for n in state if n.startswith(parts) and "_conditions." not in n]
    torch.save({n.replace(clip, there): state[n] for n in names}, tmp_path / "zero.ckpt")
    begun = start(tmp_path / "zero.ckpt")
    assert {n.split(".")[0] for n in begun.untrained} == {"unet", "volume", "time"}


def test_weights_of_the_recipe_are_gone_on_from(trained: dict, tmp_path: Path) -> None:
    half = save_weights(trained, tmp_path / "w.safetensors", precision="fp16")
    begun = start(half)
    assert begun.untrained == ()
    for name, tensor in begun.model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, trained[name].half().float())


def test_a_swapped_part_starts_untrained(tmp_path: Path) -> None:
    path = toy_weights(tmp_path / "toy.safetensors", "attention=none", "volume=none")
    begun = init_for_training(lambda: builders.build_model(toy_config()), str(path), "tiny")
    assert {n.split(".")[0] for n in begun.untrained} == {
        "unet",
        "volume",
        "radiance",
        "radiance_stem",
    }
    back = init_for_training(
        lambda: builders.build_model(toy_config("attention=none", "volume=none")),
        str(toy_weights(tmp_path / "whole.safetensors")),
        "tiny",
    )
    assert back.untrained == ()
    assert "unused: " in back.summary
    assert torch.equal(back.model.project.weight, toy_model().project.weight)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"project.weight": torch.zeros(3, 3)}, r"'project.weight' has shape \(3, 3\), this model"),
        ({"lora.weight": torch.zeros(3)}, "'lora.weight' is unknown"),
        (
            {"project.bias": torch.zeros(24, dtype=torch.int8)},
            "'project.bias' holds torch.int8 numbers, .* quantised weights cannot be loaded",
        ),
    ],
)
def test_files_of_another_model_are_refused(
    trained: dict, tmp_path: Path, change: dict, sentence: str
) -> None:
    path = zero123(trained, tmp_path / "z.safetensors", **change)
    with pytest.raises(MvdiffError, match=rf"z\.safetensors'.*: {sentence}"):
        start(path)


def test_files_that_lack_something_are_refused(trained: dict, tmp_path: Path) -> None:
    weights = {n: t for n, t in trained.items() if n != "unet.stem.weight"}
    path = save_weights(weights, tmp_path / "w.safetensors", {"mvdiff_kind": "zero123"})
    with pytest.raises(MvdiffError, match=r"'unet.stem.weight' is missing"):
        start(path)
    weights = {n: t for n, t in trained.items() if not n.startswith("time.")}
    with pytest.raises(MvdiffError, match=r"'time.0.weight' is missing"):
        start(save_weights(weights, tmp_path / "v.safetensors"))  # not Zero123's
    with pytest.raises(MvdiffError, match="no weights at"):
        start(tmp_path / "nowhere.safetensors")
    torch.save({"state_dict": {"model.diffusion_model.x": torch.zeros(2)}}, tmp_path / "x.ckpt")
    with pytest.raises(MvdiffError, match=r"x\.ckpt': this is not a whole Zero123 checkpoint"):
        start(tmp_path / "x.ckpt")


def test_rule_weights_warn(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="synthetic numbers"):
        begun = start("synthetic")
    assert begun.untrained == ()


def test_a_digest_is_of_the_numbers_not_of_the_file() -> None:
    a = {"x": torch.arange(4.0), "y": torch.ones(2, 2)}
    assert sha256_of(a) == sha256_of({"y": torch.ones(2, 2), "x": torch.arange(4.0).half()})
    assert sha256_of(a) != sha256_of({**a, "y": torch.ones(4)})
    assert sha256_of(a) != sha256_of({**a, "x": torch.arange(4.0) + 1e-6})
    assert sha256_of(a) != sha256_of({"x": a["x"], "z": a["y"]})


def bare_zero123() -> dict[str, torch.Tensor]:
    state = published_state(small_model())
    clip, there = "clip_image_encoder.model.", "cond_stage_model.model."
    parts = ("model.diffusion_model.", "first_stage_model.", "cc_projection.", clip)
    names = [n for n in state if n.startswith(parts) and "_conditions." not in n]
    return {n.replace(clip, there): state[n] for n in names}


def test_stable_zero123_is_known_by_its_name_here_too(tmp_path: Path) -> None:
    state = bare_zero123()
    for name, polar in (("zero123-xl.ckpt", False), ("stable_zero123.ckpt", True)):
        torch.save({"state_dict": state}, tmp_path / name)
        begun = start(tmp_path / name)
        kept = torch.equal(begun.model.project.weight, state["cc_projection.weight"])
        assert kept is not polar
        assert ("polar angle, as Stable-Zero123's" in begun.summary) is polar


def test_a_published_file_starts_a_model_with_a_swapped_part(tmp_path: Path) -> None:
    state = published_state(small_model())
    torch.save({"state_dict": state}, tmp_path / "sync.ckpt")
    config = small_config("attention=none")
    begun = init_for_training(
        lambda: builders.build_model(config),
        str(tmp_path / "sync.ckpt"),
        SYNC,
        swapped=builders.swapped_prefixes(config),
    )
    assert not any(name.startswith("unet.slots.") for name in begun.model.state_dict())
    assert torch.equal(begun.model.project.bias, state["cc_projection.bias"])


def test_other_cameras_and_schedules_are_reported(tmp_path: Path) -> None:
    state = published_state(small_model())
    more = {"poses": torch.zeros(16, 3, 4), "betas": torch.linspace(0, 0.5, 1000)}
    torch.save({"state_dict": state | more}, tmp_path / "sync.ckpt")
    betas = builders.build_training_scheduler(small_config()).betas
    with pytest.warns(UserWarning, match="other camera poses|noise schedule") as caught:
        init_for_training(small_model, str(tmp_path / "sync.ckpt"), SYNC, betas=betas)
    said = " ".join(str(warning.message) for warning in caught)
    assert "other camera poses" in said
    assert "another noise schedule" in said


@pytest.mark.parametrize("kind", ["converted", "zero123", "syncdreamer"])
def test_a_radiance_field_no_file_has_starts_as_made(
    trained: dict, tmp_path: Path, kind: str
) -> None:
    if kind == "converted":
        path = zero123(trained, tmp_path / "z.safetensors")
    else:
        path = tmp_path / f"{kind}.ckpt"
        torch.save(bare_zero123() if kind == "zero123" else published_state(small_model()), path)
    config = small_config("radiance=voxels")

    def begin(weights: str | None) -> InitResult:
        torch.manual_seed(7)
        return init_for_training(
            lambda: builders.build_model(config),
            weights,
            SYNC,
            swapped=builders.swapped_prefixes(config),
        )

    begun, fresh = begin(str(path)), begin(None)
    field = {n for n in begun.untrained if n.startswith("radiance")}
    assert {n.split(".")[0] for n in field} == {"radiance", "radiance_stem"}
    assert "radiance" in begun.summary
    assert all(torch.equal(begun.model.state_dict()[n], fresh.model.state_dict()[n]) for n in field)
    assert not torch.equal(begun.model.project.weight, fresh.model.project.weight)


def test_another_recipe_and_another_number_of_views_are_reported(tmp_path: Path) -> None:
    torch.save(published_state(small_model()), tmp_path / "sync.ckpt")
    with pytest.raises(MvdiffError, match=r"sync\.ckpt': published .*use recipe=syncdreamer"):
        init_for_training(
            lambda: builders.build_model(toy_config()), str(tmp_path / "sync.ckpt"), "tiny"
        )
    path = toy_weights(tmp_path / "w.safetensors", "volume=concat")
    config = toy_config("volume=concat", "rig.count=8")
    words = r"w\.safetensors' cannot start this training: they are for 4 views.*rig has 8"
    with pytest.raises(MvdiffError, match=words):
        init_for_training(lambda: builders.build_model(config), str(path), "tiny")
