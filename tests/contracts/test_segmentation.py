"""The contract of every segmentation; preprocessing/test_segmentation.py tests each one."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.tiny_recipe import picture, toy_config
from PIL import Image

from mvdiff import builders
from mvdiff.config.groups import groups
from mvdiff.errors import MvdiffError
from mvdiff.preprocessing.segmentation import SEGMENTERS

VARIANTS = groups()["segmentation"]
pytestmark = pytest.mark.filterwarnings("ignore:the picture has no transparency")


def make(variant: str):
    return builders.build_segmenter(toy_config(f"segmentation={variant}"))


def on_ground(color: tuple[int, int, int] = (250, 250, 250)) -> Image.Image:
    ground = Image.new("RGBA", (48, 48), (*color, 255))
    ground.alpha_composite(picture())
    return ground


def test_every_registered_name_has_its_yaml():
    assert set(SEGMENTERS) <= set(VARIANTS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rgba_of_the_same_size_that_shows_the_object(variant):
    photo = picture() if variant == "alpha" else on_ground()
    before = np.array(photo)
    cut = make(variant)(photo)
    assert cut.mode == "RGBA"
    assert cut.size == photo.size
    assert cut.getpixel((24, 24))[3] > 250
    assert np.array_equal(np.array(photo), before)
    if variant != "none":
        assert cut.getpixel((1, 1))[3] == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_picture_of_nothing_is_refused(variant):
    with pytest.raises(MvdiffError, match="transparent everywhere"):
        make(variant)(Image.new("RGBA", (32, 32), (9, 9, 9, 0)))
