"""`mvdiff convert`: a published checkpoint → safetensors under our names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import __version__, builders
from ..errors import MvdiffError


def run(config: Any) -> int:
    """Read without executing anything, check every name and shape, write whole or not at all."""
    from ..config.compose import compose
    from ..training.checkpointing import save_weights
    from ..weights.convert import convert, names_polar
    from ..weights.load_model import init_on_meta
    from ..weights.safe_load import read_weights

    source, out = Path(config["in"]).expanduser(), Path(config.out).expanduser()
    if out.suffix != ".safetensors":
        raise MvdiffError(f"weights are written as .safetensors, got out='{out}'")
    if config.precision not in ("fp32", "fp16"):
        raise MvdiffError(f"precision must be fp32 or fp16, got '{config.precision}'")
    polar = config.polar
    if polar == "auto":
        polar = names_polar(source)
    if not isinstance(polar, bool):
        raise MvdiffError(f"polar must be auto, true or false, got '{polar}'")
    tensors, _ = read_weights(source)
    recipe = compose("generate", ["recipe=syncdreamer", "image=none"])
    try:
        betas = builders.build_training_scheduler(recipe).betas
        model = init_on_meta(lambda: builders.build_model(recipe))
        weights, kind = convert(model, tensors, polar=polar, betas=betas)
    except MvdiffError as error:
        raise MvdiffError(f"'{source}': {error}") from error
    metadata = {"mvdiff": __version__, "mvdiff_kind": kind, "recipe": "syncdreamer"}
    save_weights(weights, out, metadata, precision=config.precision)
    use = {
        "syncdreamer": f"use it with recipe=syncdreamer checkpoint={out}",
        "zero123": f"start a training with mvdiff train recipe=syncdreamer weights={out}",
        "clip": f"use it beside a checkpoint with clip={out}",
    }[kind]
    if kind == "zero123":
        fourth = "the polar angle, as Stable-Zero123's" if polar else "zero, as Zero123's"
        use += f"; its 4th camera value was taken to be {fourth} (polar=…)"
    print(f"{kind}: {len(weights)} tensors → {out} ({out.stat().st_size / 1e6:.1f} MB); {use}")
    return 0
