"""Name → class, one `Registry` per component. A variant registers itself on import of its file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Any


class Registry:
    """The variants of one component, which is also a config group.

    Example:
        >>> ATTENTION = Registry("attention")
        >>> @ATTENTION.register("depthwise")
        ... class DepthwiseAttention: ...
        >>> ATTENTION["depthwise"] is DepthwiseAttention
        True
        >>> list(ATTENTION)
        ['depthwise']
        >>> ATTENTION["depthwide"]
        Traceback (most recent call last):
        KeyError: "unknown attention 'depthwide'; choose from depthwise. Did you mean 'depthwise'?"
    """

    def __init__(self, component: str) -> None:
        self.component = component
        self._entries: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[Any], Any]:
        """Decorator that files a class or function under `name`; ValueError when taken."""

        def file(entry: Any) -> Any:
            if name in self._entries:
                raise ValueError(
                    f"{self.component} '{name}' is registered twice: pick another name"
                )
            self._entries[name] = entry
            return entry

        return file

    def __getitem__(self, name: str) -> Any:
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise KeyError(
                f"unknown {self.component} '{name}'; choose from {', '.join(self)}.{hint}"
            )
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries
