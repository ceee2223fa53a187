"""`mvdiff generate jobs=N`: the same results as one process, by Hydra's launchers."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.tiny_recipe import picture, pixels, toy_args, toy_weights

from mvdiff.cli import generate_sharded as generate_jobs
from mvdiff.cli.main import main
from mvdiff.errors import MvdiffError
from mvdiff.utils.files import read_json

NAMES = "abc"
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return toy_weights(tmp_path_factory.mktemp("toy") / "toy.safetensors")


@pytest.fixture(scope="module")
def album(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("album, with = signs")
    for name, color in zip(NAMES, [(200, 60, 40), (20, 150, 60), (40, 70, 200)], strict=True):
        picture(color=color).save(folder / f"{name}.png")
    return folder


def generate(album: Path, out: Path, weights: Path, *more: str) -> int:
    quoted = f"image='{album}'"
    return main(["generate", quoted, f"out={out}", *toy_args(weights, "sampler.steps=2", *more)])


def strip(out: Path, name: str) -> np.ndarray:
    return pixels(out / name / "sample-0" / "strip.png").astype(int)


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_jobs_make_what_one_process_makes(album, weights, tmp_path, launcher):
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    assert generate(album, tmp_path / "one", weights) == 0
    words = ["jobs=2", f"hydra/launcher={launcher}"]
    words += ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    assert generate(album, tmp_path / "jobs", weights, *words) == 0
    for name in NAMES:
        np.testing.assert_allclose(
            strip(tmp_path / "jobs", name), strip(tmp_path / "one", name), atol=1
        )
    assert {p.name for p in (tmp_path / "jobs").iterdir()} == set(NAMES)


def test_each_job_has_its_share_and_no_more_jobs_than_pictures(
    album, weights, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        "mvdiff.config.launcher.run_multirun",
        lambda paths, task, out, words: asked.extend([read_json(p, dict) for p in paths]),
    )
    assert generate(album, tmp_path, weights, "jobs=8") == 2, "none of them ran"
    assert [job["pictures"] for job in asked] == [1, 1, 1]
    assert [job["overrides"][-2] for job in asked] == ["shard=0/3", "shard=1/3", "shard=2/3"]


def test_a_broken_picture_is_reported_and_the_other_jobs_go_on(album, weights, tmp_path, capsys):
    broken = tmp_path / "album"
    broken.mkdir()
    for name in NAMES:
        (broken / f"{name}.png").write_bytes((album / f"{name}.png").read_bytes())
    (broken / "b.png").write_text("no picture")
    out = tmp_path / "out"
    assert generate(broken, out, weights, "jobs=3") == 1
    assert "b.png" in capsys.readouterr().err
    assert {p.parts[-3] for p in out.rglob("run.json")} == {"a", "c"}
    # the same command makes only what is missing
    (broken / "b.png").write_bytes((album / "b.png").read_bytes())
    before = (out / "a" / "sample-0" / "strip.png").stat().st_mtime_ns
    assert generate(broken, out, weights, "jobs=3") == 0
    assert (out / "a" / "sample-0" / "strip.png").stat().st_mtime_ns == before
    assert (out / "b" / "sample-0" / "strip.png").is_file()


def test_a_job_that_dies_fails_with_its_pictures(album, weights, tmp_path, capsys, monkeypatch):
    def launch(paths, task, out, words):
        task(SimpleNamespace(run=str(paths[0])))  # the second one was killed

    monkeypatch.setattr("mvdiff.config.launcher.run_multirun", launch)
    assert generate(album, tmp_path, weights, "jobs=2") == 1
    assert "job 1-of-2 left no result; the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr("mvdiff.config.launcher.run_multirun", lambda *arguments: None)
    assert generate(album, tmp_path, weights, "jobs=2") == 2


def test_a_killed_worker_is_reported(album, weights, tmp_path, capsys, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)  # workers of another test know no plugin
    plugin = tmp_path / "deadly.py"
    plugin.write_text(
        "import os\nif os.getpid() != int(os.environ['TOY_PARENT']):\n    os._exit(9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TOY_PARENT", str(os.getpid()))
    words = ["jobs=2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "plugins=[deadly]"]
    assert generate(album, tmp_path / "out", weights, *words) == 2
    error = capsys.readouterr().err
    assert "mvdiff: the launcher failed: TerminatedWorkerError" in error
    assert error.count("left no result; the same command goes on") == 2


def test_pictures_that_come_later_do_not_move_the_shares(album, weights, tmp_path, monkeypatch):
    growing = tmp_path / "album"
    growing.mkdir()
    for name in NAMES:
        (growing / f"{name}.png").write_bytes((album / f"{name}.png").read_bytes())

    def launch(paths, task, out, words):
        for path in paths:
            picture().save(growing / f"{len(list(growing.iterdir()))}.png")  # comes first
            task(SimpleNamespace(run=str(path)))

    monkeypatch.setattr("mvdiff.config.launcher.run_multirun", launch)
    assert generate(growing, tmp_path / "out", weights, "jobs=3") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(NAMES)


def test_a_picture_that_goes_before_its_job_fails_alone(
    album, weights, tmp_path, capsys, monkeypatch
):
    shrinking = tmp_path / "album"
    shrinking.mkdir()
    for name in NAMES:
        (shrinking / f"{name}.png").write_bytes((album / f"{name}.png").read_bytes())

    def launch(paths, task, out, words):
        (shrinking / "b.png").unlink()
        for path in paths:
            task(SimpleNamespace(run=str(path)))

    monkeypatch.setattr("mvdiff.config.launcher.run_multirun", launch)
    out = tmp_path / "out"
    assert generate(shrinking, out, weights, "jobs=3") == 1
    assert {p.parts[-3] for p in out.rglob("run.json")} == {"a", "c"}
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mvdiff: ")]
    assert len(errors) == 1
    assert "b.png' (No such file or directory): check the file" in errors[0]


def test_two_commands_may_share_a_folder(album, weights, tmp_path, monkeypatch):
    """The second command finishes while the jobs of the first one wait."""
    codes = []

    def launch(paths, task, out, words):
        if not codes:
            codes.append(None)
            codes.append(generate(album, tmp_path / "out", weights, "jobs=2", "seed=1"))
        for path in paths:
            task(SimpleNamespace(run=str(path)))

    monkeypatch.setattr("mvdiff.config.launcher.run_multirun", launch)
    assert generate(album, tmp_path / "out", weights, "jobs=2") == 0
    assert codes == [None, 0]
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(NAMES)


def test_jobs_whose_files_are_gone_are_reported(album, weights, tmp_path, capsys, monkeypatch):
    def launch(paths, task, out, words):
        paths[0].write_text("{")
        paths[1].unlink()
        for path in paths:
            task(SimpleNamespace(run=str(path)))

    monkeypatch.setattr("mvdiff.config.launcher.run_multirun", launch)
    assert generate(album, tmp_path, weights, "jobs=3") == 1
    error = capsys.readouterr().err
    for number in range(2):
        assert f"job {number}-of-3: '{tmp_path}" in error
        assert f"job {number}-of-3 left no result; the same command goes on" in error


def test_an_error_of_a_job_is_its_own(album, weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(generate_jobs, "run_plans", _refuse)
    assert generate(album, tmp_path, weights, "jobs=2") == 2
    assert capsys.readouterr().err.count("mvdiff: job ") == 2


@pytest.mark.parametrize("error", [MvdiffError("no"), RuntimeError("not enough memory")])
def test_other_jobs_go_on_after_an_error(album, weights, tmp_path, monkeypatch, error):
    whole, asked = generate_jobs.run_plans, []

    def run_plans(config, plans, *, report_errors):
        asked.append(plans)
        if len(asked) == 1:
            raise error
        return whole(config, plans, report_errors=report_errors)

    monkeypatch.setattr(generate_jobs, "run_plans", run_plans)
    assert generate(album, tmp_path, weights, "jobs=2") == 1
    assert [len(plans) for plans in asked] == [2, 1]


def _refuse(*_, **__):
    raise MvdiffError("no")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jobs=0"], "jobs must be a whole number in [1"),
        (["jobs=1.5"], "jobs must be a whole number or null, got 1.5"),
        (["jobs=2", "shard=0/2"], "give jobs or shard, not both"),
        (["hydra/launcher=joblib"], "needs the number of jobs"),
        (["hydra.run.dir=x"], "no use for hydra.run.dir=x"),
        (["jobs=2", "hydra/launcher=nowhere"], "the launcher 'nowhere' is not installed"),
        (["jobs=2", "hydra.launcher.nothing=1"], "Hydra does not accept"),
        (["jobs=2", "samples=0"], "samples must be a whole number in [1"),
    ],
)
def test_words_that_make_no_sense_are_refused_once(album, weights, tmp_path, capsys, words, said):
    assert generate(album, tmp_path / "out", weights, *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not [*tmp_path.rglob("*.json"), *tmp_path.rglob(".jobs*")]
