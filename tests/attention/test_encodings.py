"""Cameras encoded in queries, keys and values, against the papers' formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mvdiff.attention import PairwiseAttention, SlotSpec, Tokens, ViewContext, pixel_tokens
from mvdiff.attention.crossview import CrossViewAttention
from mvdiff.attention.encodings import CaPE4, CaPE6, PRoPE, projection_matrices, transform
from mvdiff.attention.epipolar import _tokens, sample
from mvdiff.cameras import Cameras, ring
from mvdiff.cameras.epipolar import into_views, ray_samples
from mvdiff.errors import ConfigError

WIDTH = 16  # channels of a head
ENCODINGS = {"prope": PRoPE(), "cape-6": CaPE6(), "cape-4": CaPE4(1.0, 4.0)}
every = pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)


class Plain(PairwiseAttention):
    """A variant that knows nothing of encodings."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__(heads * WIDTH, heads, "math", "plain")

    def forward(self, x: Tensor, scene: ViewContext) -> Tensor:
        raise NotImplementedError


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def rigid(seed: int, shift: float = 1.0) -> Tensor:
    """A random motion, 4 × 4."""
    q, r = torch.linalg.qr(random(3, 3, seed=seed))
    q = q * r.diagonal().sign()
    q[:, 0] *= torch.linalg.det(q)
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3], motion[:3, 3] = q, shift * random(3, seed=seed + 1000)
    return motion


def cameras(views: int = 3, size: int = 4, projection: str = "perspective") -> Cameras:
    """Anywhere, each with its own focal lengths and center."""
    w2c = torch.stack([rigid(i)[:3] for i in range(views)])
    K = torch.eye(3, dtype=torch.float64).repeat(views, 1, 1)
    K[:, 0, 0], K[:, 1, 1] = size * (1 + random(views).abs()), size * (1 + random(views).abs() / 2)
    K[:, :2, 2] = size / 2 + 0.3 * random(views, 2)
    return Cameras(K, w2c, size, size, projection)


def moved(cameras: Cameras, motion: Tensor) -> Cameras:
    """Cameras of a world that was moved: x ↦ motion x."""
    w2c = torch.cat(
        [cameras.w2c, torch.tensor([[[0.0, 0, 0, 1]]]).to(cameras.w2c).expand(len(cameras), 1, 4)],
        dim=1,
    )
    return Cameras(
        (cameras.K),
        (w2c @ torch.linalg.inv(motion))[:, :3],
        cameras.height,
        cameras.width,
        cameras.projection,
    )


def scene(cameras: Cameras, encoding: object) -> ViewContext:
    return ViewContext(
        cameras, {}, torch.zeros(1, 2), torch.arange(len(cameras)), encoding=encoding
    )


def lone(
    x: Tensor, encoding: object, cameras: Cameras, view: int, pixel: tuple[float, float], how: str
) -> Tensor:
    column, row = (torch.tensor([float(p)], dtype=x.dtype) for p in pixel)
    tokens = Tokens(torch.tensor([view]), column, row)
    return transform(x[None], encoding.blocks(cameras, tokens, len(x)), how)[0]


def logit(q: Tensor, k: Tensor, encoding: object, cameras: Cameras, i: tuple, j: tuple) -> Tensor:
    return lone(q, encoding, cameras, *i, "D^T") @ lone(k, encoding, cameras, *j, "D^-1")


def rotation(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def dense(name: str, cameras: Cameras, view: int, column: float, row: float) -> Tensor:
    """D of a token as the papers write it, WIDTH × WIDTH."""
    extrinsic = torch.eye(4, dtype=torch.float64)
    extrinsic[:3] = cameras.w2c[view]
    if name == "cape-6":
        return torch.block_diag(*[torch.linalg.inv(extrinsic).T] * (WIDTH // 4))
    if name == "cape-4":
        x, y, z = (-extrinsic[:3, :3].T @ extrinsic[:3, 3]).tolist()
        r = math.sqrt(x * x + y * y + z * z)
        share = math.log(min(max(r, 1.0), 4.0) / 1.0) / math.log(4.0)
        angles = [math.acos(z / r), math.atan2(y, x), math.pi * share, 0.0]
        return torch.block_diag(*[rotation(-a) for a in angles for _ in range(WIDTH // 8)])
    intrinsic = torch.eye(4, dtype=torch.float64)
    intrinsic[:3, :3] = cameras.K[view]
    scale = torch.diag(
        torch.tensor([1 / cameras.width, 1 / cameras.height, 1, 1], dtype=torch.float64)
    )
    center = torch.eye(4, dtype=torch.float64)
    center[:2, 2] = -0.5
    projection = center @ scale @ intrinsic @ extrinsic
    planes = WIDTH // 8
    waves = []
    for position in (column, row):
        turn = torch.zeros(WIDTH // 4, WIDTH // 4, dtype=torch.float64)
        for m in range(planes):  # channel m with channel m + planes
            pair = torch.tensor([m, m + planes])
            turn[pair[:, None], pair] = rotation(position * 100.0 ** (-m / planes))
        waves.append(turn)
    return torch.block_diag(*[projection] * (WIDTH // 8), *waves)


@pytest.mark.parametrize("name", ENCODINGS)
def test_attention_is_the_papers_formula(name):
    views, size, heads = 3, 4, 2
    cams, encoding = cameras(views, size), ENCODINGS[name]
    count = views * size * size
    q, k, v = (random(1, heads, count, WIDTH, seed=s) for s in (1, 2, 3))
    at = pixel_tokens(views, size, size, like=q)
    out = Plain(heads).attend(q, k, v, scene(cams, encoding), at, at)
    D = torch.stack(
        [
            dense(name, cams, i, column, row)
            for i in range(views)
            for row in range(size)
            for column in range(size)
        ]
    )
    relative = D[:, None] @ torch.linalg.inv(D)[None]  # from token j to token i
    logits = torch.einsum("bhic,ijcd,bhjd->bhij", q, relative, k) / math.sqrt(WIDTH)
    weights = logits.softmax(dim=-1)
    if encoding.values:
        expected = torch.einsum("bhij,ijcd,bhjd->bhic", weights, relative, v)
    else:
        expected = weights @ v
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)


def test_cape_is_what_eschernets_code_computes():
    """Rows of four numbers: q P^(−T) and k P with world-to-camera matrices P."""
    cams = cameras()
    P = torch.eye(4, dtype=torch.float64).repeat(3, 1, 1)
    P[:, :3] = cams.w2c
    q, k = random(WIDTH, seed=1), random(WIDTH, seed=2)
    q2 = (q.reshape(-1, 4) @ torch.linalg.inv(P[0]).T).flatten()
    k2 = (k.reshape(-1, 4) @ P[1]).flatten()
    encoded = lone(q, CaPE6(), cams, 0, (0, 0), "D^T"), lone(k, CaPE6(), cams, 1, (0, 0), "D^-1")
    torch.testing.assert_close(encoded, (q2, k2))


def test_cape_4_turns_neighboring_channels_as_in_eschernets_code():
    cams = ring(3, elevation=30.0, size=4).to(torch.float64)
    encoding = CaPE4(1.5, 2.2)
    q = random(WIDTH, seed=1)
    azimuth = math.radians(120.0)
    mine = lone(q, encoding, cams, 1, (0, 0), "D^T")
    pairs = q.reshape(-1, 2)
    for quarter, angle in enumerate((math.radians(60.0), azimuth, 0.0, 0.0)):
        mark = slice(quarter * 2, quarter * 2 + 2)
        turned = pairs[mark] @ rotation(angle).T
        torch.testing.assert_close(mine.reshape(-1, 2)[mark], turned, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_projection_matrices_project(projection):
    """P̃ (X, 1) is the pixel, in sides of the picture from its center, and the depth."""
    cams = cameras(projection=projection)
    points = random(5, 3, seed=9) + torch.tensor([0.0, 0.0, 5.0], dtype=torch.float64)
    uv, depth = cams.project(points)
    homogeneous = torch.cat([points, torch.ones(5, 1, dtype=torch.float64)], dim=1)
    image = torch.einsum("vij,pj->vpi", projection_matrices(cams), homogeneous)
    torch.testing.assert_close(image[..., 2], depth)
    scale = depth[..., None] if projection == "perspective" else 1.0
    torch.testing.assert_close(image[..., :2] / scale, uv / cams.height - 0.5)
    assert (image[..., 3] == 1).all()


@pytest.mark.parametrize("size", [2, 16])
def test_the_pictures_size_does_not_matter_to_the_projection(size):
    cams = cameras()
    torch.testing.assert_close(projection_matrices(cams.resize(size)), projection_matrices(cams))


@pytest.mark.parametrize("name", ["prope", "cape-6"])
def test_logits_depend_on_the_relative_camera_alone(name):
    """Two pairs of cameras with the same relative transform and nothing else in common."""
    encoding = ENCODINGS[name]
    q, k = random(WIDTH, seed=1), random(WIDTH, seed=2)
    relative = rigid(5)
    values = []
    for seed in (11, 12):
        first = rigid(seed)
        pair = cameras(2)
        w2c = torch.stack([first, relative @ first])[:, :3]
        pair = Cameras(pair.K, w2c, 4, 4)
        values.append(logit(q, k, encoding, pair, (0, (1, 2)), (1, (3, 0))))
    torch.testing.assert_close(*values)
    other = Cameras(pair.K, torch.stack([first, rigid(6) @ first])[:, :3], 4, 4)
    assert (logit(q, k, encoding, other, (0, (1, 2)), (1, (3, 0))) - values[0]).abs() > 1e-2


@pytest.mark.parametrize("name", ["prope", "cape-6"])
@pytest.mark.parametrize("seed", range(3))
def test_attention_does_not_see_a_motion_of_the_world(name, seed):
    cams = cameras()
    q, k, v = (random(1, 2, 48, WIDTH, seed=s) for s in (1, 2, 3))
    at = pixel_tokens(3, 4, 4, like=q)
    outs = [
        Plain().attend(q, k, v, scene(c, ENCODINGS[name]), at, at)
        for c in (cams, moved(cams, rigid(20 + seed, shift=3.0)))
    ]
    torch.testing.assert_close(*outs, rtol=1e-8, atol=1e-8)


def test_cape_4_sees_no_turn_about_z_and_sees_other_motions():
    cams = ring(3, elevation=20.0, size=4).to(torch.float64)
    encoding = CaPE4(1.0, 4.0)
    q, k = random(WIDTH, seed=1), random(WIDTH, seed=2)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = rotation(1.1)
    pair = ((0, (0, 0)), (1, (0, 0)))
    at_rest = logit(q, k, encoding, cams, *pair)
    torch.testing.assert_close(logit(q, k, encoding, moved(cams, turn), *pair), at_rest)
    assert (logit(q, k, encoding, moved(cams, rigid(3)), *pair) - at_rest).abs() > 1e-3


def test_prope_sees_intrinsics_and_cape_does_not():
    cams = cameras()
    wider = Cameras(cams.K * torch.tensor([[0.5], [0.5], [1.0]]).to(cams.K), cams.w2c, 4, 4)
    q, k = random(WIDTH, seed=1), random(WIDTH, seed=2)
    pair = ((0, (0, 0)), (1, (0, 0)))
    values = {n: [logit(q, k, e, c, *pair) for c in (cams, wider)] for n, e in ENCODINGS.items()}
    assert abs(values["prope"][0] - values["prope"][1]) > 1e-3
    torch.testing.assert_close(*values["cape-6"])
    torch.testing.assert_close(*values["cape-4"])


def test_prope_depends_on_the_difference_of_pixels():
    cams, q, k = cameras(), random(WIDTH, seed=1), random(WIDTH, seed=2)

    def value(first: tuple, second: tuple) -> Tensor:
        return logit(q, k, PRoPE(), cams, (0, first), (1, second))

    torch.testing.assert_close(value((1, 2), (3, 5)), value((11, 7), (13, 10)))
    assert (value((1, 2), (3, 5)) - value((2, 1), (5, 3))).abs() > 1e-3


@pytest.mark.parametrize("name", ["cape-6", "cape-4"])
def test_cape_with_one_camera_for_all_views_is_plain_attention(name):
    cams = cameras(1)[[0, 0, 0]]
    q, k, v = (random(1, 2, 48, WIDTH, seed=s) for s in (1, 2, 3))
    at = pixel_tokens(3, 4, 4, like=q)
    with_it, without = (
        Plain().attend(q, k, v, scene(cams, e), at, at) for e in (ENCODINGS[name], None)
    )
    torch.testing.assert_close(with_it, without, rtol=1e-9, atol=1e-9)


def test_prope_with_one_camera_for_all_views_is_rope():
    """The projections cancel, whatever the camera; the rotations by pixel remain."""
    q, k, v = (random(1, 2, 48, WIDTH, seed=s) for s in (1, 2, 3))
    at = pixel_tokens(3, 4, 4, like=q)
    outs = []
    for camera in (0, 1):
        cams = cameras(2)[[camera] * 3]
        outs.append(Plain().attend(q, k, v, scene(cams, PRoPE()), at, at))
    torch.testing.assert_close(*outs, rtol=1e-9, atol=1e-9)
    # at one pixel nothing remains
    nowhere = Tokens(at.view, torch.zeros(48).double(), torch.zeros(48).double())
    out = Plain().attend(q, k, v, scene(cams, PRoPE()), nowhere, nowhere)
    plain = Plain().attend(q, k, v, scene(cams, None), nowhere, nowhere)
    torch.testing.assert_close(out, plain, rtol=1e-9, atol=1e-9)
    assert (outs[0] - plain).abs().max() > 1e-2


@every
@pytest.mark.parametrize("how", ["bfloat16", "autocast"])
def test_half_precision_keeps_the_type_and_about_the_answer(encoding, how):
    cams = cameras().to(torch.float32)
    q, k, v = (random(1, 2, 48, WIDTH, seed=s).float() * 0.3 for s in (1, 2, 3))
    at = pixel_tokens(3, 4, 4, like=q)
    expected = Plain().attend(q, k, v, scene(cams, encoding), at, at)
    if how == "bfloat16":
        q, k, v = (x.bfloat16() for x in (q, k, v))
        out = Plain().attend(q, k, v, scene(cams, encoding), at, at)
        assert out.dtype == torch.bfloat16
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = Plain().attend(q, k, v, scene(cams, encoding), at, at)
    assert (out.float() - expected).norm() < 0.05 * expected.norm()


@every
def test_heads_must_hold_whole_blocks(encoding):
    encoding.check(encoding.multiple * 3, "joint")
    with pytest.raises(ConfigError, match=f"multiple of {encoding.multiple}, .*'joint' have 6"):
        encoding.check(6, "joint")


@pytest.mark.parametrize(("near", "far"), [(2.0, 1.0), (0.0, 1.0), (1.0, math.inf), (1.0, 1.0)])
def test_cape_4_needs_an_interval_of_distances(near, far):
    with pytest.raises(ConfigError, match="near < far"):
        CaPE4(near, far)


@pytest.mark.parametrize("base", [0.0, -1.0, math.inf, math.nan])
def test_prope_needs_a_positive_base(base):
    with pytest.raises(ConfigError, match="base"):
        PRoPE(base)


def test_means_of_keys_stand_at_the_means_of_their_pixels():
    module = CrossViewAttention(SlotSpec(16, 1, {}, 2), heads=2, stride=2, rays=False).double()
    at = pixel_tokens(3, 4, 5, like=random(1))
    of = module._pooled_tokens(at, views=3, height=4)
    assert of.view.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert of.row[:6].tolist() == [0.5, 0.5, 0.5, 2.5, 2.5, 2.5]
    assert of.column[:6].tolist() == [0.5, 2.0, 3.5, 0.5, 2.0, 3.5]
    torch.nn.init.normal_(module.mix.out.weight)
    x = random(1, 3, 16, 4, 5)
    out = module(x, scene(cameras(), PRoPE()))
    order = [2, 0, 1]
    permuted = module(x[:, order], scene(cameras()[order], PRoPE()))
    torch.testing.assert_close(permuted, out[:, order])
    assert (out - module(x, scene(cameras(), None))).abs().max() > 1e-3


def test_samples_on_rays_stand_where_the_near_view_sees_them():
    cams = ring(5, elevation=20.0, size=8).resize(8, 10).to(torch.float64)
    places = sample(cams, num_neighbors=2, count=4, radius=0.6)
    at, of = _tokens(places, 1, width=10)
    assert int(at.view) == 1
    assert at.row.flatten()[[0, 9, 10, 79]].tolist() == [0, 0, 1, 7]
    assert at.column.flatten()[[0, 9, 10, 79]].tolist() == [0, 9, 0, 9]
    assert of.view.tolist() == [places.near[1][0]] * 4 + [places.near[1][1]] * 4
    near = torch.tensor(places.near)
    uv, _, seen = into_views(cams, ray_samples(cams, 4, 0.6)[0], near)
    expected = uv[1].permute(1, 2, 0, 3, 4).reshape(80, 8, 2) - 0.5
    inside = seen[1].permute(1, 2, 0, 3).reshape(80, 8)
    edge = torch.tensor([9.0, 7.0], dtype=torch.float64)
    inside = inside & ((expected > 0) & (expected < edge)).all(dim=-1)
    assert inside.float().mean() > 0.3
    ours = torch.stack([of.column[:, 0], of.row[:, 0]], dim=-1)
    torch.testing.assert_close(ours[inside], expected[inside])
