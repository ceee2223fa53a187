"""Pages of mapped files are released, and their content is kept."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mvdiff.utils.mmap import cast_mapped, release_pages

MB = 2**20


def resident(tensor: torch.Tensor) -> float:
    """MB in memory of the mapping in which a tensor lies, whatever else the process holds."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= tensor.data_ptr() < int(bounds[2], 16)
        elif inside and line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the tensor lies in no mapping")


@pytest.fixture
def mapped(tmp_path):
    """32 MB of a file, mapped, and the same numbers in memory."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", tmp_path], capture_output=True, text=True)
    if kind.stdout.strip() in ("tmpfs", "ramfs"):
        pytest.skip("files in memory have no disk that their pages could be read from again")
    numbers = torch.arange(8 * MB, dtype=torch.float32)
    torch.save({"x": numbers}, tmp_path / "x.ckpt")
    return torch.load(tmp_path / "x.ckpt", mmap=True, weights_only=True)["x"], numbers


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages of Linux")


@linux
def test_a_files_pages_leave_memory_and_come_back(mapped):
    tensor, numbers = mapped
    assert torch.equal(tensor, numbers)
    assert resident(tensor) > 31.9
    release_pages(tensor)
    assert resident(tensor) < 8  # huge pages (2 MB) at the ends may be kept
    assert torch.equal(tensor, numbers)
    assert resident(tensor) > 31.9


@linux
def test_numbers_in_memory_of_their_own_and_changed_ones_stay(mapped):
    tensor, numbers = mapped
    tensor[::1000] += 1
    changed = numbers.clone()
    changed[::1000] += 1
    part = nn.Linear(300, 300)
    weight = part.weight.detach().clone()
    small = torch.ones(3)
    release_pages(part, tensor, numbers, small, torch.ones(64, 64).T)
    assert torch.equal(part.weight, weight)
    assert torch.equal(tensor, changed)
    assert torch.equal(numbers, torch.arange(8 * MB, dtype=torch.float32))
    assert torch.equal(small, torch.ones(3))


@linux
def test_a_cast_keeps_no_page_of_the_file(mapped):
    tensor, numbers = mapped
    like = torch.empty(len(tensor), dtype=torch.bfloat16, device="meta")
    half = cast_mapped(tensor, like)
    assert resident(tensor) < 8
    assert torch.equal(half, numbers.to(torch.bfloat16))
    assert cast_mapped(half, like) is half


def test_a_cast_takes_the_layout_too():
    tensor = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    like = torch.empty(tensor.shape, device="meta").to(memory_format=torch.channels_last)
    last = cast_mapped(tensor, like)
    assert last.stride() == like.stride()
    assert torch.equal(last, tensor)
    assert cast_mapped(tensor, torch.empty(tensor.shape, device="meta")) is tensor
