"""`mvdiff --help` and `mvdiff COMMAND --help`, made from the declared settings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .. import __version__
from ..config.groups import groups, installed_plugins, plugins_of, variant_file
from ..config.settings import MISSING, Setting, default_variants, settings_of
from .command import Command

#: columns of a line, and of the settings' names with their defaults
WIDTH, NAME_WIDTH = 100, 30


def main_help(commands: Mapping[str, Command]) -> str:
    """The overview: every command in a line."""
    width = max(map(len, commands))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in commands.items()]
    return "\n".join(
        [
            f"mvdiff {__version__}: one picture of an object in, consistent views and a mesh out",
            "",
            "usage: mvdiff COMMAND key=value …",
            "",
            *lines,
            "",
            "mvdiff COMMAND --help        settings of a command, with their defaults",
            "mvdiff COMMAND … --cfg       print the whole config instead of running",
            "mvdiff --install-completion  complete commands, settings and variants with TAB",
            "",
            "Start with:",
            "  mvdiff generate image=photo.png elevation=20",
        ]
    )


def command_help(command: Command, overrides: Sequence[str] = ()) -> str:
    """A command's settings with types, defaults and choices; its parts and their variants.

    overrides: `recipe=…` and other choices show the defaults that belong to them.
    """
    if command.config is None:
        return "\n".join(
            [f"usage: mvdiff {command.name}", "", command.description, *command.details]
        )
    plugins = plugins_of(overrides)
    chosen = chosen_variants(command.config, overrides)
    recipe = load_variant("recipe", chosen["recipe"], plugins) if "recipe" in chosen else {}
    chosen = {**chosen, **inner_defaults(recipe), **_overridden(overrides)}
    settings = list(settings_of(command.config))
    if command.extends is not None:
        inherited = {s.name: s for s in settings_of(command.extends.config)}
        settings = [s for s in settings if s != inherited.get(s.name)]
    # a recipe's settings come after the command's own
    own = sorted((s for s in settings if "." not in s.name), key=lambda s: s.by_recipe)
    inner = [s for s in settings if "." in s.name]

    lines = [f"usage: mvdiff {command.name} key=value …", "", command.description, ""]
    lines += ["Settings (with defaults):", *_setting_lines(own, recipe)]
    if command.extends is not None:
        lines += [f"  …and every setting of mvdiff {command.extends.name} (see its --help)"]
    if inner and command.name != "generate":
        by_recipe = any(s.by_recipe for s in inner)
        label = f"Of recipe {chosen['recipe']}:" if by_recipe else "Budget of one run, one of:"
        lines += ["", label, *_setting_lines(inner, recipe)]
    if command.details:
        lines += ["", *command.details]
    variants = groups([*plugins, *installed_plugins().values()])
    parts = {g: v for g, v in chosen.items() if g in variants}
    if parts:
        lines += ["", "Parts (part=variant, and part.setting=value; --cfg shows every setting):"]
        for part, default in parts.items():
            others = ", ".join(name for name in variants[part] if name != default)
            lines += _wrapped(f"  {part}={default}", f"or {others}" * bool(others))
    lines += ["", "Examples:", *(f"  {example}" for example in command.examples)]
    return "\n".join(lines)


def chosen_variants(schema: type, overrides: Iterable[str] = ()) -> dict[str, str]:
    """Config group → variant of a command's defaults list, with overrides."""
    chosen = {g: "none" if v is None else v for g, v in default_variants(schema).items()}
    return chosen | {k: v for k, v in _overridden(overrides).items() if k in chosen}


def load_variant(group: str, name: str, plugins: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a variant's YAML file; {} when there is none."""
    import yaml

    file = variant_file(group, name, plugins)
    return (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file else {}


def inner_defaults(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Config group → variant of a recipe's own defaults list."""
    pairs = [entry for entry in recipe.get("defaults", ()) if isinstance(entry, dict)]
    return {
        group.removeprefix("override ").lstrip("/"): str(variant)
        for pair in pairs
        for group, variant in pair.items()
    }


def _overridden(overrides: Iterable[str]) -> dict[str, str]:
    return {o.partition("=")[0]: o.partition("=")[2] for o in overrides if "=" in o}


def _setting_lines(settings: Iterable[Setting], recipe: Mapping[str, Any]) -> list[str]:
    lines = []
    for entry in settings:
        value = _default_of(entry, recipe)
        about = entry.help
        if entry.choices and not all(choice in about for choice in entry.choices):
            about = f"{about} ({', '.join(entry.choices)})"
        lines += _wrapped(f"  {entry.name}: {value}", about)
    return lines


def _wrapped(head: str, about: str) -> list[str]:
    """A name column and a text column, the text wrapped; long names get a line of their own."""
    body = textwrap.wrap(about, WIDTH - NAME_WIDTH, break_on_hyphens=False) or [""]
    if len(head) >= NAME_WIDTH:
        body = ["", *body]
    first, *more = body
    return [
        f"{head:<{NAME_WIDTH}}{first}".rstrip(),
        *(" " * NAME_WIDTH + line for line in more if line),
    ]


def _default_of(entry: Setting, recipe: Mapping[str, Any]) -> str:
    value: Any = entry.default
    if entry.by_recipe:
        value = recipe
        for name in entry.name.split("."):
            value = value.get(name, MISSING) if isinstance(value, Mapping) else MISSING
        value = entry.fallback if value is MISSING else value
    if value is MISSING:
        return "(recipe)" if entry.by_recipe else "(required)"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(str, value)) + "]" if len(str(value)) < 40 else "[…]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {v}" for k, v in value.items()) + "}"
    return str(value)
