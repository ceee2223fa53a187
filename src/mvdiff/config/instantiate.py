"""A registered variant from its config entry: what every builder uses."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, MvdiffError
from ..registry import Registry
from .settings import describe_type, format_value


def instantiate(registry: Registry, config: Mapping[str, Any], **parts: Any) -> Any:
    """The variant `config.name` with the config's other entries and `parts` as arguments.

    The constructor's signature is the schema: names and types of the entries are checked against
    it. Raises ConfigError on an unknown name, on settings that the variant does not have, and on
    values of another type.
    """
    variant = lookup(registry, config["name"])
    settings = {key: to_container(value) for key, value in config.items() if key != "name"}
    check_arguments(f"{registry.component} '{config['name']}'", variant, settings, given=parts)
    try:
        return variant(**parts, **settings)
    except MvdiffError:
        raise
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ConfigError(
            f"{registry.component} '{config['name']}' cannot be built with these settings: {error}"
        ) from error


def check_arguments(
    what: str, variant: Any, settings: Mapping[str, Any], given: Mapping[str, Any] = {}
) -> None:
    """Raise ConfigError unless `settings` fit the signature of `variant`.

    what: how messages name the variant. given: arguments that are no settings.
    """
    parameters = inspect.signature(variant).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        unknown = [key for key in settings if key not in parameters]
        if unknown:
            choices = [key for key in parameters if key not in given]
            raise ConfigError(
                f"{what} has no setting {', '.join(unknown)}; choose "
                f"from {', '.join(choices) or 'none (it has no settings)'}"
            )
    hints = _type_hints(variant)
    for key, value in settings.items():
        if key in hints and not _matches(value, hints[key]):
            expected = describe_type(hints[key])
            raise ConfigError(f"{what}: {key} must be {expected}, got {format_value(value)}")


def _type_hints(variant: Any) -> dict[str, Any]:
    """The types of a constructor's arguments; {} where they cannot be evaluated."""
    try:
        return typing.get_type_hints(variant.__init__ if inspect.isclass(variant) else variant)
    except (NameError, TypeError):
        return {}


def _matches(value: Any, hint: Any) -> bool:
    """Whether a value of a config (text, number, list, mapping, None) is of a type."""
    from beartype import BeartypeConf
    from beartype.door import is_bearable
    from beartype.roar import BeartypeException

    if isinstance(value, bool):  # Python's bool is an int, and no number of ours
        allowed = typing.get_args(hint) or (hint,)
        return bool in allowed or Any in allowed or object in allowed
    try:
        conf = BeartypeConf(is_pep484_tower=True)
        # YAML has lists only: they stand for tuples, too
        return is_bearable(value, hint, conf=conf) or (
            isinstance(value, list) and is_bearable(tuple(value), hint, conf=conf)
        )
    except BeartypeException:
        return True


def lookup(registry: Registry, name: str) -> Any:
    """The registered variant; ConfigError with the choices for an unknown name."""
    try:
        return registry[name]
    except KeyError as error:
        raise ConfigError(error.args[0]) from error


def to_container(value: Any) -> Any:
    """Config nodes as plain Python containers."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
