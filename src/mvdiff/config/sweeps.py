"""Sweeps: overrides with several values, in Hydra's grammar → the points of their product."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError
from .groups import groups, plugins_of
from .overrides import quote_override


class _Groups:
    """What Hydra's parser asks for when it meets `attention=glob(*)`."""

    def __init__(self, plugins: Sequence[str]) -> None:
        self.plugins = plugins

    def get_group_options(self, group_name: str, results_filter: Any = None) -> list[str]:
        return groups(self.plugins).get(group_name, [])


def split_sweep(command: str, overrides: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Overrides with several values → (points of their product, the other overrides).

    A point is a list with one override per swept setting; without any there is one empty point.
    Raises ConfigError for intervals (`interval(0,1)`), and when a sweep has no value.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create(config_loader=_Groups(plugins_of(overrides)))
    swept: list[list[str]] = []
    fixed = []
    for override in overrides:
        quoted = quote_override(command, override)
        try:
            parsed = parser.parse_overrides([quoted])[0]
        except HydraException:
            fixed.append(override)  # composing reports what is wrong with it
            continue
        if not parsed.is_sweep_override():
            fixed.append(override)
            continue
        key = override.lstrip("+~").partition("=")[0]
        if not parsed.is_discrete_sweep():
            raise ConfigError(
                f"'{override}' is no list of values: write {key}=a,b or {key}=range(1,4)"
            )
        name = parsed.get_key_element()
        swept.append([f"{name}={value}" for value in parsed.sweep_string_iterator()])
        if not swept[-1]:
            raise ConfigError(f"nothing to sweep in '{override}': no value fits")
    return [list(point) for point in itertools.product(*swept)], fixed
