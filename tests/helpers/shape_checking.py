"""Shapes and types of every public signature are checked in the whole test run."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

#: beartype, with `int` accepted for `float` as PEP 484 says
check = beartype(conf=BeartypeConf(is_pep484_tower=True))


#: rooms of the command line: their configs are OmegaConf's stand-ins for the annotated dataclasses
UNCHECKED = ("ablation", "cli", "conf", "config", "generation")


@functools.cache
def check_shapes() -> None:
    """Check the signatures of the modules of mvdiff that are imported from now on."""
    folder = Path(find_spec("mvdiff").origin).parent
    names = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}
    rooms = sorted(names - {"__init__", "__main__", "__pycache__", *UNCHECKED})
    install_import_hook([f"mvdiff.{room}" for room in rooms], "helpers.shape_checking.check")
