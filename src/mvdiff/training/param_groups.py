"""Which parameters are trained, and how fast: groups by name, the rest frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from ..errors import ConfigError


def make_param_groups(
    model: nn.Module, groups: Sequence[Mapping[str, Any]], weight_decay: float
) -> list[dict[str, Any]]:
    """Torch's parameter groups of the named parameters; all others are frozen.

    groups: each has `match`, the beginning of parameters' names or a pattern with `*` (or a
        list of these), and may have `lr` and `weight_decay`, which then holds for all of its
        parameters. `optional: true` is for parts that a model may lack. A parameter belongs to
        the first group that matches.
    weight_decay: for groups without their own; biases and norms (fewer than 2 dimensions) are
        then not decayed.
    Raises ConfigError when a pattern matches nothing, with the names there are, and when nothing
    is left to train.
    """
    owners = match_parameters(model, groups)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in owners)
    return _to_torch_groups(model, groups, owners, weight_decay)


def match_parameters(model: nn.Module, groups: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Parameter name → number of the first group that matches it."""
    names = [name for name, _ in model.named_parameters()]
    owners: dict[str, int] = {}
    for number, group in enumerate(groups):
        unknown = [key for key in group if key not in ("match", "lr", "weight_decay", "optional")]
        if unknown or "match" not in group:
            raise ConfigError(
                "a parameter group has match, and may have lr, weight_decay and optional; got "
                f"{', '.join(map(str, group)) or 'nothing'}"
            )
        patterns = [group["match"]] if isinstance(group["match"], str) else list(group["match"])
        for pattern in patterns:
            matched = [name for name in names if matches(name, pattern)]
            if not matched and not group.get("optional"):
                raise ConfigError(
                    f"no parameter's name begins with or matches '{pattern}'; choose from "
                    f"{', '.join(_prefixes(names))}"
                )
            for name in matched:
                owners.setdefault(name, number)
    if not owners:
        raise ConfigError(
            "none of the parameter groups names a part of this model, so nothing would be trained: "
            "set train.groups (train.groups=[] trains everything)"
        )
    return owners


def _to_torch_groups(
    model: nn.Module,
    groups: Sequence[Mapping[str, Any]],
    owners: Mapping[str, int],
    weight_decay: float,
) -> list[dict[str, Any]]:
    parameters = dict(model.named_parameters())
    torch_groups = []
    for number, group in enumerate(groups):
        members = [parameters[name] for name, owner in owners.items() if owner == number]
        rate = {"lr": float(group["lr"])} if group.get("lr") is not None else {}
        if group.get("weight_decay") is not None:
            decay = float(group["weight_decay"])
            torch_groups.append({"params": members, "weight_decay": decay, **rate})
            continue
        decayed = [p for p in members if p.ndim >= 2]
        undecayed = [p for p in members if p.ndim < 2]
        torch_groups.append({"params": decayed, "weight_decay": weight_decay, **rate})
        torch_groups.append({"params": undecayed, "weight_decay": 0.0, **rate})
    return [group for group in torch_groups if group["params"]]


def matches(name: str, pattern: str) -> bool:
    """Whether a name begins with the pattern, or matches it where it has wildcards."""
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(name, pattern)
    return name.startswith(pattern)


def frozen_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are not trained, by name."""
    return {name: p for name, p in model.named_parameters() if not p.requires_grad}


def eval_frozen_modules(model: nn.Module) -> None:
    """Put modules without a trained parameter into evaluation mode."""
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def _prefixes(names: Iterable[str]) -> list[str]:
    """The first parts of names, and the second ones inside the UNet and the volume."""
    prefixes: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        depth = 2 if parts[0] in ("unet", "volume") and len(parts) > 2 else 1
        prefixes[".".join(parts[:depth]) + "."] = None
    return list(prefixes)
