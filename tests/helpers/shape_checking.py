"""Shapes and types of every public signature are checked in the whole test run."""

from __future__ import annotations

import functools

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

#: beartype, with `int` accepted for `float` as PEP 484 says
check = beartype(conf=BeartypeConf(is_pep484_tower=True))


@functools.cache
def check_shapes() -> None:
    """Check the signatures of every module of mvdiff that is imported from now on."""
    install_import_hook("mvdiff", "helpers.shape_checking.check")
