"""Any input works, or is refused in one line with nothing half-written."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_recipe import TOY, picture, toy_args, toy_model, toy_weights
from PIL import Image

import mvdiff
from mvdiff.cli.main import main
from mvdiff.errors import MvdiffError
from mvdiff.training.checkpointing import save_weights
from mvdiff.views.views import Views

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return toy_weights(tmp_path_factory.mktemp("toy") / "toy.safetensors")


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "disc.png"
    picture().save(path)
    return path


@pytest.fixture
def refused(capsys, weights, tmp_path):
    """Runs `mvdiff generate`, expects one line and nothing written; returns the line."""

    def run(*args: str, code: int = 2) -> str:
        out = tmp_path / "out"
        assert main(["generate", f"out={out}", *toy_args(weights), *args]) == code
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("mvdiff: ")
        assert captured.err.count("\n") == 1
        assert "Traceback" not in captured.err
        assert not out.exists()
        return captured.err

    return run


@pytest.fixture
def made(capsys, weights, tmp_path):
    """Runs `mvdiff generate` on a picture, expects views; returns the framed input."""

    def run(path: Path, *args: str) -> np.ndarray:
        out = tmp_path / "out"
        assert main(["generate", f"image={path}", f"out={out}", *toy_args(weights), *args]) == 0
        sample = out / path.stem / "sample-0"
        assert len(Views.load(sample)) == 4
        with Image.open(sample / "input.png") as framed:
            return np.array(framed).astype(int)

    return run


def save(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


# pictures that are none


def test_a_missing_file(refused):
    assert "no picture at '/no/such (file).png': check the path" in refused(
        "image=/no/such (file).png"
    )


def test_a_folder_without_pictures(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").write_text("no picture")
    assert "no pictures in the folder" in refused(f"image={tmp_path / 'empty'}")


@pytest.mark.parametrize(
    ("image", "reason"),
    [("image=[]", "image names no picture"), ("image=null", "image needs a path")],
)
def test_no_picture_named(refused, image, reason):
    assert reason in refused(image)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"%PDF"])
def test_not_a_picture(refused, tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    assert "cannot read" in refused(f"image={tmp_path / 'x.png'}")


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_truncated_picture(refused, tmp_path, kept, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / f"x.{suffix}")
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert "broken or truncated" in (err := refused(f"image={path}")) or "cannot read" in err


def test_a_fully_transparent_picture(refused, tmp_path):
    path = save(Image.new("RGBA", (32, 32), (200, 10, 10, 0)), tmp_path / "x.png")
    assert "transparent everywhere" in refused(f"image={path}")


def test_a_picture_of_one_color(refused, tmp_path):
    path = save(Image.new("RGB", (32, 32), "white"), tmp_path / "x.png")
    # the note says what was tried, the line what came of it: only the line is an error
    assert "no object was found" in refused(f"image={path}", "segmentation=color_key")


# pictures of every kind

DISC = picture()
FLAT = Image.new("RGB", DISC.size, "white")
FLAT.paste(DISC, mask=DISC)


def deep(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


KINDS = {
    "rgba.png": DISC,
    "rgb.png": FLAT,
    "gray.png": FLAT.convert("L"),
    "gray-alpha.png": DISC.convert("LA"),
    "palette.png": FLAT.convert("P", palette=Image.Palette.ADAPTIVE),
    "palette-alpha.png": DISC.quantize(16, method=Image.Quantize.FASTOCTREE),
    "sixteen.png": deep(FLAT),
    "bilevel.png": FLAT.convert("1"),
    "cmyk.jpg": FLAT.convert("CMYK"),
    "gray.jpg": FLAT.convert("L"),
    "rgba.webp": DISC,
    "rgba.tiff": DISC,
    "rgb.bmp": FLAT,
    "rgba.gif": DISC,
}


@pytest.mark.filterwarnings("ignore:the picture has no transparency")
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_shows_its_disc(made, tmp_path, name):
    framed = made(save(KINDS[name], tmp_path / name))
    assert framed.shape == (32, 32, 3)
    assert framed[0, 0].min() > 245  # white around
    assert framed[16, 16].min() < 160  # the object in the middle


@pytest.mark.parametrize("orientation", [2, 3, 5, 6, 8])
def test_exif_rotated_pictures_stand_upright(made, tmp_path, orientation):
    # a mark in the upper left quarter of the upright object
    upright = picture(64)
    upright.paste((0, 255, 0, 255), (22, 22, 30, 30))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright.transpose(undo[orientation])
    turned = made(save(stored, tmp_path / "turned.png", exif=exif))
    straight = made(save(upright, tmp_path / "straight.png"))
    assert np.abs(turned - straight).max() <= 2


@pytest.mark.filterwarnings("ignore:the picture has no transparency")
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 2), (5000, 3), (3000, 2500)])
def test_tiny_and_large_pictures_are_framed_when_the_object_is_cut_out(made, tmp_path, size):
    image = Image.new("RGBA", size, (180, 40, 40, 255))
    framed = made(save(image, tmp_path / "x.png"), "segmentation=none", "object_fill=0.75")
    # red on white: three quarters of 32 pixels along the longer side, in the middle
    amount = (255 - framed[..., 1]) / (255 - 40)
    along_x, along_y = amount.max(axis=0), amount.max(axis=1)
    width, height = ((side > side.max() / 2).sum() for side in (along_x, along_y))
    assert max(width, height) == pytest.approx(24, abs=2)
    across = 24 * min(size) / max(size)  # below a pixel, it is a paler line
    assert min(width, height) == pytest.approx(max(across, 1), abs=2)
    assert 0.5 < amount.sum() / (24 * across) < 1.1
    rows, columns = np.mgrid[:32, :32]
    middle = [(amount * place).sum() / amount.sum() for place in (rows, columns)]
    assert middle == pytest.approx([15.5, 15.5], abs=0.6)


@pytest.mark.filterwarnings("ignore:the picture has no transparency")
def test_one_opaque_pixel_without_a_cut_out_object_is_refused(refused, tmp_path):
    path = save(Image.new("RGB", (1, 1), "red"), tmp_path / "x.png")
    assert "no object was found" in refused(f"image={path}")


def test_more_pixels_than_memory_should_hold_are_refused(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("mvdiff.preprocessing.image_io.MAX_PIXELS", 1000)
    path = save(picture(64), tmp_path / "x.png")
    assert "64×64 pixels" in refused(f"image={path}")


# numbers and names


@pytest.mark.parametrize("elevation", ["91", "-90.1", "nan", "inf", "abc", "true", "[1,2]"])
def test_elevations_that_make_no_sense(refused, photo, elevation):
    assert "elevation" in refused(f"image={photo}", f"elevation={elevation}")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("samples=0", "samples must be a whole number in [1, 1000000], got 0"),
        ("samples=two", "samples must be a whole number, got 'two'"),
        ("seed=-1", "seed must be a whole number in [0, 4611686018427387904), got -1"),
        ("batch_views=0", "batch_views must be a whole number in [1, 4096], got 0"),
        ("batch_views=few", "batch_views must be a whole number or null, got 'few'"),
        ("object_fill=0.0", "fill must be a number in (0, 1], got 0.0"),
        ("object_fill=1.5", "fill must be a number in (0, 1], got 1.5"),
        ("sampler.steps=0", "sampler.steps must be a whole number in [1, 100000], got 0"),
        ("precision=fp8", "unknown precision 'fp8'; choose from fp32, bf16, fp16, auto"),
        ("device=tpu", "device 'tpu' is not available here"),
        ("elevaton=3", "unknown setting 'elevaton' of mvdiff generate; choose from"),
        (
            "attention=foo",
            "unknown attention 'foo'; choose from crossview, depthwise, epidiff, epipolar",
        ),
        ("sampler=foo", "unknown sampler 'foo'; choose from ddim"),
        (
            "reconstructor=foo",
            "unknown reconstructor 'foo'; choose from hull, neus, none",
        ),
        ("segmentation=foo", "unknown segmentation 'foo'; choose from alpha, auto"),
        ("recipe=foo", "unknown recipe 'foo'; choose from"),
        ("attention.kernel_=sdpa", "unknown setting 'attention.kernel_'"),
        ("volume=none", "attention=none"),
        ("~seed", "'~seed' removes a setting"),
        ("sizes.volume_side=13", "volume 'meanvar' halves its grid 1 times: side must be a mult"),
        ("sizes.planes=5", "planes a multiple of 2, got side 12 and planes 5"),
        ("size=28", "size must be a multiple of 8 for these latents and parts, got 28"),
    ],
)
def test_settings_that_make_no_sense(refused, photo, setting, sentence):
    assert sentence in refused(f"image={photo}", setting)


# the Python API


@pytest.fixture(scope="module")
def model(weights):
    return mvdiff.load(checkpoint=weights, overrides=TOY, device="cpu")


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.full((8, 8, 3), np.nan, np.float32), "NaN"),
        (np.full((8, 8, 4), np.inf), "infinite"),
        (np.full((8, 8, 3), 300.0), r"must lie in \[0, 1\]"),
        (np.zeros((8, 8), np.uint8), "must have shape"),
        (np.zeros((8, 8, 2), np.uint8), "must have shape"),
        (np.zeros((0, 8, 3), np.uint8), "must have shape"),
        (np.zeros((8, 8, 3), np.int64), "uint8 or floats"),
        (torch.full((4, 8, 8), torch.nan), "NaN"),
        (torch.zeros(8, 8, 4), "must have shape"),
    ],
)
def test_arrays_that_are_no_picture(model, array, sentence):
    with pytest.raises(MvdiffError, match=sentence):
        model.generate(array)


def test_load_lists_the_choices():
    with pytest.raises(MvdiffError, match=r"unknown recipe 'big'; choose from .*tiny"):
        mvdiff.load("big")
    with pytest.raises(MvdiffError, match="unknown attention 'x'; choose from crossview"):
        mvdiff.load(overrides=["attention=x"])
    with pytest.raises(MvdiffError, match="no weights at '/no/file'"):
        mvdiff.load(checkpoint="/no/file", overrides=TOY)


# weights


def test_weights_of_another_shape(refused, photo):
    assert "belong to another model" in refused(f"image={photo}", "unet.width=24")


def test_missing_weights(refused, photo):
    assert "no weights at '/no/such file'" in refused(f"image={photo}", "weights=/no/such file")


def test_broken_weights(refused, photo, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"\x10" * 50)
    err = refused(f"image={photo}", f"weights={tmp_path / 'w.safetensors'}")
    assert "not a readable safetensors file" in err


def test_weights_with_nan(refused, photo, tmp_path):
    state = toy_model().state_dict()
    state["unet.stem.weight"] = state["unet.stem.weight"] * torch.nan
    path = save_weights(state, tmp_path / "nan.safetensors")
    err = refused(f"image={photo}", f"weights={path}")
    assert "nan.safetensors" in err
    assert "'unet.stem.weight'" in err


class Bomb:
    """Creates a file when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return open, (self.mark, "w")


def test_a_pickle_as_weights_is_refused_and_never_run(refused, photo, tmp_path):
    mark = tmp_path / "mark"
    for name in ("w.ckpt", "w.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps({"state_dict": Bomb(mark)}))
        assert name in refused(f"image={photo}", f"weights={tmp_path / name}")
        torch.save({"state_dict": Bomb(mark)}, tmp_path / name)
        assert name in refused(f"image={photo}", f"weights={tmp_path / name}")
    assert not mark.exists()


# places to write to


def test_out_is_a_file(refused, photo, tmp_path):
    (tmp_path / "file").write_text("")
    err = refused(f"image={photo}", f"out={tmp_path / 'file'}")
    assert "cannot write to" in err
    assert "choose another output folder" in err


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_out(refused, photo, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert "Permission denied" in refused(f"image={photo}", f"out={locked}")


def test_a_read_only_file_system_is_noticed_before_the_model_is_loaded(refused, photo, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr("mvdiff.builders.build_pipeline", None)
    assert "Read-only file system" in refused(f"image={photo}")


@pytest.mark.parametrize("after", [0, 2, 4, 6, 7])
def test_a_full_disk_leaves_whole_files_only(photo, weights, tmp_path, monkeypatch, capsys, after):
    """The disk is full from the given file on; files under their final names are complete."""
    out, count = tmp_path / "out", iter(range(1000))
    real = Image.Image.save

    def save_until_full(self, path, *args, **kwargs):
        if next(count) < after:
            return real(self, path, *args, **kwargs)
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", save_until_full)
    assert main(["generate", f"image={photo}", f"out={out}", *toy_args(weights)]) == (
        2 if after < 7 else 0
    )
    err = capsys.readouterr().err
    if after < 7:
        assert "No space left on device" in err
        assert "free some space" in err
        assert err.count("\n") == 1
    check_whole(out)
    written = [p for p in out.rglob("*") if p.is_file()]
    assert len([p for p in written if p.suffix == ".png"]) == min(after, 7)
    # run.json is written last: it says that a sample is complete
    assert len([p for p in written if p.name == "run.json"]) == (after == 7)


def check_whole(out: Path) -> None:
    for path in out.rglob("*"):
        assert not path.name.startswith(".part-"), path
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
    for listing in out.rglob("transforms.json"):
        Views.load(listing.parent)


def test_an_error_that_is_a_bug_is_not_hidden(photo, weights, tmp_path, monkeypatch):
    def bug(*_):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("mvdiff.generation.planning.find_images", bug)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        main(["generate", f"image={photo}", *toy_args(weights)])


def test_a_compiler_that_is_missing_or_a_mode_that_is_none(refused, photo, monkeypatch):
    from torch._inductor.exc import InvalidCxxCompiler

    assert "compile must be one of default" in refused(f"image={photo}", "compile=fast")

    def fail(config):
        raise InvalidCxxCompiler

    monkeypatch.setattr("mvdiff.builders.build_pipeline", fail)
    said = refused(f"image={photo}", "compile=default")
    assert "torch.compile failed (No working C++ compiler found" in said
    assert "use compile=null" in said


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")]
)
def test_too_little_memory_is_a_sentence(refused, photo, monkeypatch, error):
    def exhausted(*_, **__):
        raise error

    monkeypatch.setattr("mvdiff.pipeline.MultiViewPipeline.denoise", exhausted)
    assert "not enough memory: use batch_views=4" in refused(f"image={photo}")


# Ctrl-C


def interrupt(process: subprocess.Popen, ready) -> tuple[str, str]:
    """Send SIGINT as soon as `ready()` is true; returns the output of the process."""
    time.sleep(0.5)
    deadline = time.monotonic() + 100
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=60)


@pytest.mark.skipif(os.name != "posix", reason="signals as on Unix")
@pytest.mark.parametrize("moment", ["denoising the second sample", "at the start"])
def test_ctrl_c_leaves_whole_files_only(photo, weights, tmp_path, moment):
    out = tmp_path / "out"
    args = [f"image={photo}", f"out={out}", "samples=500", *toy_args(weights), "sampler.steps=30"]
    script = (
        "import sys; from mvdiff.cli.main import main; print('up', flush=True); sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "generate", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "up\n"
        first = out / "disc" / "sample-0" / "run.json"
        started = moment == "at the start"
        _, err = interrupt(process, (lambda: True) if started else first.exists)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err == "mvdiff: interrupted; no partial files were left behind\n"
    check_whole(out)
    assert first.exists() != started
    assert len(list(out.rglob("run.json"))) < 50
