"""What a training run is made of: data, loss, parameter groups, encoders; from a config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config.instantiate import lookup, to_container
from ..errors import ConfigError
from .model import build_rig
from .sampler import build_training_scheduler

if TYPE_CHECKING:
    from ..data.augment import Augment
    from ..data.dataset import MultiViewDataset
    from ..data.latent_cache import FrozenEncoders
    from ..denoiser.multiview_denoiser import MultiViewDenoiser
    from ..training.loss import MultiViewDiffusionLoss


def build_loss(config: Any) -> MultiViewDiffusionLoss:
    """The training objective of the recipe."""
    from ..training.loss import MultiViewDiffusionLoss

    train, count = config.train, len(build_rig(config))
    if not 1 <= train.views <= count:
        raise ConfigError(f"train.views must lie in [1, {count}], got {train.views}")
    return MultiViewDiffusionLoss(
        scheduler=build_training_scheduler(config),
        views=train.views,
        time_power=train.timestep_bias,
        drop=to_container(train.condition_dropout),
        posterior=train.posterior,
        rendering=train.rendering_weight,
        opacity_entropy=train.opacity_entropy,
        scheduled_sampling=train.scheduled_sampling,
        volume_views=_volume_views(config, train.views, count),
    )


def _volume_views(config: Any, least: int, most: int) -> tuple[int, int] | None:
    """`train.volume_views`, checked; null where the volume is built from the whole rig."""
    from ..volumes import VOLUMES

    given = to_container(config.train.get("volume_views"))
    if given is None:
        return None
    if not lookup(VOLUMES, config.volume.name).any_views:
        raise ConfigError(
            f"volume '{config.volume.name}' is bound to all {most} views of the rig: use "
            "train.volume_views=null, or volume=meanvar"
        )
    whole = isinstance(given, list) and [type(n) for n in given] == [int, int]
    if not (whole and least <= given[0] <= given[1] <= most):
        raise ConfigError(
            f"train.volume_views must be [fewest,most] within [{least}, {most}] (train.views to "
            f"the rig's cameras), got {given}"
        )
    return given[0], given[1]


def _check_reached(model: MultiViewDenoiser) -> None:
    """The volume reaches the loss by attention or by rendering, or not at all."""
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    if model.unet is None or model.radiance is not None or list(model.unet.slots.parameters()):
        return
    if all(name.startswith(("volume.", "time.")) for name in trained):
        raise ConfigError(
            "attention=none leaves nothing to train, for the UNet is frozen and nothing else sees "
            "the volume: choose another attention, or train the UNet, too (train.groups=[])"
        )


def build_param_groups(config: Any, model: MultiViewDenoiser) -> list[dict[str, Any]] | None:
    """The optimizer's groups; freezes what none of them names. None: all is trained alike."""
    from ..training.param_groups import make_param_groups

    if config.train.groups:
        groups = make_param_groups(
            model, to_container(config.train.groups), config.train.weight_decay
        )
        _check_reached(model)
        return groups
    # pictures are encoded without gradient, so an autoencoder is never trained along
    model.latents.requires_grad_(False)
    return None


def load_training_data(config: Any, root: Any, split: str) -> MultiViewDataset:
    """The objects at `root`, in our layout or the published one; ConfigError unless they fit."""
    from ..cameras.rigs import is_ring
    from ..data.dataset import RenderedDataset
    from ..data.render.cameras import check_cameras
    from ..data.syncdreamer import SyncDreamerDataset, is_published
    from ..data.view_subset import ViewSubset

    root, cameras = to_container(root), build_rig(config)
    if not is_ring(cameras):
        raise ConfigError(
            f"training turns its objects, so it needs an even ring of cameras, and rig "
            f"'{config.rig.name}' is none: train with rig=ring, then generate with any rig"
        )
    if isinstance(root, str) and is_published(root):
        return SyncDreamerDataset(root, cameras)
    check_cameras(root, cameras, config.rig.name)
    data: MultiViewDataset = RenderedDataset(root, split=split)
    if data.view_count % len(cameras) == 0:  # 8 of 16 views on an even ring are one, too
        data = ViewSubset(data, len(cameras))
    if data.view_count != len(cameras) or data.size != config.size:
        raise ConfigError(
            f"the recipe wants {len(cameras)} views of {config.size}², '{root}' has "
            f"{data.view_count} of {data.size}²: render it again with those"
        )
    return data


def build_augment(config: Any) -> Augment:
    """How training objects are changed."""
    from ..data.augment import Augment

    return Augment(**to_container(config.train.augment))


def input_image_counts(config: Any) -> list[int]:
    """Numbers of input images per object; each step draws one of the numbers."""
    counts = to_container(config.train.num_input_images)
    if not isinstance(counts, list) or any(type(n) is not int for n in counts):
        raise ConfigError(f"train.num_input_images must be a list of whole numbers, got {counts}")
    if max(counts, default=1) > 1 and not config.volume.get("photo_features"):
        raise ConfigError(
            "train.num_input_images has several input images per object, but volume "
            f"'{config.volume.name}' does not use them: set sizes.photo_features, or "
            "train.num_input_images=[1]"
        )
    return counts


def build_encoders(config: Any, model: MultiViewDenoiser, device: Any) -> FrozenEncoders | str:
    """The frozen networks whose answers can be kept; or why there are none."""
    from ..data.latent_cache import FrozenEncoders
    from ..weights.initialize import sha256_of

    if not hasattr(model.latents, "posterior"):
        return f"latents '{config.latents.name}' need no network"
    if any(p.requires_grad for p in model.embedder.parameters()):
        return "the embedder is trained, so its answers change"
    if not build_augment(config).rotation_only:
        return "train.augment changes the pictures each time (all but roll must be off)"
    if max(input_image_counts(config)) > 1:
        return "train.num_input_images uses several images per object, but only one is cached"
    latents, embedder = model.latents.to(device).eval(), model.embedder.to(device).eval()
    parts = {f"latents.{n}": p for n, p in latents.named_parameters()}
    parts |= {f"embedder.{n}": p for n, p in embedder.named_parameters()}
    return FrozenEncoders(latents.posterior, embedder, sha256_of(parts), device)
