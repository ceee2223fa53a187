"""`mvdiff export`: a training run's averaged weights → one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import __version__, builders
from ..errors import MvdiffError

#: Settings that say where things lay on this machine: nobody else's business.
PLACES = ("data", "val_data", "out", "weights", "cache", "resume")


def run(config: Any) -> int:
    """Write the newest readable checkpoint's EMA weights with what made them in the header.

    Weights that the run kept frozen are taken from the file it started from.
    """
    from ..training.checkpointing import (
        CheckpointManager,
        first_loadable,
        read_average,
        save_weights,
    )

    out = Path(config.out)
    if out.suffix != ".safetensors":
        raise MvdiffError(f"weights are written as .safetensors, got out='{out}'")
    newest_first = CheckpointManager(config.run).all()[::-1]
    read = first_loadable(newest_first, read_average, print)
    if read is None:
        raise MvdiffError(f"no checkpoint in '{config.run}': train there first, mvdiff train")
    weights, state = read
    metadata = {
        "mvdiff": __version__,
        "step": str(state["step"]),
        "config": json.dumps({k: v for k, v in state.get("config", {}).items() if k not in PLACES}),
    }
    if state.get("base"):
        weights |= _frozen(state, weights, config.weights or state["base"]["weights"])
    save_weights(weights, out, metadata, precision=config.precision)
    print(f"step {state['step']} of '{config.run}' → {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0


def _frozen(state: dict[str, Any], trained: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """What the checkpoint lacks, from where the run took it; MvdiffError if that has changed."""
    from omegaconf import OmegaConf

    from ..weights.initialize import init_for_training, sha256_of

    recipe = OmegaConf.create(state["config"])
    model = init_for_training(
        lambda: builders.build_model(recipe),
        path,
        recipe.recipe_name,
        swapped=builders.swapped_prefixes(recipe),
    ).model
    rest = {n: p.detach() for n, p in model.named_parameters() if n not in trained}
    if sha256_of(rest) != state["base"]["sha256"]:
        raise MvdiffError(
            f"'{path}' does not hold the frozen weights this run was trained upon: pass the file "
            "it started from as weights="
        )
    return rest
