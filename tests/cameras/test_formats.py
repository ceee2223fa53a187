"""OpenGL axes and nerfstudio's file: round trips, other people's forms, broken files."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvdiff.cameras import Cameras, ring
from mvdiff.cameras.formats import from_opengl, read_transforms, to_opengl, write_transforms
from mvdiff.errors import MvdiffError


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(torch.int32)


def names(count: int) -> list[str]:
    return [f"{i:03d}.png" for i in range(count)]


def test_opengl_looks_along_minus_z():
    camera = ring(1, 0.0)  # stands on +x, looks towards -x
    c2w = to_opengl(camera.c2w)[0]
    view = c2w[:3, :3] @ torch.tensor([0.0, 0.0, -1.0])
    torch.testing.assert_close(view, torch.tensor([-1.0, 0.0, 0.0]))
    torch.testing.assert_close(c2w[:3, 1], torch.tensor([0.0, 0.0, 1.0]))  # its y is up
    torch.testing.assert_close(c2w[:3, 3], torch.tensor([1.5, 0.0, 0.0]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_opengl_round_trip(random_cameras, seed):
    c2w = random_cameras(seed).c2w
    assert torch.equal(from_opengl(to_opengl(c2w)), c2w)
    assert torch.equal(from_opengl(to_opengl(c2w[:, :3])), c2w[:, :3])
    assert torch.linalg.det(to_opengl(c2w)[:, :3, :3]) == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["perspective", "orthographic"]), st.booleans())
def test_float32_cameras_come_back_to_the_same_bits(
    tmp_path_factory, random_cameras, seed, projection, one_lens
):
    cameras = random_cameras(seed, projection).to(torch.float32)
    if one_lens:
        cameras = replace(cameras, K=cameras.K[:1].repeat(3, 1, 1))
    path = tmp_path_factory.mktemp("t") / "transforms.json"
    write_transforms(path, cameras, names(3))
    again, listed = read_transforms(path)
    assert listed == names(3)
    assert torch.equal(bits(again.K), bits(cameras.K))
    assert torch.equal(bits(again.w2c), bits(cameras.w2c))
    assert (again.height, again.width, again.projection) == (
        cameras.height,
        cameras.width,
        projection,
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.floats(-90, 90), st.floats(-360, 360))
def test_rings_come_back_to_the_same_bits(tmp_path_factory, count, elevation, azimuth):
    # Rings have zeros, negative zeros and digits of 1e-17, which inverting would lose.
    cameras = ring(count, elevation, azimuth=azimuth, size=64)
    path = tmp_path_factory.mktemp("t") / "transforms.json"
    write_transforms(path, cameras, names(count))
    again, _ = read_transforms(path)
    assert torch.equal(bits(again.w2c), bits(cameras.w2c))
    assert torch.equal(bits(again.K), bits(cameras.K))


def written(tmp_path, cameras: Cameras | None = None) -> dict:
    cameras = ring(2, size=8) if cameras is None else cameras
    write_transforms(tmp_path / "transforms.json", cameras, names(len(cameras)))
    return json.loads((tmp_path / "transforms.json").read_text())


def reread(tmp_path, meta: object) -> tuple[Cameras, list[str]]:
    text = meta if isinstance(meta, str) else json.dumps(meta)
    (tmp_path / "transforms.json").write_text(text)
    return read_transforms(tmp_path / "transforms.json")


def test_the_file_is_nerfstudio_s(tmp_path):
    meta = written(tmp_path)
    assert meta["camera_model"] == "PINHOLE"
    assert (meta["w"], meta["h"], meta["cx"]) == (8, 8, 4.0)
    matrix = torch.tensor(meta["frames"][1]["transform_matrix"])
    torch.testing.assert_close(matrix, to_opengl(ring(2, size=8).c2w)[1])
    flat = written(tmp_path, ring(2, size=8, projection="orthographic"))
    assert flat["camera_model"] == "ORTHOPHOTO"


def test_without_our_key_the_matrix_is_enough(tmp_path):
    meta = written(tmp_path)
    for frame in meta["frames"]:
        del frame["w2c"]
    cameras, _ = reread(tmp_path, meta)
    torch.testing.assert_close(cameras.w2c, ring(2, size=8).w2c)


def test_an_edited_matrix_beats_our_key(tmp_path):
    meta = written(tmp_path)
    meta["frames"][0]["transform_matrix"][2][3] += 0.25
    cameras, _ = reread(tmp_path, meta)
    moved = ring(2, size=8).centers[0] + torch.tensor([0.0, 0.0, 0.25])
    torch.testing.assert_close(cameras.centers[0], moved)


def test_blender_synthetic_form(tmp_path):
    Image.new("RGBA", (20, 10)).save(tmp_path / "r_0.png")
    matrix = to_opengl(ring(1).c2w)[0].tolist()
    frame = {"file_path": "./r_0", "rotation": 0.1, "transform_matrix": matrix}
    cameras, listed = reread(tmp_path, {"camera_angle_x": 0.69, "frames": [frame]})
    assert listed == ["r_0.png"]
    focal = 10 / math.tan(0.345)
    expected = torch.tensor([[focal, 0, 10], [0, focal, 5], [0, 0, 1]])
    torch.testing.assert_close(cameras.K[0], expected)
    torch.testing.assert_close(cameras.w2c, ring(1).w2c)


def test_intrinsics_in_each_frame(tmp_path):
    meta = written(tmp_path)
    lens = {key: meta.pop(key) for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    meta["frames"][0] |= lens
    meta["frames"][1] |= lens | {"fl_x": 99.0}
    cameras, _ = reread(tmp_path, meta)
    assert cameras.K[:, 0, 0].tolist() == pytest.approx([lens["fl_x"], 99.0])


@pytest.mark.parametrize(
    ("top", "own", "focal"),
    [
        ({"fl_x": 30.0, "fl_y": 30.0}, {"camera_angle_x": 2 * math.atan(8 / 20)}, (20, 20)),
        ({"fl_x": 30.0, "fl_y": 30.0}, {"fl_x": 20.0}, (20, 20)),
        ({"camera_angle_x": 1.0}, {"fl_x": 20.0, "fl_y": 22.0}, (20, 22)),
        ({"fl_y": 22.0}, {"fl_x": 20.0}, (20, 22)),
        ({"fl_x": 20.0, "fl_y": 30.0}, {"fl_y": 22.0}, (20, 22)),
    ],
)
def test_a_frame_s_focal_length_beats_the_file_s_in_any_form(tmp_path, top, own, focal):
    frame = {"file_path": "a.png", "transform_matrix": torch.eye(4).tolist(), **own}
    (tmp_path / "transforms.json").write_text(
        json.dumps({"w": 16, "h": 16, **top, "frames": [frame]})
    )
    K = read_transforms(tmp_path / "transforms.json")[0].K[0]
    assert (float(K[0, 0]), float(K[1, 1])) == pytest.approx(focal)


def test_opencv_without_distortion_is_a_pinhole(tmp_path):
    meta = written(tmp_path) | {"camera_model": "OPENCV", "k1": 0.0, "k2": 0, "p1": 0.0}
    cameras, _ = reread(tmp_path, meta)
    assert torch.equal(cameras.w2c, ring(2, size=8).w2c)


def frame_change(**fields):
    return lambda meta: meta["frames"][1].update(fields)


def drop(*keys):
    def change(meta):
        for part in (*meta["frames"], meta):
            for key in keys:
                part.pop(key, None)

    return change


MIRROR = [[-1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda meta: meta.update(k1=0.01), "lens distortion"),
        (lambda meta: meta.update(camera_model="OPENCV_FISHEYE"), "lens distortion"),
        (lambda meta: meta.update(is_fisheye=True), "lens distortion"),
        (lambda meta: meta.update(distortion_params=[0, 0, 0, 0, 0.1, 0]), "lens distortion"),
        (lambda meta: meta.update(distortion_params=[0] * 7), "distortion_params"),
        (lambda meta: meta.update(distortion_params="none"), "distortion_params"),
        (lambda meta: meta.update(distortion_params=[0.1], k1=0.2), "k1=0.2"),
        (lambda meta: meta.update(is_fisheye=True, p1=0.1), "fisheye"),
        (lambda meta: meta.update(camera_model="EQUIRECTANGULAR"), "EQUIRECTANGULAR"),
        (lambda meta: meta.update(camera_model="FOV"), "FOV"),
        (lambda meta: meta.update(camera_model="THIN_PRISM_FISHEYE"), "THIN_PRISM_FISHEYE"),
        (lambda meta: meta.update(ftheta_p0=1.0), "ftheta_p0"),
        (lambda meta: meta.update(ftheta_p3=1.0), "ftheta_p3"),
        (lambda meta: meta.update(latlong=True), "latlong"),
        (lambda meta: meta.update(equirectangular=True), "equirectangular"),
        (lambda meta: meta.update(fisheye_crop_radius=400), "fisheye_crop_radius"),
        (lambda meta: meta.update(lens={"mode": "FTheta"}), "FTheta"),
        (lambda meta: meta.update(lens="fisheye"), "fisheye"),
        (lambda meta: meta.update(camera_model=["PINHOLE"]), "expected one of .*PINHOLE"),
        (frame_change(fl_x=int("9" * 400)), "fl_x=.*finite number"),
        (frame_change(fl_x=1e-310), "focal length"),
        (frame_change(w=int("9" * 400)), "w=.*finite number"),
        (frame_change(w=10**9, h=10**9), "1000000"),
        (frame_change(cx=1e30), "principal point"),
        (frame_change(mask_path=3), "mask_path"),
        (lambda meta: meta.update(fl_x=None, fl_y=None, camera_angle_x=1e-310), "camera_angle_x"),
        (frame_change(transform_matrix=[[int("9" * 400)] * 4] * 4), "transform_matrix"),
        (frame_change(transform_matrix=[[True] * 4] * 4), "transform_matrix"),
        (frame_change(w=9), "one image size"),
        (frame_change(camera_model="ORTHOPHOTO"), "one image size and projection"),
        (frame_change(transform_matrix=[[1, 2], [3, 4]]), "transform_matrix"),
        (frame_change(transform_matrix="none"), "transform_matrix"),
        (frame_change(transform_matrix=MIRROR), "no rotation"),
        (frame_change(fl_x=math.nan), "fl_x=nan"),
        (frame_change(fl_x="35mm"), "fl_x=35mm"),
        (frame_change(fl_x=-4), "positive fl_x"),
        (frame_change(w=0.5), "whole pixels"),
        (frame_change(file_path=3), "'file_path'"),
        (drop("file_path"), "'file_path'"),
        (drop("transform_matrix"), "transform_matrix"),
        (drop("fl_x", "fl_y"), "neither 'fl_x' nor 'camera_angle_x'"),
        (drop("w"), "no 'w' and 'h'"),
        (drop("frames"), "lists no cameras"),
        (lambda meta: meta.update(frames=[]), "lists no cameras"),
        (lambda meta: meta.update(frames=[1]), "lists no cameras"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path, change, words):
    meta = written(tmp_path)
    change(meta)
    with pytest.raises(MvdiffError, match=words) as caught:
        reread(tmp_path, meta)
    assert "\n" not in str(caught.value)


def test_nan_in_a_matrix_is_refused(tmp_path):
    meta = written(tmp_path)
    meta["frames"][0]["transform_matrix"][0][0] = math.nan
    with pytest.raises(MvdiffError, match="finite"):
        reread(tmp_path, meta)


@pytest.mark.parametrize("text", ["", "{", '{"frames": [', "[]", "[" * 100_000, "\x00"])
def test_what_is_not_json_is_refused(tmp_path, text):
    with pytest.raises(MvdiffError, match=r"JSON|must hold an object"):
        reread(tmp_path, text)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(MvdiffError, match="cannot read the cameras"):
        read_transforms(tmp_path / "transforms.json")


def test_what_the_file_cannot_hold_is_not_written(tmp_path):
    path, cameras = tmp_path / "transforms.json", ring(2, size=8)
    skewed = cameras.K.clone()
    skewed[:, 0, 1] = 3
    with pytest.raises(MvdiffError, match="skew"):
        write_transforms(path, replace(cameras, K=skewed), names(2))
    with pytest.raises(MvdiffError, match="no rotation"):
        write_transforms(path, replace(cameras, w2c=2 * cameras.w2c), names(2))
    with pytest.raises(MvdiffError, match="2 cameras need as many"):
        write_transforms(path, cameras, names(3))
    assert list(tmp_path.iterdir()) == []


def test_cameras_of_the_input_images_stand_beside_the_frames(tmp_path):
    rig, photo = ring(3, size=32), ring(1, elevation=10.0, size=32)
    path = tmp_path / "transforms.json"
    write_transforms(path, rig, names(3), inputs=photo, input_names=["input.png"])
    read, files = read_transforms(path)
    assert torch.equal(read.w2c, rig.w2c)
    assert files == names(3)
    record = json.loads(path.read_text())
    (frame,) = record["input_frames"]
    assert frame["file_path"] == "input.png"
    torch.testing.assert_close(torch.tensor(frame["w2c"]), photo.w2c[0], atol=1e-6, rtol=0)
    assert record["fl_x"] == pytest.approx(float(photo.K[0, 0, 0]))

    write_transforms(path, rig, names(3), inputs=photo.resize(64), input_names=["input.png"])
    (frame,) = json.loads(path.read_text())["input_frames"]
    assert (frame["w"], frame["fl_x"]) == (64, pytest.approx(2 * record["fl_x"]))
