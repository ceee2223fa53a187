"""Picture to views through the whole toy model, and the Python API."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.tiny_recipe import TOY, ball_views, photos, picture, toy_config, toy_model, toy_weights

import mvdiff
from mvdiff import builders
from mvdiff.config.groups import groups
from mvdiff.errors import MvdiffError
from mvdiff.evaluation.ranking import distances
from mvdiff.pipeline import generate_views
from mvdiff.preprocessing.elevation import check_elevation


@pytest.fixture(scope="module")
def denoiser():
    return toy_model()


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def views_of(denoiser, seeds, *overrides, count=None, **kwargs):
    count = count or len(seeds)
    sampler = builders.build_sampler(toy_config(*overrides))
    elevation = torch.linspace(0, 30, 3)[:count]
    return generate_views(denoiser, sampler, photos(3)[:count], elevation, seeds, **kwargs)


def same(a, b) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.alpha, b.alpha)


def test_all_views_with_the_rigs_cameras(denoiser):
    (views,) = views_of(denoiser, [0])
    assert len(views) == 4
    assert views.images.shape == (4, 3, 32, 32)
    assert views.alpha.shape == (4, 1, 32, 32)
    assert torch.equal(views.cameras.w2c, denoiser.rig.w2c)
    assert views.images.float().std() > 10


def test_the_seed_decides(denoiser):
    first, again = views_of(denoiser, [3]), views_of(denoiser, [3])
    assert same(first[0], again[0])
    assert not same(first[0], views_of(denoiser, [4])[0])


@pytest.mark.parametrize("overrides", [[], ["sampler=ddpm", "sampler.steps=3"], ["guidance=cfg"]])
def test_a_sample_does_not_depend_on_its_neighbors_or_their_order(denoiser, overrides):
    sampler = builders.build_sampler(toy_config(*overrides))
    rgba, elevation = photos(2), torch.tensor([5.0, 25.0])

    def rgb(order, seeds):
        views = generate_views(denoiser, sampler, rgba[order], elevation[order], seeds)
        return torch.stack([torch.cat([v.rgb, v.mask], dim=1) for v in views])

    both = rgb([0, 1], [7, 8])
    byte = 1.01 / 255  # other batch sizes round otherwise, which may tip a byte
    assert (rgb([1, 0], [8, 7]).flip(0) - both).abs().max() < byte
    assert (rgb([1], [8])[0] - both[1]).abs().max() < byte
    assert (both[0] - both[1]).abs().mean() > 0.02


def test_batch_views_changes_nothing(denoiser):
    whole, parts = views_of(denoiser, [0])[0], views_of(denoiser, [0], batch_views=3)[0]
    assert (whole.rgb - parts.rgb).abs().max() < 1.01 / 255


@pytest.mark.parametrize("sampler", groups()["sampler"])
@pytest.mark.parametrize("noise", groups()["noise"])
def test_every_sampler_and_noise_schedule_gives_views(denoiser, sampler, noise):
    chosen = [f"sampler={sampler}", f"noise={noise}", "sampler.steps=3"]
    (views,) = views_of(denoiser, [0], *chosen)
    assert views.images.float().std() > 5


def test_the_callback_counts_steps(denoiser):
    reported = []
    views_of(denoiser, [0], callback=lambda done, steps, x: reported.append((done, steps)))
    assert reported == [(1, 3), (2, 3), (3, 3)]


def test_broken_weights_are_refused_in_a_sentence():
    broken = toy_model()
    with torch.no_grad():
        broken.unet.stem.weight[0, 0, 0, 0] = math.nan
    with pytest.raises(MvdiffError, match="produced NaN: its weights are broken"):
        views_of(broken, [0])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    weights = toy_weights(tmp_path_factory.mktemp("toy") / "toy.safetensors")
    return mvdiff.load(checkpoint=weights, overrides=TOY, device="cpu")


def test_the_readmes_lines_work(model, tmp_path):
    picture().save(tmp_path / "x.png")
    views = model.generate(tmp_path / "x.png", elevation=20, seed=0)
    assert isinstance(views, mvdiff.Views)
    assert len(views) == 4
    assert same(views, model.generate(str(tmp_path / "x.png"), elevation=20.0, seed=0))


def test_paths_pictures_arrays_and_tensors_are_one(model, tmp_path):
    picture().save(tmp_path / "x.png")
    array = np.array(picture())
    reference = model.generate(tmp_path / "x.png")
    for form in (picture(), array, array.astype(np.float32) / 255):
        assert same(model.generate(form), reference)
    assert same(model.generate(torch.from_numpy(array).permute(2, 0, 1)), reference)


def test_many_at_once_are_what_they_are_alone(model):
    photos_ = [model.prepare(picture()), model.prepare(picture(color=(30, 160, 60)))]
    both = model.generate_batch(photos_, [10, 30], [1, 2])
    alone = model.generate(picture(color=(30, 160, 60)), elevation=30, seed=2)
    assert (both[1].rgb - alone.rgb).abs().max() < 1.01 / 255


def test_bf16_is_close_to_fp32(model):
    import dataclasses

    half = dataclasses.replace(model, precision="bf16")
    difference = (half.generate(picture()).rgb - model.generate(picture()).rgb).abs().mean()
    assert 0 < difference < 0.05


@pytest.mark.parametrize("elevation", [91, -90.5, math.nan, math.inf])
def test_elevations_out_of_range_are_refused(model, elevation):
    with pytest.raises(MvdiffError, match=r"elevation must be a number of degrees in \[-90, 90\]"):
        model.generate(picture(), elevation=elevation)


@pytest.mark.parametrize(
    "elevation",
    [torch.tensor(20.0), torch.tensor([20]), np.float32(20), np.array(20), np.array([20.0]), (20,)],
)
def test_elevations_may_be_tensors_and_arrays(model, elevation):
    reference = model.generate(picture(), elevation=20)
    assert same(model.generate(picture(), elevation=elevation), reference)


@pytest.mark.parametrize(
    "elevation", [torch.tensor(True), torch.tensor(math.nan), torch.ones(1, 2), [np.ones(2)]]
)
def test_tensors_that_are_no_elevation_are_refused(model, elevation):
    with pytest.raises(MvdiffError, match=r"elevation must be a number of degrees in \[-90, 90\]"):
        model.generate(picture(), elevation=elevation)


@pytest.mark.parametrize("elevation", ["abc", None, True, [1]])
def test_elevations_that_are_no_number_are_refused(elevation):
    with pytest.raises(MvdiffError, match=r"elevation must be a number of degrees in \[-90, 90\]"):
        check_elevation(elevation)


def test_elevations_may_be_written_as_text():
    assert check_elevation("12.5") == 12.5


@pytest.mark.parametrize("elevation", [-90, 0, 90])
def test_extreme_elevations_count(model, elevation):
    views = model.generate(picture(), elevation=elevation)
    # NaN from a degenerate camera would be one color everywhere, or an error
    assert views.images.float().std() > 10
    assert views.alpha.float().std() > 10
    assert not same(views, model.generate(picture(), elevation=elevation * 0.9 + 4))


@pytest.mark.parametrize(("elevation", "height"), [(-90, -1.0), (0, 0.0), (90, 1.0)])
def test_the_photos_camera_stands_at_extreme_elevations(model, elevation, height):
    """Its height is the sine of the elevation, and it looks at the origin."""
    condition = model.denoiser.condition(photos(1), torch.tensor([float(elevation)]))
    rotation, translation = condition.cameras.w2c[0].split([3, 1], dim=1)
    center = -rotation.T @ translation
    assert center[2].item() / center.norm().item() == pytest.approx(height, abs=1e-5)
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(translation[:2], torch.zeros(2, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", [-1, 2**63, True])
def test_seeds_that_are_none_are_refused(model, seed):
    with pytest.raises(MvdiffError, match=r"seed must be a whole number"):
        model.generate_batch([model.prepare(picture())], [0], [seed])


@pytest.mark.parametrize("batch_views", [0, -2])
def test_batch_views_must_be_whole_and_positive(model, batch_views):
    with pytest.raises(MvdiffError, match="batch_views must be a whole number from 1"):
        model.generate_batch([model.prepare(picture())], [0], [0], batch_views=batch_views)


def test_reconstruct_takes_views_or_where_they_lie(tmp_path):
    quick = ["reconstructor.resolution=20", "reconstructor.max_faces=500"]
    views = ball_views()
    views.save(tmp_path / "ball")
    reported = []
    mesh = mvdiff.reconstruct(views, overrides=quick, progress=lambda *a: reported.append(a))
    assert reported
    again = mvdiff.reconstruct(tmp_path / "ball", overrides=quick)
    # colors under transparent pixels are not part of a picture: compare shapes
    np.testing.assert_allclose(again.vertices, mesh.vertices, atol=1e-6)
    mesh.export(tmp_path / "x.glb")
    assert len(mvdiff.Mesh.load(tmp_path / "x.glb").faces) == len(mesh.faces)


def test_reconstruct_says_what_it_cannot_do():
    with pytest.raises(MvdiffError, match="reconstructor=none makes no mesh"):
        mvdiff.reconstruct(ball_views(), reconstructor="none")
    with pytest.raises(MvdiffError, match="unknown reconstructor 'hul'; choose from hull, neus"):
        mvdiff.reconstruct(ball_views(), reconstructor="hul")
    with pytest.raises(MvdiffError, match="no views at"):
        mvdiff.reconstruct("/nowhere/at/all")


# several samples, other cameras, copies


def test_samples_are_ranked_as_on_the_command_line(model):
    seeds = (5, 6, 7)
    alone = [model.generate(picture(), elevation=20, seed=seed) for seed in seeds]
    ranked = model.generate(picture(), elevation=20, seed=5, samples=3)
    assert sorted(sample.seed for sample in ranked) == [5, 6, 7]
    for sample in ranked:
        assert same(sample.views, alone[sample.seed - 5])
    apart = dict(zip(seeds, distances(alone), strict=True))
    assert [sample.seed for sample in ranked] == sorted(seeds, key=lambda seed: apart[seed])
    assert [sample.scores["distance"] for sample in ranked] == sorted(apart.values())


def test_two_samples_are_ranked_by_their_score(model):
    first, second = model.generate(picture(), elevation=20, samples=2)
    assert first.scores["score"] >= second.scores["score"]
    assert first.scores["distance"] is None


def test_one_sample_is_a_list_too(model):
    (only,) = model.generate(picture(), elevation=20, samples=1)
    assert same(only.views, model.generate(picture(), elevation=20))


@pytest.mark.parametrize("samples", [0, -1, 1.5, True, "2", 10**9])
def test_samples_that_are_none_are_refused(model, samples):
    with pytest.raises(MvdiffError, match="samples"):
        model.generate(picture(), samples=samples)


@pytest.mark.parametrize("image", [None, 5, b"x", [], [picture()], {"a": 1}, 1j])
def test_what_is_no_picture_is_refused(model, image):
    with pytest.raises(MvdiffError, match="picture"):
        model.generate(image, elevation=20)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(4, 8, 8).to_sparse(),
        torch.zeros(4, 8, 8, device="meta"),
        torch.zeros(4, 8, 8, dtype=torch.complex64),
        torch.zeros(4, 8, 8, dtype=torch.int64),
        torch.zeros(4, 8, 8, dtype=torch.bool),
        torch.quantize_per_tensor(torch.zeros(4, 8, 8), 0.1, 0, torch.quint8),
    ],
    ids=["sparse", "meta", "complex", "int64", "bool", "quantized"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_picture_are_refused(model, tensor):
    with pytest.raises(MvdiffError, match=r"tensor|array"):
        model.generate(tensor, elevation=20)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), complex),
        np.zeros((8, 8, 3), object),
        np.zeros((8, 8, 3), "U1"),
        np.zeros((8, 8, 3), bool),
        np.zeros((8, 8, 3), "datetime64[s]"),
        np.zeros(()),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_of_other_types_are_refused(model, array):
    with pytest.raises(MvdiffError, match="array"):
        model.generate(array, elevation=20)


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copied_or_pickled_model_gives_the_same_views(model, make_copy):
    other = make_copy(model)
    assert other.denoiser is not model.denoiser
    views, copied = (m.generate(picture(), elevation=20) for m in (model, other))
    # kernels round differently where weights are aligned differently in memory, as in a file
    assert (views.images.int() - copied.images.int()).abs().max() <= 1
    assert (views.alpha.int() - copied.alpha.int()).abs().max() <= 1


def test_a_batch_of_latents_is_decoded(model):
    condition = model.encode([model.prepare(picture())], [20])
    latents = model.denoise([condition, condition], [0, 1], model.views_at_once(None))
    both = model.decode(latents)
    assert [len(views) for views in both] == [4, 4]
    assert same(both[1], model.decode(latents[1]))
    with pytest.raises(MvdiffError, match="latents must have shape"):
        model.decode(latents[0][:2])


def test_elevations_and_seeds_as_many_as_photos(model):
    photo = model.prepare(picture())
    with pytest.raises(MvdiffError, match="2 and 1 for 1"):
        model.generate_batch([photo], [1, 2], [0])
    with pytest.raises(MvdiffError, match="for 0"):
        model.generate_batch([], [], [])


def test_the_photo_says_how_its_object_was_found(model):
    assert model.prepare(picture()).segmentation == "alpha"


def test_a_loaded_network_is_frozen_and_can_be_thawed(model):
    assert not any(p.requires_grad for p in model.denoiser.parameters())
    thawed = copy.deepcopy(model).denoiser.train().requires_grad_(True)
    assert all(p.requires_grad for p in thawed.parameters())


def test_other_cameras_by_name_or_settings(tmp_path):
    weights = toy_weights(tmp_path / "toy.safetensors")
    settings = {"name": "sphere", "count": 5, "elevation": [-10, 40]}
    toy = [o for o in TOY if not o.startswith("rig.")]
    model = mvdiff.load(checkpoint=weights, overrides=toy, rig=settings, device="cpu")
    views = model.generate(picture(), elevation=20)
    assert len(views) == 5
    from mvdiff.cameras.rigs import to_spherical

    elevation = torch.rad2deg(to_spherical(views.cameras)[1])
    assert float(elevation.max() - elevation.min()) > 30


def test_orthographic_cameras_are_noted(tmp_path):
    weights = toy_weights(tmp_path / "toy.safetensors")
    with pytest.warns(UserWarning, match="orthographic"):
        model = mvdiff.load(
            checkpoint=weights, overrides=TOY, rig={"projection": "orthographic"}, device="cpu"
        )
    assert model.denoiser.rig.projection == "orthographic"


def test_arguments_of_load_of_another_type():
    """In another process, because here the type checker would refuse them first."""
    code = """
import mvdiff
for arguments in (
    {"recipe": 5}, {"recipe": None}, {"checkpoint": 5}, {"overrides": 5}, {"overrides": [5]},
    {"overrides": None}, {"device": 5}, {"device": None}, {"rig": 5}, {"rig": "nope"},
    {"rig": {"nope": 5}}, {"rig": {5: 5}},
):
    try:
        mvdiff.load(**arguments)
    except mvdiff.MvdiffError as error:
        assert "\\n" not in str(error), error
    else:
        raise SystemExit(f"accepted {arguments}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_pipeline_needs_no_diffusers_to_be_imported():
    code = "import sys, mvdiff.pipeline; assert 'diffusers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
