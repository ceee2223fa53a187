"""Config groups: the parts' variants, as YAML files of this package and of plugins."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import ConfigError

#: entry points of other distributions: name = "package" in [project.entry-points."mvdiff.plugins"]
ENTRY_POINT_GROUP = "mvdiff.plugins"


def groups(plugins: Sequence[str] = ()) -> dict[str, list[str]]:
    """Config groups and the names of their variants, sorted.

    plugins: packages whose `conf/` folder adds to them. Nothing is imported.
    """
    variants: dict[str, set[str]] = {}
    for root in (resources.files("mvdiff.conf"), *conf_folders(plugins)):
        for folder in root.iterdir():
            if folder.is_dir() and not folder.name.startswith("_"):
                names = {f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml")}
                variants.setdefault(folder.name, set()).update(names)
    return {group: sorted(names) for group, names in sorted(variants.items()) if names}


def variant_file(group: str, name: str, plugins: Sequence[str] = ()) -> Any:
    """The YAML file of a variant, or None."""
    for root in (resources.files("mvdiff.conf"), *conf_folders(plugins)):
        file = root / group / f"{name}.yaml"
        if file.is_file():
            return file
    return None


def variant_summary(group: str, name: str, plugins: Sequence[str] = ()) -> str:
    """The first comment of a variant's YAML file: what it is."""
    file = variant_file(group, name, plugins)
    lines = file.read_text(encoding="utf-8").splitlines() if file else []
    comments = [x.split("# ", 1)[1] for x in lines if "# " in x and "@package" not in x]
    return comments[0] if comments else ""


def installed_plugins() -> dict[str, str]:
    """Entry point name → package, of installed distributions. Nothing is imported."""
    entries = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    return {entry.name: entry.value.partition(":")[0].strip() for entry in entries}


def plugins_of(overrides: Iterable[str]) -> list[str]:
    """The packages that overrides need: those that `plugins=[…]` names, and installed ones that
    bring a chosen variant.

    Names of entry points stand for their packages. Nothing is imported.
    """
    installed = installed_plugins()
    named, chosen = [], []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key == "plugins":
            named += [name.strip(" '\"") for name in value.strip("[]").split(",")]
        else:
            chosen.append((key, value))
    packages = [installed.get(name, name) for name in named if name]
    own = groups()
    for package in installed.values():
        offers = groups_of(package) if chosen else {}
        if any(v in offers.get(k, ()) and v not in own.get(k, ()) for k, v in chosen):
            packages.append(package)
    return list(dict.fromkeys(packages))


def groups_of(package: str) -> dict[str, set[str]]:
    """The variants in a package's `conf/` folder. Nothing is imported."""
    variants: dict[str, set[str]] = {}
    for root in conf_folders([package]):
        for file in root.glob("*/*.yaml"):
            variants.setdefault(file.parent.name, set()).add(file.stem)
    return variants


def load_plugins(packages: Iterable[str]) -> list[str]:
    """Import packages, so that their variants are registered.

    Raises ConfigError for a package that cannot be imported.
    """
    packages = list(packages)
    for package in packages:
        try:
            importlib.import_module(package)
        except Exception as error:  # their code, so any kind
            reason = error if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"cannot import the plugin '{package}' ({reason}): install it in this environment"
            ) from error
    return packages


def conf_folders(packages: Iterable[str]) -> list[Path]:
    """The `conf/` folders of packages, found without importing them."""
    folders = []
    for package in packages:
        top, *inner = package.split(".")
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            continue
        # a plugin of a single module has no folder, and so no YAML of its own
        for location in (spec.submodule_search_locations or ()) if spec else ():
            folders.append(Path(location, *inner, "conf"))
    return [folder for folder in folders if folder.is_dir()]
