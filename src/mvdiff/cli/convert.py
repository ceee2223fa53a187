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
        "SyncDreamer's .ckpt, Zero123's (to initialize training), MVDream's or ImageDream's .pt, "
        "or CLIP's ViT-L-14.pt",
        path="checkpoint",
    )
    output: str = setting(MISSING, "the .safetensors file to write", path="output")
    precision: str = setting("fp32", "fp32, or fp16 for half the size", choices=("fp32", "fp16"))
    fourth_value_is_polar_angle: Any = setting(
        "auto",
        "true: Zero123's fourth camera value is a polar angle (Stable-Zero123); auto: by file name",
    )
    prompts: list[str] = setting(
        [],
        "MVDream, ImageDream: texts whose embeddings are stored, to generate from without a "
        "text tower",
    )
    text_tower: bool = setting(
        False, "MVDream, ImageDream: keep the text tower (1.4 GB), for any other prompt"
    )
    tokenizer: str | None = setting(
        None,
        "CLIP's tokenizer for prompts, a folder with vocab.json and merges.txt",
        path="tokenizer",
    )


def run(config: ConvertConfig) -> int:
    """Read without executing anything, check every name and shape, write whole or not at all."""
    from .. import builders
    from ..config.compose import compose
    from ..training.checkpointing import save_weights
    from ..weights.convert import convert
    from ..weights.epidiff import is_epidiff
    from ..weights.load_model import init_on_meta
    from ..weights.mvdream import recipe_of
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
    if recipe_of(tensors) is not None:
        return convert_text_model(config, tensors, out)
    if config.prompts or config.text_tower:
        raise ConfigError(
            f"'{source}' is no model that reads texts: leave out prompts and text_tower"
        )
    name = "epidiff" if is_epidiff(tensors) else "syncdreamer"
    recipe = compose("generate", [f"recipe={name}", "image=none"])
    try:
        betas = builders.build_training_scheduler(recipe).betas
        model = init_on_meta(lambda: builders.build_model(recipe))
        weights, kind = convert(model, tensors, polar=polar, betas=betas)
    except MvdiffError as error:
        raise type(error)(f"'{source}': {error}") from error
    metadata = {"mvdiff": __version__, "mvdiff_kind": kind, "recipe": name}
    save_weights(weights, out, metadata, precision=config.precision)
    use = {
        "epidiff": f"use it with recipe=epidiff weights={out}",
        "syncdreamer": f"use it with recipe=syncdreamer weights={out}",
        "zero123": f"start a training with mvdiff train recipe=syncdreamer weights={out}",
        "clip": f"use it beside other weights with clip={out}",
    }[kind]
    if kind == "zero123":
        fourth = "the polar angle, as Stable-Zero123's" if polar else "zero, as Zero123's"
        use += f"; its 4th camera value was taken to be {fourth} (fourth_value_is_polar_angle=…)"
    print(f"{kind}: {len(weights)} tensors → {out} ({out.stat().st_size / 1e6:.1f} MB); {use}")
    return 0


def convert_text_model(config: ConvertConfig, tensors: dict[str, Any], out: Path) -> int:
    """MVDream's or ImageDream's file, with the embeddings of its constant texts."""
    from .. import builders
    from ..config.compose import compose
    from ..training.checkpointing import save_weights
    from ..weights.load_model import init_on_meta
    from ..weights.mvdream import convert_to_file, looks_local, recipe_of

    source = Path(config.source).expanduser()
    name = recipe_of(tensors)
    if name == "imagedream" and looks_local(source):
        name = "imagedream_local"
    recipe = compose("generate", [f"recipe={name}", "image=none"])
    try:
        weights, header = convert_to_file(
            init_on_meta(lambda: builders.build_model(recipe)),
            tensors,
            recipe.family,
            prompts=list(config.prompts),
            suffix=recipe.prompt_suffix,
            keep_tower=config.text_tower,
            tokenizer=config.tokenizer,
        )
    except MvdiffError as error:
        raise type(error)(f"'{source}': {error}") from error
    metadata = {"mvdiff": __version__, "mvdiff_kind": recipe.family, "recipe": name, **header}
    save_weights(weights, out, metadata, precision=config.precision)
    kept = "with its text tower" if config.text_tower else "without its text tower"
    print(
        f"{recipe.family}: {len(weights)} tensors → {out} ({out.stat().st_size / 1e6:.1f} MB), "
        f"{kept}; use it with recipe={name} weights={out}"
    )
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
        "mvdiff convert source=sd-v2.1-base-4view-ipmv.pt output=imagedream.safetensors",
        "mvdiff convert source=sd-v2.1-base-4view.pt output=mvdream.safetensors "
        "prompts=['an astronaut'] tokenizer=tokenizer",
    ),
)
