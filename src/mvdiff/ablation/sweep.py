"""The words of `mvdiff ablate` → one config, and the variants to compare. Knows no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.compose import compose, literal, quoted
from ..config.launcher import hydra_words
from ..errors import MvdiffError

#: what a sweep keeps for itself, and what to write instead
_OWN = {
    "seed": "write seeds=0,1",
    "train.steps": "write budget.steps=N",
    "time_budget": "write budget.seconds=N",
    "resume": "a sweep always goes on where it stopped",
}
#: one value for all runs, or they could not be compared
SHARED = (
    "data", "out", "seeds", "objects", "samples", "variants", "report", "val_data", "plugins",
    "lpips",
)  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """What one row of the table departs in: its name, and Hydra overrides."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """What the command line asks for.

    config: the settings that all runs share, composed.
    fixed: the overrides behind them. variants: in the order of the table.
    hydra: the words for Hydra itself, such as "hydra/launcher=joblib".
    """

    config: Any
    fixed: tuple[str, ...]
    variants: tuple[Variant, ...]
    hydra: tuple[str, ...]


def read_sweep(words: Sequence[str]) -> Sweep:
    """Read `attention=none,depthwise train.lr=range(1,3) variants={…} seeds=0,1 …`.

    Every value that Hydra's grammar reads as a sweep is swept; variants (if any) are combined
    with each point of the sweep. Raises MvdiffError on words that make no sense.
    """
    given = [quoted("ablate", word) for word in words]
    hydra, given = hydra_words(given)
    for word in given:
        key = _key(word)
        if key in _OWN:
            raise MvdiffError(f"mvdiff ablate sets '{key}' itself: {_OWN[key]}")
    swept, fixed = _split(given)
    reporting = any(_key(word) == "report" for word in fixed)
    config = compose("ablate", [*fixed, *["data=none"] * reporting])
    named = named_variants(config.variants)
    points = _product(swept)
    variants = [
        Variant(
            ", ".join([name] * bool(name) + [_shown(o) for o in point]) or "default",
            (*overrides, *point),
        )
        for name, overrides in named
        for point in points
    ]
    unique = {variant.overrides: variant for variant in variants}
    return Sweep(config, tuple(fixed), tuple(unique.values()), tuple(hydra))


def combine(fixed: Iterable[str], variant: Iterable[str]) -> list[str]:
    """A variant's overrides after the shared ones, which give way to them."""
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
            raise MvdiffError(
                f"no file of variants at {where}: give a YAML file, or variants='"
                "{full: {}, independent: {attention: none, volume: none}}'"
            ) from error
        except Exception as error:  # YAML's own kinds of error
            reason = str(error).splitlines()[0]
            raise MvdiffError(f"{where} is not readable YAML ({reason})") from error
    content = OmegaConf.to_container(value) if isinstance(value, DictConfig) else value
    good = isinstance(content, Mapping) and content
    if not good or not all(isinstance(v or {}, Mapping) for v in content.values()):
        raise MvdiffError(
            f"{where} must name settings, as in "
            "{full: {}, independent: {attention: none, volume: none}}"
        )
    out = []
    for name, settings in content.items():
        for key in settings or {}:
            _refuse(str(key), f"in the variant '{name}'")
        out.append((str(name), [f"{k}={_written(v)}" for k, v in (settings or {}).items()]))
    return out


def _split(words: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Parsed overrides with several values, and the words with one."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create(config_loader=_Groups())
    swept, fixed = [], []
    for word in words:
        try:
            override = parser.parse_overrides([word])[0]
        except HydraException:
            fixed.append(word)  # composing tells what is wrong with it
            continue
        if not override.is_sweep_override():
            fixed.append(word)
            continue
        key = _key(word)
        _refuse(key, "by a sweep")
        if not override.is_discrete_sweep():
            raise MvdiffError(f"'{word}' is no list of values: write {key}=a,b or {key}=range(1,4)")
        swept.append(override)
    return swept, fixed


def _product(swept: list[Any]) -> list[list[str]]:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    if not swept:
        return [[]]
    points = BasicSweeper.split_arguments(swept, max_batch_size=None)[0]
    if not points:
        words = " ".join(override.input_line for override in swept)
        raise MvdiffError(f"nothing to sweep in '{words}': no value fits")
    return points


def _refuse(key: str, how: str) -> None:
    if key in SHARED or key.startswith("budget") or key in _OWN:
        instead = f": {_OWN[key]}" if key in _OWN else ", or runs could not be compared"
        raise MvdiffError(f"'{key}' cannot be changed {how}; it has one value for all{instead}")


class _Groups:
    """What Hydra's parser asks for when it meets `attention=glob(*)`."""

    def get_group_options(self, group_name: str, results_filter: Any = None) -> list[str]:
        from ..config.compose import groups

        return groups().get(group_name, [])


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _shown(override: str) -> str:
    """`train.lr=0.0001` as people read it."""
    key, _, value = override.lstrip("+").partition("=")
    return f"{key}={value.strip(chr(39))}"


def _written(value: Any) -> str:
    """A value as Hydra's grammar wants it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{_written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_][\w./-]*", value):
        return literal(value)
    return str(value)
