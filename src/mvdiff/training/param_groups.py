"""Which parameters are trained, and how fast: groups by name, the rest frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ..errors import MvdiffError


def freeze_others(
    model: nn.Module, groups: Sequence[Mapping[str, Any]], weight_decay: float
) -> list[dict[str, Any]]:
    """Freeze what no group names; return the rest as torch's parameter groups.

    groups: each has `match`, the beginning of parameters' names or a pattern with `*` (or a
        list of these), and may have `lr` and `weight_decay`, which then holds for all of its
        parameters. `optional: true` is for parts that a model may be without. A parameter
        belongs to the first group that matches.
    weight_decay: for groups without their own; biases and norms (fewer than 2 dimensions) are
        then spared.
    Raises MvdiffError when a pattern matches nothing, with the names there are, and when nothing
    is left to train.
    """
    parameters = dict(model.named_parameters())
    taken: dict[str, int] = {}
    for number, group in enumerate(groups):
        unknown = [key for key in group if key not in ("match", "lr", "weight_decay", "optional")]
        if unknown or "match" not in group:
            raise MvdiffError(
                "a parameter group has match, and may have lr, weight_decay and optional; got "
                f"{', '.join(map(str, group)) or 'nothing'}"
            )
        patterns = [group["match"]] if isinstance(group["match"], str) else list(group["match"])
        for pattern in patterns:
            found = [name for name in parameters if matches(name, pattern)]
            if not found and not group.get("optional"):
                raise MvdiffError(
                    f"no parameter's name begins with or matches '{pattern}'; choose from "
                    f"{', '.join(_beginnings(parameters))}"
                )
            for name in found:
                taken.setdefault(name, number)
    if not taken:
        raise MvdiffError(
            "none of the parameter groups names a part of this model, so nothing would be trained: "
            "set train.groups (train.groups=[] trains everything)"
        )
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in taken)
    made = []
    for number, group in enumerate(groups):
        mine = [parameters[name] for name, owner in taken.items() if owner == number]
        rate = {"lr": float(group["lr"])} if group.get("lr") is not None else {}
        if group.get("weight_decay") is not None:
            made.append({"params": mine, "weight_decay": float(group["weight_decay"]), **rate})
            continue
        decayed, spared = ([p for p in mine if (p.ndim >= 2) is many] for many in (True, False))
        made.append({"params": decayed, "weight_decay": weight_decay, **rate})
        made.append({"params": spared, "weight_decay": 0.0, **rate})
    return [group for group in made if group["params"]]


def matches(name: str, pattern: str) -> bool:
    """Whether a name begins with the pattern, or matches it where it has wildcards."""
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(name, pattern)
    return name.startswith(pattern)


def frozen(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are not trained, by name."""
    return {name: p for name, p in model.named_parameters() if not p.requires_grad}


def rest_frozen_parts(model: nn.Module) -> None:
    """Put modules without a trained parameter into evaluation mode."""
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def _beginnings(names: Mapping[str, Any]) -> list[str]:
    """The names' first parts, and the second ones of parts that are a whole model each."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        depth = 2 if parts[0] in ("unet", "volume") and len(parts) > 2 else 1
        found[".".join(parts[:depth]) + "."] = None
    return list(found)
