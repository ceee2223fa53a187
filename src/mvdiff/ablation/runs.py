"""A run: one variant with one seed. Its folder's name says what it is, its files how far it got.

`<out>/runs/<variant>-seed<n>-<digest>/` holds `run.json` (what is asked for), `costs.json`
(measured before training, with the number of steps the budget buys), `checkpoints/` and
`log.jsonl` (of training), `spent.json` (what each stretch of training took), `views.npz` and
`result.json` (the end), or `failed.json` (one sentence).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.fingerprint import data_fingerprint
from ..errors import DataError, MvdiffError
from ..utils.files import read_json, write_json

#: settings that change nothing about a run's result
_IGNORED_KEYS = (
    "out", "seed", "seeds", "variants", "report", "objects", "samples", "val_data", "log_every",
    "checkpoint_every", "tensorboard", "validate_every", "validate_objects", "latent_cache",
    "resume", "max_minutes", "profile_seconds", "budget", "lpips",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One variant with one seed.

    folder: of its files. overrides: what its config is composed of.
    comparison_key: digest of what runs have in common that can be compared (budget, data, held-out
        objects and fixed settings). evaluation: how it is scored. budget: {kind: amount}.
    """

    folder: Path
    variant: str
    seed: int
    overrides: tuple[str, ...]
    comparison_key: str
    evaluation: Mapping[str, Any]
    budget: Mapping[str, float]

    @property
    def name(self) -> str:
        return f"{self.variant}, seed {self.seed}"

    def write_manifest(self) -> None:
        """Write `run.json`, by which a job learns what to do."""
        content = {k: v for k, v in vars(self).items() if k != "folder"}
        write_json(self.folder / "run.json", content)

    @staticmethod
    def load(folder: str | Path) -> Run:
        """The run recorded in a folder. Raises DataError for a folder without a run."""
        content = read_json(Path(folder) / "run.json", dict)
        if content is None:
            raise DataError(f"no run in '{folder}': its run.json is missing or damaged")
        return Run(Path(folder), **{**content, "overrides": tuple(content["overrides"])})

    @property
    def result(self) -> dict[str, Any] | None:
        """What it found, once it was trained and scored as wanted."""
        result = read_json(self.folder / "result.json", dict)
        fits = result is not None and result.get("evaluation") == dict(self.evaluation)
        return result if fits else None

    @property
    def failure(self) -> str | None:
        """Why it failed, in one sentence."""
        failed = read_json(self.folder / "failed.json", dict)
        return None if failed is None else str(failed["error"])


def all_runs(out: str | Path) -> list[Run]:
    """Every run in a sweep's folder, by name."""
    return [Run.load(path.parent) for path in sorted(Path(out).glob("runs/*/run.json"))]


def run_folder(
    out: str | Path, variant: str, seed: int, config: Mapping[str, Any], budget: Mapping[str, Any]
) -> Path:
    """The folder of a run: equal for equal settings, another one for others.

    config: all its settings as plain containers. budget: {kind: amount}.
    """
    kept = {key: value for key, value in config.items() if key not in _IGNORED_KEYS}
    kept["train"] = {k: v for k, v in config["train"].items() if k != "steps"}
    kept["data"] = data_stamp(config["data"])
    slug = re.sub(r"[^\w.=-]+", "_", variant)[:60].strip("_")
    end = f"-seed{seed}-{short_hash([kept, seed, budget])}"
    # the same settings may have had another name in an earlier sweep
    there = sorted(Path(out).glob(f"runs/*{end}"))
    return there[0] if there else Path(out) / "runs" / (slug + end)


def data_stamp(data: Any) -> list[list[str]]:
    """What stands for the data: each folder's place, however it was written, and its content.

    A folder without data has no content; the run that reads it says what is wrong.
    """
    stamps = []
    for root in data if isinstance(data, list) else [data]:
        folder = Path(str(root)).expanduser().resolve()
        try:
            stamps.append([str(folder), data_fingerprint(folder)[:16]])
        except MvdiffError:
            stamps.append([str(folder), ""])
    return stamps


def short_hash(content: Any) -> str:
    """Eight characters that stand for anything JSON can hold."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
