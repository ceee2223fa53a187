"""The denoiser and its parts, from a config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config.instantiate import instantiate, to_container
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..cameras.camera import Cameras
    from ..denoiser.multiview_denoiser import MultiViewDenoiser

#: family of published files → component → (its parameters' prefixes, the variant in those files)
PUBLISHED = {
    "syncdreamer": {
        "attention": (("unet.slots.",), "depthwise"),
        "volume": (("volume.",), "concat"),
        "radiance": (("radiance.", "radiance_stem."), "none"),
        "pose": (("pose.",), "token"),
    },
    "imagedream": {
        "attention": (("unet.slots.",), "joint"),
        "volume": (("volume.",), "none"),
        "radiance": (("radiance.", "radiance_stem."), "none"),
        "pose": (("pose.",), "camera_matrix"),
    },
    "mvdream": {
        "attention": (("unet.slots.",), "joint"),
        "volume": (("volume.",), "none"),
        "radiance": (("radiance.", "radiance_stem."), "none"),
        "pose": (("pose.",), "camera_matrix"),
    },
    "zero123": {
        "attention": (("unet.slots.",), "none"),
        "volume": (("volume.",), "none"),
        "radiance": (("radiance.", "radiance_stem."), "none"),
        "pose": (("pose.",), "token"),
    },
    "epidiff": {
        "attention": (("unet.slots.",), "epidiff"),
        "volume": (("volume.",), "none"),
        "radiance": (("radiance.", "radiance_stem."), "none"),
        "pose": (("pose.",), "token"),
    },
}


def build_rig(config: Any) -> Cameras:
    """Target cameras at the recipe's picture size."""
    from ..cameras.rigs import RIGS

    return instantiate(RIGS, config.rig, size=config.size)


def build_model(config: Any) -> MultiViewDenoiser:
    """The denoiser with all its parts, freshly initialised."""
    from ..denoiser.embedders import EMBEDDERS
    from ..denoiser.multiview_denoiser import MultiViewDenoiser
    from ..denoiser.pose import POSES
    from ..latents.autoencoders import LATENTS
    from ..volumes import VOLUMES

    cameras = build_rig(config)
    sizes = config.sizes
    latents = instantiate(LATENTS, config.latents)
    volume = instantiate(
        VOLUMES,
        config.volume,
        latent_channels=latents.channels,
        views=len(cameras),
        time_dim=sizes.time_dim,
    )
    levels = [2 ** (len(config.unet.get("mults", [1])) - 1), *volume.frustum_channels]
    coarsest = latents.factor * max(levels)
    if config.size % coarsest:
        raise ConfigError(
            f"size must be a multiple of {coarsest} for these latents and parts, got {config.size}"
        )

    embedder = instantiate(EMBEDDERS, config.embedder)
    context = build_context(config, embedder)
    backbone = build_unet(
        config, latents, volume, image_tokens=bool(context and context.image_tokens)
    )
    return MultiViewDenoiser(
        rig=cameras,
        latents=latents,
        embedder=embedder,
        volume=volume,
        unet=backbone,
        context_dim=sizes.context_dim,
        time_dim=sizes.time_dim,
        radiance=build_radiance(config, latents, volume),
        pose=instantiate(POSES, config.pose, time_dim=unet_time_dim(config)),
        residual=config.noise.get("prediction_type") == "sample",
        context=context,
        reference=config.reference,
    )


def build_context(config: Any, embedder: Any) -> Any:
    """What the cross-attention reads, or None for `context=token`, the denoiser's own."""
    if config.context.name == "token":
        return None
    from ..denoiser.context import CONTEXTS

    return instantiate(
        CONTEXTS, config.context, embedder_dim=embedder.dim, context_dim=config.sizes.context_dim
    )


def build_radiance(config: Any, latents: Any, volume: Any) -> Any:
    """The radiance field, or None for `radiance=none` and where no volume is there to render."""
    if config.radiance.name == "none" or not volume.channels:
        return None
    from ..radiance import RADIANCE

    return instantiate(RADIANCE, config.radiance, latents=latents, channels=volume.channels)


def build_unet(config: Any, latents: Any, volume: Any, *, image_tokens: bool = False) -> Any:
    """The UNet with its slots, or None for `unet=none`.

    image_tokens: whether its cross-attention has keys and values for image tokens.
    """
    if config.unet.get("name") == "none":
        return None
    from ..attention import ATTENTION, SlotSpec
    from ..denoiser.unet import MultiViewUNet, SiteSpec

    sizes = config.sizes
    time_dim = unet_time_dim(config)

    def slot(site: SiteSpec) -> Any:
        spec = SlotSpec(
            site.channels,
            site.factor,
            volume.frustum_channels,
            sizes.time_dim,
            heads=site.heads,
            place=site.place,
            residual=config.family != "epidiff",  # use_residual of its released configuration
            unet_time_dim=time_dim,
        )
        return instantiate(ATTENTION, config.attention, slot=spec)

    # without an exchange of views there is nothing to put into the transformers
    place = "after" if config.attention.name == "none" else config.place
    settings = to_container(config.unet)
    inside = settings.pop("transformer_slots", ["all"])
    if place not in ("after", "within"):
        settings["slots"] = inside
    return MultiViewUNet(
        # a noisy view, and the input picture's latent where it is concatenated
        inputs=(2 if config.reference == "concat" else 1) * latents.channels,
        outputs=latents.channels,
        context_dim=sizes.context_dim,
        make_slot=slot,
        place=place,
        image_tokens=image_tokens,
        **settings,
    )


def unet_time_dim(config: Any) -> int:
    """Size of the UNet's embedding of the noise level."""
    return config.unet.get("time_dim") or 4 * config.unet.get("width", 1)


def swapped_prefixes(config: Any) -> list[str]:
    """Prefixes of the parts that published checkpoints have no weights for."""
    parts = PUBLISHED[config.family].items()
    changed = [prefixes for slot, (prefixes, name) in parts if config[slot].name != name]
    return [prefix for prefixes in changed for prefix in prefixes]
