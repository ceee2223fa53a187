"""The overrides of `mvdiff ablate` → one config and the variants to compare; without torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.compose import compose
from ..config.launcher import split_hydra_overrides
from ..config.overrides import quote_literal, quote_override
from ..config.schema import AblateConfig
from ..config.sweeps import split_sweep
from ..errors import ConfigError

#: settings that a sweep decides itself → what to write instead
_RESERVED = {
    "seed": "write seeds=0,1",
    "train.steps": "write budget.steps=N",
    "max_minutes": "write budget.seconds=N",
    "resume": "a sweep always goes on where it stopped",
}
#: one value for all runs, or they could not be compared
SHARED = (
    "data", "out", "seeds", "objects", "samples", "variants", "report", "val_data", "plugins",
    "lpips",
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One row of the table: its name, and the Hydra overrides that make it different."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """What the command line asks for.

    config: the settings that all runs share, composed.
    fixed: the overrides that gave them. variants: in the order of the table.
    hydra: the overrides for Hydra itself, such as "hydra/launcher=joblib".
    """

    config: AblateConfig
    fixed: tuple[str, ...]
    variants: tuple[Variant, ...]
    hydra: tuple[str, ...]


def read_sweep(words: Sequence[str]) -> Sweep:
    """Read `attention=none,depthwise train.lr=range(1,3) variants={…} seeds=0,1 …`.

    Every value that Hydra's grammar reads as a sweep is swept; variants (if any) are combined
    with each point of the sweep. Raises ConfigError on invalid overrides.
    """
    hydra, given = split_hydra_overrides([quote_override("ablate", word) for word in words])
    for word in given:
        key = _key(word)
        if key in _RESERVED:
            raise ConfigError(f"mvdiff ablate sets '{key}' itself: {_RESERVED[key]}")
    points, fixed = split_sweep("ablate", given)
    for word in points[0]:
        _reject(_key(word), "by a sweep")
    reporting = any(_key(word) == "report" for word in fixed)
    config = compose("ablate", [*fixed, *["data=none"] * reporting])
    named = named_variants(config.variants)
    variants = [
        Variant(
            ", ".join([name] * bool(name) + [_label(o) for o in point]) or "default",
            (*overrides, *point),
        )
        for name, overrides in named
        for point in points
    ]
    unique = {variant.overrides: variant for variant in variants}
    return Sweep(config, tuple(fixed), tuple(unique.values()), tuple(hydra))


def combine(fixed: Iterable[str], variant: Iterable[str]) -> list[str]:
    """The shared overrides, then a variant's own, which replace those of the same key."""
    own = {_key(word) for word in variant}
    plain = [word for word in fixed if _key(word) not in own and _key(word) != "variants"]
    return [*plain, *variant]


def named_variants(value: Any) -> list[tuple[str, list[str]]]:
    """`{name: {setting: value}}`, or the YAML file that holds it, as overrides by name."""
    from omegaconf import DictConfig, OmegaConf

    if value is None:
        return [("", [])]
    where = "variants"
    if isinstance(value, str):
        where = f"'{value}'"
        try:
            value = OmegaConf.load(Path(value).expanduser())
        except FileNotFoundError as error:
            raise ConfigError(
                f"no file of variants at {where}: give a YAML file, or variants='"
                "{full: {}, independent: {attention: none, volume: none}}'"
            ) from error
        except Exception as error:  # YAML's own kinds of error
            reason = str(error).splitlines()[0]
            raise ConfigError(f"{where} is not readable YAML ({reason})") from error
    content = OmegaConf.to_container(value) if isinstance(value, DictConfig) else value
    good = isinstance(content, Mapping) and content
    if not good or not all(isinstance(v or {}, Mapping) for v in content.values()):
        raise ConfigError(
            f"{where} must name settings, as in "
            "{full: {}, independent: {attention: none, volume: none}}"
        )
    out = []
    for name, settings in content.items():
        for key in settings or {}:
            _reject(str(key), f"in the variant '{name}'")
        out.append((str(name), [f"{k}={_to_override(v)}" for k, v in (settings or {}).items()]))
    return out


def _reject(key: str, how: str) -> None:
    if key in SHARED or key.startswith("budget") or key in _RESERVED:
        instead = f": {_RESERVED[key]}" if key in _RESERVED else ", or runs could not be compared"
        raise ConfigError(f"'{key}' cannot be changed {how}; it has one value for all{instead}")


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _label(override: str) -> str:
    """`train.lr=0.0001` as people read it."""
    key, _, value = override.lstrip("+").partition("=")
    return f"{key}={value.strip(chr(39))}"


def _to_override(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{_to_override(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_to_override, value)) + "]"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_][\w./-]*", value):
        return quote_literal(value)
    return str(value)
