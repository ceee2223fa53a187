"""`mvdiff convert`: a published checkpoint → safetensors under our names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..config.settings import MISSING, setting
from ..errors import ConfigError, MvdiffError
from .command import Command


@dataclass
class ConvertConfig:
    """`mvdiff convert`."""

    source: str = setting(
        MISSING,
        "SyncDreamer's .ckpt, Zero123's (to initialize training), or CLIP's ViT-L-14.pt",
        path="checkpoint",
    )
    output: str = setting(MISSING, "the .safetensors file to write", path="output")
    precision: str = setting("fp32", "fp32, or fp16 for half the size", choices=("fp32", "fp16"))
    fourth_value_is_polar_angle: Any = setting(
        "auto",
        "true: Zero123's fourth camera value is a polar angle (Stable-Zero123); auto: by file name",
    )


def run(config: ConvertConfig) -> int:
    """Read without executing anything, check every name and shape, write whole or not at all."""
    from .. import builders
    from ..config.compose import compose
    from ..training.checkpointing import save_weights
    from ..weights.convert import convert
    from ..weights.load_model import init_on_meta
    from ..weights.safe_load import read_weights
    from ..weights.zero123 import looks_like_stable_zero123

    source, out = Path(config.source).expanduser(), Path(config.output).expanduser()
    if out.suffix != ".safetensors":
        raise ConfigError(f"weights are written as .safetensors, got output='{out}'")
    polar = config.fourth_value_is_polar_angle
    if polar == "auto":
        polar = looks_like_stable_zero123(source)
    if not isinstance(polar, bool):
        raise ConfigError(f"fourth_value_is_polar_angle must be auto, true or false, got '{polar}'")
    tensors, _ = read_weights(source)
    recipe = compose("generate", ["recipe=syncdreamer", "image=none"])
    try:
        betas = builders.build_training_scheduler(recipe).betas
        model = init_on_meta(lambda: builders.build_model(recipe))
        weights, kind = convert(model, tensors, polar=polar, betas=betas)
    except MvdiffError as error:
        raise type(error)(f"'{source}': {error}") from error
    metadata = {"mvdiff": __version__, "mvdiff_kind": kind, "recipe": "syncdreamer"}
    save_weights(weights, out, metadata, precision=config.precision)
    use = {
        "syncdreamer": f"use it with recipe=syncdreamer weights={out}",
        "zero123": f"start a training with mvdiff train recipe=syncdreamer weights={out}",
        "clip": f"use it beside other weights with clip={out}",
    }[kind]
    if kind == "zero123":
        fourth = "the polar angle, as Stable-Zero123's" if polar else "zero, as Zero123's"
        use += f"; its 4th camera value was taken to be {fourth} (fourth_value_is_polar_angle=…)"
    print(f"{kind}: {len(weights)} tensors → {out} ({out.stat().st_size / 1e6:.1f} MB); {use}")
    return 0


COMMAND = Command(
    name="convert",
    summary="a published checkpoint → a .safetensors file for weights=FILE",
    description="A published checkpoint → one .safetensors file that mvdiff reads fast and safely.",
    config=ConvertConfig,
    run=run,
    examples=(
        "mvdiff convert source=syncdreamer-pretrain.ckpt output=syncdreamer.safetensors "
        "precision=fp16",
        "mvdiff convert source=zero123-xl.ckpt output=zero123.safetensors",
    ),
)
