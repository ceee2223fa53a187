"""LPIPS with weights under which it can be computed by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mvdiff.cli.main import main
from mvdiff.errors import MvdiffError
from mvdiff.metrics import Lpips

#: VGG16's convolutions: number in torchvision's `features`, channels in and out.
CONVS = [
    (0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256),
    (14, 256, 256), (17, 256, 512), (19, 512, 512), (21, 512, 512), (24, 512, 512),
    (26, 512, 512), (28, 512, 512),
]  # fmt: skip
HEADS = (64, 128, 256, 512, 512)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Every convolution hands the three colors on; level i weighs them by i+1, 2, 3."""
    out = {}
    for number, wide, deep in CONVS:
        weight = torch.zeros(deep, wide, 3, 3)
        weight[[0, 1, 2], [0, 1, 2], 1, 1] = 1
        out[f"features.{number}.weight"], out[f"features.{number}.bias"] = weight, torch.zeros(deep)
    for i, channels in enumerate(HEADS):
        head = torch.zeros(1, channels, 1, 1)
        head[0, :3, 0, 0] = torch.tensor([i + 1.0, 2, 3])
        out[f"lin{i}.model.1.weight"] = head
    return out


def by_hand(a: list[float], b: list[float]) -> float:
    """For constant pictures of colors a and b in [0, 1]."""
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    unit = []
    for color in (a, b):
        x = np.maximum((2 * np.array(color) - 1 - shift) / scale, 0)
        unit.append(x / np.linalg.norm(x))
    square = (unit[0] - unit[1]) ** 2
    return sum(float(square @ [i + 1, 2, 3]) for i in range(5))


def constant(colors: list[list[float]], size: int = 32) -> torch.Tensor:
    return torch.tensor(colors)[:, :, None, None].expand(-1, -1, size, size)


def test_constant_pictures(state):
    a, b = [[0.9, 0.6, 0.7], [1.0, 1.0, 1.0], [0.2, 0.8, 0.5]], [[0.6, 0.9, 0.7]] * 3
    got = Lpips(state)(constant(a), constant(b))
    assert got.tolist() == pytest.approx([by_hand(x, b[0]) for x in a], rel=1e-4)
    assert by_hand(a[0], b[0]) > 0.1


def test_mean_over_pixels_and_pooling(state):
    """Half the picture differs: half the distance, since no cell of any level has both."""
    a, b = constant([[0.9, 0.6, 0.7]]).clone(), constant([[0.6, 0.9, 0.7]])
    whole = float(Lpips(state)(a, b))
    a[..., 16:] = b[..., 16:]
    assert float(Lpips(state)(a, b)) == pytest.approx(whole / 2, rel=1e-4)
    assert float(Lpips(state)(b, b)) == 0


def test_names_of_both_packages_are_read(state, tmp_path):
    """One file as lpips saves itself; torchvision's network and lpips' heads apart."""
    slices = {0: 1, 5: 2, 10: 3, 17: 4, 24: 5}
    renamed = {"scaling_layer.shift": torch.zeros(1), "lins.0.model.1.weight": torch.zeros(1)}
    for key, value in state.items():
        number = int(key.split(".")[1]) if key.startswith("features") else None
        if number is None:
            renamed[key] = value
        else:
            level = max(level for first, level in slices.items() if number >= first)
            renamed[key.replace("features", f"net.slice{level}")] = value
    save_file(renamed, tmp_path / "lpips.safetensors")
    convs = {k: v for k, v in state.items() if k.startswith("features")}
    torch.save({**convs, "classifier.0.weight": torch.zeros(2)}, tmp_path / "vgg16.pth")
    torch.save({k: v for k, v in state.items() if k not in convs}, tmp_path / "vgg.pth")
    a, b = constant([[0.9, 0.6, 0.7]], 16), constant([[0.6, 0.9, 0.7]], 16)
    for files in (tmp_path / "lpips.safetensors", [tmp_path / "vgg16.pth", tmp_path / "vgg.pth"]):
        assert float(Lpips.load(files)(a, b)) == float(Lpips(state)(a, b))
    with pytest.raises(
        MvdiffError, match=r"lack 'lin0\.model\.1\.weight': expected the state dict"
    ):
        Lpips.load(tmp_path / "vgg16.pth")


def test_evaluate_takes_the_weights_by_setting(state, tmp_path):
    save_file(state, tmp_path / "lpips.safetensors")
    for side, color in (("pred", [230, 153, 178]), ("truth", [153, 230, 178])):
        (tmp_path / side / "mug").mkdir(parents=True)
        for i in range(16):
            picture = Image.new("RGB", (16, 16), tuple(color))
            picture.save(tmp_path / side / "mug" / f"{i:03d}.png")
    args = [f"pred={tmp_path / 'pred'}", f"reference={tmp_path / 'truth'}"]
    args += [f"lpips={tmp_path / 'lpips.safetensors'}", f"out={tmp_path / 'f.json'}"]
    assert main(["evaluate", *args]) == 0
    row = json.loads((tmp_path / "f.json").read_text())["mean"]
    expected = by_hand([230 / 255, 153 / 255, 178 / 255], [153 / 255, 230 / 255, 178 / 255])
    assert row["lpips"] == pytest.approx(expected, rel=1e-4)
    assert row["lpips_without_0"] == pytest.approx(expected, rel=1e-4)


def test_other_files_are_refused(state, tmp_path):
    with pytest.raises(MvdiffError, match="no LPIPS weights at"):
        Lpips.load(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(MvdiffError, match="cannot read the LPIPS weights"):
        Lpips.load(tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(MvdiffError, match="holds no state dict"):
        Lpips.load(tmp_path / "list.pth")
    with pytest.raises(MvdiffError, match=r"'lin4\.model\.1\.weight' has shape \(1, 64, 1, 1\)"):
        Lpips({**state, "lin4.model.1.weight": torch.zeros(1, 64, 1, 1)})


def test_bad_pictures_are_refused(state):
    lpips = Lpips(state)
    with pytest.raises(MvdiffError, match="at least 16 pixels"):
        lpips(constant([[0.5] * 3], 15), constant([[0.5] * 3], 15))
    with pytest.raises(MvdiffError, match=r"\[0, 1\]"):
        lpips(constant([[-1.0] * 3]), constant([[0.5] * 3]))
