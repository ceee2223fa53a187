"""Composition by Hydra: a command's settings, its groups and the user's overrides → one config."""

from __future__ import annotations

import contextlib
import difflib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import ConfigError, MvdiffError
from .groups import (
    conf_folders,
    groups,
    groups_of,
    installed_plugins,
    load_plugins,
    plugins_of,
)
from .limits import check_limits
from .overrides import parse_value, path_settings, quote_literal, quote_override, validate_override
from .schema import SCHEMAS
from .settings import (
    MISSING,
    check_settings,
    default_variants,
    describe_type,
    format_value,
    settings_of,
)


def compose(command: str, overrides: Sequence[str] = ()) -> Any:
    """The resolved config of a command, exactly as the command line composes it.

    command: "generate", "train", "ablate", "reconstruct", or another one that is registered.
    overrides: Hydra overrides, e.g. ["attention=none", "sampler.steps=20"].
    Plugins named in them (`plugins=[package]`), and installed ones that bring a chosen variant,
    are imported, and their `conf/` folders searched.
    Returns an OmegaConf DictConfig of the command's dataclass in `config.schema`.
    Raises ConfigError with the choices on an unknown key or variant, and on values of another
    type or out of range.

    Example:
        >>> config = compose("generate", ["image=cup.png", "sampler.steps=20"])
        >>> config.image, config.sampler.steps, config.recipe_name
        ('cup.png', 20, 'tiny')
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    # read the overrides
    given = [validate_override(command, override) for override in overrides]
    plugins = load_plugins(plugins_of(given))
    quoted = [quote_override(command, override) for override in given]
    known = groups(plugins)
    # compose
    try:
        config = _compose(command, [*quoted, *_search_path(plugins)])
        _fill_fallbacks(command, config)
        OmegaConf.resolve(config)
        _check_additions(command, given, known)
        _check_booleans(command, given)
    except MvdiffError:
        raise
    except (
        HydraException,
        OmegaConfBaseException,
        ValueError,
    ) as error:  # segmentation=-1: the last
        raise ConfigError(_explain_error(command, given, error, known)) from error
    if config.get("input") == "text" and OmegaConf.is_missing(config, "image"):
        config.image = None  # a text stands in its place
    # check the result
    missing = [str(key) for key in config if OmegaConf.is_missing(config, str(key))]
    if missing:
        raise ConfigError(
            f"mvdiff {command} needs {' and '.join(f'{key}=…' for key in missing)}: see "
            f"mvdiff {command} --help"
        )
    check_settings(SCHEMAS[command], config)
    check_limits(config)
    return config


def _compose(command: str, overrides: Sequence[str] = ()) -> Any:
    from hydra import compose, initialize_config_module
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf, open_dict

    ConfigStore.instance().store(command, SCHEMAS[command])
    with isolated_hydra(), initialize_config_module("mvdiff.conf", version_base="1.3"):
        config = compose(command, list(overrides), return_hydra_config=True)
        recipe = OmegaConf.select(config, "hydra.runtime.choices").get("recipe")
        with open_dict(config):
            del config["hydra"]
            if recipe is not None:
                config.recipe_name = recipe
    return config


def _fill_fallbacks(command: str, config: Any) -> None:
    """Settings that the recipe leaves out take their fallback, parts without a default null."""
    from omegaconf import OmegaConf

    for part, variant in default_variants(SCHEMAS[command]).items():
        if variant is None and OmegaConf.is_missing(config, part):
            config[part] = None
    for entry in settings_of(SCHEMAS[command]):
        if entry.by_recipe and entry.fallback is not MISSING:
            section, _, name = entry.name.rpartition(".")
            node = OmegaConf.select(config, section) if section else config
            if OmegaConf.is_missing(node, name):
                node[name] = entry.fallback


@functools.lru_cache(maxsize=16)
def _defaults(command: str, chosen: tuple[str, ...]) -> Any:
    """A command's settings with these variants and nothing else overridden; not to be changed."""
    return _compose(command, chosen)


@contextlib.contextmanager
def isolated_hydra() -> Iterator[None]:
    """Hydra has one global state: an application that calls us gets its own back."""
    from hydra.core.global_hydra import GlobalHydra

    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = outer


def _search_path(plugins: Sequence[str]) -> list[str]:
    """Hydra's search path with the `conf/` folders that plugins ship."""
    folders = [quote_literal(f"file://{folder}") for folder in conf_folders(plugins)]
    return [f"hydra.searchpath=[{','.join(folders)}]"] if folders else []


#: sections whose settings are looked up by name, so that an unknown one would go unnoticed
_CLOSED_SECTIONS = ("", "train", "train.augment", "sizes", "sampler", "guidance", "budget")


def _check_additions(command: str, overrides: Sequence[str], known: dict[str, list[str]]) -> None:
    """Raise ConfigError for `+key=value` where nothing would ever read the key."""
    variants = _chosen_variants(command, overrides, known)
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        section, _, name = key.rpartition(".")
        if not override.startswith("+") or section not in _CLOSED_SECTIONS or key in known:
            continue
        choices = sibling_keys(command, key, variants)
        if name not in choices and not name.startswith("hydra"):
            raise ConfigError(_unknown_setting(command, key, choices))


def _chosen_variants(
    command: str, overrides: Sequence[str], known: dict[str, list[str]]
) -> list[str]:
    """The overrides that choose variants, and the search path of the plugins that bring them."""
    variants = [o for o in overrides if o.lstrip("+~").partition("=")[0] in known]
    quoted = [quote_override(command, variant) for variant in variants]
    return [*quoted, *_search_path(plugins_of(overrides))]


def _check_booleans(command: str, overrides: Sequence[str]) -> None:
    """Raise ConfigError for a number where true or false is expected: OmegaConf accepts it."""
    booleans = {e.name for e in settings_of(SCHEMAS[command]) if e.hint is bool}
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        if key in booleans and type(value := parse_value(override)) in (int, float):
            raise ConfigError(f"{key} must be true or false, got {value}")


def _unknown_setting(command: str, key: str, choices: Sequence[str]) -> str:
    hint = suggest(key.split(".")[-1], choices)
    return f"unknown setting '{key}' of mvdiff {command}; choose from {', '.join(choices)}{hint}"


def _explain_error(
    command: str, overrides: Sequence[str], error: Exception, known: dict[str, list[str]]
) -> str:
    """One sentence for what Hydra says in several lines."""
    from hydra.errors import OverrideParseException
    from omegaconf.errors import ValidationError

    text = str(error).splitlines()[0].strip().rstrip(".")
    # an unknown variant, or several values
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key in known and value not in known[key] and value[:1] not in ("{", "["):
            installed = [
                groups_of(package).get(key, ()) for package in installed_plugins().values()
            ]
            choices = sorted({*known[key], *(name for names in installed for name in names)})
            hint = suggest(value, choices)
            return f"unknown {key} '{value}'; choose from {', '.join(choices)}{hint}"
        if override in text and "mbiguous" in text:
            return f"{key} takes one value, got '{value}'{_list_hint(command, key, value)}"
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': put special characters in quotes, key=\"'a (1)'\""
    # a value of another type
    cause = error.__cause__ if isinstance(error.__cause__, ValidationError) else error
    if isinstance(cause, ValidationError):
        return _type_mismatch(command, overrides, cause)
    # an unknown setting
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if f"'{key}'" in text or f" {key}" in text or f"'{key.split('.')[-1]}'" in text:
            others = [o for o in overrides if o != override]
            choices = sibling_keys(command, key, _chosen_variants(command, others, known))
            if key.split(".")[-1] not in choices:
                return _unknown_setting(command, key, choices)
    return f"the settings do not fit together: {text}"


def _type_mismatch(command: str, overrides: Sequence[str], error: Any) -> str:
    """ "seed must be a whole number, got 'abc': the default is 0"."""
    full_key = str(error.full_key or "").partition("[")[0]
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        if full_key and not (full_key == key or full_key.startswith(f"{key}.")):
            continue
        for entry in settings_of(SCHEMAS[command]):
            if entry.name == key:
                shown = "" if entry.by_recipe else f": the default is {format_value(entry.default)}"
                value = format_value(parse_value(override))
                return f"{key} must be {describe_type(entry.hint)}, got {value}{shown}"
            if entry.name.startswith(f"{key}."):
                return f"{key} must be a mapping, got {format_value(parse_value(override))}"
    return f"the settings do not fit together: {str(error).splitlines()[0]}"


def _list_hint(command: str, key: str, value: str) -> str:
    """What to type instead of several values for a setting that takes one."""
    if command == "generate" and key == "seed":
        return ": write seed=N samples=K for K results with the seeds N, N+1, …"
    lists = [e.name for e in settings_of(SCHEMAS[command]) if "list" in describe_type(e.hint)]
    if key in lists or key in path_settings(command):
        return f": write {key}=[{value}] for a list"
    if command in ("train", "ablate"):
        return f"; mvdiff ablate {key}={value} compares several values"
    return ""


def sibling_keys(command: str, key: str, variants: Sequence[str]) -> list[str]:
    """The settings beside `key` in the command's config with these variants, sorted."""
    from omegaconf import DictConfig

    node: Any = _defaults(command, tuple(variants))
    for name in key.split(".")[:-1]:
        if isinstance(node, DictConfig) and name in node:
            node = node[name]
    return sorted(str(k) for k in node) if isinstance(node, DictConfig) else []


def suggest(word: str, choices: Sequence[str]) -> str:
    """ ". Did you mean 'x'?" when a choice resembles the word, else ""."""
    close = difflib.get_close_matches(word, choices, n=1)
    return f". Did you mean '{close[0]}'?" if close else ""
