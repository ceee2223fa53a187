"""Composition: a command's YAML, its groups and the user's overrides → one config (Hydra)."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import re
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import MvdiffError
from .limits import check_limits

#: settings whose values are paths: taken literally, whatever characters they hold
_PATHS = (
    "image",
    "views",
    "images",
    "pred",
    "truth",
    "out",
    "data",
    "meshes",
    "weights",
    "held_out",
    "run",
    "in",
    "cache",
    "val_data",
    "checkpoint",
    "clip",
    "lpips",
    "report",
    "images",
)


def groups(plugins: Sequence[str] = ()) -> dict[str, list[str]]:
    """Config groups and the variants of each, read from the YAML files.

    plugins: packages whose `conf/` folder adds to them (imported by `load_plugins`).
    """
    found: dict[str, set[str]] = {}
    for root in (resources.files("mvdiff.conf"), *_conf_folders(plugins)):
        for folder in root.iterdir():
            if folder.is_dir() and not folder.name.startswith("_"):
                names = {f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml")}
                found.setdefault(folder.name, set()).update(names)
    return {group: sorted(names) for group, names in sorted(found.items()) if names}


def yaml_comment(group: str, name: str, plugins: Sequence[str] = ()) -> str:
    """The first comment of a variant's YAML: what it is."""
    for root in (resources.files("mvdiff.conf"), *_conf_folders(plugins)):
        file = root / group / f"{name}.yaml"
        if file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            comments = [x.split("# ", 1)[1] for x in lines if "# " in x and "@package" not in x]
            return comments[0] if comments else ""
    return ""


def load_plugins(overrides: Sequence[str]) -> list[str]:
    """Import the packages that `plugins=[…]` names, so that their variants are registered."""
    named = [o.partition("=")[2] for o in overrides if o.partition("=")[0] == "plugins"]
    packages = [name.strip(" '\"") for value in named for name in value.strip("[]").split(",")]
    packages = [name for name in packages if name]
    for package in packages:
        try:
            importlib.import_module(package)
        except Exception as error:  # their code, so any kind
            reason = error if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
            raise MvdiffError(
                f"cannot import the plugin '{package}' ({reason}): install it in this environment"
            ) from error
    return packages


def compose(command: str, overrides: Sequence[str] | None = None) -> Any:
    """The resolved config of a command, exactly as the command line composes it.

    command: "generate", "train", "render", "reconstruct", "evaluate" or "ablate".
    overrides: Hydra overrides, e.g. ["attention=none", "sampler.steps=20"].
    Plugins named in them (`plugins=[package]`) are imported, and their `conf/` folders searched.
    Raises MvdiffError with the choices on an unknown key or variant, and on a value of
    another type than the default's.
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    given = [_check_form(command, override) for override in overrides or []]
    plugins = load_plugins(given)
    settings = [quoted(command, override) for override in given] + _search_path(plugins)
    try:
        config = _compose(command, settings)
        OmegaConf.resolve(config)
        _check_types(command, settings, config, groups(plugins))
        _check_additions(command, given, groups(plugins))
    except MvdiffError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # foreground=-1: the last
        raise MvdiffError(_explain(command, given, error, groups(plugins))) from error
    missing = [str(key) for key in config if OmegaConf.is_missing(config, str(key))]
    if missing:
        raise MvdiffError(
            f"mvdiff {command} needs {' and '.join(f'{key}=…' for key in missing)}: see "
            f"mvdiff {command} --help"
        )
    check_limits(config)
    return config


def _compose(command: str, overrides: Sequence[str] = ()) -> Any:
    from hydra import compose, initialize_config_module

    with own_hydra(), initialize_config_module("mvdiff.conf", version_base="1.3"):
        return compose(command, list(overrides))


@functools.lru_cache(maxsize=16)
def _defaults(command: str, parts: tuple[str, ...]) -> Any:
    """A command's settings with these parts and nothing else overridden; not to be changed."""
    return _compose(command, parts)


@contextlib.contextmanager
def own_hydra() -> Iterator[None]:
    """Hydra has one global state: put back that of an application which calls us."""
    from hydra.core.global_hydra import GlobalHydra

    theirs = GlobalHydra.instance().hydra
    GlobalHydra.instance().hydra = None
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = theirs


def _conf_folders(plugins: Sequence[str]) -> list[Path]:
    # a plugin of a single module has no folder, and so no YAML of its own
    paths = [p for name in plugins for p in getattr(importlib.import_module(name), "__path__", [])]
    folders = [Path(path) / "conf" for path in paths]
    return [folder for folder in folders if folder.is_dir()]


def _search_path(plugins: Sequence[str]) -> list[str]:
    """Hydra's search path with the `conf/` folders that plugins ship."""
    folders = [literal(f"file://{folder}") for folder in _conf_folders(plugins)]
    return [f"hydra.searchpath=[{','.join(folders)}]"] if folders else []


def _check_form(command: str, override: str) -> str:
    key, separator, value = override.partition("=")
    if override in ("-m", "--multirun"):
        raise MvdiffError(
            f"mvdiff {command} takes no {override}: mvdiff ablate compares variants "
            "(mvdiff ablate attention=none,depthwise data=… budget.steps=2000), mvdiff generate "
            "samples=K makes several results"
        )
    launches = command in ("generate", "ablate")
    if key.startswith(("hydra.", "hydra/")) and not launches and key != "hydra.searchpath":
        raise MvdiffError(
            f"'{key}' has no effect on mvdiff {command}, which runs in this process and writes "
            "to out=…: leave it out"
        )
    if not separator and not key.startswith("~"):
        path = _PATH_OF.get(command)
        likely = f"{path}={override}" if path and Path(override).exists() else "key=value"
        raise MvdiffError(
            f"'{override}' is not a setting: write {likely}, see mvdiff {command} --help"
        )
    if not re.match(r"(\+\+?|~)?[A-Za-z_]", key):
        raise MvdiffError(f"'{override}' has no setting's name before the '=': write key=value")
    if key.startswith("~"):
        raise MvdiffError(
            f"'{override}' removes a setting, and mvdiff {command} needs all of them: choose "
            "another value, such as none or null"
        )
    if key == "image" and not value:
        raise MvdiffError("image= is empty: name a picture, a list of pictures or a folder")
    if key in _PATHS and "\0" in value:
        raise MvdiffError(f"{key} holds a null character, which no path has")
    return override


#: what a lone path on the command line most likely is
_PATH_OF = {
    "generate": "image",
    "reconstruct": "views",
    "train": "data",
    "render": "meshes",
    "convert": "in",
    "ablate": "data",
}


def quoted(command: str, override: str) -> str:
    """`image=my photo (1).png` as Hydra's grammar wants it; MvdiffError when it is no setting."""
    key, separator, value = _check_form(command, override).partition("=")
    if key in ("plugins", "format", "seeds") and not value.startswith("["):
        return f"{key}=[{value}]"
    if key not in _PATHS or not separator or value in ("", "???"):
        return override
    if exists(value):
        return f"{key}={literal(value)}"
    if value == "null":
        _check_null(command, key)
        return override
    if value[:1] + value[-1:] == "[]" and len(value) > 1:
        items = ",".join(literal(item) for item in split_list(value[1:-1]))
        return f"{key}=[{items}]"
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return override
    return f"{key}={literal(expand_home(value))}"


def exists(path: str) -> bool:
    """Whether there is such a file or folder; False for what cannot be a path at all."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def expand_home(path: str) -> str:
    """`~/x` with the home folder, which shells leave alone behind `key=`."""
    return str(Path(path).expanduser()) if path == "~" or path.startswith("~/") else path


def split_list(text: str) -> list[str]:
    """The items of `a.png, 'b, c.png'`: commas separate, quotes around an item protect them.

    Everything else is taken literally. Raises MvdiffError for a quote that is not closed.
    """
    items = []
    for match in _LIST_ITEM.finditer(text):
        if match["quoted"] is not None:
            items.append(match["quoted"][1:-1])
            continue
        item = match["plain"].strip()
        if item[:1] in ("'", '"'):
            raise MvdiffError(f"the list [{text}] has an unmatched quote: quote the whole name")
        items.append(item)
    if items and items[-1] == "":  # a trailing comma, or an empty list
        items.pop()
    return [expand_home(item) for item in items]


_LIST_ITEM = re.compile(
    r"""\s*(?:(?P<quoted>'[^']*'|"[^"]*")\s*|(?P<plain>[^,]*))(?:,|$)""", re.VERBOSE
)


def _check_null(command: str, key: str) -> None:
    """Raise MvdiffError where a path is required, so that null cannot stand for it."""
    from omegaconf import OmegaConf

    defaults = _defaults(command, ())
    if key in list(defaults) and (OmegaConf.is_missing(defaults, key) or defaults[key] is not None):
        raise MvdiffError(f"{key} needs a path, got null: see mvdiff {command} --help")


def literal(value: str) -> str:
    """A string that survives Hydra's quotes and OmegaConf's interpolation."""
    value = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), value)
    # escaped twice: the value is read once when the config is resolved, and again on access
    return "'" + value.replace("${", "\\\\\\${") + "'"


def _check_types(
    command: str, overrides: Sequence[str], config: Any, known: dict[str, list[str]]
) -> None:
    """A number where the default is a number, and so on; MvdiffError otherwise."""
    from omegaconf import OmegaConf

    key_of = {override: override.lstrip("+").partition("=")[0] for override in overrides}
    parts = [o for o, key in key_of.items() if key in known or key == "hydra.searchpath"]
    keys = [key for o, key in key_of.items() if o not in parts and key[:1] not in ("~", "")]
    keys = [key for key in keys if key not in (*_PATHS, "elevation") and "hydra." not in key]
    if not keys:
        return
    defaults = _defaults(command, tuple(parts))
    for key in keys:
        default = OmegaConf.select(defaults, key, throw_on_resolution_failure=False)
        value = OmegaConf.select(config, key)
        if not _fits(value, default):
            usual = "" if _kind(default) == "a mapping" else f": the default is {_shown(default)}"
            raise MvdiffError(f"{key} must be {_kind(default)}, got {_shown(value)}{usual}")


#: settings that only some recipes list; `+key=value` adds them to the others
_OPTIONAL = ("framing", "crop_size", "clip", "checkpoint")
#: sections whose settings are looked up by name, so that an unknown one would go unnoticed
_CLOSED_SECTIONS = ("", "train", "sizes", "sampler", "guidance", "budget")


def _check_additions(command: str, overrides: Sequence[str], known: dict[str, list[str]]) -> None:
    """Raise MvdiffError for `+key=value` where nothing would ever read the key."""
    parts = [o for o in overrides if o.lstrip("+~").partition("=")[0] in known]
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        section, _, name = key.rpartition(".")
        if not override.startswith("+") or section not in _CLOSED_SECTIONS or key in known:
            continue
        choices = _keys(command, key, [quoted(command, part) for part in parts])
        if name not in (*choices, *_OPTIONAL) and not name.startswith("hydra"):
            raise MvdiffError(
                f"unknown setting '{key}' of mvdiff {command}; choose from "
                f"{', '.join(choices)}{_hint(name, choices)}"
            )


def _fits(value: Any, default: Any) -> bool:
    from omegaconf import DictConfig, ListConfig

    if default is None:
        return True
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(default, int) and not isinstance(default, bool):
        return isinstance(value, int) and not isinstance(value, bool)
    for kind in (bool, str, ListConfig, DictConfig):
        if isinstance(default, kind):
            return isinstance(value, kind)
    return True


def _kind(default: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    from omegaconf import ListConfig

    return kinds.get(type(default), "a list" if isinstance(default, ListConfig) else "a mapping")


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    plain = value is None or isinstance(value, bool)
    return str(value).lower().replace("none", "null") if plain else str(value)


def _explain(
    command: str, overrides: Sequence[str], error: Exception, known: dict[str, list[str]]
) -> str:
    """One sentence for what Hydra says in several lines."""
    from hydra.errors import OverrideParseException

    text = str(error).splitlines()[0].strip().rstrip(".")
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key in known and value not in known[key] and value[:1] not in ("{", "["):
            choices = ", ".join(known[key])
            return f"unknown {key} '{value}'; choose from {choices}{_hint(value, known[key])}"
        if override in text and "mbiguous" in text:
            return f"{key} takes one value, got '{value}'{_list_hint(command, key, value)}"
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': put special characters in quotes, key=\"'a (1)'\""
    parts = [o for o in overrides if o.lstrip("+~").partition("=")[0] in known]
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if f"'{key}'" in text or f" {key}" in text or f"'{key.split('.')[-1]}'" in text:
            choices = _keys(command, key, [o for o in parts if o != override])
            if key.split(".")[-1] not in choices:
                return (
                    f"unknown setting '{key}' of mvdiff {command}; choose from "
                    f"{', '.join(choices)}{_hint(key.split('.')[-1], choices)}"
                )
    return f"the settings do not fit together: {text}"


def _list_hint(command: str, key: str, value: str) -> str:
    """What to type instead of several values for a setting that takes one."""
    from omegaconf import ListConfig, OmegaConf

    default = OmegaConf.select(_defaults(command, ()), key, throw_on_missing=False)
    if command == "generate" and key == "seed":
        return ": write seed=N samples=K for K results with the seeds N, N+1, …"
    if isinstance(default, ListConfig) or key in _PATHS:
        return f": write {key}=[{value}] for a list"
    if command in ("train", "ablate"):
        return f"; mvdiff ablate {key}={value} compares several values"
    return ""


def _keys(command: str, key: str, parts: Sequence[str]) -> list[str]:
    """The settings beside `key` in the command's config with these parts."""
    from omegaconf import DictConfig

    node: Any = _defaults(command, tuple(parts))
    for part in key.split(".")[:-1]:
        if isinstance(node, DictConfig) and part in node:
            node = node[part]
    return sorted(str(k) for k in node) if isinstance(node, DictConfig) else []


def _hint(word: str, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, choices, n=1)
    return f". Did you mean '{close[0]}'?" if close else ""
