"""`mvdiff list`: slots and their variants."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any


def slots(plugins: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Slot → variant → one line about it. plugins: imported packages with further variants."""
    from ..attention import ATTENTION
    from ..builders import SCHEDULERS
    from ..config.compose import groups, yaml_comment
    from ..denoiser.embedders import EMBEDDERS
    from ..latents.autoencoders import LATENTS
    from ..preprocessing.segmentation import FOREGROUND
    from ..radiance import RADIANCE
    from ..recon import RECONSTRUCTORS
    from ..volumes import VOLUMES

    registries = (ATTENTION, VOLUMES, RADIANCE, LATENTS, EMBEDDERS, FOREGROUND, RECONSTRUCTORS)
    found = {r.slot: {name: _first_line(r[name]) for name in r} for r in registries}
    found["reconstructor"]["none"] = "No mesh."
    found["radiance"]["none"] = "Nothing is rendered: the UNet draws every view by itself."
    known = groups(plugins)
    found["sampler"] = {
        name: f"{yaml_comment('sampler', name)}: diffusers' {SCHEDULERS[name]}."
        for name in sorted(SCHEDULERS)
    }
    for group in ("guidance", "noise", "rig", "recipe"):
        found[group] = {name: yaml_comment(group, name, plugins) for name in known[group]}
    return found


def _first_line(entry: Any) -> str:
    return (inspect.getdoc(entry) or "").split("\n", 1)[0]


def run(plugins: Sequence[str] = ()) -> int:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("slot", "variant", "what it is", title="Choose with slot=variant")
    for slot, variants in slots(plugins).items():
        for i, (name, line) in enumerate(variants.items()):
            table.add_row(slot if i == 0 else "", name, line, end_section=i == len(variants) - 1)
    Console().print(table)
    return 0
