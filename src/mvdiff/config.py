"""Composition: a command's YAML, its groups and the user's overrides → one config (Hydra)."""

from __future__ import annotations

import difflib
import importlib
from importlib import resources
from typing import Any

from .errors import MvdiffError


def groups() -> dict[str, list[str]]:
    """Config groups and the variants of each, read from the YAML files of the package."""
    root = resources.files("mvdiff.conf")
    return {
        folder.name: sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))
        for folder in sorted(root.iterdir(), key=lambda f: f.name)
        if folder.is_dir() and not folder.name.startswith("_")
    }


def compose(command: str, overrides: list[str] | None = None) -> Any:
    """The resolved config of a command, exactly as the command line composes it.

    command: "generate", "train", "render", "reconstruct" or "evaluate".
    overrides: Hydra overrides, e.g. ["attention=none", "sampler.steps=20"].
    Raises MvdiffError with the choices on an unknown key or variant.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    overrides = [_quote(override) for override in overrides or []]
    for package in _plugins(overrides):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MvdiffError(f"cannot import the plugin '{package}': {error}") from error
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("mvdiff.conf", version_base="1.3"):
            config = hydra_compose(command, overrides)
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise MvdiffError(_explain(command, overrides, error)) from error
    missing = [key for key in config if OmegaConf.is_missing(config, key)]
    if missing:
        raise MvdiffError(
            f"mvdiff {command} needs {' and '.join(f'{key}=…' for key in missing)}: see "
            f"mvdiff {command} --help"
        )
    return config


#: settings whose values are paths: taken literally, whatever characters they hold
_PATHS = ("image", "views", "pred", "truth", "out", "data", "meshes", "weights", "held_out")


def _quote(override: str) -> str:
    """`image=my photo (1).png` as Hydra's grammar wants it."""
    key, separator, value = override.partition("=")
    plain = not value or value[0] in "[{'\"$" or value in ("null", "none", "???")
    if key not in _PATHS or not separator or plain:
        return override
    escaped = value.replace("'", "\\'")  # the grammar keeps other backslashes as they are
    return f"{key}='{escaped}'"


def _plugins(overrides: list[str]) -> list[str]:
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "plugins":
            return [name.strip() for name in value.strip("[]").split(",") if name.strip()]
    return []


def _explain(command: str, overrides: list[str], error: Exception) -> str:
    """One sentence for what Hydra says in several lines."""
    known = groups()
    for override in overrides:
        key, separator, value = override.lstrip("+~").partition("=")
        if not separator:
            return f"'{override}' is not an override: write key=value, see mvdiff {command} --help"
        if key in known and "." not in key and value not in known[key] and value[:1] not in "{[":
            choices = ", ".join(known[key])
            return f"unknown {key} '{value}'; choose from {choices}{_hint(value, known[key])}"
    text = str(error).splitlines()[0].strip()
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key and (f"'{key}'" in text or f" {key}" in text or f"'{key.split('.')[-1]}'" in text):
            choices = _keys(command, key)
            if key.split(".")[-1] not in choices:
                return (
                    f"unknown setting '{key}' of mvdiff {command}; choose from "
                    f"{', '.join(choices)}{_hint(key.split('.')[-1], choices)}"
                )
    return f"the settings do not compose: {text}"


def _keys(command: str, key: str) -> list[str]:
    """The settings beside `key` in the command's default config."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from omegaconf import DictConfig

    with initialize_config_module("mvdiff.conf", version_base="1.3"):
        node: Any = hydra_compose(command)
    for part in key.split(".")[:-1]:
        if isinstance(node, DictConfig) and part in node:
            node = node[part]
    return sorted(str(k) for k in node) if isinstance(node, DictConfig) else []


def _hint(word: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f". Did you mean '{close[0]}'?" if close else ""
