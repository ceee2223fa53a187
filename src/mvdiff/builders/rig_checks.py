"""Whether a recipe's network, and its published weights, can serve a rig."""

from __future__ import annotations

import warnings
from typing import Any

from ..errors import ConfigError

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
            f"recipe '{config.recipe_name}' samples its rays from {near} to {far} world units, "
            f"but rig '{name}' has cameras at distances from {float(distance.min()):g} to "
            f"{float(distance.max()):g} of the object: use rig.distance=1.5, which it learned"
        )
    learned = epidiff(size=config.size)
    same_poses = len(rig) == len(learned) and _close(rig.w2c, learned.w2c)
    if not (same_poses and _close(rig.K, learned.K)):
        warnings.warn(
            f"EpiDiff was trained on the 16 cameras of rig=epidiff alone, and rig '{name}' has "
            "others: expect poor views",
            stacklevel=4,
        )


def _close(a: Any, b: Any) -> bool:
    """Whether two tensors of cameras agree to a thousandth."""
    import torch

    return torch.allclose(a, b, atol=1e-3)
