"""What a command is: its name, settings, help and what it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

Job = Callable[[], int]


def read_config(name: str, run: Callable[[Any], int], overrides: Sequence[str]) -> tuple[Any, Job]:
    """The composed config of a command, and the call that runs it."""
    from ..config.compose import compose

    config = compose(name, overrides)
    return config, partial(run, config)


@dataclass(frozen=True)
class Command:
    """A command of `mvdiff`, declared in its own file.

    name: as typed. summary: its line in the overview. description: the first line of its help.
    config: the dataclass of its settings (see `config.settings`), None for a command without.
    run: takes the composed config and returns the exit code.
    examples: command lines for its help. details: further lines of its help.
    extends: the command whose settings this one has, too; its help names it.
    read: overrides → (config, call that runs it), where composing is not all that is needed.
    """

    name: str
    summary: str
    description: str
    config: type | None
    run: Callable[[Any], int]
    examples: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    extends: Command | None = None
    read: Callable[[Sequence[str]], tuple[Any, Job]] | None = None

    def __post_init__(self) -> None:
        if self.config is not None:
            from ..config.schema import register

            register(self.name, self.config)

    def prepare(self, overrides: Sequence[str]) -> tuple[Any, Job]:
        """The config of these overrides, and the call that runs it. Raises ConfigError."""
        if self.read is not None:
            return self.read(overrides)
        return read_config(self.name, self.run, overrides)


def exit_code(failed: int, meshless: int, pictures: int) -> int:
    """1 when some images failed or have no mesh, 2 when all of them failed."""
    if failed and failed == pictures:
        return 2
    return 1 if failed or meshless else 0
