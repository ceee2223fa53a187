"""`key=value` words of the command line: their form, and quotes around paths."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .schema import SCHEMAS
from .settings import Setting, settings_of

#: settings that take a list, so that a lone value or a,b is one
_LISTS = ("plugins", "mesh_formats", "seeds")
#: settings that take a text as it is typed, commas and all
_TEXTS = ("prompt",)


def path_settings(command: str) -> dict[str, Setting]:
    """The settings of a command whose values are paths, by name."""
    return {entry.name: entry for entry in settings_of(SCHEMAS[command]) if entry.path}


def validate_override(command: str, override: str) -> str:
    """The override as it is; ConfigError when it is no setting or has no effect."""
    key, separator, value = override.partition("=")
    if override in ("-m", "--multirun"):
        raise ConfigError(
            f"mvdiff {command} has no {override}: mvdiff train -m and mvdiff ablate run several "
            "settings, mvdiff generate samples=K makes several results"
        )
    if (
        key.startswith(("hydra.", "hydra/"))
        and command not in ("generate", "ablate")
        and key != "hydra.searchpath"
    ):
        raise ConfigError(
            f"'{key}' has no effect on mvdiff {command}, which writes to out=…: leave it out"
        )
    if not separator and not key.startswith("~"):
        path = next(iter(path_settings(command)), "")
        likely = f"{path}={override}" if path and Path(override).exists() else "key=value"
        raise ConfigError(
            f"'{override}' is not a setting: write {likely}, see mvdiff {command} --help"
        )
    if not re.match(r"(\+\+?|~)?[A-Za-z_]", key):
        raise ConfigError(f"'{override}' has no setting's name before the '=': write key=value")
    if key.startswith("~"):
        raise ConfigError(
            f"'{override}' removes a setting, and mvdiff {command} needs all of them: choose "
            "another value, such as none or null"
        )
    if key == "image" and not value:
        raise ConfigError("image= is empty: name an image, a list of images or a folder")
    if key in path_settings(command) and "\0" in value:
        raise ConfigError(f"{key} contains a null character, which is not allowed in paths")
    return override


def quote_override(command: str, override: str) -> str:
    """`image=my photo (1).png` with the quotes that Hydra's grammar requires.

    Raises ConfigError as `validate_override` does, and for null where a path is required.
    """
    key, separator, value = validate_override(command, override).partition("=")
    if key in _LISTS and not value.startswith("["):
        return f"{key}=[{value}]"
    if key in _TEXTS and value not in ("", "null") and value[0] not in "['\"":
        return f"{key}={quote_literal(value)}"
    entry = path_settings(command).get(key)
    if entry is None or not separator or value in ("", "???"):
        return override
    if path_exists(value):
        return f"{key}={quote_literal(value)}"
    if value == "null":
        if not accepts_null(entry):
            raise ConfigError(f"{key} needs a path, got null: see mvdiff {command} --help")
        return override
    if value[:1] + value[-1:] == "[]" and len(value) > 1:
        items = ",".join(quote_literal(item) for item in split_list(value[1:-1]))
        return f"{key}=[{items}]"
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return override
    return f"{key}={quote_literal(expand_home(value))}"


def accepts_null(entry: Setting) -> bool:
    """Whether a setting may be null: by its type, or because null is its default."""
    if entry.hint is Any:
        return entry.default is None
    return type(None) in getattr(entry.hint, "__args__", ())


def path_exists(path: str) -> bool:
    """Whether there is such a file or folder; False for what cannot be a path at all."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def expand_home(path: str) -> str:
    """`~/x` with the home folder; shells do not expand it after `key=`."""
    return str(Path(path).expanduser()) if path == "~" or path.startswith("~/") else path


_LIST_ITEM = re.compile(
    r"""\s*(?:(?P<quoted>'[^']*'|"[^"]*")\s*|(?P<plain>[^,]*))(?:,|$)""", re.VERBOSE
)


def split_list(text: str) -> list[str]:
    """The items of `a.png, 'b, c.png'`: commas separate, quotes around an item protect them.

    Everything else is taken literally. Raises ConfigError for a quote that is not closed.
    """
    items = []
    for match in _LIST_ITEM.finditer(text):
        if match["quoted"] is not None:
            items.append(match["quoted"][1:-1])
            continue
        item = match["plain"].strip()
        if item[:1] in ("'", '"'):
            raise ConfigError(f"the list [{text}] has an unmatched quote: quote the whole name")
        items.append(item)
    if items and items[-1] == "":  # a trailing comma, or an empty list
        items.pop()
    return [expand_home(item) for item in items]


def quote_literal(value: str) -> str:
    """A string that survives Hydra's quotes and OmegaConf's interpolation."""
    value = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), value)
    # escaped twice: the value is read once when the config is resolved, and again on access
    return "'" + value.replace("${", "\\\\\\${") + "'"


def parse_value(override: str) -> Any:
    """The value of an override as Hydra reads it; its text where the grammar does not fit."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(override).value()
    except (HydraException, ValueError):
        return override.partition("=")[2]
