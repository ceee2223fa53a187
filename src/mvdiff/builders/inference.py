"""The pipeline ready to generate, and the parts around the network, from a config."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from ..config.instantiate import instantiate
from ..errors import ConfigError
from .model import build_model, swapped_prefixes
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


#: family → (views, lowest and highest elevation in degrees) that its weights learned: the readme
#: and the SDS configurations of MVDream and ImageDream
LEARNED_VIEWS = {"mvdream": (4, 0.0, 30.0), "imagedream": (4, 0.0, 30.0)}


def check_rig(config: Any, denoiser: Any) -> None:
    """ConfigError for cameras that the recipe's network cannot tell apart; a warning for those
    that its published weights never saw.
    """
    import torch

    from ..cameras.rigs import is_ring, to_spherical

    rig = denoiser.rig
    _, elevation, distance = to_spherical(rig)
    if config.pose.name == "camera_matrix" and float(distance.max() / distance.min()) > 1.001:
        raise ConfigError(
            f"rig '{config.rig.name}' has cameras at several distances ({distance.min():.2f} to "
            f"{distance.max():.2f}), and pose=camera_matrix reads directions alone: give all views "
            "one distance"
        )
    if not denoiser.volume.any_views and not is_ring(rig):
        warnings.warn(
            f"volume '{config.volume.name}' was trained on a uniform camera ring, but rig "
            f"'{config.rig.name}' is not one: expect poor views, or use weights trained with "
            "volume=meanvar",
            stacklevel=3,
        )
    if config.family == "epidiff":
        _check_epidiff_rig(config, rig)
    if config.family not in LEARNED_VIEWS:
        return
    count, low, high = LEARNED_VIEWS[config.family]
    degrees = torch.rad2deg(elevation)
    beyond = float(degrees.min()) < low - 0.1 or float(degrees.max()) > high + 0.1
    if len(rig) != count or beyond:
        warnings.warn(
            f"the published weights of recipe '{config.recipe_name}' learned {count} views at "
            f"elevations from {low:.0f}° to {high:.0f}°, the rig has {len(rig)} at "
            f"{degrees.min():.0f}° to {degrees.max():.0f}°: expect worse views",
            stacklevel=3,
        )


def _check_epidiff_rig(config: Any, rig: Any) -> None:
    """Raise ConfigError for cameras that EpiDiff cannot serve; warn of those it never saw."""
    from ..cameras.rigs import epidiff, to_spherical

    name, near = config.rig.name, config.attention.get("near", 0.5)
    far = config.attention.get("far", 2.8)
    if len(rig) < 2 or rig.projection != "perspective":
        raise ConfigError(
            f"recipe '{config.recipe_name}' needs at least 2 perspective cameras, got {len(rig)} "
            f"{rig.projection}: use rig=epidiff, or recipe=zero123 for single views"
        )
    distance = to_spherical(rig)[2]
    if float(distance.min()) <= near or float(distance.max()) >= far:
        raise ConfigError(
            f"recipe '{config.recipe_name}' looks along its rays from {near} to {far} world units, "
            f"but rig '{name}' has cameras at distances from {float(distance.min()):g} to "
            f"{float(distance.max()):g} of the object: use rig.distance=1.5, which it learned"
        )
    learned = epidiff(size=config.size)
    same = len(rig) == len(learned) and _same(rig.w2c, learned.w2c)
    if not (same and _same(rig.K, learned.K)):
        warnings.warn(
            f"EpiDiff was trained on the 16 cameras of rig=epidiff alone, and rig '{name}' has "
            "others: expect poor views",
            stacklevel=4,
        )


def _same(a: Any, b: Any) -> bool:
    """Whether two tensors of cameras agree to a thousandth."""
    import torch

    return torch.allclose(a, b, atol=1e-3)


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
