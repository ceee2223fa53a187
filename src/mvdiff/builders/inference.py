"""The pipeline ready to generate, and the parts around the network, from a config."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ..config.instantiate import instantiate
from ..errors import ConfigError
from .model import build_model, swapped_prefixes
from .rig_checks import check_rig
from .sampler import build_sampler, build_training_scheduler

if TYPE_CHECKING:
    from ..pipeline import MultiViewPipeline


def build_reconstructor(config: Any) -> Any:
    """The reconstructor, or None for `reconstructor=none`."""
    if config.reconstructor.name == "none":
        return None
    from ..recon import RECONSTRUCTORS

    return instantiate(RECONSTRUCTORS, config.reconstructor)


def build_segmenter(config: Any) -> Any:
    """The function that finds the object in a photo."""
    from ..preprocessing.segmentation import SEGMENTERS

    return instantiate(SEGMENTERS, config.segmentation)


def build_framing(config: Any) -> Any:
    """The function that frames a segmented image."""
    from ..preprocessing.framing import framing

    return framing(config.framing, fill=config.object_fill, crop_size=config.crop_size)


def resolve_device(name: str) -> Any:
    """The torch device of a config's `device`; "auto" takes a GPU when there is one."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        # torch lists all backends and operators; the first few words say what is missing
        reason = str(error).splitlines()[0].split(". ")[0][:80]
        raise ConfigError(
            f"device '{name}' is not available here ({reason}): use device=auto or device=cpu"
        ) from error
    return chosen


def build_pipeline(config: Any) -> MultiViewPipeline:
    """The recipe with its weights, ready to generate."""
    from ..denoiser.compilation import check_mode, compile_unet
    from ..denoiser.precision import cast_weights
    from ..pipeline import MultiViewPipeline
    from ..utils.precision import describe_precision, has_native_bfloat16, resolve_precision
    from ..weights.load_model import load_pretrained

    check_mode(config.compile)
    target = resolve_device(config.device)
    precision = resolve_precision(config.precision, target)
    if config.precision == "auto":
        chosen = describe_precision(precision, target)
        warnings.warn(f"precision=auto: {chosen}", stacklevel=2)
    elif precision != "fp32" and target.type == "cpu" and not has_native_bfloat16(target):
        warnings.warn(
            f"precision={precision} is very slow on this CPU, which has no native bfloat16 or "
            "float16: use precision=fp32, or auto",
            stacklevel=2,
        )
    elif precision == "fp16" and target.type == "cpu":
        warnings.warn(
            "precision=fp16 is very slow on a CPU: use bf16 or fp32 here, or auto", stacklevel=2
        )
    frame = build_framing(config)
    denoiser = load_pretrained(
        lambda: cast_weights(build_model(config), precision),
        config.weights,
        config.recipe_name,
        betas=build_training_scheduler(config).betas,
        clip=config.clip,
        swapped=swapped_prefixes(config),
        family=config.family,
        base=config.base,
        tokenizer=config.tokenizer,
    )
    check_rig(config, denoiser)
    if config.guidance.scale != 1 and not any(config.train.condition_dropout.values()):
        warnings.warn(
            f"recipe '{config.recipe_name}' was trained without condition dropout "
            "(train.condition_dropout is 0), so classifier-free guidance "
            f"(guidance.scale={config.guidance.scale}) is not meaningful: use guidance=none",
            stacklevel=2,
        )
    denoiser = denoiser.to(target).eval().requires_grad_(False)
    compile_unet(denoiser, config.compile)
    return MultiViewPipeline(
        denoiser=denoiser,
        sampler=build_sampler(config),
        segmenter=build_segmenter(config),
        framing=frame,
        precision=precision,
        config=config,
    )
