"""Views that other programs made: sizes, masks, COLMAP folders, far places, plain pictures."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.ellipsoids import (
    BOUNDS,
    intrinsics,
    on,
    opengl,
    render,
    ring,
    silhouette_iou,
    write_colmap_binary,
    write_json,
    write_scene,
)
from PIL import Image

import mvdiff
from mvdiff.cameras import RIGS
from mvdiff.cameras import ring as ring_rig
from mvdiff.cameras.colmap import read_colmap
from mvdiff.cli.main import main
from mvdiff.errors import MvdiffError
from mvdiff.views.loading import load_views
from mvdiff.views.sizes import fit_picture, scale_between
from mvdiff.views.views import Views

QUICK = ["texture_size=none", "reconstructor.resolution=48", "reconstructor.max_faces=4000"]
QUICK_COMMAND = [*QUICK, "turntable=false"]


def mesh_bounds(source, *overrides: str) -> np.ndarray:
    mesh = mvdiff.reconstruct(source, overrides=[*QUICK, *overrides])
    return np.stack([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)])


# sizes


@pytest.mark.parametrize(
    ("stored", "orientation", "camera", "scale"),
    [
        ((100, 80), 1, (100, 80), (1, 1)),
        ((100, 80), 6, (100, 80), (1, 1)),
        ((50, 40), 1, (100, 80), (0.5, 0.5)),
        ((960, 540), 1, (1921, 1081), (960 / 1921, 540 / 1081)),
    ],
)
def test_pictures_that_fit_their_camera(stored, orientation, camera, scale):
    fit = fit_picture(stored, orientation, camera, "a.png", "t.json")
    assert fit.scale == pytest.approx(scale)
    assert not fit.is_turned


@pytest.mark.parametrize(
    ("stored", "orientation", "camera", "words"),
    [
        ((100, 96), 1, (160, 96), "cropped"),
        ((160, 95), 1, (160, 96), "cropped"),
        ((1100, 960), 1, (1600, 960), "1100×960 .* 1600×960"),
        ((80, 100), 1, (100, 80), "swapped"),
        ((40, 50), 3, (100, 80), "swapped"),
        ((90, 80), 1, (100, 80), "cropped"),
        ((45, 40), 6, (100, 80), "cropped"),
    ],
)
def test_pictures_of_another_shape_are_refused(stored, orientation, camera, words):
    with pytest.raises(MvdiffError, match=words):
        fit_picture(stored, orientation, camera, "a.png", "t.json")


def test_turned_pictures_fit_only_with_their_exif_orientation():
    assert fit_picture((80, 100), 6, (100, 80), "a", "b").is_turned
    assert fit_picture((40, 50), 8, (100, 80), "a", "b").scale == (0.5, 0.5)
    assert scale_between((8, 8), (9, 8)) is None


@pytest.mark.parametrize("max_size", [None, 512, 40])
def test_cropped_pictures_are_refused_at_every_size(tmp_path, max_size):
    meta = write_scene(tmp_path, ring(2), intrinsics(70, 64, 64), 64, 64)
    write_json(tmp_path, meta | {"w": 96, "cx": 48})
    with pytest.raises(MvdiffError, match=r"64×64 .* 96×64"):
        load_views(tmp_path, max_size=max_size)


def test_cropped_published_views_and_jpegs_are_refused(tmp_path):
    meta = write_scene(tmp_path, ring(2), intrinsics(70, 64, 64), 64, 64, background=(255,) * 3)
    for frame in meta["frames"]:
        picture = Image.open(tmp_path / frame["file_path"]).crop((0, 0, 64, 48))
        frame["file_path"] = frame["file_path"].replace(".png", ".jpg")
        picture.resize((640, 480)).save(tmp_path / frame["file_path"])
    write_json(tmp_path, meta)
    with pytest.raises(MvdiffError, match="640×480"):
        load_views(tmp_path, max_size=32)


def test_downscaled_pictures_take_scaled_cameras(tmp_path):
    """As in nerfstudio's images_2: the cameras are for the full size."""
    meta = write_scene(tmp_path, ring(2), intrinsics(60, 64, 48), 64, 48)
    double = {key: 2 * meta[key] for key in ("w", "h", "fl_x", "fl_y", "cx", "cy")}
    plain = load_views(tmp_path).views
    write_json(tmp_path, meta | double)
    loaded = load_views(tmp_path)
    assert loaded.views == plain
    assert any("cameras were scaled" in note for note in loaded.notes)


def test_one_picture_at_another_scale_is_refused(tmp_path):
    meta = write_scene(tmp_path, ring(3), intrinsics(60, 64, 64), 64, 64)
    name = tmp_path / meta["frames"][1]["file_path"]
    Image.open(name).resize((32, 32)).save(name)
    with pytest.raises(MvdiffError, match=r"001\.png' is 32×32 .* 64×64"):
        load_views(tmp_path)


def save_turned(folder, meta) -> None:
    """Pictures as JPEGs stored on their side, with the orientation that turns them back."""
    for frame in meta["frames"]:
        picture = Image.open(folder / frame["file_path"])
        exif = Image.Exif()
        exif[0x0112] = 6
        frame["file_path"] = frame["file_path"].replace(".png", ".jpg")
        turned = picture.transpose(Image.Transpose.ROTATE_90)
        turned.save(folder / frame["file_path"], exif=exif, quality=98)
    write_json(folder, meta)


@pytest.mark.parametrize("max_size", [None, 40])
def test_cameras_of_turned_pictures_turn_the_pictures(tmp_path, max_size):
    meta = write_scene(tmp_path, ring(2), intrinsics(60, 64, 48), 64, 48, background=(255,) * 3)
    upright = load_views(tmp_path, max_size=max_size).views
    save_turned(tmp_path, meta)
    loaded = load_views(tmp_path, max_size=max_size)
    assert loaded.views.cameras == upright.cameras
    assert (loaded.views.images.float() - upright.images.float()).abs().mean() < 3
    assert any("2 pictures were turned" in note for note in loaded.notes)


def test_cameras_of_stored_pictures_leave_them_so(tmp_path):
    K = intrinsics(60, 48, 64)
    meta = write_scene(tmp_path, ring(2), K, 48, 64, background=(255,) * 3)
    plain = load_views(tmp_path).views
    for frame in meta["frames"]:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(tmp_path / frame["file_path"]).save(tmp_path / frame["file_path"], exif=exif)
    loaded = load_views(tmp_path)
    assert loaded.views == plain
    assert any("EXIF orientation, which is not applied" in note for note in loaded.notes)


def test_portrait_and_landscape_are_one_object(tmp_path):
    poses, frames = ring(8), []
    for i, pose in enumerate(poses):
        width, height = (64, 48) if i % 2 else (48, 64)
        K = intrinsics(60, width, height)
        Image.fromarray(render(pose, K, width, height)).save(tmp_path / f"{i}.png")
        lens = {"w": width, "h": height, "fl_x": 60, "fl_y": 60, "cx": width / 2, "cy": height / 2}
        frames.append({"file_path": f"{i}.png", "transform_matrix": opengl(pose), **lens})
    write_json(tmp_path, {"frames": frames})
    loaded = load_views(tmp_path)
    assert loaded.views.images.shape == (8, 3, 64, 64)
    for i, pose in enumerate(poses):
        true = render(pose, loaded.views.cameras.K[i].double().numpy(), 64, 64)[..., 3]
        assert silhouette_iou(loaded.views.alpha[i, 0].numpy(), true) > 0.999
    assert any("2 sizes" in note for note in loaded.notes)


# masks


def turntable(folder, hidden_by: str, background=(255, 255, 255), keep_background=True) -> None:
    """The scene on an opaque background with a bar in each picture's foot, which masks hide."""
    side = 64
    meta = write_scene(folder, ring(8), intrinsics(70, side, side), side, side)
    for i, frame in enumerate(meta["frames"]):
        path = folder / frame["file_path"]
        rgba = np.array(Image.open(path))
        pixels, keep = on(rgba, background), np.full((side, side), 255, np.uint8)
        pixels[56:, 8:56], keep[56:, 8:56] = (90, 90, 30), 0
        if not keep_background:
            keep = np.minimum(keep, rgba[..., 3])
            pixels = np.where(rgba[..., 3:] > 0, pixels, i * 20 + np.arange(side)[:, None, None])
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        if hidden_by == "dynamic_mask":
            Image.fromarray(255 - keep).save(folder / f"dynamic_mask_{path.stem}.png")
        else:
            Image.fromarray(keep // 255 if i % 2 else keep).save(folder / f"mask{i}.png")
            frame[hidden_by] = f"./mask{i}.png"
    write_json(folder, meta)


@pytest.mark.parametrize("kind", ["mask_path", "mask_filename", "dynamic_mask"])
def test_masks_take_the_turntable_out(tmp_path, kind):
    turntable(tmp_path, kind)
    with pytest.warns(UserWarning, match="masks were applied to 8 of 8 pictures"):
        found = mesh_bounds(tmp_path)
    assert np.abs(found - BOUNDS).max() < 0.04


def test_masks_of_the_object_are_its_silhouette(tmp_path):
    turntable(tmp_path, "mask_path", keep_background=False)
    views = load_views(tmp_path).views
    for i, pose in enumerate(ring(8)):
        true = render(pose, intrinsics(70, 64, 64), 64, 64)[..., 3]
        found = views.alpha[i, 0].numpy() if i % 2 == 0 else None  # odd masks are 0 or 1
        assert found is None or silhouette_iou(found, true) > 0.999


def test_masks_add_to_transparency(tmp_path):
    meta = write_scene(tmp_path, ring(2), intrinsics(70, 64, 64), 64, 64)
    mask = np.full((64, 64), 255, np.uint8)
    mask[:32] = 0
    Image.fromarray(mask).save(tmp_path / "half.png")
    plain = load_views(tmp_path).views
    write_json(tmp_path, meta | {"mask_path": "half.png"})
    views = load_views(tmp_path).views
    assert not views.alpha[:, :, :32].any()
    assert torch.equal(views.alpha[:, :, 32:], plain.alpha[:, :, 32:])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder, meta: meta["frames"][0].pop("mask_path"), "masks for 7 of 8"),
        (lambda folder, meta: (folder / "mask3.png").unlink(), r"mask3\.png' of .* is missing"),
        (
            lambda folder, meta: Image.new("L", (64, 40)).save(folder / "mask3.png"),
            "64×40 pixels and its picture 64×64",
        ),
        (lambda folder, meta: (folder / "mask3.png").write_text("no"), r"cannot read .*mask3\.png"),
    ],
)
def test_wrong_masks_are_named(tmp_path, change, words):
    turntable(tmp_path, "mask_path")
    meta = json.loads((tmp_path / "transforms.json").read_text())
    change(tmp_path, meta)
    write_json(tmp_path, meta)
    with pytest.raises(MvdiffError, match=words):
        load_views(tmp_path)


def test_masks_that_leave_a_busy_background_in_are_refused(tmp_path):
    meta = write_scene(tmp_path, ring(3), intrinsics(70, 64, 64), 64, 64)
    rng = np.random.default_rng(0)
    for frame in meta["frames"]:
        busy = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(busy).save(tmp_path / frame["file_path"])
        frame["mask_path"] = "mask.png"
    mask = np.full((64, 64), 255, np.uint8)
    mask[56:] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    write_json(tmp_path, meta)
    with pytest.raises(MvdiffError, match="all but the object is black"):
        load_views(tmp_path)


def test_masks_under_another_key_are_reported(tmp_path):
    meta = write_scene(tmp_path, ring(2), intrinsics(70, 64, 64), 64, 64)
    meta["frames"][0]["semantic_mask"] = "s.png"
    write_json(tmp_path, meta)
    assert any("'semantic_mask', which is not read" in note for note in load_views(tmp_path).notes)


# COLMAP


def colmap_project(folder, model=1, parameters=(70, 70, 32, 32), binary=True, places="images"):
    poses, names = ring(8), [f"{i}.png" for i in range(8)]
    (folder / places).mkdir(parents=True)
    for pose, name in zip(poses, names, strict=True):
        pixels = render(pose, intrinsics(70, 64, 64), 64, 64)
        Image.fromarray(pixels).save(folder / places / name)
    write_colmap_binary(folder / "sparse/0", poses, names, model, 64, 64, list(parameters))
    return poses


@pytest.mark.parametrize(
    ("views", "images"),
    [("sparse/0", None), (".", None), ("sparse/0", "photos"), ("sparse", "photos")],
)
def test_binary_colmap_models_give_the_scene(tmp_path, views, images):
    colmap_project(tmp_path, places=images or "images")
    given = [f"images={tmp_path / images}"] if images else []
    out = tmp_path / "out"
    args = [f"views={tmp_path / views}", f"out={out}", *given, *QUICK_COMMAND]
    if views == "sparse":
        (tmp_path / "sparse/0").rename(tmp_path / "model")
        (tmp_path / "sparse").rmdir()
        (tmp_path / "model").rename(tmp_path / "sparse")
    assert main(["reconstruct", *args]) == 0
    vertices = mvdiff.recon.Mesh.load(out / "mesh.glb").vertices
    assert np.abs(vertices.min(axis=0) - BOUNDS[0]).max() < 0.04
    assert np.abs(vertices.max(axis=0) - BOUNDS[1]).max() < 0.04


def test_text_and_binary_models_are_the_same(tmp_path):
    colmap_project(tmp_path)
    cameras, names = read_colmap(tmp_path / "sparse/0")
    from mvdiff.cameras.colmap import write_colmap

    write_colmap(tmp_path / "text", cameras, names)
    again, listed = read_colmap(tmp_path / "text")
    assert listed == names
    torch.testing.assert_close(again.w2c, cameras.w2c, atol=1e-6, rtol=0)
    assert torch.equal(again.K, cameras.K)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_text_models_from_editors_are_read(tmp_path, encoding):
    pose = "1 0 0 0 0 0 2 1"
    images = (
        f"\n# images\n\n1 {pose} a b.png\n1.5 2.5 -1 3.5 4.5 7\n\n2 {pose} 7\n\n\n"
        f"3 {pose} c.png\n\n4 {pose} d.png\n1 2 3\n5 {pose} e.png\n6 {pose} f.png\n\n"
    )
    (tmp_path / "cameras.txt").write_text("\n1 SIMPLE_PINHOLE 8 8 9 4 4\n\n", encoding=encoding)
    (tmp_path / "images.txt").write_text(images.replace("\n", "\r\n"), encoding=encoding)
    cameras, names = read_colmap(tmp_path)
    assert names == ["a b.png", "7", "c.png", "d.png", "e.png", "f.png"]
    assert cameras.t.tolist() == [[0, 0, 2]] * 6


def test_colmap_masks_are_read(tmp_path):
    colmap_project(tmp_path)
    (tmp_path / "masks").mkdir()
    for i in range(8):
        Image.new("L", (64, 64), 0).save(tmp_path / "masks" / f"{i}.png.png")
    loaded = load_views(tmp_path / "sparse/0")
    assert any("masks were applied to 8" in note for note in loaded.notes)
    assert not loaded.views.alpha.any()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda m: (m / "images.bin").write_bytes(b""), "ends too early"),
        (lambda m: (m / "images.bin").write_bytes(b"\xff" * 100), "ends too early|no whole|pose"),
        (lambda m: cut(m / "images.bin", 70), "no whole COLMAP"),
        (lambda m: cut(m / "cameras.bin", 30), "ends too early"),
        (lambda m: flip(m / "cameras.bin", 12, 99), "number 99"),
        (lambda m: flip(m / "cameras.bin", 12, 7), "model FOV"),
        (lambda m: flip(m / "cameras.bin", 16, 0), "size 0×64"),
        (lambda m: flip(m / "cameras.bin", 8, 3), "uses camera 7"),
    ],
)
def test_damaged_binary_models_are_refused(tmp_path, damage, words):
    colmap_project(tmp_path)
    damage(tmp_path / "sparse/0")
    with pytest.raises(MvdiffError, match=words) as caught:
        load_views(tmp_path / "sparse/0")
    assert "\n" not in str(caught.value)


def cut(path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def flip(path, at: int, value: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] = value
    path.write_bytes(data)


def test_pictures_of_a_model_that_lie_nowhere_are_asked_for(tmp_path):
    colmap_project(tmp_path, places="elsewhere")
    with pytest.raises(MvdiffError, match=r"'0\.png'.*images=FOLDER"):
        load_views(tmp_path / "sparse/0")
    with pytest.raises(MvdiffError, match="is no folder"):
        load_views(tmp_path / "sparse/0", images=tmp_path / "none")


# places far from the origin


@pytest.mark.parametrize(
    "center", [(443210.25, 4712345.5, 187.75), (9000.0, -4500.0, 120.0), (0.0, 2e6, 0.0)]
)
@pytest.mark.parametrize("orthographic", [False, True])
def test_far_scenes_keep_their_shape(tmp_path, center, orthographic):
    poses = ring(8, center=center)
    K = intrinsics(70, 64, 64) if not orthographic else intrinsics(35, 64, 64)
    model = {"camera_model": "ORTHOPHOTO"} if orthographic else {}
    options = {"center": center, "orthographic": orthographic}
    write_scene(tmp_path / "far", poses, K, 64, 64, **options, **model)
    out = tmp_path / "out"
    args = [f"views={tmp_path / 'far'}", f"out={out}", *QUICK_COMMAND]
    assert main(["reconstruct", *args]) == 0
    record = json.loads((out / "mesh-run.json").read_text())
    origin = np.array(record["origin"])
    assert any("relative to" in note for note in record["notes"])
    vertices = mvdiff.recon.Mesh.load(out / "mesh.glb").vertices.astype(float) + origin - center
    assert np.abs(vertices.min(axis=0) - BOUNDS[0]).max() < 0.04
    assert np.abs(vertices.max(axis=0) - BOUNDS[1]).max() < 0.04


def test_far_poses_with_few_digits_keep_their_places(tmp_path):
    center = (443210.25, 4712345.5, 187.75)
    poses = ring(8, center=center)
    meta = write_scene(tmp_path, poses, intrinsics(70, 64, 64), 64, 64, center=center)
    for frame in meta["frames"]:
        rows = frame["transform_matrix"]
        for row in rows:
            row[:3] = [round(x, 6) for x in row[:3]]
    write_json(tmp_path, meta)
    views = load_views(tmp_path).views
    places = views.cameras.centers.double().numpy() + views.origin
    for pose, place in zip(poses, places, strict=True):
        assert np.abs(place - pose[:3, 3]).max() < 1e-4


def test_far_views_are_saved_where_they_were(tmp_path):
    center = (443210.25, 4712345.5, 187.75)
    write_scene(tmp_path / "far", ring(4, center=center), intrinsics(70, 64, 64), 64, 64,
                center=center)  # fmt: skip
    views = load_views(tmp_path / "far").views
    assert views.origin == center
    views.save(tmp_path / "again")
    again = load_views(tmp_path / "again").views
    assert again.origin == center
    torch.testing.assert_close(again.cameras.w2c, views.cameras.w2c, atol=1e-5, rtol=0)
    assert views[1:].origin == views.resize(32).origin == center
    assert views != views[1:]


def test_near_scenes_keep_their_coordinates(tmp_path):
    center = (150.0, -80.0, 30.0)
    write_scene(tmp_path, ring(4, center=center), intrinsics(70, 64, 64), 64, 64, center=center)
    assert load_views(tmp_path).views.origin == (0, 0, 0)


# other names and forms


def test_a_folder_with_transforms_train_json(tmp_path):
    write_scene(tmp_path, ring(2), intrinsics(70, 64, 64), 64, 64)
    (tmp_path / "transforms.json").rename(tmp_path / "transforms_train.json")
    (tmp_path / "transforms_test.json").write_text("{}")
    loaded = load_views(tmp_path)
    assert len(loaded.views) == 2
    assert any("transforms_train.json was read, not transforms_test" in n for n in loaded.notes)


def test_names_without_suffix_mean_the_picture_that_is_there(tmp_path):
    meta = write_scene(tmp_path, ring(2), intrinsics(70, 64, 64), 64, 64, background=(255,) * 3)
    for i, frame in enumerate(meta["frames"]):
        Image.open(tmp_path / frame["file_path"]).save(tmp_path / f"r_0.{i}.jpg")
        frame["file_path"] = f"./r_0.{i}"
    write_json(tmp_path, meta)
    shown = load_views(tmp_path).views.images.permute(0, 2, 3, 1).numpy()
    assert len(shown) == 2
    for i, pixels in enumerate(shown):
        with Image.open(tmp_path / f"r_0.{i}.jpg") as stored:
            assert np.array_equal(pixels, np.array(stored))


def test_two_focal_lengths_for_one_camera_are_reported(tmp_path):
    meta = write_scene(tmp_path, ring(2), intrinsics(70, 64, 64), 64, 64)
    write_json(tmp_path, meta | {"camera_angle_x": 0.5})
    assert any("focal length twice" in note for note in load_views(tmp_path).notes)


def test_missing_sizes_do_not_hide_resized_pictures(tmp_path):
    meta = write_scene(tmp_path, ring(2), intrinsics(70, 64, 64), 64, 64)
    large = meta | {"cx": 128, "cy": 128, "fl_x": 280, "fl_y": 280}
    write_json(tmp_path, {key: value for key, value in large.items() if key not in "wh"})
    assert any("principal point (128, 128)" in note for note in load_views(tmp_path).notes)
    write_json(tmp_path, {key: value for key, value in large.items() if key != "h"} | {"w": 256})
    with pytest.raises(MvdiffError, match="w=256"):
        load_views(tmp_path)


@pytest.mark.parametrize(("flag", "fisheye"), [("false", False), ("true", True), (0, False)])
def test_flags_may_be_words(tmp_path, flag, fisheye):
    meta = write_scene(tmp_path, ring(2), intrinsics(70, 64, 64), 64, 64)
    write_json(tmp_path, meta | {"is_fisheye": flag})
    assert any("fisheye" in note for note in load_views(tmp_path).notes) == fisheye


def test_degrees_of_instant_ngp(tmp_path):
    meta = write_scene(tmp_path, ring(2), intrinsics(32, 64, 64), 64, 64)
    for key in ("fl_x", "fl_y"):
        del meta[key]
    write_json(tmp_path, meta | {"x_fov": 90.0})
    assert load_views(tmp_path).views.cameras.K[0, 0, 0] == pytest.approx(32)


def plain_pictures(folder, cameras) -> None:
    """What the rig's cameras see, without a camera file."""
    folder.mkdir(exist_ok=True)
    for i in range(len(cameras)):
        pose = np.linalg.inv(np.vstack([cameras.w2c[i].double().numpy(), [0, 0, 0, 1]]))
        pixels = render(pose, cameras.K[i].double().numpy(), cameras.width, cameras.height)
        Image.fromarray(on(pixels)).save(folder / f"{i:03d}.png")


def test_plain_pictures_take_a_rig(tmp_path):
    plain_pictures(tmp_path / "v", ring_rig(12, 20.0, size=64))
    settings = ["rig=ring", "rig.count=12", "rig.elevation=20"]
    out = ["reconstruct", f"views={tmp_path / 'v'}", f"out={tmp_path / 'out'}", *QUICK_COMMAND]
    assert main([*out, *settings]) == 0
    vertices = mvdiff.recon.Mesh.load(tmp_path / "out/mesh.glb").vertices
    assert np.abs(vertices.max(axis=0) - BOUNDS[1])[:2].max() < 0.05
    with pytest.raises(MvdiffError, match=r"rig=ring rig\.count=12"):
        Views.load(tmp_path / "v")
    (tmp_path / "v/004.png").unlink()
    with pytest.raises(MvdiffError, match=r"12 cameras and .* 11 pictures.*rig\.count=11"):
        load_views(tmp_path / "v", ring_rig(12))


def test_a_grid_of_views_takes_a_rig(tmp_path):
    rig = RIGS["alternating"](6, [20.0, -10.0], distance=2.0, fov=40.0, size=48)
    plain_pictures(tmp_path, rig)
    tiles = [Image.open(tmp_path / f"{i:03d}.png") for i in range(6)]
    grid = Image.new("RGB", (96, 144))
    for i, tile in enumerate(tiles):
        grid.paste(tile, (48 * (i % 2), 48 * (i // 2)))
    grid.save(tmp_path / "grid.png")
    views = Views.load(tmp_path / "grid.png", rig)
    for i, tile in enumerate(tiles):
        assert np.array_equal(np.array(views.pil(i)), np.array(tile))
    assert views.cameras == rig
    with pytest.raises(MvdiffError, match="rig=alternating"):
        Views.load(tmp_path / "grid.png")
    with pytest.raises(MvdiffError, match="5 square views"):
        Views.load(tmp_path / "grid.png", rig[:5])


# Python


def test_views_and_cameras_compare_to_a_bool(tmp_path):
    write_scene(tmp_path, ring(3), intrinsics(70, 32, 32), 32, 32)
    views, again = load_views(tmp_path).views, load_views(tmp_path).views
    assert (views == again) is True
    assert (views.cameras == again.cameras) is True
    assert hash(views) == hash(again)
    assert (views == views[1:]) is False
    assert (views.cameras == views.cameras.resize(16)) is False
    assert (views == "views") is False
    opaque = Views(views.images, None, views.cameras)
    assert (views == opaque) is False
    assert len({views, again, opaque}) == 2


WRONG_TYPES = """
import numpy as np, torch, mvdiff
from mvdiff.cameras import Cameras, ring
from mvdiff.errors import MvdiffError
from mvdiff.recon import Mesh
from mvdiff.views import Views

pixels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
rig = ring(2, size=8)
mesh = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]]), np.zeros((3, 3), np.uint8))
calls = [
    lambda: Views.load(None),
    lambda: Views.load(5),
    lambda: Views.load("a", rig=3),
    lambda: Views.load("a", images=3),
    lambda: Views.load("\\0"),
    lambda: mvdiff.reconstruct(None),
    lambda: mvdiff.reconstruct(5),
    lambda: mvdiff.reconstruct("a", reconstructor=None),
    lambda: mesh.export(None),
    lambda: Views(pixels.numpy(), None, rig),
    lambda: Views(pixels.to_sparse(), None, rig),
    lambda: Views(pixels.to("meta"), None, rig),
    lambda: Views(pixels, pixels[:, :1].to("meta"), rig),
    lambda: Views(pixels, pixels[:, :1].float(), rig),
    lambda: Views(pixels[0], None, rig),
    lambda: Views(pixels, None, None),
    lambda: Cameras(rig.K.numpy(), rig.w2c, 8, 8),
    lambda: Cameras(rig.K.to_sparse(), rig.w2c, 8, 8),
    lambda: Cameras(rig.K, rig.w2c.to("meta"), 8, 8),
    lambda: Cameras(rig.K, rig.w2c, 8.5, 8),
    lambda: Cameras(rig.K, rig.w2c, 8, 0),
    lambda: Cameras(rig.K[0], rig.w2c[0], 8, 8),
    lambda: Views(pixels, None, rig)["a"],
    lambda: Views(pixels, None, rig)[1.0],
    lambda: rig[None],
    lambda: rig[["a"]],
]
for i, call in enumerate(calls):
    try:
        call()
        print(i, "nothing raised")
    except MvdiffError:
        pass
    except Exception as error:
        print(i, type(error).__name__, error)
"""


def test_wrong_types_are_sentences():
    """In a plain interpreter: the tests' own type checker would be first."""
    done = subprocess.run([sys.executable, "-c", WRONG_TYPES], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


@pytest.mark.parametrize("setting", ["views=null", "out=", "images=null", "views=~nobody-here"])
def test_settings_without_a_path(tmp_path, capsys, setting, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path / "v", ring(8), intrinsics(70, 64, 64), 64, 64)
    given = [] if setting.startswith("views") else ["views=v"]
    code = main(["reconstruct", *given, setting, *QUICK_COMMAND])
    assert code == (0 if setting == "images=null" else 2), capsys.readouterr().err
    assert not (tmp_path / "None").exists()


def test_a_file_of_another_kind_is_no_views(tmp_path):
    (tmp_path / "mesh.obj").write_text("v 0 0 0\n")
    expected = r"expected a folder with transforms\.json.*; got a file of the kind '\.obj'"
    with pytest.raises(MvdiffError, match=expected):
        load_views(tmp_path / "mesh.obj")
