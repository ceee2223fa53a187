"""Values cached per camera set are never stale, and can be used in training."""

from __future__ import annotations

import torch

from mvdiff.cameras import Cameras, ring
from mvdiff.cameras.cache import CameraCache


class Counter:
    """Gives the cameras' centers, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, cameras: Cameras) -> torch.Tensor:
        self.asked += 1
        return cameras.centers


def test_equal_cameras_are_computed_once():
    remember, make = CameraCache(), Counter()
    first = remember("a", ring(4, size=8), make)
    assert remember("a", ring(4, size=8), make) is first
    assert make.asked == 1
    cameras = ring(4, size=8)
    for _ in range(3):
        assert remember("a", cameras, make) is first


def test_other_cameras_keys_sizes_and_types_are_not_confused():
    remember, make = CameraCache(), Counter()
    base = ring(4, size=8)
    others = [base, ring(4, 29.0, size=8), base.resize(8, 4), base.to(torch.float64), base[:3]]
    others.append(Cameras(base.K, base.w2c, 8, 8, "orthographic"))
    results = [remember("a", cameras, make) for cameras in others]
    results.append(remember("b", base, make))
    assert make.asked == len(results)
    torch.testing.assert_close(results[1], others[1].centers)
    assert results[3].dtype == torch.float64
    assert results[4].shape == (3, 3)


def test_cameras_written_to_are_computed_again():
    remember, make = CameraCache(), Counter()
    cameras = ring(4, size=8)
    remember("a", cameras, make)
    cameras.w2c[0, 2, 3] += 1
    torch.testing.assert_close(remember("a", cameras, make), cameras.centers)
    assert make.asked == 2
    with torch.inference_mode():
        uncounted = ring(4, size=8)
        remember("b", uncounted, make)
        uncounted.w2c[0, 2, 3] += 1
        torch.testing.assert_close(remember("b", uncounted, make), uncounted.centers)


def test_the_oldest_is_forgotten():
    remember, make = CameraCache(size=2), Counter()
    for elevation in (0.0, 10.0, 20.0, 10.0):
        remember("a", ring(4, elevation, size=8), make)
    assert make.asked == 3
    remember("a", ring(4, 0.0, size=8), make)
    assert make.asked == 4


def test_results_are_precise_and_fit_for_training_whatever_the_mode():
    remember = CameraCache()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        cameras = ring(4, size=8)
        made = remember("a", cameras, lambda c: c.w2c[:, :, :3] @ c.w2c[:, :, 3:])
    assert made.dtype == torch.float32
    assert not made.is_inference()
    weight = torch.ones(4, 3, 1, requires_grad=True)
    (weight * made).sum().backward()
    torch.testing.assert_close(weight.grad, made)
