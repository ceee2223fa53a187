"""Published checkpoints: strict by name and shape, read without running anything from them."""

from __future__ import annotations

import os
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch
from helpers.small_syncdreamer import published_state, small_config, small_model
from omegaconf import OmegaConf
from safetensors.torch import save_file

from mvdiff import builders
from mvdiff.errors import MvdiffError
from mvdiff.weights.convert import NOT_IN_ZERO123, convert
from mvdiff.weights.load_model import init_on_meta, load_pretrained
from mvdiff.weights.safe_load import read_weights
from mvdiff.weights.syncdreamer import load_syncdreamer
from mvdiff.weights.synthetic import fill_synthetic


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return published_state(init_on_meta(small_model))


@pytest.fixture(scope="module")
def expected() -> dict[str, torch.Tensor]:
    return fill_synthetic(init_on_meta(small_model)).state_dict()


def same(model: torch.nn.Module, expected: dict[str, torch.Tensor]) -> bool:
    own = model.state_dict()
    return own.keys() == expected.keys() and all(torch.equal(own[n], expected[n]) for n in own)


def test_every_parameter_is_set_and_the_text_tower_is_left_out(state, expected):
    model = init_on_meta(small_model)
    text = {"clip_image_encoder.model.transformer.resblocks.0.ln_1.bias": torch.zeros(3)}
    report = load_syncdreamer(model, state | text)
    assert same(model, expected)
    assert report.loaded == len(expected)
    assert report.fault() is None
    assert report.ignored == tuple(text)


def test_missing_unknown_and_other_shapes_are_reported_and_nothing_is_loaded(state, expected):
    name, other = "time_embed.0.weight", "cc_projection.bias"
    broken = {k: v for k, v in state.items() if k != name} | {
        other: torch.zeros(7),
        "never.heard": torch.zeros(1),
    }
    model = small_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    report_text = r"'cc_projection.bias' has shape \(7,\), this model needs \(24,\) \(and 2 more"
    with pytest.raises(MvdiffError, match=report_text):
        load_syncdreamer(model, broken)
    assert same(model, before)
    report = load_syncdreamer(model, broken, strict=False)
    assert report.missing == (name,)
    assert report.unexpected == ("never.heard",)
    assert report.mismatched == ((other, (7,), (24,)),)
    assert report.loaded == len(expected) - 2


def test_cameras_and_schedules_of_the_file_are_reported_and_never_loaded(state):
    model = init_on_meta(small_model)
    rig = model.rig.resize(256)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alike = {"poses": rig.w2c, "Ks": rig.K, "betas": betas, "azimuth": torch.zeros(16)}
    assert load_syncdreamer(model, state | alike, betas=betas).differences == ()
    kept = model.rig.w2c.clone()
    other = {"poses": rig.w2c + 0.1, "Ks": rig.K * 2, "betas": betas * 2}
    report = load_syncdreamer(model, state | other, betas=betas)
    assert len(report.differences) == 3
    assert set(report.ignored) == set(other)
    assert torch.equal(model.rig.w2c, kept)


def test_whole_numbers_are_refused(state):
    name = "time_embed.0.bias"
    with pytest.raises(MvdiffError, match=f"'{name}' holds torch.int64 numbers"):
        load_syncdreamer(init_on_meta(small_model), state | {name: state[name].long()})


def lightning(path: Path, state: dict[str, torch.Tensor], **more: object) -> Path:
    """A checkpoint as training frameworks write it, with objects beside the weights."""
    module = types.ModuleType("some_framework")
    callback = type("Callback", (), {"__module__": module.__name__})
    module.Callback = callback
    sys.modules[module.__name__] = module
    held = callback()
    held.best = 0.25
    try:
        torch.save({"epoch": 3, "callbacks": {callback: held}, "state_dict": state, **more}, path)
    finally:
        del sys.modules[module.__name__]
    return path


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_published_file_makes_the_recipe_and_warns_of_other_cameras(
    tmp_path, state, expected, suffix
):
    path = tmp_path / f"weights{suffix}"
    full = state | {"poses": torch.zeros(16, 3, 4)}
    if suffix == ".ckpt":
        lightning(path, full)
    else:
        save_file(full, path)
    with pytest.warns(UserWarning, match="other camera poses .* yours are used"):
        model = load_pretrained(small_model, str(path), "syncdreamer")
    assert same(model, expected)


class Payload:
    """Runs a command when unpickled."""

    def __init__(self, call: object, *args: object) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple:
        return self.call, self.args


@pytest.mark.parametrize("kind", ["system", "popen", "exec", "eval"])
def test_a_planted_payload_never_runs(tmp_path, state, expected, kind):
    proof = tmp_path / "proof"
    code = f"open({str(proof)!r}, 'w').close()"
    payload = {
        "system": Payload(os.system, f"touch {proof}"),
        "popen": Payload(subprocess.Popen, ["touch", str(proof)]),
        "exec": Payload(exec, code),
        "eval": Payload(eval, code),
    }[kind]
    path = lightning(tmp_path / "evil.ckpt", state, payload=payload)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = load_pretrained(small_model, str(path), "syncdreamer")
    except MvdiffError as error:
        assert "asks for code to be run" in str(error)  # noqa: PT017
        assert kind != "popen"
    else:
        assert same(model, expected)
    assert not proof.exists()


def test_bad_files_get_one_sentence_each(tmp_path, state):
    with pytest.raises(MvdiffError, match="no weights at"):
        read_weights(tmp_path / "nothing.ckpt")
    whole = lightning(tmp_path / "whole.ckpt", state).read_bytes()
    for name, content, said in (
        ("cut.ckpt", whole[: len(whole) // 2], "truncated"),
        ("page.ckpt", b"<html>not found</html>", "web page"),
        ("empty.ckpt", b"", "empty"),
        ("lfs.ckpt", b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        ("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        ("x.index.json", b'{"weight_map": {}}', "several parts"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{", "not a readable safetensors file"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(MvdiffError, match=said):
            read_weights(path)
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "bare.ckpt")
    with pytest.raises(MvdiffError, match="holds no weights"):
        read_weights(tmp_path / "bare.ckpt")


def test_another_models_checkpoint_is_refused_with_its_path(tmp_path, state):
    save_file(
        {"model.diffusion_model.out.0.weight": torch.zeros(16)}, tmp_path / "other.safetensors"
    )
    with pytest.raises(MvdiffError, match=r"other\.safetensors.*not a SyncDreamer checkpoint"):
        load_pretrained(small_model, str(tmp_path / "other.safetensors"), "syncdreamer")


def zero123(state: dict[str, torch.Tensor], average: bool) -> dict[str, torch.Tensor]:
    """The parts of a SyncDreamer state dict that Zero123 has, under its names."""
    found = {"betas": torch.zeros(1000), "model_ema.decay": torch.tensor(0.99)}
    for name, tensor in state.items():
        if name.startswith("clip_image_encoder.model."):
            found[name.replace("clip_image_encoder.", "cond_stage_model.")] = tensor
        elif "_conditions." in name or name.startswith(("spatial_volume.", "time_embed.")):
            continue
        elif average and name.startswith("model."):
            found[name] = torch.zeros_like(tensor)
            found["model_ema." + name[len("model.") :].replace(".", "")] = tensor
        else:
            found[name] = tensor
    return found


@pytest.mark.parametrize("average", [True, False])
def test_zero123_gives_all_but_the_volume_and_the_attention(state, expected, average):
    weights, kind = convert(init_on_meta(small_model), zero123(state, average))
    assert kind == "zero123"
    assert weights.keys() == {n for n in expected if not n.startswith(NOT_IN_ZERO123)}
    assert all(torch.equal(weights[name], expected[name]) for name in weights)


def test_zero123_without_a_tensor_is_refused(state):
    partial = zero123(state, False)
    del partial["first_stage_model.quant_conv.bias"]
    with pytest.raises(MvdiffError, match=r"'first_stage_model\.quant_conv\.bias' is missing"):
        convert(init_on_meta(small_model), partial)
    with pytest.raises(MvdiffError, match="neither SyncDreamer's, Zero123's nor CLIP's"):
        convert(init_on_meta(small_model), {"layer.weight": torch.zeros(2)})


@pytest.fixture
def small_recipe(monkeypatch):
    """Let `mvdiff convert` use the small sizes."""
    config = small_config()
    monkeypatch.setattr(sys.modules["mvdiff.config.compose"], "compose", lambda *_: config)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_convert_writes_what_generate_reads(tmp_path, state, expected, small_recipe, precision):
    from mvdiff.cli.convert import run

    path, out = lightning(tmp_path / "in.ckpt", state), tmp_path / "out.safetensors"
    config = OmegaConf.create(
        {
            "source": str(path),
            "output": str(out),
            "precision": precision,
            "fourth_value_is_polar_angle": "auto",
            "prompts": [],
            "text_tower": False,
            "tokenizer": None,
        }
    )
    assert run(config) == 0
    model = load_pretrained(small_model, str(out), "syncdreamer")
    if precision == "fp32":
        assert same(model, expected)
    else:
        rounded = {name: tensor.half().float() for name, tensor in expected.items()}
        assert same(model, rounded)
        assert out.stat().st_size < 0.6 * path.stat().st_size


def test_a_converted_zero123_is_no_generator(tmp_path, state):
    weights, kind = convert(init_on_meta(small_model), zero123(state, False))
    path = tmp_path / "start.safetensors"
    save_file({k: v.clone() for k, v in weights.items()}, path, {"mvdiff_kind": kind})
    with pytest.raises(MvdiffError, match="it cannot generate views"):
        load_pretrained(small_model, str(path), "syncdreamer")


def test_the_pipeline_takes_a_published_file(tmp_path, state):
    path = lightning(tmp_path / "published.ckpt", state)
    model = builders.build_pipeline(small_config(f"weights={path}", "segmentation=alpha"))
    assert not any(p.is_meta or p.requires_grad for p in model.denoiser.parameters())
