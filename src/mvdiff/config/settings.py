"""Typed settings: one declaration gives the type, default, help, choices, range and path of each.

A command's settings are the fields of a dataclass. Hydra uses it as a structured config, `--help`
prints it, and `check_settings` checks values against it.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..utils.limits import FINITE, Range

#: A value that has to come from the recipe or the command line; OmegaConf's word for it.
MISSING: Any = "???"

#: values of path settings that are words, not paths
PATH_WORDS = ("none", "embedded", "synthetic", "auto")


@dataclass(frozen=True)
class Setting:
    """One setting of a command.

    name: as on the command line, with dots ("train.lr").
    hint: its Python type. default: MISSING where it is required or comes from the recipe.
    help: one line. choices: the words that it may be, where they are few.
    limit: the range of a number, or of every number in a list.
    path: what lies at the path ("weights", "data", …), "output" for a path that need not exist,
        "" for settings that are no paths.
    by_recipe: whether the recipe gives the value; `fallback` stands in where it does not.
    """

    name: str
    hint: Any
    default: Any = MISSING
    help: str = ""
    choices: tuple[str, ...] = ()
    limit: Range | None = None
    path: str = ""
    by_recipe: bool = False
    fallback: Any = MISSING

    @property
    def required(self) -> bool:
        """Whether the command line must give it."""
        return self.default is MISSING and not self.by_recipe


def setting(
    default: Any = MISSING,
    help: str = "",
    *,
    choices: Sequence[str] = (),
    limit: Range | None = None,
    path: str = "",
) -> Any:
    """A dataclass field that declares a setting; the arguments are those of `Setting`.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Config:
        ...     seed: int = setting(0, "random seed", limit=Range(0, whole=True))
        >>> [(s.name, s.default, s.help) for s in settings_of(Config)]
        [('seed', 0, 'random seed')]
    """
    metadata = {"help": help, "choices": tuple(choices), "limit": limit, "path": path}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def recipe_setting(help: str, fallback: Any = MISSING, **metadata: Any) -> Any:
    """A setting whose value the recipe gives; fallback: its value where the recipe has none."""
    made = setting(MISSING, help, **metadata)
    return field(
        default=MISSING, metadata={**made.metadata, "by_recipe": True, "fallback": fallback}
    )


def settings_of(schema: type, prefix: str = "") -> Iterator[Setting]:
    """The settings of a dataclass, those of nested dataclasses with dotted names."""
    hints = typing.get_type_hints(schema)
    for entry in dataclasses.fields(schema):
        hint, name = hints[entry.name], prefix + entry.name
        if dataclasses.is_dataclass(hint):
            yield from settings_of(hint, f"{name}.")
        elif "help" in entry.metadata:
            factory = entry.default_factory
            default = entry.default if factory is dataclasses.MISSING else factory()
            yield Setting(name, hint, default, **entry.metadata)


def default_variants(schema: type) -> dict[str, str | None]:
    """Config group → variant, from the defaults list of a command's dataclass."""
    entries = getattr(schema(), "defaults", ())
    return {g: v for entry in entries if isinstance(entry, dict) for g, v in entry.items()}


def check_settings(schema: type, config: Any) -> None:
    """Raise ConfigError for the first value outside its choices or its range."""
    from omegaconf import OmegaConf

    for entry in settings_of(schema):
        value = OmegaConf.select(config, entry.name, throw_on_missing=False)
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value)
        _check_container(entry, value)
        for name, item in leaves(value, entry.name):
            _check_item(entry, name, item)


def _check_container(entry: Setting, value: Any) -> None:
    """OmegaConf checks the types of numbers and texts, but not of lists that a recipe gives."""
    for arg in (entry.hint, *typing.get_args(entry.hint)):
        kind = typing.get_origin(arg)
        if kind in (list, dict) and value is not None and not isinstance(value, kind):
            raise ConfigError(
                f"{entry.name} must be {describe_type(entry.hint)}, got {format_value(value)}"
            )


def _check_item(entry: Setting, name: str, item: Any) -> None:
    if entry.choices and isinstance(item, str) and item not in entry.choices:
        raise ConfigError(f"unknown {name} '{item}'; choose from {', '.join(entry.choices)}")
    if isinstance(item, bool):
        if entry.limit is not None:
            raise ConfigError(f"{name} must be {entry.limit}, got {str(item).lower()}")
    elif isinstance(item, int | float) and item not in (entry.limit or FINITE):
        raise ConfigError(f"{name} must be {entry.limit or FINITE}, got {item}")


def leaves(node: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every number, truth value and text of nested lists and mappings.

    Items of a list have the list's name, mappings in a list their position in it.
    """
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from leaves(value, f"{name}.{index}" if isinstance(value, dict) else name)
    elif node is not None and node != MISSING:
        yield name, node


def describe_type(hint: Any) -> str:
    """A type in words: "a whole number", "a list", "true or false", "'a' or 'b'"."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        plain = [describe_type(arg) for arg in args if arg is not type(None)]
        return " or ".join([*plain, *["null"] * (type(None) in args)])
    if origin is typing.Literal:
        return " or ".join(format_value(choice) for choice in args)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    if hint in names:
        return names[hint]
    if origin in (list, tuple, collections.abc.Sequence):
        plural = {int: " of whole numbers", float: " of numbers", str: " of words"}
        return "a list" + plural.get(args[0], "")
    return "a path" if hint is Path else "a mapping"


def format_value(value: Any) -> str:
    """A value as the command line takes it, texts in quotes."""
    if isinstance(value, str):
        return f"'{value}'"
    plain = value is None or isinstance(value, bool)
    return str(value).lower().replace("none", "null") if plain else str(value)
