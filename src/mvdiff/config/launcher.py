"""Runs jobs by a Hydra launcher: one after the other here, or wherever the launcher puts them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .compose import isolated_hydra
from .overrides import quote_literal

Task = Callable[[Any], Any]


def split_hydra_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides for Hydra itself, such as "hydra/launcher=joblib", and the others."""
    hydra = [word for word in overrides if re.match(r"\+*hydra[./]", word)]
    return hydra, [word for word in overrides if word not in hydra]


def run_multirun(paths: Sequence[Path], task: Task, out: Path, overrides: Sequence[str]) -> None:
    """Call `task` with a config whose `run` is the path, once for each, by Hydra's multirun.

    task: importable, since launchers send its name to other processes; must not raise, since
        one job's error ends Hydra's sweep.
    overrides: Hydra's own overrides, e.g. ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"].
    Raises ConfigError when Hydra does not accept those. A launcher that fails later is
    reported on stderr; callers see from the jobs' results which of them ended.
    """
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    run_dirs = ",".join(quote_literal(str(path)) for path in paths)
    settings = [
        f"+run={run_dirs}",
        f"hydra.sweep.dir={quote_literal(str(out / 'hydra'))}",
        "hydra.sweep.subdir=.",
        "hydra.output_subdir=null",
        # their log lines would come between a run's own
        "hydra/hydra_logging=none",
        "hydra/job_logging=none",
        *overrides,
    ]
    with isolated_hydra(), initialize_config_module("mvdiff.conf", version_base="1.3"):
        hydra: Any = GlobalHydra.instance().hydra
        _check_launcher(hydra, overrides)
        try:
            hydra.multirun(None, task, settings, with_log_configuration=False)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(
                f"Hydra does not accept {' '.join(overrides)}: {str(error).splitlines()[0]}"
            ) from error
        except Exception as error:  # a killed worker, a rejected job: finished jobs stay
            first = str(error).splitlines()[0] if str(error) else ""
            print(f"mvdiff: the launcher failed: {type(error).__name__}: {first}", file=sys.stderr)


def _check_launcher(hydra: Any, words: Sequence[str]) -> None:
    known = hydra.config_loader.get_group_options("hydra/launcher")
    for word in words:
        key, _, name = word.lstrip("+").partition("=")
        if key == "hydra/launcher" and name not in known:
            raise ConfigError(
                f"the launcher '{name}' is not installed (there are: {', '.join(known)}): "
                f"pip install hydra-{name.split('_')[0]}-launcher"
            )
