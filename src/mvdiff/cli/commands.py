"""The commands by name."""

from __future__ import annotations

import importlib

from .command import Command

#: the modules of this package that declare a command, in the order of the overview
MODULES = (
    "generate",
    "reconstruct",
    "render",
    "train",
    "export",
    "convert",
    "evaluate",
    "ablate",
    "list",
)

COMMANDS: dict[str, Command] = {
    name: importlib.import_module(f"mvdiff.cli.{name}").COMMAND for name in MODULES
}
