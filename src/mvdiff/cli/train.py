"""`mvdiff train`: train a recipe on rendered objects."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ..builders.training_run import build_training, resolved_precision, run_training
from ..utils.files import exclusive_lock


def run(config: Any) -> int:
    """Train as the config says; goes on from a checkpoint in `out`."""
    from ..training.checkpointing import resume_candidates
    from ..training.distributed import place
    from ..utils.precision import describe_precision

    main = place(config.device)[0] == 0
    with exclusive_lock(Path(config.out)) if main else nullcontext():
        resume_candidates(config.out, config.resume)  # a wrong word is told before the long work
        if main and config.train.precision == "auto":
            chosen = resolved_precision(config)
            print(f"precision=auto: {describe_precision(chosen, place(config.device)[2])}")
        return 130 if run_training(config, build_training(config)).interrupted else 0
