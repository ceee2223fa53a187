"""Which share of the work is this process's: `shard=0/4`, or a launcher's processes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..errors import ConfigError

#: Processes that are done wait this long for the others: as good as forever.
_BARRIER_TIMEOUT = timedelta(days=365)


@dataclass(frozen=True)
class Shard:
    """Every `count`-th item from `index` on.

    processes: that a launcher (accelerate, torchrun) started beside each other, this one among
        them; each has a share of its own.
    """

    index: int
    count: int
    processes: int = 1

    @staticmethod
    def parse(shard: Any) -> Shard:
        """From the setting `shard` ("0/4": the first of four; or None), split between processes.

        Raises ConfigError when it is not of that form.
        """
        index, count = 0, 1
        if shard is not None:
            match = re.fullmatch(r"(\d+)/(\d+)", str(shard))
            index, count = map(int, match.groups()) if match else (0, 0)
            if index >= count:
                raise ConfigError(
                    f"shard must be i/n with i from 0 to n - 1 (0/4, 1/4, 2/4, 3/4), got '{shard}'"
                )
        rank, processes = _rank_and_world_size()
        return Shard(index * processes + rank, count * processes, processes)

    def all_reduce_sum(self, numbers: list[int]) -> list[int]:
        """The sums over the launched processes, once all of them have come this far.

        A launcher ends all its processes when one of them fails, so none may leave with an
        error before the others are done.
        """
        if self.processes == 1:
            return numbers
        import torch
        from torch import distributed

        distributed.init_process_group("gloo", timeout=_BARRIER_TIMEOUT)
        try:
            total = torch.tensor(numbers)
            distributed.all_reduce(total)
        finally:
            distributed.destroy_process_group()
        return total.tolist()


def _rank_and_world_size() -> tuple[int, int]:
    """This process's number and how many a launcher started (the variables that torch reads)."""
    try:
        rank, count = (int(os.environ.get(k, d)) for k, d in (("RANK", "0"), ("WORLD_SIZE", "1")))
    except ValueError:
        return 0, 1
    return (rank, count) if 0 <= rank < count else (0, 1)


def set_local_device() -> None:
    """Under a launcher, this process's own GPU becomes the one that "cuda" means."""
    import torch

    if _rank_and_world_size()[1] > 1 and torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK", "0"))
        torch.cuda.set_device(local % torch.cuda.device_count())
