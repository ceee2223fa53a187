"""`mvdiff list`: slots and their variants."""

from __future__ import annotations

import inspect
from typing import Any


def slots() -> dict[str, dict[str, str]]:
    """Slot → variant → one line about it."""
    from ..attention import ATTENTION
    from ..build import SCHEDULERS
    from ..config import groups
    from ..inputs.embed import EMBEDDERS
    from ..inputs.foreground import FOREGROUND
    from ..inputs.latents import LATENTS
    from ..recon import RECONSTRUCTORS
    from ..volumes import VOLUMES

    registries = (ATTENTION, VOLUMES, LATENTS, EMBEDDERS, FOREGROUND, RECONSTRUCTORS)
    found = {r.slot: {name: _first_line(r[name]) for name in r} for r in registries}
    found["reconstructor"]["none"] = "No mesh."
    found["sampler"] = {name: f"diffusers' {SCHEDULERS[name]}." for name in sorted(SCHEDULERS)}
    known = groups()
    for group in ("guidance", "noise", "rig", "recipe"):
        found[group] = {name: _yaml_comment(group, name) for name in known[group]}
    return found


def _first_line(entry: Any) -> str:
    return (inspect.getdoc(entry) or "").split("\n", 1)[0]


def _yaml_comment(group: str, name: str) -> str:
    from importlib import resources

    lines = (resources.files("mvdiff.conf") / group / f"{name}.yaml").read_text().splitlines()
    comments = [x.split("# ", 1)[1] for x in lines if "# " in x and "@package" not in x]
    return comments[0] if comments else ""


def run() -> int:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("slot", "variant", "what it is", title="Choose with slot=variant")
    for slot, variants in slots().items():
        for i, (name, line) in enumerate(variants.items()):
            table.add_row(slot if i == 0 else "", name, line, end_section=i == len(variants) - 1)
    Console().print(table)
    return 0
