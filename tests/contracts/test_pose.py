"""The contract of every pose: pose × attention × place, and what a motion of the world changes."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import pytest
import torch
from einops import rearrange
from helpers.attention_variants import (
    CHANNELS,
    THEIRS,
    VARIANTS,
    cameras_for,
    chosen,
    converted,
    features,
    make,
    random_one,
    remedy,
    scene_for,
)
from helpers.tiny_recipe import photos, toy_config, toy_model

from mvdiff import builders
from mvdiff.attention import (
    ATTENTION,
    PLACES,
    PairwiseAttention,
    SlotSpec,
    ViewContext,
    pixel_tokens,
)
from mvdiff.attention.encodings import CaPE4, CaPE6, PRoPE
from mvdiff.cameras import Cameras
from mvdiff.config.groups import groups
from mvdiff.denoiser.pose import POSES, EncodedPose
from mvdiff.errors import ConfigError

NAMES = sorted({*groups()["pose"], *POSES})
#: every pose, those with settings that change what they are more than once
CASES = {**{name: (f"pose={name}",) for name in NAMES}, "cape-4": ("pose=cape", "pose.dof=4")}
OURS = [v for v in VARIANTS if v != THEIRS]
PAIRWISE = [v for v in OURS if isinstance(make(v), PairwiseAttention)]
ENCODED = [name for name in NAMES if issubclass(POSES[name], EncodedPose)]
every = pytest.mark.parametrize("case", CASES)
LAYERED = [c for c in CASES if c != "token" and c.partition("-")[0] not in ENCODED]
RELATIVE = [c for c in CASES if c.partition("-")[0] in ENCODED]
#: the others are refused
COMBINATIONS = [(c, v) for c in CASES for v in OURS if c not in RELATIVE or v in PAIRWISE]
#: every place of one attention and one place of every attention; the rest takes minutes
MATRIX = [
    pytest.param(
        *combination,
        place,
        marks=() if combination[1] == "joint" or place == "after" else pytest.mark.slow,
    )
    for combination in COMBINATIONS
    for place in PLACES
]


@functools.cache
def settings(case: str, variant: str, place: str = "after") -> tuple[str, ...]:
    """Of a model in which the cameras are known through the pose, as far as the attention can do
    without: no volume, no rays in tokens. Heads have 16 channels, so that every encoding fits."""
    config = toy_config(*chosen(variant)).attention
    heads = ["attention.heads=1"] if variant in PAIRWISE else []
    rays = ["attention.rays=false"] if "rays" in config else []
    volume = [] if "frusta" in make(variant).needs else ["volume=none"]
    return (
        *CASES[case],
        *chosen(variant),
        *remedy(variant),
        *heads,
        *rays,
        *volume,
        f"place={place}",
    )


def noise(model, batch: int = 1):
    return torch.randn(model.latent_shape(batch), generator=torch.Generator().manual_seed(0))


def denoised(model, x=None, **options):
    x = noise(model) if x is None else x
    condition = model.condition(
        photos(len(x)).to(model.project.weight), torch.full((len(x),), 20.0)
    )
    return model(x, torch.full((len(x),), 300.0), condition, **options)


def seen_from(model, cameras: Cameras):
    """What a model predicts with other cameras, the rest alike."""
    before, model.rig = model.rig, cameras
    try:
        return denoised(model)
    finally:
        model.rig = before


def moved(cameras: Cameras, motion: torch.Tensor) -> Cameras:
    """Cameras of a world that was moved: x ↦ motion x (4 × 4)."""
    w2c = cameras.w2c.double()
    last = w2c.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(w2c), 1, 4)
    w2c = (torch.cat([w2c, last], dim=1) @ torch.linalg.inv(motion))[:, :3]
    return replace(cameras, w2c=w2c.to(cameras.w2c))


def rigid(seed: int, shift: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    q[:, 0] *= torch.linalg.det(q)
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3] = q
    motion[:3, 3] = shift * torch.randn(3, generator=generator, dtype=torch.float64)
    return motion


def about_z(degrees: float) -> torch.Tensor:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    motion = torch.eye(4, dtype=torch.float64)
    motion[:2, :2] = torch.tensor([[c, -s], [s, c]])
    return motion


def differ(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).norm() / b.norm()).detach())


@pytest.mark.parametrize(("case", "variant", "place"), MATRIX)
def test_it_runs_changes_with_the_cameras_and_learns(case, variant, place):
    model = toy_model(*settings(case, variant, place))
    out = denoised(model)
    assert out.shape == noise(model).shape
    assert torch.isfinite(out).all()
    # the third camera stands elsewhere, on the ring as before
    other = builders.build_rig(toy_config("rig.count=7", *remedy(variant)))[[0, 1, 6, 3]]
    change = differ(seen_from(model, other), out)
    blind = case == "none" and variant in ("none", "joint", "crossview", "rowwise")
    assert change == 0 if blind else change > 1e-4
    model.train().requires_grad_()
    denoised(model).square().sum().backward()
    learned = {**dict(model.pose.named_parameters()), **dict(model.unet.slots.named_parameters())}
    assert [n for n, p in learned.items() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("case", RELATIVE)
@pytest.mark.parametrize("variant", [v for v in OURS if v not in PAIRWISE])
def test_poses_that_cannot_reach_the_cameras_of_other_views_are_refused(case, variant):
    with pytest.raises(ConfigError, match="queries and keys of different cameras") as caught:
        builders.build_model(toy_config(*settings(case, variant)))
    assert "attention=joint" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", ENCODED)
def test_encoded_poses_need_slots_and_heads_that_hold_their_blocks(case):
    with pytest.raises(ConfigError, match="acts in view attention, and this model has none"):
        builders.build_model(toy_config(f"pose={case}", "attention=joint", "unet.slots=[]"))
    with pytest.raises(ConfigError, match="acts in view attention"):
        builders.build_model(toy_config(f"pose={case}", "unet=none"))
    with pytest.raises(ConfigError, match=r"multiple of \d, but .*'crossview' have 2"):
        builders.build_model(
            toy_config(f"pose={case}", "attention=crossview", "attention.heads=16")
        )


def test_rays_need_a_unet():
    with pytest.raises(ConfigError, match="no UNet"):
        builders.build_model(toy_config("pose=plucker", "unet=none"))


@pytest.mark.parametrize("wrong", ["pose.dof=5", "pose.dof=4 pose.near=3.0", "pose.near=a"])
def test_wrong_settings_of_cape_are_refused(wrong):
    config = toy_config("pose=cape", "attention=joint", "attention.heads=1", *wrong.split())
    with pytest.raises(ConfigError, match=r"must be 4 or 6|near < far|near must be"):
        builders.build_model(config)


@pytest.mark.parametrize("case", LAYERED)
def test_new_layers_of_a_pose_change_nothing_at_first(case):
    """A network that was trained without them starts as it was."""
    fresh = builders.build_model(toy_config(*settings(case, "joint")))
    model = toy_model(*settings(case, "joint"))
    model.pose.load_state_dict(fresh.pose.state_dict())
    plain = toy_model(*settings("none", "joint"))
    assert differ(denoised(model), denoised(plain)) < 1e-6


@every
def test_recomputation_and_chunks_of_views_give_the_same(case):
    """Activation checkpointing; and, without an exchange of views, some views at a time."""
    model = toy_model(*settings(case, "joint", "beside")).train().requires_grad_()
    gradients = []
    for model.unet.checkpointing in (False, True):
        model.zero_grad()
        denoised(model).square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.unet.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)
    if case not in RELATIVE:
        alone = toy_model(*settings(case, "none"))
        assert differ(denoised(alone, batch_views=3), denoised(alone)) < 1e-5


@every
def test_objects_of_a_batch_do_not_see_each_other(case):
    model = toy_model(*settings(case, "joint"))
    x = noise(model, 2)
    condition = model.condition(photos(2), torch.tensor([20.0, -5.0]))
    together = model(x, torch.tensor([300.0, 20.0]), condition)
    alone = model(x[1:], torch.tensor([20.0]), model.condition(photos(2)[1:], torch.tensor([-5.0])))
    assert differ(together[1:], alone) < 1e-5


@pytest.mark.parametrize("case", ["token", *LAYERED])
def test_views_of_each_objects_own(case):
    """Training picks other views for each object where the attention allows it."""
    model = toy_model(*settings(case, "none"))
    x = noise(model, 2)
    condition = model.condition(photos(2), torch.tensor([20.0, 20.0]))
    every_view = model(x, torch.tensor([300.0, 300.0]), condition)
    views = torch.tensor([[0, 2], [3, 1]])
    picked = torch.stack([x[i, v] for i, v in enumerate(views)])
    assert picked.shape[1] == 2
    out = model(x, torch.tensor([300.0, 300.0]), condition, target_views=views)
    expected = torch.stack([every_view[i, v] for i, v in enumerate(views)])
    assert differ(out, expected) < 1e-5


@every
def test_what_a_motion_of_all_cameras_changes(case):
    """Joint attention knows of the cameras through the pose alone.

    The papers claim that PRoPE and CaPE (6 degrees of freedom) see relative poses only; all poses
    here are relative to the input's azimuth, so that no turn about z changes anything.
    """
    model = toy_model(*settings(case, "joint")).double()
    rig = model.rig = model.rig.to(torch.float64)
    out = denoised(model, noise(model).double())

    def change(motion: torch.Tensor) -> float:
        model.rig = moved(rig, motion)
        return differ(denoised(model, noise(model).double()), out)

    assert change(about_z(77.0)) < 1e-6  # input cameras are float32
    changes = [change(rigid(seed, shift=0.5)) for seed in range(3)]
    if case in ("prope", "cape", "none"):
        assert max(changes) < 1e-9
    else:
        assert min(changes) > 1e-3


@pytest.mark.parametrize("encoding", [PRoPE(), CaPE6()], ids=["prope", "cape"])
@pytest.mark.parametrize("variant", PAIRWISE)
def test_every_attention_keeps_the_invariance_where_its_geometry_does(variant, encoding):
    options = {"heads": 1} | (
        {"rays": False} if "rays" in toy_config(*chosen(variant)).attention else {}
    )
    module = random_one(variant, **options).double()
    x = features().double()
    scene = converted(scene_for(variant, cameras=cameras_for(variant)), torch.float64)
    scene = replace(scene, encoding=encoding)
    out = module(x, scene)
    # samples on rays lie in a ball around the origin, which stays where it is
    shift = 0.0 if variant == "epipolar" else 2.0
    for seed in range(3):
        other = moved(scene.cameras, rigid(seed, shift))
        assert differ(module(x, replace(scene, cameras=other)), out) < 1e-7
    assert differ(module(x, replace(scene, encoding=None)), out) > 1e-3


@pytest.mark.parametrize(
    "encoding", [PRoPE(), CaPE6(), CaPE4(1.0, 2.0)], ids=["prope", "cape", "cape-4"]
)
@pytest.mark.parametrize("variant", PAIRWISE)
def test_permuted_views_give_the_permuted_result_with_an_encoding(variant, encoding):
    """Each token is encoded with its own camera."""
    options = {"heads": 1} | (
        {"rays": False} if "rays" in toy_config(*chosen(variant)).attention else {}
    )
    module, x, order = random_one(variant, **options).double(), features().double(), [1, 0, 2]
    scene = converted(scene_for(variant), torch.float64)
    scene = replace(scene, encoding=encoding)
    permuted = module(x[:, order], replace(scene, cameras=scene.cameras[order]))
    assert differ(permuted, module(x, scene)[:, order]) < 1e-9


@pytest.fixture
def third():
    """A new attention of a user, that knows nothing of poses."""

    class Third(PairwiseAttention):
        def __init__(self, slot: SlotSpec) -> None:
            super().__init__(slot.channels, heads=1, kernel="auto", variant="third")
            self.to_qkv = torch.nn.Linear(slot.channels, 3 * slot.channels)

        def forward(self, x: torch.Tensor, scene: ViewContext) -> torch.Tensor:
            views, _, height, width = x.shape[1:]
            tokens = self.to_qkv(rearrange(x, "b v c h w -> b 1 (v h w) c"))
            at = pixel_tokens(views, height, width, like=x)
            out = self.attend(*tokens.chunk(3, dim=-1), scene, at, at)
            return x + rearrange(out, "b 1 (v h w) c -> b v c h w", v=views, h=height)

    ATTENTION.register("third")(Third)
    yield "third"
    ATTENTION._entries.pop("third")


@pytest.mark.parametrize("case", RELATIVE)
def test_a_new_attention_gets_encoded_poses_without_code_of_its_own(case, third):
    words = (*CASES[case], "attention=none", f"attention.name={third}", "volume=none")
    model, plain = toy_model(*words), toy_model("pose=none", *words[len(CASES[case]) :])
    plain.load_state_dict(model.state_dict())
    out = denoised(model)
    assert differ(denoised(plain), out) > 1e-3
    assert differ(seen_from(model, moved(model.rig, about_z(40.0))), out) < 1e-4
    assert differ(seen_from(model, model.rig[[1, 0, 2, 3]]), out) > 1e-3
    if case != "cape-4":
        assert differ(seen_from(model, moved(model.rig, rigid(1))), out) < 1e-4


@pytest.mark.parametrize("encoding", [CaPE6(), CaPE4(1.0, 2.0)], ids=["cape", "cape-4"])
def test_one_camera_for_all_views_makes_cape_vanish(encoding):
    module = random_one("joint", heads=1).double()
    scene = converted(scene_for("joint", cameras=cameras_for("joint")[[0, 0, 0]]), torch.float64)
    x = features().double()
    assert differ(module(x, replace(scene, encoding=encoding)), module(x, scene)) < 1e-12
    assert features().shape[2] == CHANNELS
