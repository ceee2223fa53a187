"""`mvdiff ablate` from end to end: what it leaves, what it repeats, what it survives."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from helpers.toy_sweep import WORDS
from PIL import Image
from safetensors.torch import load_file

from mvdiff.ablation import scoring
from mvdiff.cli.main import main
from mvdiff.metrics import Lpips
from mvdiff.training.trainer import Trainer

SWEEP = ["attention=none,depthwise", "seeds=0,1", "budget.steps=4"]
QUICK = ["objects=1", "samples=1"]


def results(out: Path) -> dict[str, dict]:
    found = sorted(out.glob("runs/*/result.json"))
    return {path.parent.name: json.loads(path.read_text()) for path in found}


def one(out: Path, pattern: str) -> Path:
    """The only file that fits."""
    (path,) = out.glob(pattern)
    return path


def table(out: Path, heading: str) -> dict[str, dict[str, str]]:
    """A table of table.md: {row: {column: cell}}."""
    section = (out / "table.md").read_text().split(f"## {heading}\n\n")[1].split("\n\n")[0]
    lines = [[c.strip() for c in line.strip("|").split("|")] for line in section.splitlines()]
    return {row[0]: dict(zip(lines[0], row, strict=True)) for row in lines[2:]}


def load_pixels(path: Path) -> dict[str, np.ndarray]:
    """By object: (view, 3, height, width), 8 bit."""
    return scoring.load_views(path)


@pytest.mark.slow
def test_sweeps_poses(ablate, bare, tmp_path) -> None:
    poses = ["sincos", "plucker", "cape", "prope"]
    words = ["attention=joint", "attention.heads=2", "volume=none", "radiance=none"]
    words += ["train.num_input_images=[1]", "seeds=0", "budget.steps=1", *QUICK]
    assert ablate(tmp_path, f"pose={','.join(poses)}", *words) == 0
    assert set(table(tmp_path, "Quality")) >= {f"pose={pose}" for pose in poses}


def test_leaves_every_file_of_the_report(swept: Path) -> None:
    assert len(results(swept)) == 4
    content = json.loads((swept / "results.json").read_text())
    assert [v["name"] for v in content["variants"]] == ["attention=none", "attention=depthwise"]
    assert content["settings"]["budget"] == {"steps": 4}
    run = content["variants"][1]["runs"][1]
    assert (run["seed"], run["config"]["attention"]["name"]) == (1, "depthwise")
    assert run["training"]["recorded_steps"] == run["training"]["steps"] == 4
    assert {"torch", "mvdiff"} <= set(run["versions"])


def test_every_variant_is_drawn_in_the_plot_and_named(swept: Path) -> None:
    with Image.open(swept / "quality-cost.png") as plot:
        colors = {color: count for count, color in plot.convert("RGB").getcolors(1 << 24)}
    # matplotlib's first two colors; a mark is about 14 pixels wide, each panel has one, and so
    # has the legend
    for color in ((31, 119, 180), (255, 127, 14)):
        assert colors[color] > 5 * 100


def test_the_pdf_shows_every_variant(swept: Path) -> None:
    content = (swept / "quality-cost.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    # the largest compressed stream is the page; "r g b rg" sets the color to fill with
    packed = re.findall(rb"/FlateDecode.*?stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
    page = max((zlib.decompress(stream) for stream in packed), key=len).decode("latin-1")
    fills = set(re.findall(r"([\d.]+) ([\d.]+) ([\d.]+) rg\b", page))
    colors = {tuple(round(255 * float(share)) for share in color) for color in fills}
    assert {(31, 119, 180), (255, 127, 14)} <= colors


def test_the_sheet_shows_photo_truth_and_every_variants_views(swept: Path) -> None:
    (truth_file,) = swept.glob("controls/*/truth.npz")
    truth = load_pixels(truth_file)
    photos = load_pixels(truth_file.with_name("photos.npz"))
    made = [
        load_pixels(one(swept, f"runs/attention={name}-seed0-*/views.npz"))
        for name in ("none", "depthwise")
    ]
    with Image.open(swept / "objects.png") as image:
        sheet = np.asarray(image.convert("RGB")).astype(float)
    # squares of 112 pixels with 6 between them; labels at the left and on top, a margin around
    margin, side, step = 28, 112, 118
    left = sheet.shape[1] - margin - (4 * step - 6)
    top = sheet.shape[0] - margin - (8 * step - 6)
    for row, (name, view) in enumerate((name, view) for name in truth for view in range(4)):
        columns = [truth[name][view], *(views[name][view] for views in made)]
        if view == 0:
            columns.insert(0, photos[name][0])
        for column, pixels in enumerate(columns, 4 - len(columns)):
            y, x = top + row * step, left + column * step
            shown = sheet[y : y + side, x : x + side].reshape(8, 14, 8, 14, 3).mean(axis=(1, 3))
            expected = pixels.transpose(1, 2, 0).reshape(8, 2, 8, 2, 3).mean(axis=(1, 3))
            assert np.abs(shown - expected)[1:-1, 1:-1].mean() < 3


def test_the_table_holds_the_runs_own_numbers(swept: Path) -> None:
    rows, costs = table(swept, "Quality"), table(swept, "Cost")
    for name in ("none", "depthwise"):
        runs = [r for f, r in results(swept).items() if f.startswith(f"attention={name}-")]
        psnr = [fmean(o["psnr"] for o in r["objects"].values()) for r in runs]
        assert psnr == pytest.approx([r["figures"]["psnr"] for r in runs])
        row = rows[f"attention={name}"]
        spread = abs(psnr[0] - psnr[1]) / 2**0.5
        assert row["PSNR (dB) ↑"] == f"{sum(psnr) / 2:.2f} ± {spread:.2f}"
        assert row["n"] == "2"
        parameters = runs[0]["step"]["parameters"]
        assert costs[f"attention={name}"]["parameters (M)"] == f"{parameters / 1e6:.2f}"
    flops = {n: r["step"]["flops"] for n, r in results(swept).items()}
    assert min(v for n, v in flops.items() if "depthwise" in n) > max(
        v for n, v in flops.items() if "none" in n
    )


def test_floor_and_controls_stand_below_the_variants(swept: Path) -> None:
    rows = table(swept, "Quality")
    assert list(rows)[2:] == [
        "*truth*", "*truth, shifted*", "*truth, rolled*", "*truth, tinted*", "*copy of the input*",
    ]  # fmt: skip
    assert rows["*truth*"]["PSNR (dB) ↑"] == "–"  # compared with itself it would say nothing
    iou = {name: float(row["hull IoU ↑"].split(" ")[0]) for name, row in rows.items()}
    assert iou["*truth*"] > iou["*truth, shifted*"]
    assert 10 < float(rows["*truth, tinted*"]["PSNR (dB) ↑"]) < 60
    assert len(list(swept.glob("controls/*"))) == 1


def test_all_variants_see_the_same_objects(swept: Path) -> None:
    assert {tuple(r["objects"]) for r in results(swept).values()} == {("ball6", "ball8")}
    assert len({r["controls"] for r in results(swept).values()}) == 1


def test_the_saved_pictures_are_those_that_were_scored(swept: Path) -> None:
    key = next(iter(results(swept).values()))["controls"]
    truth = scoring.load_views(swept / "controls" / key / "truth.npz")
    for folder, result in results(swept).items():
        made = scoring.load_views(swept / "runs" / folder / "views.npz")
        for name, figures in result["objects"].items():
            error = ((made[name] / 255.0 - truth[name] / 255.0) ** 2).reshape(4, -1).mean(axis=1)
            assert (-10 * np.log10(error)).mean() == pytest.approx(figures["psnr"], abs=0.02)


@pytest.mark.usefixtures("bare")
def test_a_second_time_nothing_is_done_again(swept: Path, ablate, tmp_path, capsys) -> None:
    out = tmp_path / "again"
    shutil.copytree(swept, out)
    before = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/*")}
    assert ablate(out, *SWEEP) == 0
    assert "4 of 4 runs are done already" in capsys.readouterr().out
    after = {p: p.stat().st_mtime_ns for p in before}
    assert {p.name for p in before if before[p] != after[p]} == {"run.json"}


@pytest.mark.slow
@pytest.mark.usefixtures("bare")
def test_more_seeds_and_other_settings_add_runs(swept: Path, ablate, tmp_path, capsys) -> None:
    out = tmp_path / "more"
    shutil.copytree(swept, out)
    assert ablate(out, "attention=none,depthwise", "seeds=2", "budget.steps=4") == 0
    assert len(results(out)) == 6
    assert table(out, "Quality")["attention=none"]["n"] == "3"
    # another setting: its own runs, and a table without the ones it cannot be compared with
    assert ablate(out, "attention=none", "seeds=0", "budget.steps=4", "train.lr=1e-3") == 0
    assert len(results(out)) == 7
    assert next(iter(table(out, "Quality"))) == "default"
    assert table(out, "Quality")["default"]["n"] == "1"


@pytest.mark.usefixtures("bare")
def test_other_objects_are_scored_without_training_again(swept, ablate, tmp_path) -> None:
    out = tmp_path / "objects"
    shutil.copytree(swept, out)
    changed = one(out, "runs/attention=none-seed0-*/result.json")
    spent = changed.with_name("spent.json").read_text()
    # a part that is fixed makes no variant, yet the same settings are the same run
    assert ablate(out, "attention=none", "seeds=0", "budget.steps=4", "objects=3") == 0
    assert len(list(out.glob("runs/*"))) == 4
    assert list(table(out, "Quality"))[:1] == ["default"]
    assert set(json.loads(changed.read_text())["objects"]) == {"ball6", "ball7", "ball8"}
    assert changed.with_name("spent.json").read_text() == spent


def test_weights_bring_a_column_of_lpips_without_training_again(
    swept, ablate, tmp_path, monkeypatch
) -> None:
    class Distance(Lpips):
        def __init__(self):
            torch.nn.Module.__init__(self)

        def forward(self, pred, truth):
            return (pred - truth).abs().mean(dim=(1, 2, 3))

    asked = []
    monkeypatch.setattr(Lpips, "load", lambda files: asked.append(files) or Distance())
    monkeypatch.setattr("mvdiff.ablation.plots.write_plots", lambda out, rows: [])
    out = tmp_path / "perceptual"
    shutil.copytree(swept, out)
    changed = one(out, "runs/attention=none-seed0-*/result.json")
    spent = changed.with_name("spent.json").read_text()
    (tmp_path / "vgg.pth").touch()
    words = ["attention=none", "seeds=0", "budget.steps=4", f"lpips={tmp_path / 'vgg.pth'}"]
    assert ablate(out, *words) == 0
    rows = table(out, "Quality")
    assert float(rows["default"]["LPIPS ↓"]) > 0.01
    assert float(rows["*copy of the input*"]["LPIPS ↓"]) > 0.01
    assert changed.with_name("spent.json").read_text() == spent
    assert asked[0] == [str(tmp_path / "vgg.pth")]
    monkeypatch.setattr(Lpips, "load", lambda files: pytest.fail("scored again"))
    assert main(["ablate", f"report={out}"]) == 0


@pytest.mark.usefixtures("bare")
def test_a_failing_variant_is_reported_and_the_others_finish(ablate, tmp_path, capsys) -> None:
    variants = "variants={three: {rig.count: 3}, good: {attention: none}}"
    assert ablate(tmp_path, variants, "seeds=0", "budget.steps=2", *QUICK) == 1
    captured = capsys.readouterr()
    why = "the recipe wants 3 views of 16²"
    assert f"mvdiff: three, seed 0 failed: {why}" in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert f"- three, seed 0: {why}" in (tmp_path / "table.md").read_text()
    assert table(tmp_path, "Quality")["good"]["n"] == "1"
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["variants"][0]["failed"]["0"].startswith(why)
    assert main(["ablate", f"report={tmp_path}"]) == 1


LONG = ["attention=none", "seeds=0", "budget.steps=24", "checkpoint_every=3", *QUICK]


@pytest.fixture(scope="module")
def whole(ablate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted."""
    out = tmp_path_factory.mktemp("whole")
    assert ablate(out, *LONG) == 0
    return out


@pytest.mark.usefixtures("bare")
def test_ctrl_c_leaves_a_run_that_goes_on_exactly(
    ablate, whole, tmp_path, monkeypatch, capsys
) -> None:
    update = Trainer.update

    def interrupted(self, batches):
        loss = update(self, batches)
        if self.out.name != "unused" and self.step == 7:  # that is where steps are timed
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", interrupted)
        assert ablate(tmp_path, *LONG) == 130
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1].startswith("mvdiff: interrupted; the same command")
    assert not results(tmp_path)
    assert ablate(tmp_path, *LONG) == 0
    assert same_weights(whole, tmp_path, 24)
    assert figures(whole) == figures(tmp_path)
    stretches = json.loads(one(tmp_path, "runs/*/spent.json").read_text())
    assert [(s["from"], s["to"]) for s in stretches] == [(0, 7), (7, 24)]


@pytest.mark.usefixtures("bare")
def test_a_killed_run_goes_on_exactly(ablate, whole, balls: Path, tmp_path) -> None:
    command = [sys.executable, "-m", "mvdiff", "ablate", f"data={balls}", *WORDS, f"out={tmp_path}"]
    process = subprocess.Popen([*command, *LONG], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not list(tmp_path.glob("runs/*/checkpoints/step-*/state.json")):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert not results(tmp_path)
    assert ablate(tmp_path, *LONG) == 0
    assert same_weights(whole, tmp_path, 24)
    assert figures(whole) == figures(tmp_path)


def same_weights(a: Path, b: Path, step: int) -> bool:
    pattern = f"runs/*/checkpoints/step-{step:08d}/ema.safetensors"
    first, second = (load_file(one(out, pattern)) for out in (a, b))
    assert first.keys() == second.keys()
    return all(bool((first[name] == second[name]).all()) for name in first)


def figures(out: Path) -> list[dict[str, float]]:
    return [result["figures"] for result in results(out).values()]


@pytest.mark.slow
@pytest.mark.usefixtures("bare")
def test_a_budget_of_seconds_becomes_steps_once(ablate, tmp_path) -> None:
    words = ["attention=none", "seeds=0", "budget.cpu_seconds=0.4", *QUICK]
    assert ablate(tmp_path, *words) == 0
    costs = json.loads(one(tmp_path, "runs/*/costs.json").read_text())
    steps = costs["budget_steps"]
    assert steps == max(1, int(0.4 / costs["cpu_seconds"]))
    path = one(tmp_path, "runs/*/result.json")
    assert json.loads(path.read_text())["training"]["steps"] == steps
    state = one(tmp_path, f"runs/*/checkpoints/step-{steps:08d}/state.json")
    assert json.loads(state.read_text())["settings"]["steps"] == steps  # the schedule's, too
    path.unlink()  # once more: timed afresh it would hardly be the same number
    assert ablate(tmp_path, *words) == 0
    assert json.loads(path.read_text())["training"]["steps"] == steps


def test_the_report_alone_can_be_made_again(swept: Path, tmp_path, capsys, monkeypatch) -> None:
    out = tmp_path / "report"
    shutil.copytree(swept, out)
    before = (out / "table.md").read_text()
    for name in ("table.md", "results.json", "objects.png", "quality-cost.png"):
        (out / name).unlink()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["ablate", f"report={out}"]) == 0
    captured = capsys.readouterr()
    assert "pip install 'mvdiff[ablate]'" in captured.err
    assert (out / "table.md").read_text() == before
    assert (out / "objects.png").is_file()
    assert not (out / "quality-cost.png").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["attention=none,deepwise"], "unknown attention 'deepwise'; choose from"),
        (["depth=1,2"], "unknown setting 'depth'"),
        (["seeds=0,one"], "seeds must be a list of whole numbers, got [0, 'one']"),
        (["seeds=-1"], "seeds must be a whole number in [0"),
        (["seed=3"], "write seeds=0,1"),
        (["train.steps=10,20"], "write budget.steps=N"),
        (["objects=2,4"], "'objects' cannot be changed by a sweep"),
        (["lpips=nowhere.pth"], "no LPIPS weights at 'nowhere.pth'"),
        (["objects=0"], "objects must be a whole number in [1"),
        (["train.lr=interval(0,1)"], "is no list of values: write train.lr=a,b"),
        (["attention=glob(x*)"], "no value fits"),
        (["variants=nowhere.yaml"], "no file of variants at 'nowhere.yaml'"),
        (["variants={a: 3}"], "variants must name settings"),
        (["variants={a: {seed: 3}}"], "'seed' cannot be changed in the variant 'a'"),
        (["budget.seconds=10"], "got budget.steps and budget.seconds"),
        (["hydra/launcher=nowhere"], "the launcher 'nowhere' is not installed (there are: basic"),
        (["hydra.launcher.n_jobs=2"], "Hydra does not accept hydra.launcher.n_jobs=2"),
    ],
)
def test_wrong_words_are_refused_in_one_sentence(ablate, tmp_path, capsys, words, sentence) -> None:
    assert ablate(tmp_path, "budget.steps=2", *words) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("mvdiff: ")


def test_missing_words_are_refused_in_one_sentence(balls: Path, tmp_path, capsys) -> None:
    out = f"out={tmp_path}"
    for words, sentence in (
        (["budget.steps=2", out], "mvdiff ablate needs data=…"),
        (["budget.steps=2", out, "data=nowhere"], "no data at 'nowhere'"),
        ([f"data={balls}", out, *WORDS], "budget.cpu_seconds=N; got none"),
        ([f"data={balls}", out, *WORDS, "budget.steps=0.5"], "budget.steps must be a whole number"),
        (
            [f"data={balls}", out, *WORDS, "budget.seconds=-1"],
            "seconds must be a number above 0",
        ),
        ([f"report={tmp_path}/none"], "no sweep in"),
    ):
        assert main(["ablate", *words]) == 2, words
        assert sentence in capsys.readouterr().err
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.slow
def test_joblib_runs_jobs_side_by_side(ablate, swept, tmp_path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs mvdiff[joblib]")
    out = tmp_path / "joblib"
    shutil.copytree(swept, out)
    # one run of each variant is left to do, and each goes to a process of its own
    for path in out.glob("runs/*-seed1-*"):
        shutil.rmtree(path)
    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert ablate(out, *SWEEP, *words) == 0
    assert results(out).keys() == results(swept).keys()
    for name, result in results(swept).items():
        assert results(out)[name]["figures"]["psnr"] == result["figures"]["psnr"]


@pytest.mark.parametrize(
    ("device", "axis"), [("cpu (x, 2 cores)", "CPU s a step"), ("NVIDIA H200", "s a step")]
)
def test_plots_show_the_time_of_the_device(swept, tmp_path, monkeypatch, device, axis) -> None:
    from matplotlib import pyplot

    from mvdiff.ablation.plots import write_plots
    from mvdiff.ablation.report import collect

    shown = []
    monkeypatch.setattr(pyplot, "close", shown.append)
    rows = collect(swept, json.loads((swept / "sweep.json").read_text()))
    for row in rows:
        for result in row.results.values():
            result["device"] = device
    write_plots(tmp_path, rows)
    first = shown[0].axes[0]
    assert first.get_xlabel() == axis
    # two variants, each with its runs and their mean
    seconds = "step.cpu_seconds" if device.startswith("cpu") else "step.seconds"
    drawn = [points.get_offsets().tolist() for points in first.collections]
    for row, runs, (mean,) in zip(rows, drawn[::2], drawn[1::2], strict=True):
        cost, quality = fmean(row.values(seconds)), row.values("figures.psnr")
        assert mean == pytest.approx([cost, fmean(quality)])
        assert runs == [pytest.approx([cost, psnr]) for psnr in quality]
