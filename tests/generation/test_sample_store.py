"""Folders of samples: found again, ordered by score, repaired after a kill."""

import contextlib
import json
from pathlib import Path

import pytest

from mvdiff.errors import MvdiffError
from mvdiff.generation.sample_store import SampleStore, fingerprint, output_sizes


def sample(folder: Path, name: str, seed: int, key: str = "k") -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"seed": seed, "fingerprint": key, "files": {}}))
    return path


def seeds(folder: Path) -> dict[str, int]:
    return {
        p.name: json.loads((p / "run.json").read_text())["seed"] for p in sorted(folder.iterdir())
    }


def test_finished_samples_are_those_of_this_key_and_these_seeds(tmp_path):
    sample(tmp_path, "sample-0", 7)
    sample(tmp_path, "sample-1", 8, key="other")
    sample(tmp_path, "sample-2", 99)
    (tmp_path / "sample-3").mkdir()  # killed before run.json
    (tmp_path / "sample-4").mkdir()
    (tmp_path / "sample-4" / "run.json").write_text('{"seed": 9, "finger')
    sample(tmp_path, ".sample-1-new", 10)
    found = SampleStore(tmp_path, [7, 8, 9, 10], "k").finished()
    assert {seed: path.name for seed, path in found.items()} == {7: "sample-0", 10: ".sample-1-new"}


def test_new_samples_take_their_own_number_if_it_is_free(tmp_path):
    samples = SampleStore(tmp_path, [5, 6, 7], "k")
    assert samples.slot_for(6, {}).name == "sample-1"
    # seed 7 was the best of an earlier, smaller run
    done = {7: sample(tmp_path, "sample-0", 7)}
    assert samples.slot_for(5, done).name == "sample-1"
    done[5] = tmp_path / "sample-1"
    assert samples.slot_for(6, done).name == "sample-2"


@pytest.mark.parametrize("order", [[5, 6, 7], [7, 6, 5], [6, 7, 5]])
def test_arranged_by_score(tmp_path, order):
    paths = {seed: sample(tmp_path, f"sample-{seed - 5}", seed) for seed in (5, 6, 7)}
    arranged = SampleStore(tmp_path, [5, 6, 7], "k").arrange([paths[seed] for seed in order])
    assert [p.name for p in arranged] == ["sample-0", "sample-1", "sample-2"]
    assert list(seeds(tmp_path).values()) == order


def test_other_samples_make_room_and_survive(tmp_path):
    sample(tmp_path, "sample-0", 1, key="other")
    mine = sample(tmp_path, "sample-2", 5)
    hidden = sample(tmp_path, ".sample-0-new", 6)
    SampleStore(tmp_path, [5, 6], "k").arrange([hidden, mine])
    assert seeds(tmp_path) == {"sample-0": 6, "sample-1": 5, "sample-2": 1}


@pytest.mark.parametrize("after", range(7))
@pytest.mark.parametrize("order", [[2, 1, 0], [1, 2, 0], [0, 2, 1]])
def test_a_kill_while_renaming_loses_nothing(tmp_path, monkeypatch, after, order):
    paths = [sample(tmp_path, f"sample-{k}", k) for k in range(3)]
    sample(tmp_path, ".sample-0-other", 0, key="other")  # killed with other settings
    samples, rename, left = SampleStore(tmp_path, [0, 1, 2], "k"), Path.rename, [after]

    def fails(self, target):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with contextlib.suppress(KeyboardInterrupt):
        samples.arrange(paths[::-1])
    monkeypatch.undo()
    found = samples.finished()
    assert sorted(found) == [0, 1, 2]
    # the next call may want another order
    samples.arrange([found[seed] for seed in order])
    there = seeds(tmp_path)
    assert [there[f"sample-{k}"] for k in range(3)] == order
    assert there.pop("sample-3") == 0  # the stranger shows again
    assert len(there) == 3


def test_hidden_samples_and_strangers_do_not_collide(tmp_path):
    hidden = [sample(tmp_path, f".sample-{k}-k", k) for k in (0, 1)]
    stranger = sample(tmp_path, "sample-0", 9, key="other")
    SampleStore(tmp_path, [0, 1], "k").arrange(hidden[::-1])
    assert seeds(tmp_path) == {"sample-0": 1, "sample-1": 0, "sample-2": 9}
    assert not stranger.with_name(".sample-0-k").exists()


def test_the_fingerprint_follows_what_changes_a_sample(tmp_path):
    picture, weights = tmp_path / "x.png", tmp_path / "w.safetensors"
    picture.write_bytes(b"one")
    weights.write_bytes(b"abc")
    config = {"weights": str(weights), "sampler": {"steps": 4}, "samples": 1, "out": "a"}
    image = (picture, 20.0, 0.0)
    first = fingerprint([image], config)
    assert fingerprint([image], {**config, "samples": 8, "out": "b", "device": "cpu"}) == first
    assert fingerprint([(picture, "auto", 0.0)], config) != first
    assert fingerprint([(picture, 20.0, 90.0)], config) != first
    assert fingerprint([image, image], config) != first
    assert fingerprint([image], {**config, "sampler": {"steps": 5}}) != first
    picture.write_bytes(b"two")
    second = fingerprint([image], config)
    assert second != first
    weights.write_bytes(b"abcd")
    assert fingerprint([image], config) != second
    with pytest.raises(MvdiffError, match="cannot read"):
        fingerprint([(tmp_path / "none.png", 20.0, 0.0)], config)


FILES = ("transforms.json", "views/000.png", "views/001.png", "strip.png", "mesh.glb")


def whole(folder: Path, name: str, seed: int) -> Path:
    path = sample(folder, name, seed)
    (path / "views").mkdir()
    for file in FILES:
        (path / file).write_bytes(b"0123456789")
    record = {"seed": seed, "fingerprint": "k", "files": output_sizes(path)}
    assert set(record["files"]) == set(FILES)
    (path / "run.json").write_text(json.dumps(record))
    return path


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("content", "word"), [(None, "missing"), (b"", "empty"), (b"01", "cut")])
def test_samples_that_lost_files_are_not_finished(tmp_path, file, content, word):
    path = whole(tmp_path, "sample-0", 5)
    other = whole(tmp_path, "sample-1", 6)
    samples = SampleStore(tmp_path, [5, 6], "k")
    assert samples.finished() == {5: path, 6: other}
    if content is None:
        (path / file).unlink()
    else:
        (path / file).write_bytes(content)
    survey = samples.survey()
    assert survey.finished == {6: other}
    assert file in survey.damaged[path]
    assert word in survey.damaged[path]
    assert samples.slot_for(5, survey.finished) == path


def test_an_edited_mesh_stays_and_a_changed_view_does_not(tmp_path):
    path = whole(tmp_path, "sample-0", 5)
    (path / "mesh.glb").write_bytes(b"0123456789 and more")
    (path / "mine.txt").write_text("kept by the user")
    samples = SampleStore(tmp_path, [5], "k")
    assert samples.finished() == {5: path}
    (path / "views" / "001.png").write_bytes(b"0123456789 and more")
    assert "changed" in samples.survey().damaged[path]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "nul", '{"seed": [5], "fingerprint": "k"}', '{"seed": true, "fingerprint": "k"}']
    + ["[" * 100_000, '{"fingerprint": "k", "seed": 5, "files": 3}'],
)
def test_records_of_another_kind_are_no_samples(tmp_path, text):
    (tmp_path / "sample-0").mkdir()
    (tmp_path / "sample-0" / "run.json").write_text(text)
    assert SampleStore(tmp_path, [5, 1], "k").finished() == {}


def test_samples_are_in_order_only_where_they_were_compared_with_each_other(tmp_path):
    samples = SampleStore(tmp_path, [5, 6], "k")
    paths = {seed: sample(tmp_path, f"sample-{6 - seed}", seed) for seed in (5, 6)}
    assert not samples.in_order(samples.finished())
    for seed, path in paths.items():
        record = {"seed": seed, "fingerprint": "k", "files": {}, "ranked_with": [5, 6]}
        (path / "run.json").write_text(json.dumps(record))
    assert samples.in_order(samples.finished())
    assert not SampleStore(tmp_path, [5, 6, 7], "k").in_order(samples.finished())
    (tmp_path / ".sample-7-x").mkdir()
    assert not samples.in_order(samples.finished())
    samples.arrange([paths[6], paths[5]])
    assert not (tmp_path / ".sample-7-x").exists()
