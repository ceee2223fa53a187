"""The part of `build.py` that only training needs: data, parameter groups, encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .build import plain, rig
from .errors import MvdiffError

if TYPE_CHECKING:
    from .data.augment import Augment
    from .data.dataset import ObjectSet
    from .data.encoded import Encoders
    from .denoiser.joint import MultiViewDenoiser


def _check_reached(model: MultiViewDenoiser) -> None:
    """The volume reaches the loss by attention or by rendering, or not at all."""
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    if model.unet is None or model.radiance is not None or list(model.unet.slots.parameters()):
        return
    if all(name.startswith(("volume.", "time.")) for name in trained):
        raise MvdiffError(
            "attention=none leaves nothing to train, for the UNet is frozen and nothing else sees "
            "the volume: choose another attention, or train the UNet, too (train.groups=[])"
        )


def param_groups(config: Any, model: MultiViewDenoiser) -> list[dict[str, Any]] | None:
    """The optimizer's groups; freezes what none of them names. None: all is trained alike."""
    from .training.groups import freeze_others

    if config.train.groups:
        groups = freeze_others(model, plain(config.train.groups), config.train.weight_decay)
        _check_reached(model)
        return groups
    # pictures are encoded without gradient, so an autoencoder is never trained along
    model.latents.requires_grad_(False)
    return None


def training_data(config: Any, root: Any, split: str) -> ObjectSet:
    """The objects at `root`, in our layout or the published one; MvdiffError unless they fit."""
    from .cameras.rigs import is_ring
    from .data.dataset import MultiViewSet
    from .data.published import PublishedSet, is_published
    from .data.rendered import check_cameras
    from .data.thinned import Thinned

    root, cameras = plain(root), rig(config)
    if not is_ring(cameras):
        raise MvdiffError(
            f"training turns its objects, so it needs an even ring of cameras, and rig "
            f"'{config.rig.name}' is none: train with rig=ring, then generate with any rig"
        )
    if isinstance(root, str) and is_published(root):
        return PublishedSet(root, cameras)
    check_cameras(root, cameras, config.rig.name)
    data: ObjectSet = MultiViewSet(root, split=split)
    if data.view_count % len(cameras) == 0:  # 8 of 16 views on an even ring are one, too
        data = Thinned(data, len(cameras))
    if data.view_count != len(cameras) or data.size != config.size:
        raise MvdiffError(
            f"the recipe wants {len(cameras)} views of {config.size}², '{root}' has "
            f"{data.view_count} of {data.size}²: render it again with those"
        )
    return data


def augment(config: Any) -> Augment:
    """How training objects are changed."""
    from .data.augment import Augment

    return Augment(**plain(config.train.augment))


def photos(config: Any) -> list[int]:
    """Numbers of input pictures an object, one of which is drawn a step."""
    counts = plain(config.train.photos)
    if not isinstance(counts, list) or any(type(n) is not int for n in counts):
        raise MvdiffError(f"train.photos must be a list of whole numbers, got {counts}")
    if max(counts, default=1) > 1 and not config.volume.get("photo_features"):
        raise MvdiffError(
            f"train.photos has several input pictures an object, and volume '{config.volume.name}' "
            "lifts none: set sizes.photo_features, or train.photos=[1]"
        )
    return counts


def encoders(config: Any, model: MultiViewDenoiser, device: Any) -> Encoders | str:
    """The frozen networks whose answers can be kept; or why there are none."""
    from .checkpoints.start import digest
    from .data.encoded import Encoders

    if not hasattr(model.latents, "posterior"):
        return f"latents '{config.latents.name}' need no network"
    if any(p.requires_grad for p in model.embedder.parameters()):
        return "the embedder is trained, so its answers change"
    if not augment(config).turns_only:
        return "train.augment changes the pictures each time (all but roll must be off)"
    if max(photos(config)) > 1:
        return "train.photos draws several pictures an object, and one is kept"
    latents, embedder = model.latents.to(device).eval(), model.embedder.to(device).eval()
    parts = {f"latents.{n}": p for n, p in latents.named_parameters()}
    parts |= {f"embedder.{n}": p for n, p in embedder.named_parameters()}
    return Encoders(latents.posterior, embedder, digest(parts), device)
