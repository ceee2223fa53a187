"""Where a benchmark's figures come from."""

from __future__ import annotations

import subprocess
from typing import Any

import torch

from mvdiff.generation.writer import versions


def origin(device: str = "cpu") -> dict[str, Any]:
    """Versions, device, threads and commit, for the record of a run."""
    git = ["git", "describe", "--always", "--dirty"]
    return {
        "versions": versions(),
        "device": "cpu" if device == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
    }
