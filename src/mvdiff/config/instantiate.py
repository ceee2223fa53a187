"""A registered variant from its config entry: what every builder uses."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..errors import MvdiffError
from ..registry import Registry


def instantiate(registry: Registry, config: Mapping[str, Any], **parts: Any) -> Any:
    """The variant `config.name` with the config's other entries and `parts` as arguments.

    Raises MvdiffError on an unknown name, and on settings the variant does not have.
    """
    variant = lookup(registry, config["name"])
    settings = {key: to_container(value) for key, value in config.items() if key != "name"}
    parameters = inspect.signature(variant).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        unknown = [key for key in settings if key not in parameters]
        if unknown:
            choices = [key for key in parameters if key not in parts]
            raise MvdiffError(
                f"{registry.slot} '{config['name']}' has no setting {', '.join(unknown)}; choose "
                f"from {', '.join(choices) or 'none (it has no settings)'}"
            )
    try:
        return variant(**parts, **settings)
    except MvdiffError:
        raise
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise MvdiffError(
            f"{registry.slot} '{config['name']}' cannot be built with these settings: {error}"
        ) from error


def lookup(registry: Registry, name: str) -> Any:
    try:
        return registry[name]
    except KeyError as error:
        raise MvdiffError(error.args[0]) from error


def to_container(value: Any) -> Any:
    """Config nodes as plain Python containers."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
