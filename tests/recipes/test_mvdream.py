"""Recipes `mvdream` and `imagedream`: files that load, files that do not, texts, and views."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers.text_towers import synthetic_text_tower
from helpers.tiny_recipe import picture
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

import mvdiff
from mvdiff import builders
from mvdiff.cli import convert
from mvdiff.cli.main import main
from mvdiff.config.compose import compose
from mvdiff.errors import ConfigError, InputError, MvdiffError, WeightsError
from mvdiff.training.checkpointing import save_weights
from mvdiff.views import Views
from mvdiff.weights.initialize import init_for_training
from mvdiff.weights.load_model import init_on_meta, load_pretrained
from mvdiff.weights.mvdream import COMPUTED, UNREAD, convert_to_file, mapping_of
from mvdiff.weights.synthetic import rule_weight
from mvdiff.weights.text_tower import embed_texts, token_ids

SMALL = [
    "size=64",
    "unet.width=32",
    "unet.mults=[1,2]",
    "unet.blocks=1",
    "unet.attention_levels=[0,1]",
    "unet.head_width=16",
    "latents.widths=[8,16,16,24]",
    "latents.blocks=1",
    "latents.groups=4",
    "sizes.context_dim=64",
    "sizes.time_dim=16",
]
IMAGE = [
    "embedder.dim=32",
    "embedder.layers=1",
    "embedder.heads=2",
    "context.width=32",
    "context.layers=1",
    "context.heads=2",
    "context.head_width=16",
    "context.image_count=4",
]
QUICK = ["sampler.steps=2", "device=cpu"]
CLIP = {"mvdream": "cond_stage_model.model.", "imagedream": "clip_model.model."}


def small(recipe: str) -> list[str]:
    return [*SMALL, *(IMAGE if recipe.startswith("imagedream") else [])]


def config(recipe: str, *overrides: str):
    return compose("generate", [f"recipe={recipe}", "image=none", *small(recipe), *overrides])


def make(recipe: str, *overrides: str):
    return lambda: builders.build_model(config(recipe, *overrides))


def published(family: str) -> dict[str, torch.Tensor]:
    """A small file as the authors': flat, with the text tower and the schedule's tables."""
    tensors = synthetic_text_tower(CLIP[family], layers=2)
    for name, parameter in init_on_meta(make(family)).state_dict().items():
        if not name.startswith((*COMPUTED, *UNREAD)):
            mapping = mapping_of(family)(name)
            shape = mapping.shape(tuple(parameter.shape))
            tensors[mapping.name] = rule_weight(mapping.name, shape)
    if family == "imagedream":
        tensors[f"{CLIP[family]}visual.ln_post.weight"] = torch.ones(32)
        tensors[f"{CLIP[family]}visual.proj"] = torch.ones(32, 64)
        tensors[f"{CLIP[family]}visual.transformer.resblocks.1.ln_1.weight"] = torch.ones(32)
    tensors[f"{CLIP[family]}logit_scale"] = torch.tensor(1.0)
    return tensors | {"betas": torch.zeros(1000), "posterior_mean_coef1": torch.zeros(1000)}


@pytest.fixture(scope="module")
def states():
    return {family: published(family) for family in CLIP}


@pytest.fixture(scope="module")
def files(states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mvdream")
    names = {"mvdream": "sd-v2.1-base-4view.pt", "imagedream": "sd-v2.1-base-4view-ipmv.pt"}
    for family, name in names.items():
        torch.save(states[family], folder / name)
    return {family: folder / name for family, name in names.items()}


def load(path, recipe: str, *overrides: str):
    family = config(recipe).family
    return load_pretrained(make(recipe, *overrides), str(path), recipe, family=family)


@pytest.mark.parametrize("family", CLIP)
def test_a_published_file_loads_with_the_embeddings_of_its_texts(files, states, family):
    model = load(files[family], family)
    name = "unet.middle.0.conv1.weight"
    assert torch.equal(model.state_dict()[name], states[family][mapping_of(family)(name).name])
    both = embed_texts(states[family], [", 3d asset", ""])
    torch.testing.assert_close(model.context.positive.data, both[0])
    same = torch.allclose(model.context.negative.data, both[1])
    assert same == (family == "mvdream")
    assert model.context.negative.std() > 0.1
    torch.testing.assert_close(model.context.prompts(" , 3D  asset"), both[0])


def test_prompts_need_a_tokenizer_where_their_ids_are_not_known(files):
    prompts = load(files["mvdream"], "mvdream").context.prompts
    with pytest.raises(ConfigError, match=r"'an owl, 3d asset' needs .*tokenizer=FOLDER"):
        prompts("an owl, 3d asset")


def test_a_converted_file_gives_the_same_views_without_the_text_tower(files, states, tmp_path):
    model = init_on_meta(make("mvdream"))
    weights, header = convert_to_file(
        model, states["mvdream"], "mvdream", prompts=[""], suffix=", 3d asset"
    )
    assert not [name for name in weights if name.startswith("text_tower.")]
    path = tmp_path / "mvdream.safetensors"
    save_weights(weights, path, {"mvdiff_kind": "mvdream", "recipe": "mvdream", **header})
    assert "prompts.0" in load_file(path)
    made = []
    for file in (files["mvdream"], path):
        pipeline = mvdiff.load("mvdream", file, [*small("mvdream"), "sampler.steps=2"])
        made.append(pipeline.generate(prompt=""))
    apart = (made[0].images.int() - made[1].images.int()).abs()
    assert apart.max() <= 1  # other memory, other rounding
    assert made[0].images.shape == (4, 3, 64, 64)
    with pytest.raises(ConfigError, match=r"no embedding of the prompt 'an owl, 3d asset'.*known"):
        pipeline.generate(prompt="an owl")


@pytest.mark.parametrize("converted", [False, True])
def test_a_training_starts_from_either_file(files, states, tmp_path, converted):
    path = files["imagedream"]
    if converted:
        model = init_on_meta(make("imagedream"))
        weights, _ = convert_to_file(model, states["imagedream"], "imagedream", prompts=[""])
        path = save_weights(weights, tmp_path / "i.safetensors", {"mvdiff_kind": "imagedream"})
    begun = init_for_training(make("imagedream"), str(path), "imagedream")
    name = "unet.middle.0.conv1.weight"
    expected = states["imagedream"][mapping_of("imagedream")(name).name]
    assert torch.equal(begun.model.state_dict()[name], expected)
    assert all(each.startswith("time.") for each in begun.untrained)


def test_a_kept_text_tower_embeds_like_the_published_one(states):
    model = init_on_meta(make("imagedream"))
    weights, _ = convert_to_file(model, states["imagedream"], "imagedream", keep_tower=True)
    expected = embed_texts(states["imagedream"], [""])
    assert torch.equal(embed_texts(weights, [""]), expected)
    assert not [n for n in weights if n.startswith("text_tower.") and "visual" in n]


def tokenizer_folder(path):
    """A tokenizer of CLIP's kind that knows the word "owl" and single letters."""
    letters = [c + end for c in "abcdefghijklmnopqrstuvwxyz,0123456789" for end in ("", "</w>")]
    words = [*letters, "ow", "owl</w>", "<|startoftext|>", "<|endoftext|>"]
    (path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (path / "merges.txt").write_text("#version: 0.2\no w\now l</w>\n")
    return path


def test_a_tokenizer_reads_other_prompts(files, tmp_path):
    folder = tokenizer_folder(tmp_path)
    ids = token_ids("An  OWL", 0, folder).tolist()
    vocabulary = json.loads((folder / "vocab.json").read_text())
    inside = [vocabulary[word] for word in ("a", "n</w>", "owl</w>")]
    assert ids == [49406, *inside, 49407] + [0] * 72
    assert len(token_ids("a " * 100, 0, folder)) == 77
    model = load_pretrained(
        make("mvdream"), str(files["mvdream"]), "mvdream", family="mvdream", tokenizer=str(folder)
    )
    made = [model.context.prompts(text) for text in ("an owl", "an owl", "a cup")]
    assert torch.equal(made[0], made[1])
    assert not torch.allclose(made[0], made[2], atol=1e-3)
    with pytest.raises(ConfigError, match=r"no vocab\.json in the tokenizer's folder"):
        token_ids("an owl", 0, folder / "nowhere")


def test_convert_from_the_command_line(states, files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys.modules["mvdiff.config.compose"],
        "compose",
        lambda command, words: compose(command, [*words, *small("mvdream")]),
    )
    out = tmp_path / "mvdream.safetensors"
    arguments = SimpleNamespace(
        source=str(files["mvdream"]),
        output=str(out),
        precision="fp16",
        fourth_value_is_polar_angle="auto",
        prompts=["an owl"],
        text_tower=True,
        tokenizer=str(tokenizer_folder(tmp_path)),
    )
    assert convert.run(arguments) == 0
    assert "recipe=mvdream weights=" in capsys.readouterr().out
    weights = load_file(out)
    expected = embed_texts(states["mvdream"], ["an owl, 3d asset"], tokenizer=arguments.tokenizer)[
        0
    ]
    torch.testing.assert_close(weights["prompts.0"].float(), expected, atol=5e-3, rtol=1e-2)
    loaded = load(out, "mvdream")
    assert set(loaded.context.prompts.known) == {"", ", 3d asset", "an owl, 3d asset"}
    torch.testing.assert_close(
        loaded.context.prompts("an owl, 3d asset"), expected, atol=5e-3, rtol=1e-2
    )


def test_the_text_tower_of_version_1_is_that_of_transformers():
    settings = CLIPTextConfig(
        hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=1
    )
    tower = CLIPTextModel(settings).eval()
    prefix = "cond_stage_model.transformer.text_model."
    tensors = {prefix + n.removeprefix("text_model."): x for n, x in tower.state_dict().items()}
    tensors[f"{prefix}embeddings.position_ids"] = torch.arange(77)[None]
    ids = torch.tensor([[49406, 267, 274, 323, 13039, *[49407] * 72]])
    with torch.no_grad():
        expected = tower(input_ids=ids).last_hidden_state
    torch.testing.assert_close(embed_texts(tensors, [", 3d asset"]), expected)


def test_views_of_a_picture_from_the_command_line(files, tmp_path):
    picture().save(tmp_path / "photo.png")
    args = [f"image={tmp_path / 'photo.png'}", f"weights={files['imagedream']}", *QUICK]
    args += [f"out={tmp_path / 'out'}", "recipe=imagedream", *small("imagedream")]
    assert main(["generate", *args, "reconstructor=none", "turntable=false"]) == 0
    assert len(Views.load(tmp_path / "out" / "photo" / "sample-0")) == 4


def test_views_of_texts_from_the_command_line(files, tmp_path, capsys):
    args = ["recipe=mvdream", "prompt=a cup, blue", "weights=synthetic", *QUICK, "samples=2"]
    args += [f"out={tmp_path}", *small("mvdream"), "reconstructor=none", "turntable=false"]
    assert main(["generate", *args]) == 0
    assert len(Views.load(tmp_path / "a-cup-blue" / "sample-1")) == 4
    assert not (tmp_path / "a-cup-blue" / "sample-0" / "input.png").exists()
    capsys.readouterr()
    assert main(["generate", *args]) == 0
    assert "already finished" in "".join(capsys.readouterr())


def pipeline(recipe: str, *overrides: str):
    settings = [*small(recipe), "weights=synthetic", "sampler.steps=2", *overrides]
    with pytest.warns(UserWarning, match="SYNTHETIC"):
        return mvdiff.load(recipe, overrides=settings, device="cpu")


def test_views_change_with_picture_text_and_seed():
    model = pipeline("imagedream")
    first = model.generate(picture(), seed=1).images
    assert torch.equal(model.generate(picture(), seed=1).images, first)
    for other in (
        model.generate(picture(color=(20, 160, 60)), seed=1),
        model.generate(picture(), seed=2),
        model.generate(picture(), prompt="a disc", seed=1),
    ):
        assert not torch.allclose(other.images, first, atol=1e-3)


def test_the_reference_view_is_what_the_local_variant_lacks():
    whole, local = pipeline("imagedream"), pipeline("imagedream_local")
    assert whole.denoiser.state_dict().keys() == local.denoiser.state_dict().keys()
    views = [model.generate(picture(), seed=1).images for model in (whole, local)]
    assert not torch.allclose(*views, atol=1e-3)


def test_an_elevation_that_the_network_cannot_read_is_noticed():
    model = pipeline("imagedream")
    with pytest.warns(UserWarning, match=r"reads no elevation.*rig\.elevation=20"):
        model.generate(picture(), elevation=20)


@pytest.mark.parametrize(
    ("recipe", "given", "facts"),
    [
        ("imagedream", {"image": [picture(), picture()], "azimuth": [0, 90]}, "one picture.*got 2"),
        ("imagedream", {"prompt": "a cup"}, "needs a picture"),
        ("mvdream", {"image": picture(), "prompt": "a cup"}, "a text and no image"),
        ("mvdream", {}, "needs a text"),
        ("mvdream", {"prompt": 3}, "prompt must be a text"),
    ],
)
def test_inputs_that_a_recipe_cannot_take(recipe, given, facts):
    with pytest.raises((ConfigError, InputError), match=facts):
        pipeline(recipe).generate(**given)


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["recipe=mvdream"], "needs a text"),
        (["recipe=mvdream", "image=a.png", "prompt=x"], "a text and no image"),
        (["recipe=syncdreamer", "image=a.png", "prompt=x"], "an image and no text"),
        (["recipe=mvdream", "prompt=x", "azimuth=[0]"], "azimuth is that of input images"),
        (["recipe=mvdream", "prompt=x", "tokenizer=nowhere"], "no tokenizer at 'nowhere'"),
        (["recipe=imagedream", "prompt=x"], "needs image="),
    ],
)
def test_settings_that_do_not_go_together(words, facts, capsys):
    assert main(["generate", *words]) != 0
    assert facts in capsys.readouterr().err


@pytest.mark.parametrize(
    ("family", "recipe", "advice"),
    [
        ("mvdream", "imagedream", "MVDream's checkpoint: use recipe=mvdream"),
        ("imagedream", "mvdream", "ImageDream's checkpoint: use recipe=imagedream"),
    ],
)
def test_a_file_of_another_family_is_sent_to_its_recipe(files, family, recipe, advice):
    with pytest.raises(WeightsError, match=advice):
        load(files[family], recipe)


@pytest.mark.parametrize(
    ("name", "recipe"), [("cc_projection.weight", "zero123"), ("spatial_volume.x", "syncdreamer")]
)
def test_older_families_are_sent_to_their_recipes(tmp_path, name, recipe):
    state = {name: torch.zeros(3), "model.diffusion_model.out.2.bias": torch.zeros(4)}
    torch.save({"state_dict": state}, tmp_path / "other.ckpt")
    with pytest.raises(WeightsError, match=f"checkpoint: use recipe={recipe}"):
        load(tmp_path / "other.ckpt", "imagedream")


@pytest.mark.parametrize("recipe", ["syncdreamer", "zero123"])
def test_other_recipes_send_imagedreams_file_to_its_own(files, recipe):
    settings = [f"recipe={recipe}", "image=none", f"weights={files['imagedream']}"]
    with pytest.raises(WeightsError, match="ImageDream's checkpoint: use recipe=imagedream"):
        builders.build_pipeline(compose("generate", settings))


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (("drop", "vae_model.quant_conv.weight"), "not a whole ImageDream.*'vae_model.quant_conv"),
        (("add", "unheard_of.weight"), "'unheard_of.weight' is unknown"),
        (("add", "clip_model.model.visual.transformer.resblocks.2.ln_1.weight"), "is unknown"),
        (("drop", "clip_model.model.ln_final.weight"), "text tower is incomplete: .*ln_final"),
        (("drop", "clip_model.model.token_embedding.weight"), "no text tower"),
    ],
)
def test_a_file_that_does_not_fit_is_named(states, tmp_path, change, facts):
    kind, name = change
    changed = dict(states["imagedream"])
    if kind == "drop":
        del changed[name]
    else:
        changed[name] = torch.zeros(3)
    torch.save(changed, tmp_path / "ipmv.pt")
    with pytest.raises(WeightsError, match=facts):
        load(tmp_path / "ipmv.pt", "imagedream")


def test_a_file_called_like_the_other_variant_gets_a_warning(states, tmp_path):
    torch.save(states["imagedream"], tmp_path / "sd-v2.1-base-4view-ipmv-local.pt")
    with pytest.warns(UserWarning, match="recipe=imagedream_local"):
        load(tmp_path / "sd-v2.1-base-4view-ipmv-local.pt", "imagedream")


def test_without_weights_it_says_where_to_get_them():
    with pytest.raises(WeightsError, match=r"sd-v2\.1-base-4view-ipmv\.pt.*bytedance/ImageDream"):
        load("none", "imagedream")


@pytest.mark.parametrize(
    ("overrides", "facts"),
    [
        (["rig=custom", "rig.distance=[1.5,1.5,2.0,1.5]"], "several distances"),
        (["attention=epipolar"], "reads the views' cameras"),
        (["pose=plucker"], "one more view than this pose encodes"),
        (["pose=prope"], "one more view than this pose encodes"),
    ],
)
def test_what_the_network_cannot_serve(overrides, facts):
    settings = [*small("imagedream"), "weights=synthetic", *overrides]
    with pytest.raises(MvdiffError, match=facts):
        mvdiff.load("imagedream", overrides=settings, device="cpu")


@pytest.mark.parametrize(
    ("overrides", "facts"),
    [(["rig.count=6"], "learned 4 views"), (["rig.elevation=60"], "elevations from 0° to 30°")],
)
def test_a_rig_beyond_what_was_learned_gets_a_note(overrides, facts):
    settings = [*small("imagedream"), "weights=synthetic", *overrides]
    with pytest.warns(UserWarning, match=facts):
        mvdiff.load("imagedream", overrides=settings, device="cpu")
