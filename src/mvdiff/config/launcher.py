"""Hands jobs to a Hydra launcher: one after the other here, or wherever the launcher puts them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import MvdiffError
from .compose import literal, own_hydra

Task = Callable[[Any], Any]


def hydra_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those for Hydra itself, such as "hydra/launcher=joblib", and the others."""
    hydra = [word for word in words if re.match(r"\+*hydra[./]", word)]
    return hydra, [word for word in words if word not in hydra]


def launch(paths: Sequence[Path], task: Task, out: Path, words: Sequence[str]) -> None:
    """Call `task` with a config whose `run` is the path, once for each, by Hydra's multirun.

    task: importable, since launchers send its name to other processes; must not raise, since
        one job's error ends Hydra's sweep.
    words: Hydra's own overrides, e.g. ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"].
    Raises MvdiffError when Hydra does not accept those. A launcher that fails later is told about,
    and callers see by what the jobs have left which of them came to an end.
    """
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    places = ",".join(literal(str(path)) for path in paths)
    settings = [
        f"+run={places}",
        f"hydra.sweep.dir={literal(str(out / 'hydra'))}",
        "hydra.sweep.subdir=.",
        "hydra.output_subdir=null",
        # their log lines would come between a run's own
        "hydra/hydra_logging=none",
        "hydra/job_logging=none",
        *words,
    ]
    with own_hydra(), initialize_config_module("mvdiff.conf", version_base="1.3"):
        hydra: Any = GlobalHydra.instance().hydra
        _check_launcher(hydra, words)
        try:
            hydra.multirun(None, task, settings, with_log_configuration=False)
        except (HydraException, OmegaConfBaseException) as error:
            raise MvdiffError(
                f"Hydra does not accept {' '.join(words)}: {str(error).splitlines()[0]}"
            ) from error
        except Exception as error:  # a worker was killed, a queue refused: what is done is done
            first = str(error).splitlines()[0] if str(error) else ""
            print(f"mvdiff: the launcher failed: {type(error).__name__}: {first}", file=sys.stderr)


def _check_launcher(hydra: Any, words: Sequence[str]) -> None:
    known = hydra.config_loader.get_group_options("hydra/launcher")
    for word in words:
        key, _, name = word.lstrip("+").partition("=")
        if key == "hydra/launcher" and name not in known:
            raise MvdiffError(
                f"the launcher '{name}' is not installed (there are: {', '.join(known)}): "
                f"pip install hydra-{name.split('_')[0]}-launcher"
            )
