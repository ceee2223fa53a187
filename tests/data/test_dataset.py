"""Packing rendered folders, and batches as a pure function of (seed, step, shard)."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mvdiff.cameras.rigs import look_at, ring
from mvdiff.data.augment import Augment
from mvdiff.data.batch_source import DatasetBatches
from mvdiff.data.dataset import Batch, MultiViewDataset, RenderedDataset, pack
from mvdiff.data.shuffled_order import BLOCK, ShuffledOrder
from mvdiff.data.view_subset import ViewSubset
from mvdiff.errors import MvdiffError
from mvdiff.views.views import Views


def png(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


def assert_same(a: Batch, b: Batch) -> None:
    assert a.names == b.names
    for name in ("views", "photo", "elevation"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


# Packing


def test_samples_are_the_pngs(rendered: Path) -> None:
    data = RenderedDataset(rendered, "train")
    assert (len(data), data.view_count, data.size) == (6, 4, 8)
    sample = data[3]
    assert sample.name == "object3"
    for i in range(4):
        assert torch.equal(sample.targets[i], png(rendered / f"object3/target/{i:03d}.png"))
        assert torch.equal(sample.inputs[i], png(rendered / f"object3/input/{i:03d}.png"))
    torch.testing.assert_close(sample.input_elevation, torch.tensor([3.0, 4, 5, 6]))
    assert RenderedDataset(rendered, "val").names == ("object6", "object7")


def test_the_pack_is_mapped_and_needs_no_pngs(rendered: Path) -> None:
    before = RenderedDataset(rendered)[0]
    for i in range(8):
        shutil.rmtree(rendered / f"object{i}")
    packed = pack(rendered, "train")
    assert isinstance(packed.pixels, np.memmap)
    assert not packed.pixels.flags.writeable
    assert torch.equal(RenderedDataset(rendered)[0].targets, before.targets)


def test_a_changed_index_packs_again_and_drops_the_old_pack(rendered: Path) -> None:
    pack(rendered, "train")
    index = json.loads((rendered / "index.json").read_text())
    index["objects"] = index["objects"][1:]
    (rendered / "index.json").write_text(json.dumps(index))
    assert pack(rendered, "train").names[0] == "object1"
    assert len(list(rendered.glob(".packed-train-*"))) == 1


def test_an_object_rendered_later_packs_again(rendered: Path) -> None:
    pack(rendered, "train")
    picture = Image.new("RGBA", (8, 8), (1, 2, 3, 4))
    picture.save(rendered / "object0/target/000.png")
    later = 2**31
    os.utime(rendered / "object0/target/transforms.json", (later, later))
    assert pack(rendered, "train").pixels[0, 0, 0, :, 0, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["pixels.npy", "elevation.npy"])
def test_a_half_written_pack_is_written_again(rendered: Path, name: str) -> None:
    whole = pack(rendered, "train")
    pixels, elevation = np.array(whole.pixels), whole.elevation
    path = next(rendered.glob(".packed-train-*")) / name
    path.write_bytes(path.read_bytes()[:200])
    again = pack(rendered, "train")
    assert np.array_equal(again.pixels, pixels)
    assert np.array_equal(again.elevation, elevation)


def test_several_folders_make_one_set(rendered: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(rendered / "object7", other / "lamp")
    entry = {"name": "lamp", "split": "train", "source": "mesh", "family": "lamp"}
    (other / "index.json").write_text(json.dumps({"version": 1, "size": 8, "objects": [entry]}))
    data = RenderedDataset([rendered, other])
    assert len(data) == 7
    assert data.families[6] == "lamp"
    assert torch.equal(data[6].targets, RenderedDataset(rendered, "val")[1].targets)


def edit_index(root: Path, **change: object) -> None:
    index = json.loads((root / "index.json").read_text())
    index.update(change)
    (root / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda r: (r / "index.json").unlink(), "no index.json in .*mvdiff render"),
        (lambda r: (r / "index.json").write_text("{"), r"index\.json' is not valid JSON"),
        (lambda r: (r / "index.json").write_text('{"size": 8}'), "not a rendered folder's index"),
        (lambda r: shutil.rmtree(r / "object2"), "object2.* has no transforms.json"),
        (lambda r: (r / "object2/input/001.png").unlink(), r"lacks a view.*001\.png"),
        (
            lambda r: (r / "object2/input/001.png").write_bytes(b"\x89PNG"),
            r"lacks a view.*001\.png",
        ),
        (lambda r: edit_index(r, size=16), "is 8×8, the index says 16×16"),
    ],
)
def test_unusable_folders_say_what_is_wrong(rendered: Path, harm, sentence: str) -> None:
    harm(rendered)
    with pytest.raises(MvdiffError, match=sentence):
        RenderedDataset(rendered)
    assert not list(rendered.glob(".packed-*")), "no empty folder is left"


def test_an_empty_split_lists_the_splits(rendered: Path) -> None:
    with pytest.raises(MvdiffError, match="'test'; its index has: train, val"):
        RenderedDataset(rendered, "test")


def test_views_that_are_no_ring_are_refused(rendered: Path) -> None:
    views = Views.load(rendered / "object1/target")
    cameras = look_at([0, 80, 180, 270], [30] * 4, size=8)
    Views(views.images, views.alpha, cameras).save(rendered / "object1/target")
    with pytest.raises(MvdiffError, match="object1' are not an even ring"):
        RenderedDataset(rendered)


def test_too_few_inputs_are_refused(rendered: Path) -> None:
    views = Views.load(rendered / "object1/input")
    views[[0, 1]].save(rendered / "object1/input")
    with pytest.raises(MvdiffError, match="4 target and 2 input views"):
        RenderedDataset(rendered)


@pytest.mark.parametrize("start", [45, 200])  # the second passes 360° between views 1 and 2
def test_a_ring_may_start_anywhere(rendered: Path, start: int) -> None:
    cameras = {
        "target": ring(4, azimuth=start, size=8),
        "input": look_at([start + 90.0 * i for i in range(4)], [5.0, 15.0, 25.0, 35.0], size=8),
    }
    stored = {}
    for part, placed in cameras.items():
        views = Views.load(rendered / "object1" / part)
        stored[part] = torch.cat([views.images, views.alpha], dim=1)
        Views(views.images, views.alpha, placed).save(rendered / "object1" / part)
    example = RenderedDataset(rendered)[1]
    assert example.name == "object1"
    assert torch.equal(example.targets, stored["target"])  # in their order, first one first
    assert torch.equal(example.inputs, stored["input"])
    assert example.input_elevation.tolist() == pytest.approx([5, 15, 25, 35], abs=1e-4)


# Batches


def test_plain_batches_stand_on_white_and_align_with_the_photo(rendered: Path) -> None:
    data = RenderedDataset(rendered)
    batch = data.batch([4, 1], roll=[0, 3])
    assert batch.names == ("object4", "object1")
    assert batch.elevation.tolist() == pytest.approx([4, 1 + 3], abs=1e-4)
    target = Views.load(rendered / "object1/target")
    torch.testing.assert_close(batch.views[1, :, :3], target.rgb.roll(-3, 0))
    torch.testing.assert_close(batch.views[1, :, 3:], target.mask.roll(-3, 0))
    photo = Views.load(rendered / "object1/input")
    torch.testing.assert_close(batch.photo[1, :3], photo.rgb[3])
    torch.testing.assert_close(batch.photo[1, 3:], photo.mask[3])


def test_a_batch_depends_on_seed_and_step_alone(rendered: Path) -> None:
    first = DatasetBatches(RenderedDataset(rendered))
    second = DatasetBatches(RenderedDataset(rendered))
    for step in (0, 1, 2):
        first.batch_at(step, batch_size=4, seed=5)
    assert_same(first.batch_at(7, batch_size=4, seed=5), second.batch_at(7, batch_size=4, seed=5))
    other = second.batch_at(7, batch_size=4, seed=6)
    assert not torch.equal(first.batch_at(7, batch_size=4, seed=5).views, other.views)
    after = second.batch_at(8, batch_size=4, seed=6)
    assert not torch.equal(after.views, other.views)


@pytest.mark.parametrize("shards", [2, 3, 6])
def test_shares_put_together_are_the_whole_batch(rendered: Path, shards: int) -> None:
    batches = DatasetBatches(RenderedDataset(rendered))
    whole = batches.batch_at(3, batch_size=6, seed=1)
    parts = [
        batches.batch_at(3, batch_size=6, seed=1, shard=i, shards=shards) for i in range(shards)
    ]
    assert sum((p.names for p in parts), ()) == whole.names
    assert torch.equal(torch.cat([p.views for p in parts]), whole.views)
    assert torch.equal(torch.cat([p.photo for p in parts]), whole.photo)
    assert torch.cat([p.index for p in parts]).tolist() == list(range(18, 24))


def test_a_batch_that_cannot_be_shared_is_refused(rendered: Path) -> None:
    batches = DatasetBatches(RenderedDataset(rendered))
    with pytest.raises(MvdiffError, match="batch of 6 cannot be split into 4 equal shares"):
        batches.batch_at(0, batch_size=6, shards=4)


def test_without_augmentation_a_batch_is_the_plain_one(rendered: Path) -> None:
    data = RenderedDataset(rendered)
    batch = DatasetBatches(data, augment=Augment.none()).batch_at(0, batch_size=4)
    indices = [data.names.index(name) for name in batch.names]
    assert_same(batch, data.batch(indices))


def test_moving_a_batch_keeps_its_parts(rendered: Path) -> None:
    batch = DatasetBatches(RenderedDataset(rendered)).batch_at(0, batch_size=2)
    moved = batch.to("meta")
    assert {t.device.type for t in (moved.views, moved.photo, moved.elevation)} == {"meta"}
    assert moved.index.device.type == "meta"
    assert (moved.names, len(moved)) == (batch.names, 2)


# Order


def test_each_pass_takes_every_object_once() -> None:
    order = ShuffledOrder(["a"] * 7)
    passes = [[order(0, 7 * turn + i) for i in range(7)] for turn in range(300)]
    assert all(sorted(p) == list(range(7)) for p in passes)
    assert len({tuple(p) for p in passes}) > 250


def test_a_mix_keeps_its_shares_and_goes_through_each_source() -> None:
    sources = ["mesh"] * 10 + ["shape"] * 90
    order = ShuffledOrder(sources, {"mesh": 0.7, "shape": 0.3})
    drawn = [order(3, g) for g in range(2 * BLOCK)]
    counts = Counter(sources[i] for i in drawn)
    assert counts == {"mesh": 1400, "shape": 600}
    meshes = [i for i in drawn if i < 10]
    assert all(sorted(meshes[i : i + 10]) == list(range(10)) for i in range(0, 1400, 10))
    # Shares hold roughly within short stretches too, or a batch could lack a source for long.
    assert 20 < sum(i < 10 for i in drawn[500:540]) < 38


def test_shares_that_do_not_divide_add_up() -> None:
    order = ShuffledOrder(["a", "b", "c"], {"a": 1, "b": 1, "c": 1})
    counts = Counter(order(0, g) for g in range(BLOCK))
    assert sorted(counts.values()) == [333, 333, 334]


def test_a_source_with_share_nought_is_left_out() -> None:
    order = ShuffledOrder(["a", "b"], {"a": 1, "b": 0})
    assert {order(0, g) for g in range(50)} == {0}


@pytest.mark.parametrize(
    ("mix", "sentence"),
    [
        ({"mesh": 1, "scan": 1}, "source 'scan', which no object has; the data has: mesh, shape"),
        ({"mesh": -1, "shape": 2}, "shares of at least 0"),
        ({"mesh": 0}, "not all 0"),
        ({"mesh": float("nan")}, "shares of at least 0"),
    ],
)
def test_mixes_that_do_not_fit_are_refused(mix: dict, sentence: str) -> None:
    with pytest.raises(MvdiffError, match=sentence):
        ShuffledOrder(["mesh", "shape"], mix)


# Several input pictures


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_further_photos_share_the_azimuth_of_the_view_they_name(
    rendered: Path, mirror: float
) -> None:
    data = RenderedDataset(rendered)
    augment = Augment(mirror=mirror, color_prob=0, shift=0, scale=0)
    batch = DatasetBatches(data, augment=augment, photos=[3]).batch_at(0, batch_size=6)
    assert batch.more is not None
    assert batch.more.photos.shape == (6, 2, 4, 8, 8)
    for i, name in enumerate(batch.names):
        inputs = Views.load(rendered / name / "input")
        pictures = torch.cat([inputs.rgb, inputs.mask], dim=1)
        pictures = pictures.flip(-1) if mirror else pictures
        shown = torch.cat([batch.photo[i, None], batch.more.photos[i]])
        degrees = torch.cat([batch.elevation[i, None], batch.more.elevation[i]])
        found = [int((pictures - photo).abs().sum((1, 2, 3)).argmin()) for photo in shown]
        for photo, place in zip(shown, found, strict=True):
            torch.testing.assert_close(photo, pictures[place], atol=1e-6, rtol=0)
        assert degrees.tolist() == pytest.approx([int(name[-1]) + place for place in found])
        steps = [(place - found[0]) * (-1 if mirror else 1) % 4 for place in found[1:]]
        assert batch.more.views[i].tolist() == steps
        assert len(set(found)) == 3


def test_photos_come_in_their_shares_and_alone_by_default(rendered: Path) -> None:
    data = RenderedDataset(rendered)
    assert DatasetBatches(data).batch_at(3, batch_size=2).more is None
    batches = DatasetBatches(data, photos=[1, 1, 1, 2, 2])
    more = [batches.batch_at(step, batch_size=1).more for step in range(300)]
    assert sum(m is None for m in more) / 300 == pytest.approx(0.6, abs=0.08)
    with pytest.raises(MvdiffError, match="from 1 to 4"):
        DatasetBatches(data, photos=[1, 5])


def test_view_subsets_find_the_same_inputs(rendered: Path) -> None:
    whole, thin = RenderedDataset(rendered), ViewSubset(RenderedDataset(rendered), 2)
    pictures, degrees = thin.read_inputs(2, [1, 0])
    expected, elevation = whole.read_inputs(2, [2, 0])
    assert np.array_equal(pictures, expected)
    assert degrees.tolist() == elevation.tolist()
    slowly, again = MultiViewDataset.read_inputs(whole, 2, [2, 0])
    assert np.array_equal(slowly, expected)
    assert again.tolist() == elevation.tolist()
