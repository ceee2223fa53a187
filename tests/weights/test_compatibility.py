"""Weights that belong to another recipe, or to parts that no published file has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.small_syncdreamer import SMALL, published_state, small_model
from helpers.tiny_recipe import picture, toy_config
from safetensors.torch import save_file

from mvdiff import builders
from mvdiff.cli.main import main
from mvdiff.config.compose import compose
from mvdiff.errors import MvdiffError
from mvdiff.weights.clip import clip_weights
from mvdiff.weights.load_model import init_on_meta, load_pretrained
from mvdiff.weights.synthetic import fill_synthetic

NO_COUNTERPART = (
    r"published weights lack '.*', which this model needs: use recipe=syncdreamer with "
    "its sizes; of its parts, attention, volume and radiance may be swapped"
)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "syncdreamer.ckpt"
    torch.save({"state_dict": published_state(init_on_meta(small_model))}, path)
    return path


@pytest.mark.parametrize(
    "change", [["embedder=conv", "embedder.dim=24", "embedder.width=8"], ["sizes.photo_features=8"]]
)
def test_parts_that_no_published_file_has_are_refused_in_one_sentence(
    published: Path, change: list[str]
) -> None:
    conv = "embedder=conv" in change
    small = [o for o in SMALL if not (conv and o.startswith("embedder."))]
    given = [f"weights={published}", "segmentation=alpha"]
    config = compose("generate", ["recipe=syncdreamer", "image=none", *small, *change, *given])
    with pytest.raises(MvdiffError, match=NO_COUNTERPART) as caught:
        builders.build_pipeline(config)
    assert str(published) in str(caught.value)
    if conv:
        clip = {"visual.class_embedding": torch.zeros(32)}
        with pytest.raises(MvdiffError, match=NO_COUNTERPART):
            clip_weights(init_on_meta(lambda: builders.build_model(config)), clip)


@pytest.mark.parametrize("converted", [False, True])
def test_a_forgotten_recipe_is_named(
    tmp_path: Path, published: Path, capsys: pytest.CaptureFixture, converted: bool
) -> None:
    path = published
    if converted:
        path = tmp_path / "converted.safetensors"
        weights = fill_synthetic(init_on_meta(small_model)).state_dict()
        header = {"mvdiff_kind": "syncdreamer", "recipe": "syncdreamer"}
        save_file({k: v.clone() for k, v in weights.items()}, path, header)
    picture().save(tmp_path / "a.png")
    args = [f"image={tmp_path / 'a.png'}", f"out={tmp_path / 'out'}", f"weights={path}"]
    assert main(["generate", *args]) == 2
    said = capsys.readouterr().err
    assert str(path) in said
    assert "use recipe=syncdreamer" in said
    assert "Traceback" not in said


def test_rule_weights_fill_any_recipe() -> None:
    model = open_with_rule(toy_config())
    assert not any(p.is_meta for p in model.parameters())
    again = open_with_rule(toy_config())
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in model.state_dict().items())


def open_with_rule(config: Any) -> torch.nn.Module:
    with pytest.warns(UserWarning, match="SYNTHETIC NUMBERS"):
        return load_pretrained(lambda: builders.build_model(config), "synthetic", "tiny")
