"""Segmentation: how well each variant finds a known object."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from mvdiff.errors import MvdiffError
from mvdiff.preprocessing.photo import load_photo
from mvdiff.preprocessing.segmentation import SEGMENTERS


def truth(size: int = 96) -> Image.Image:
    """A mug: a body with a handle that encloses background, drawn large and reduced."""
    big = Image.new("RGBA", (8 * size, 8 * size))
    draw = ImageDraw.Draw(big)
    unit = 8 * size / 100
    draw.ellipse(
        [60 * unit, 35 * unit, 85 * unit, 68 * unit], outline="#2255cc", width=int(6 * unit)
    )
    draw.rounded_rectangle([20 * unit, 22 * unit, 68 * unit, 80 * unit], 6 * unit, fill="#cc4433")
    draw.rectangle([30 * unit, 40 * unit, 50 * unit, 50 * unit], fill="#f0e8d0")
    return big.resize((size, size), Image.Resampling.BOX)


def on(background: np.ndarray | tuple[int, int, int], size: int = 96) -> Image.Image:
    if isinstance(background, tuple):
        background = np.full((size, size, 3), background, np.uint8)
    ground = Image.fromarray(background).convert("RGBA")
    return Image.alpha_composite(ground, truth(size)).convert("RGB")


def textured(size: int = 96) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    base = 120 + 40 * np.sin(x / 7) + 30 * np.cos(y / 9) + rng.normal(0, 10, (size, size))
    return np.stack([base * 0.5, base * 1.1, base * 0.7], axis=2).clip(0, 255).astype(np.uint8)


def mask(image: Image.Image) -> np.ndarray:
    return np.asarray(image.getchannel("A")).astype(float) / 255


def iou(image: Image.Image) -> float:
    ours, theirs = mask(image) > 0.5, mask(truth(image.width)) > 0.5
    return (ours & theirs).sum() / (ours | theirs).sum()


INPUT = {
    "alpha": truth,
    "auto": truth,
    "color_key": lambda: on((255, 255, 255)),
    "grabcut": lambda: on(textured()),
    "none": lambda: on(textured()),
}


def test_every_variant_is_covered_here():
    assert set(SEGMENTERS) == set(INPUT)


@pytest.mark.parametrize("name", INPUT)
def test_contract(name):
    variant, photo = SEGMENTERS[name](), INPUT[name]().convert("RGBA")
    before = photo.tobytes()
    first, second = variant(photo), SEGMENTERS[name]()(photo)
    assert (first.mode, first.size) == ("RGBA", photo.size)
    assert first.tobytes() == second.tobytes()
    assert photo.tobytes() == before
    assert variant.__doc__.splitlines()[0].endswith(".")
    with pytest.raises(MvdiffError, match="transparent everywhere"):
        variant(Image.new("RGBA", (32, 32), (200, 10, 10, 0)))


@pytest.mark.parametrize("color", [(255, 255, 255), (0, 0, 0), (30, 200, 90), (128, 128, 128)])
@pytest.mark.parametrize("noise", [0, 2])
def test_key_finds_the_object_softly_with_its_hole(color, noise):
    background = np.random.default_rng(0).normal(color, noise, (96, 96, 3))
    photo = on(background.clip(0, 255).round().astype(np.uint8))
    cut = SEGMENTERS["color_key"]()(photo)
    assert iou(cut) > 0.97
    assert np.abs(mask(cut) - mask(truth())).mean() < 0.01
    hole = mask(cut)[50, 72]
    assert mask(truth())[50, 72] == 0
    assert hole == 0
    soft = (mask(cut) > 0.05) & (mask(cut) < 0.95)
    assert soft.sum() > 50


def test_key_takes_the_background_out_of_the_edge_colors():
    green = SEGMENTERS["color_key"]()(on((0, 255, 0)))
    ours, theirs = (
        np.asarray(Image.alpha_composite(Image.new("RGBA", green.size, "black"), image))
        for image in (green, truth())
    )
    edge = (mask(truth()) > 0.05) & (mask(truth()) < 0.95)
    difference = np.abs(ours.astype(int) - theirs.astype(int))[edge, 1]
    assert difference.mean() < 3  # 31 when the edges keep their mixed colors


def test_key_keeps_light_parts_inside_the_object():
    cut = SEGMENTERS["color_key"]()(on((255, 255, 255)))
    assert mask(cut)[43, 38] == 1  # the pale label


def test_grabcut_finds_an_object_on_a_textured_ground():
    cut = SEGMENTERS["grabcut"]()(on(textured()))
    assert iou(cut) > 0.9
    assert np.asarray(cut)[60, 40, :3].tolist() == [204, 68, 51]


def test_grabcut_does_not_depend_on_the_state_of_opencv():
    import cv2

    photo = on(textured())
    cv2.setRNGSeed(7)
    first = SEGMENTERS["grabcut"]()(photo)
    cv2.setRNGSeed(99)
    assert SEGMENTERS["grabcut"]()(photo).tobytes() == first.tobytes()


def test_auto_uses_alpha_silently():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut = SEGMENTERS["auto"]()(truth())
    assert cut.tobytes() == truth().tobytes()


def test_auto_keys_a_plain_border_and_says_so():
    with pytest.warns(UserWarning, match="segmentation=color_key"):
        cut = SEGMENTERS["auto"]()(on((250, 250, 245)))
    assert iou(cut) > 0.97


def test_auto_falls_back_to_grabcut_and_says_so():
    with pytest.warns(UserWarning, match="GrabCut"):
        cut = SEGMENTERS["auto"]()(on(textured()))
    assert iou(cut) > 0.9


def test_alpha_needs_transparency():
    with pytest.raises(MvdiffError, match="no transparency, which segmentation=alpha needs"):
        SEGMENTERS["alpha"]()(on((255, 255, 255)))


def test_key_needs_a_plain_border():
    with pytest.raises(MvdiffError, match="not of one color"):
        SEGMENTERS["color_key"]()(on(textured()))


@pytest.mark.filterwarnings("ignore:the picture has no transparency")
@pytest.mark.parametrize("name", ["color_key", "auto"])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (40, 40)])
def test_a_picture_of_background_alone_is_refused(name, size):
    with pytest.raises(MvdiffError, match="only background"):
        SEGMENTERS[name]()(Image.new("RGB", size, (200, 210, 220)))


@pytest.mark.filterwarnings("ignore:the picture has no transparency")
@pytest.mark.parametrize("name", ["grabcut", "auto"])
def test_tiny_pictures_are_too_small_for_grabcut(name):
    noise = np.random.default_rng(0).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    with pytest.raises(MvdiffError, match="5×5 is too small"):
        SEGMENTERS[name]()(Image.fromarray(noise))


def test_grabcut_never_returns_an_empty_picture():
    plain = Image.new("RGB", (40, 40), (90, 90, 90))
    with pytest.raises(MvdiffError, match="only background"):
        SEGMENTERS["grabcut"]()(plain)


def test_a_nearly_transparent_picture_is_refused():
    with pytest.raises(MvdiffError, match="no object was found"):
        SEGMENTERS["auto"]()(Image.new("RGBA", (9, 9), (1, 2, 3, 20)))


def test_none_takes_the_whole_picture_on_white():
    cut = np.asarray(SEGMENTERS["none"]()(truth()))
    assert (cut[..., 3] == 255).all()
    assert cut[0, 0].tolist() == [255, 255, 255, 255]


def test_unknown_names_list_the_variants():
    with pytest.raises(KeyError, match="choose from alpha, auto, color_key, grabcut, none"):
        SEGMENTERS["rembg"]


def test_a_blurred_photo_keeps_its_shape():
    photo = on((235, 235, 235)).filter(ImageFilter.GaussianBlur(1))
    assert iou(SEGMENTERS["color_key"]()(photo)) > 0.93


@pytest.mark.parametrize("name", ["teapot-30", "head-15", "cat-30", "drum-30"])
def test_photos_put_on_white_are_found_again(shared_dir, name):
    photo = load_photo(shared_dir / "data" / "photos" / f"{name}.png")
    white = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo)
    ours, theirs = mask(SEGMENTERS["color_key"]()(white)) > 0.5, mask(photo) > 0.5
    assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97


# What the alpha channel says: `truth` on a plain ground, with traces of transparency.


def clear_where(photo: Image.Image, alpha: np.ndarray) -> Image.Image:
    photo = photo.convert("RGBA")
    photo.putalpha(Image.fromarray(alpha.round().clip(0, 255).astype(np.uint8)))
    return photo


def rounded(size: int, radius: int) -> np.ndarray:
    big = Image.new("L", (4 * size, 4 * size))
    box = (0, 0, 4 * size - 1, 4 * size - 1)
    ImageDraw.Draw(big).rounded_rectangle(box, 4 * radius, fill=255)
    return np.asarray(big.resize((size, size), Image.Resampling.BOX)).astype(float)


def one_pixel(value: int) -> np.ndarray:
    alpha = np.full((96, 96), 255.0)
    alpha[3, 5] = value
    return alpha


def framed(width: int) -> np.ndarray:
    alpha = np.zeros((96, 96))
    alpha[width:-width, width:-width] = 255
    return alpha


def corner(side: int) -> np.ndarray:
    alpha = np.full((96, 96), 255.0)
    alpha[:side, -side:] = 0
    return alpha


TRACES = {
    "one pixel of 254": one_pixel(254),
    "one clear pixel": one_pixel(0),
    "noise": np.random.default_rng(0).integers(250, 256, (96, 96)).astype(float),
    "a clear line around": framed(1),
    "a clear frame": framed(3),
    "rounded corners": rounded(96, 12),
    "very round corners": rounded(96, 24),
    "a clear corner": corner(15),
    "half clear": np.full((96, 96), 200.0),
}


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("color", [(255, 255, 255), (40, 60, 70)])
def test_traces_of_transparency_outline_nothing(name, color):
    with pytest.warns(UserWarning, match="segmentation=color_key"):
        cut = SEGMENTERS["auto"]()(clear_where(on(color), TRACES[name]))
    assert cut.info["segmentation"] == "color_key"
    assert iou(cut) > 0.97


def test_bars_beside_a_padded_picture_outline_nothing():
    wide = Image.new("RGBA", (96, 150))
    wide.paste(on((240, 240, 240)), (0, 27))
    with pytest.warns(UserWarning, match="segmentation=color_key"):
        cut = SEGMENTERS["auto"]()(wide)
    assert iou(cut.crop((0, 27, 96, 123))) > 0.97
    assert cut.getchannel("A").getbbox()[1] > 27


def test_rounded_corners_of_a_textured_picture_are_no_outline_either():
    with pytest.warns(UserWarning, match="GrabCut"):
        cut = SEGMENTERS["auto"]()(clear_where(on(textured()), rounded(96, 10)))
    assert cut.info["segmentation"] == "grabcut"
    assert iou(cut) > 0.9


def boxy(size: int = 96) -> Image.Image:
    """A textured box that nearly fills the picture: its outline is real."""
    photo = clear_where(Image.fromarray(textured(size)), rounded(size, 22))
    return photo


def test_an_object_that_fills_the_picture_keeps_its_alpha():
    cut = SEGMENTERS["auto"]()(boxy())
    assert cut.info["segmentation"] == "alpha"
    assert cut.tobytes() == boxy().tobytes()


def test_a_plain_object_that_fills_the_picture_is_reported():
    photo = clear_where(Image.new("RGB", (96, 96), (200, 20, 20)), one_pixel(0))
    with pytest.warns(UserWarning, match="fills the whole picture"):
        assert SEGMENTERS["auto"]()(photo).info["segmentation"] == "alpha"


@pytest.mark.parametrize("level", [20, 40, 90])
def test_haze_is_removed(level):
    rng = np.random.default_rng(0)
    alpha = np.maximum(mask(truth()) * 255, level + rng.integers(-2, 3, (96, 96)))
    with pytest.warns(UserWarning, match="haze"):
        cut = SEGMENTERS["auto"]()(clear_where(truth(), alpha))
    assert iou(cut) > 0.97
    from mvdiff.preprocessing.photo import _object_box

    assert _object_box(cut) == _object_box(truth())


def test_a_dark_soft_shadow_is_not_the_object():
    blob = Image.new("L", (96, 96))
    ImageDraw.Draw(blob).ellipse((40, 70, 95, 90), fill=110)
    shadow = clear_where(
        Image.new("RGB", (96, 96)), np.asarray(blob.filter(ImageFilter.BoxBlur(2)))
    )
    with pytest.warns(UserWarning, match="shadow"):
        cut = SEGMENTERS["auto"]()(Image.alpha_composite(shadow, truth()))
    assert iou(cut) > 0.95
    assert mask(cut)[80, 88] == 0


def test_a_half_transparent_object_stays():
    glass = clear_where(truth(), mask(truth()) * 150)
    assert SEGMENTERS["auto"]()(glass).tobytes() == glass.tobytes()


def test_dust_far_from_the_object_is_removed():
    photo = truth()
    photo.putpixel((1, 1), (255, 0, 0, 255))
    with pytest.warns(UserWarning, match="tiny part"):
        cut = SEGMENTERS["auto"]()(photo)
    assert np.array_equal(mask(cut), mask(truth()))
    assert SEGMENTERS["alpha"]()(photo).getpixel((1, 1)) == (255, 0, 0, 255)


def test_parts_edges_and_small_objects_are_reported():
    two = Image.new("RGBA", (192, 96))
    two.paste(truth(), (0, 0))
    two.paste(truth(), (96, 0))
    with pytest.warns(UserWarning, match="2 separate parts"):
        SEGMENTERS["auto"]()(two)
    with pytest.warns(UserWarning, match="touches the picture's left edge"):
        SEGMENTERS["auto"]()(truth().crop((40, 0, 96, 96)))
    with pytest.warns(UserWarning, match="small"):
        SEGMENTERS["auto"]()(truth(24))
    square = Image.new("RGBA", (96, 96))
    square.paste(Image.fromarray(textured(50)), (20, 20))
    with pytest.warns(UserWarning, match="rectangle"):
        SEGMENTERS["auto"]()(square)


@pytest.mark.parametrize("name", INPUT)
def test_the_method_is_on_record(name):
    assert SEGMENTERS[name]()(INPUT[name]()).info["segmentation"] == name.replace("auto", "alpha")
