"""Running out of memory: what it looks like, and going on with fewer views at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, torch's allocator on the CPU or CUDA had no memory left."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate" in text)
    )


class AdaptiveChunk:
    """How many views the UNet takes at a time; halved whenever memory runs out.

    count: at first. splits: whether fewer are possible at all (attention that needs all views
        at once takes no fewer).
    """

    def __init__(self, count: int, *, splits: bool = True) -> None:
        self.count, self.splits = count, splits

    def fit(self, call: Callable[[int], T]) -> T:
        """`call(count)`, again with half as many views as long as memory runs out.

        A warning says so each time. Raises the last error when one view is still too much.
        """
        while True:
            try:
                return call(self.count)
            except (MemoryError, RuntimeError) as error:
                if not self.splits or self.count == 1 or not is_out_of_memory(error):
                    raise
            # out of the handler: the error's traceback holds the failed call's tensors
            _release()
            self.count //= 2
            warnings.warn(
                f"not enough memory: going on with batch_views={self.count}, the same result in "
                "smaller parts",
                stacklevel=2,
            )


def _release() -> None:
    """Give memory that torch keeps for later back to the device."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
