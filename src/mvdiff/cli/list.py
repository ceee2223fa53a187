"""`mvdiff list`: parts and their variants."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError
from .command import Command


def slots(plugins: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Part → variant → one line about it. plugins: imported packages with further variants."""
    from ..attention import ATTENTION
    from ..builders import SCHEDULERS
    from ..config.groups import groups, variant_summary
    from ..denoiser.context import CONTEXTS
    from ..denoiser.embedders import EMBEDDERS
    from ..latents.autoencoders import LATENTS
    from ..preprocessing.segmentation import SEGMENTERS
    from ..radiance import RADIANCE
    from ..recon import RECONSTRUCTORS
    from ..volumes import VOLUMES

    registries = (ATTENTION, VOLUMES, RADIANCE, LATENTS, EMBEDDERS, CONTEXTS)
    registries = (*registries, SEGMENTERS, RECONSTRUCTORS)
    variants = {r.component: {name: _first_line(r[name]) for name in r} for r in registries}
    variants["context"]["token"] = "One token: the picture's embedding with the view's pose."
    variants["reconstructor"]["none"] = "No mesh."
    variants["radiance"]["none"] = "Nothing is rendered: the UNet draws every view by itself."
    known = groups(plugins)
    variants["sampler"] = {
        name: f"{variant_summary('sampler', name)}: diffusers' {SCHEDULERS[name]}."
        for name in sorted(SCHEDULERS)
    }
    for group in ("guidance", "noise", "rig", "recipe"):
        variants[group] = {name: variant_summary(group, name, plugins) for name in known[group]}
    return variants


def _first_line(entry: Any) -> str:
    return (inspect.getdoc(entry) or "").split("\n", 1)[0]


def run(words: Sequence[str] = ()) -> int:
    """Print the table. words: `plugins=[…]` at most."""
    from rich.console import Console
    from rich.table import Table

    from ..config.groups import groups_of, installed_plugins, load_plugins, plugins_of

    unknown = [word for word in words if not word.startswith("plugins=")]
    if unknown:
        raise ConfigError(f"mvdiff list takes plugins=[…] at most, got '{unknown[0]}'")
    plugins = load_plugins(plugins_of(words))

    table = Table("part", "variant", "what it is", title="Choose with part=variant")
    for slot, variants in slots(plugins).items():
        for i, (name, line) in enumerate(variants.items()):
            table.add_row(slot if i == 0 else "", name, line, end_section=i == len(variants) - 1)
    Console().print(table)
    for name, package in installed_plugins().items():
        if package in plugins:
            continue
        offers = [
            f"{g}={v}" for g, names in sorted(groups_of(package).items()) for v in sorted(names)
        ]
        print(
            f"plugin '{name}' (not imported): {', '.join(offers) or 'no YAML; use plugins=' + name}"
        )
    return 0


COMMAND = Command(
    name="list",
    summary="parts, their variants, one line each",
    description="Parts and their variants; choose one with part=variant.",
    config=None,
    run=run,
    details=("mvdiff list plugins=[PACKAGE] adds the variants of a package.",),
)
