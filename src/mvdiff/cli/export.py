"""`mvdiff export`: a training run's averaged weights → one safetensors file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..config.settings import MISSING, setting
from ..errors import ConfigError, InputError, WeightsError
from .command import Command

if TYPE_CHECKING:
    from torch import Tensor

#: settings that describe this machine, therefore dropped
_MACHINE_KEYS = ("data", "val_data", "out", "weights", "latent_cache", "resume")


@dataclass
class ExportConfig:
    """`mvdiff export`."""

    run_dir: str = setting(MISSING, "the folder given to mvdiff train as out", path="training run")
    out: str = setting(MISSING, "the file to write", path="output")
    weights: str | None = setting(
        None,
        "the frozen weights that the run started from, if the file has moved since",
        path="weights",
    )
    precision: str = setting(
        "bf16",
        "bf16, fp16 or fp32; loading converts to fp32",
        choices=("bf16", "fp16", "fp32"),
    )
    plugins: list[str] = setting([], "packages that register the variants of the run")


def run(config: ExportConfig) -> int:
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
        raise ConfigError(f"weights are written as .safetensors, got out='{out}'")
    newest_first = CheckpointManager(config.run_dir).all()[::-1]
    read = first_loadable(newest_first, read_average, print)
    if read is None:
        raise InputError(f"no checkpoint in '{config.run_dir}': train there first, mvdiff train")
    weights, state = read
    metadata = {
        "mvdiff": __version__,
        "step": str(state["step"]),
        "config": json.dumps(
            {k: v for k, v in state.get("config", {}).items() if k not in _MACHINE_KEYS}
        ),
    }
    if state.get("base"):
        weights |= _frozen(state, weights, config.weights or state["base"]["weights"])
    save_weights(weights, out, metadata, precision=config.precision)
    print(f"step {state['step']} of '{config.run_dir}' → {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0


def _frozen(state: dict[str, Any], trained: dict[str, Tensor], path: str) -> dict[str, Tensor]:
    """The frozen parameters, from the file the run started from; WeightsError if it has changed."""
    from omegaconf import OmegaConf

    from .. import builders
    from ..weights.initialize import init_for_training, sha256_of, zero_unread

    recipe = OmegaConf.create(state["config"])
    start = init_for_training(
        lambda: builders.build_model(recipe),
        path,
        recipe.recipe_name,
        swapped=builders.swapped_prefixes(recipe),
        family=recipe.family,
    )
    model = start.model
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    zero_unread(model, start.untrained)
    frozen = {n: p.detach() for n, p in model.named_parameters() if n not in trained}
    if sha256_of(frozen) != state["base"]["sha256"]:
        raise WeightsError(
            f"'{path}' does not hold the frozen weights this run was trained upon: pass the file "
            "it started from as weights="
        )
    return frozen


COMMAND = Command(
    name="export",
    summary="a training run → a .safetensors file for weights=FILE",
    description="The averaged weights of a training run → one .safetensors file for weights=FILE.",
    config=ExportConfig,
    run=run,
    examples=("mvdiff export run_dir=runs/first out=first.safetensors",),
)
