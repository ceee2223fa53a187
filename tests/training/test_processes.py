"""Real processes: a killed run resumes, and two processes give the result of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = """
import os, sys, time
from pathlib import Path
import torch
from helpers.toy_training import Noise, copy_photo, denoise, toy
from helpers.short_training import train_with

out, objective, pause = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])

def slow(model, batch, generator):
    time.sleep(pause)
    print(f"share of {len(batch)}")
    return {"denoise": denoise, "copy": copy_photo}[objective](model, batch, generator)

if __name__ == "__main__":
    train_with(
        toy(dropout=0.1 if objective == "denoise" else 0.0), slow, Noise(), out=out, steps=12,
        batch_size=4, lr=1e-2, warmup=3, log_every=5, checkpoint_every=3, tensorboard=False,
        device="cpu", validate=lambda model, step: ({"psnr": 1.0}, {}), validate_every=6,
    )
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def python(*arguments: object, env: dict[str, str]) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def figures(out: Path) -> list[dict]:
    timings = ("seconds_per_step", "samples_per_second")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in timings} for line in lines]


def weights(out: Path, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(out / f"checkpoints/step-00000012/{name}.safetensors")


def test_a_killed_run_goes_on_bit_for_bit(
    tmp_path: Path, script: Path, child_env: dict[str, str]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    python(script, whole, "denoise", 0, env=child_env)

    child = subprocess.Popen(
        [sys.executable, str(script), str(cut), "denoise", "0.3"],
        env=child_env,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not (cut / "checkpoints/step-00000006").exists():
            assert child.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (cut / "checkpoints/step-00000012").exists()

    assert "resuming from" in python(script, cut, "denoise", 0, env=child_env)
    after = [line for line in figures(whole) if line["step"] > 6]
    assert [line for line in figures(cut) if line["step"] > 6] == after
    assert len(after) == 3, "two log lines and a validation"
    for name in ("model", "ema"):
        ours, theirs = weights(cut, name), weights(whole, name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


TORCHRUN = "torch.distributed.run --standalone --nproc_per_node 2"
# --multi_gpu is its word for several processes; they are on the CPU if the script says so
ACCELERATE = "accelerate.commands.launch --multi_gpu --num_machines 1 --num_processes 2"
SLOW = pytest.mark.slow
ACCELERATE += " --mixed_precision no --dynamo_backend no --main_process_port 0"


@pytest.mark.parametrize(
    "launcher",
    [pytest.param(TORCHRUN, id="torchrun"), pytest.param(ACCELERATE, id="accelerate", marks=SLOW)],
)
def test_two_processes_equal_one(
    tmp_path: Path, script: Path, child_env: dict[str, str], launcher: str
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    python(script, one, "copy", 0, env=child_env)
    said = python("-m", *launcher.split(), script, two, "copy", 0, env=child_env)
    assert said.count("share of 2") == 24, "two processes, half a batch each"
    assert said.count("finished: 12 steps") == 1, "only the main process speaks"
    mine, theirs = figures(one), figures(two)
    assert [line["step"] for line in mine] == [line["step"] for line in theirs]
    for a, b in zip(mine, theirs, strict=True):
        assert (a.pop("kind", None), set(a)) == (b.pop("kind", None), set(b))
        assert a == pytest.approx(b, rel=0, abs=1e-5)
    for name in ("model", "ema"):
        expected, got = weights(one, name), weights(two, name)
        for key in expected:
            torch.testing.assert_close(got[key], expected[key], rtol=0, atol=1e-5)
