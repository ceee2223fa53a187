"""examples/add_an_attention, installed by pip and used from the command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiny_recipe import TOY, picture

EXAMPLE = Path(__file__).parents[2] / "examples" / "add_an_attention"
CHOSEN = ["plugins=[view_mean]", "attention=view-mean", "attention.hidden=8"]

COMMANDS = """
import json, sys
from mvdiff.cli.main import main
for command in json.loads(sys.argv[1]):
    if code := main(command):
        sys.exit(f"{command[0]} ended with {code}")
import view_mean
print(view_mean.__file__)
"""


def run(*command: str, **environment: str) -> str:
    """Standard output of a command; fails with its errors."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Where pip installed the example."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, folder / "source")  # building leaves files beside the source
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *offline]
    run(*pip, "--target", str(folder / "site"), str(folder / "source"))
    return folder / "site"


def test_the_whole_package_has_less_than_forty_lines():
    kinds = (".py", ".yaml", ".toml")
    files = [p for p in EXAMPLE.rglob("*") if p.suffix in kinds and "build" not in p.parts]
    assert len(files) == 3
    assert sum(len(p.read_text().splitlines()) for p in files) < 40


def test_pip_installs_the_class_and_its_yaml(site):
    assert (site / "view_mean" / "__init__.py").is_file()
    assert (site / "view_mean" / "conf" / "attention" / "view-mean.yaml").is_file()


def test_it_trains_and_generates_from_the_command_line(site, tmp_path):
    picture().save(tmp_path / "disc.png")
    sizes = [o for o in TOY if not o.startswith(("sampler", "rig"))]
    data, out, weights = tmp_path / "data", tmp_path / "run", tmp_path / "w.safetensors"
    commands = [
        ["list", "plugins=[view_mean]"],
        ["render", "num_shapes=2", "size=32", "workers=1", f"out={data}"],
        ["train", f"data={data}", f"out={out}", *sizes, *CHOSEN, "train.steps=2",
         "train.batch_size=2", "validate_every=0", "tensorboard=false", "device=cpu",
         "train.precision=fp32"],
        ["export", f"run_dir={out}", f"out={weights}"],
        ["generate", f"image={tmp_path / 'disc.png'}", "elevation=20", f"weights={weights}",
         f"out={tmp_path / 'out'}", *sizes, *CHOSEN, "sampler.steps=2", "reconstructor=none",
         "turntable=false", "device=cpu"],
    ]  # fmt: skip
    printed = run(sys.executable, "-c", COMMANDS, json.dumps(commands), PYTHONPATH=str(site))
    assert "Every view sees the mean of all views." in printed
    assert printed.splitlines()[-1] == str(site / "view_mean" / "__init__.py")
    sample = tmp_path / "out" / "disc" / "sample-0"
    assert len(list((sample / "views").glob("*.png"))) == 16
    recorded = json.loads((sample / "run.json").read_text())["config"]["attention"]
    assert recorded == {"name": "view-mean", "hidden": 8}

    from safetensors import safe_open

    with safe_open(weights, "pt") as file:
        learned = file.get_tensor("unet.slots.mid.write.weight")
    assert learned.shape[1] == 8
    assert learned.any(), "two steps of training should have opened the zero-initialized way out"
