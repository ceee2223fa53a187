"""What a recipe makes views from: an image, a text, or both."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError


def check_input(config: Any, *, has_image: bool, prompt: Any) -> None:
    """Raise ConfigError for an image or a prompt that the recipe does not take, or lacks.

    prompt: one text, or None.
    """
    recipe = config.recipe_name
    if config.input == "text" and has_image:
        raise ConfigError(
            f"recipe '{recipe}' takes a text and no image: pass prompt=… alone, or use "
            "recipe=imagedream, which takes an image"
        )
    if config.input == "image" and not has_image:
        raise ConfigError(f"recipe '{recipe}' needs a picture: pass its path")
    if prompt is None:
        if config.input == "text":
            raise ConfigError(
                f"recipe '{recipe}' needs a text: pass prompt='an astronaut', for example"
            )
        return
    if config.context.name == "token":
        raise ConfigError(
            f"recipe '{recipe}' takes an image and no text: leave out prompt=, or use "
            "recipe=mvdream (text) or recipe=imagedream (an image and a text)"
        )
    if not isinstance(prompt, str):
        raise ConfigError(f"prompt must be a text, got {prompt!r}")
