"""Config → wired parts, one explicit function a part; `build_training.py` is its other half."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from typing import TYPE_CHECKING, Any

from .construct import construct, plain, registered
from .errors import MvdiffError

if TYPE_CHECKING:
    from .cameras.camera import Cameras
    from .denoiser.joint import MultiViewDenoiser
    from .pipeline import Model, Sampler
    from .training.objective import Objective

#: sampler name → diffusers class; schedulers are variants by configuration
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddim-published": "PublishedDDIM",
    "ddpm": "DDPMScheduler",
    "dpmpp": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}

#: slot → its parameters' prefixes, and the variant of published checkpoints
PUBLISHED = {
    "attention": (("unet.slots.",), "depthwise"),
    "volume": (("volume.",), "concat"),
    "radiance": (("radiance.", "radiance_stem."), "none"),
}


def rig(config: Any) -> Cameras:
    """Target cameras at the recipe's picture size."""
    from .cameras.rigs import RIGS

    return construct(RIGS, config.rig, size=config.size)


def scheduler(config: Any) -> Any:
    """The diffusers scheduler for `sampler` on the `noise` schedule."""
    import diffusers

    from . import schedulers
    from .inputs.latents import LATENTS

    name = config.sampler.name
    if name not in SCHEDULERS:
        raise MvdiffError(f"unknown sampler '{name}'; choose from {', '.join(sorted(SCHEDULERS))}")
    variant = getattr(diffusers, SCHEDULERS[name], None) or getattr(schedulers, SCHEDULERS[name])
    options = plain(config.sampler.get("options") or {})
    parameters = inspect.signature(variant.__init__).parameters
    unknown = [key for key in options if key not in parameters or key in ("self", "kwargs")]
    if unknown:
        choices = ", ".join(sorted(set(parameters) - {"self", "kwargs"}))
        raise MvdiffError(
            f"unknown sampler.options.{unknown[0]} for '{name}'; choose from {choices}"
        )
    settings = {**plain(config.noise), **options}
    kinds = ("epsilon", "sample", "v_prediction")
    kind = settings.setdefault("prediction_type", "epsilon")
    if kind not in kinds:
        raise MvdiffError(f"unknown noise.prediction_type '{kind}'; choose from {', '.join(kinds)}")
    if "clip_sample" in parameters:
        # where latents are bounded, the predicted clean picture is kept in range
        bound = registered(LATENTS, config.latents.name).clip
        settings |= {"clip_sample": bound is not None, "clip_sample_range": bound or 1.0}
    try:
        # not `from_config`, which imports every scheduler of diffusers to look for compatible ones
        return variant(**{k: v for k, v in settings.items() if k in parameters})
    except (TypeError, ValueError, NotImplementedError) as error:
        raise MvdiffError(f"sampler '{name}' cannot be set up like this: {error}") from error


def sampler(config: Any) -> Sampler:
    """Scheduler, steps and guidance as the config says."""
    from .denoiser.guidance import read_interval
    from .pipeline import Sampler

    scheduler(config)  # a bad setting is told now, not at the first step
    steps, most = config.sampler.steps, config.noise.num_train_timesteps
    if not 1 <= steps <= most:
        raise MvdiffError(f"sampler.steps must lie in [1, {most}], got {steps}")
    scale, eta = config.guidance.scale, config.sampler.eta
    if not (math.isfinite(scale) and math.isfinite(eta)):
        raise MvdiffError(
            f"guidance.scale and sampler.eta must be finite numbers, got {scale} and {eta}"
        )
    interval = read_interval(plain(config.guidance.get("interval")))
    return Sampler(
        functools.partial(scheduler, config), steps, eta, guidance=scale, interval=interval
    )


def swapped(config: Any) -> list[str]:
    """Prefixes of the parts that published checkpoints have no weights for."""
    changed = [parts for slot, (parts, name) in PUBLISHED.items() if config[slot].name != name]
    return [part for parts in changed for part in parts]


def training_scheduler(config: Any) -> Any:
    """The noise schedule alone, for adding noise in training."""
    from diffusers import DDPMScheduler

    parameters = inspect.signature(DDPMScheduler.__init__).parameters
    return DDPMScheduler(**{k: v for k, v in plain(config.noise).items() if k in parameters})


def model(config: Any) -> MultiViewDenoiser:
    """The denoiser with all its parts, freshly initialised."""
    from .denoiser.joint import MultiViewDenoiser
    from .inputs.embed import EMBEDDERS
    from .inputs.latents import LATENTS
    from .volumes import VOLUMES

    cameras = rig(config)
    sizes = config.sizes
    latents = construct(LATENTS, config.latents)
    volume = construct(
        VOLUMES,
        config.volume,
        latent_channels=latents.channels,
        views=len(cameras),
        time_dim=sizes.time_dim,
    )
    levels = [2 ** (len(config.unet.get("mults", [1])) - 1), *volume.frustum_channels]
    coarsest = latents.factor * max(levels)
    if config.size % coarsest:
        raise MvdiffError(
            f"size must be a multiple of {coarsest} for these latents and parts, got {config.size}"
        )

    backbone = unet(config, latents, volume)
    return MultiViewDenoiser(
        rig=cameras,
        latents=latents,
        embedder=construct(EMBEDDERS, config.embedder),
        volume=volume,
        unet=backbone,
        context_dim=sizes.context_dim,
        time_dim=sizes.time_dim,
        radiance=radiance(config, latents, volume),
        residual=config.noise.get("prediction_type") == "sample",
    )


def radiance(config: Any, latents: Any, volume: Any) -> Any:
    """The radiance field, or None for `radiance=none` and where no volume is there to render."""
    if config.radiance.name == "none" or not volume.channels:
        return None
    from .radiance import RADIANCE

    return construct(RADIANCE, config.radiance, latents=latents, channels=volume.channels)


def unet(config: Any, latents: Any, volume: Any) -> Any:
    """The UNet with its slots, or None for `unet=none`."""
    if config.unet.get("name") == "none":
        return None
    from .attention import ATTENTION, SlotSpec
    from .denoiser.unet import SlotUNet

    sizes = config.sizes

    def slot(name: str, channels: int, factor: int) -> Any:
        spec = SlotSpec(channels, factor, volume.frustum_channels, sizes.time_dim)
        return construct(ATTENTION, config.attention, slot=spec)

    return SlotUNet(
        inputs=2 * latents.channels,  # noisy view beside the input picture
        outputs=latents.channels,
        context_dim=sizes.context_dim,
        make_slot=slot,
        **plain(config.unet),
    )


def objective(config: Any) -> Objective:
    """The training objective of the recipe."""
    from .training.objective import Objective

    train, count = config.train, len(rig(config))
    if not 1 <= train.views <= count:
        raise MvdiffError(f"train.views must lie in [1, {count}], got {train.views}")
    return Objective(
        scheduler=training_scheduler(config),
        views=train.views,
        time_power=train.time_power,
        drop=plain(train.drop),
        posterior=train.posterior,
        rendering=train.rendering,
        scheduled_sampling=train.scheduled_sampling,
        volume_views=_volume_views(config, train.views, count),
    )


def _volume_views(config: Any, least: int, most: int) -> tuple[int, int] | None:
    """`train.volume_views`, checked; null where the volume is built from the whole rig."""
    from .volumes import VOLUMES

    given = plain(config.train.get("volume_views"))
    if given is None:
        return None
    if not registered(VOLUMES, config.volume.name).any_views:
        raise MvdiffError(
            f"volume '{config.volume.name}' is bound to all {most} views of the rig: use "
            "train.volume_views=null, or volume=meanvar"
        )
    whole = isinstance(given, list) and [type(n) for n in given] == [int, int]
    if not (whole and least <= given[0] <= given[1] <= most):
        raise MvdiffError(
            f"train.volume_views must be [fewest,most] within [{least}, {most}] (train.views to "
            f"the rig's cameras), got {given}"
        )
    return given[0], given[1]


def reconstructor(config: Any) -> Any:
    """The reconstructor, or None for `reconstructor=none`."""
    if config.reconstructor.name == "none":
        return None
    from .recon import RECONSTRUCTORS

    return construct(RECONSTRUCTORS, config.reconstructor)


def foreground(config: Any) -> Any:
    """The function that finds the object in a photo."""
    from .inputs.foreground import FOREGROUND

    return construct(FOREGROUND, config.foreground)


def framing(config: Any) -> Any:
    """The function that frames a cut-out photo; recipes without a choice fit by `fill`."""
    from .inputs.framing import framing as make

    name = config.get("framing", "fit")
    return make(name, fill=config.fill, crop_size=config.get("crop_size"))


def device(name: str) -> Any:
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
        raise MvdiffError(
            f"device '{name}' is not available here ({reason}): use device=auto or device=cpu"
        ) from error
    return chosen


def pipeline(config: Any) -> Model:
    """The recipe with its weights, ready to generate."""
    from .cameras.rigs import is_ring
    from .checkpoints.open import open_model
    from .denoiser.compiled import check_mode, compile_unet
    from .denoiser.precision import lower
    from .pipeline import Model
    from .utils.precision import describe_precision, has_native_bfloat16, resolve_precision

    check_mode(config.compile)
    target = device(config.device)
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
    frame = framing(config)
    denoiser = open_model(
        lambda: lower(model(config), precision),
        config.weights,
        config.recipe_name,
        betas=training_scheduler(config).betas,
        clip=config.get("clip"),
        swapped=swapped(config),
    )
    if not denoiser.volume.any_views and not is_ring(denoiser.rig):
        warnings.warn(
            f"volume '{config.volume.name}' learned an even ring of cameras, and rig "
            f"'{config.rig.name}' is none: expect poor views, or use weights trained with "
            "volume=meanvar",
            stacklevel=2,
        )
    if config.guidance.scale != 1 and not any(config.train.drop.values()):
        warnings.warn(
            f"recipe '{config.recipe_name}' never learned to answer without its condition "
            f"(train.drop is 0), and guidance.scale={config.guidance.scale} compares with such "
            "answers: expect worse pictures than with guidance=none",
            stacklevel=2,
        )
    denoiser = denoiser.to(target).eval().requires_grad_(False)
    compile_unet(denoiser, config.compile)
    return Model(
        denoiser=denoiser,
        sampler=sampler(config),
        foreground=foreground(config),
        framing=frame,
        precision=precision,
        config=config,
    )
