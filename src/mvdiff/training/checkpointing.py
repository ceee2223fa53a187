"""Checkpoints: written whole or not at all, read without executing anything.

`<out>/checkpoints/step-00001000/` holds `model.safetensors`, `ema.safetensors`,
`optimizer.pt` and `state.json`. Weights that are not trained are left out; `state.json` then says
under "base" which file they came from, and their digest. A run that goes on from an earlier step
renames the later ones to `aside-step-…`, so that the highest number is always the newest.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import MvdiffError, WeightsError
from ..utils.files import atomic, load_json, write_text
from ..utils.precision import check_precision

T = TypeVar("T")


def save_weights(
    weights: Mapping[str, Tensor],
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    precision: str | None = None,
) -> Path:
    """Write a state dict as safetensors, atomically.

    metadata: strings stored in the file's header.
    precision: "fp32", "bf16" or "fp16" casts floating-point tensors; None keeps them.
    """
    dtype = None if precision is None else check_precision(precision)
    kept = {}
    for name, tensor in weights.items():
        tensor = tensor.detach().to("cpu")
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        # A copy of its own: safetensors refuses tensors that share memory.
        kept[name] = tensor.clone(memory_format=torch.contiguous_format)
    with atomic(path) as part:
        save_file(kept, part, metadata=dict(metadata or {}))
    return Path(path)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load safetensors into a model; one sentence (MvdiffError) when they do not fit."""
    try:
        weights = load_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"no weights at '{path}': check the path") from error
    except Exception as error:  # safetensors raises its own kinds for each sort of damage
        raise WeightsError(f"'{path}' is not a readable safetensors file ({error})") from error
    check_weights(model.state_dict(), weights, path)
    model.load_state_dict(weights)


def trained_state(model: nn.Module, of: nn.Module | None = None) -> dict[str, Tensor]:
    """The state dict of `model` without what is frozen in `of` (default: in itself)."""
    frozen = {name for name, p in (of or model).named_parameters() if not p.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def check_weights(
    own: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: str | Path
) -> None:
    """Raise WeightsError unless names and shapes are those of `own`, a model's state dict."""
    wanted = {name: tuple(t.shape) for name, t in own.items()}
    there = {name: tuple(t.shape) for name, t in weights.items()}
    faults = [
        f"'{name}' has shape {there[name]}, this model needs {shape}"
        for name, shape in wanted.items()
        if name in there and there[name] != shape
    ]
    faults += [f"'{name}' is missing" for name in wanted if name not in there]
    faults += [f"'{name}' is unknown to this model" for name in there if name not in wanted]
    if faults:
        more = f" (and {len(faults) - 1} more differences)" if len(faults) > 1 else ""
        raise WeightsError(
            f"'{path}' holds another model: {faults[0]}{more}; use the configuration it was "
            "trained with, or another output folder"
        )


class CheckpointManager:
    """The checkpoints of one run.

    out: the run's folder. keep: how many of the newest stay.
    """

    def __init__(self, out: str | Path, keep: int = 2) -> None:
        self.folder = Path(out) / "checkpoints"
        self.keep = max(keep, 1)

    def all(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        found = [p for p in self.folder.glob("step-*") if re.fullmatch(r"step-\d+", p.name)]
        return sorted((p for p in found if (p / "state.json").is_file()), key=_step)

    def archive_later(self, step: int, current: Path | None) -> dict[str, str]:
        """Rename what a run that goes on from `step` leaves behind; {old name: new name}.

        These are the checkpoints of `step` and later, but for `current`, the one it goes on from.
        """
        here = None if current is None else current.resolve()
        moved = {}
        for path in self.all():
            if _step(path) < step or path.resolve() == here:
                continue
            free = self.folder / f"aside-{path.name}"
            number = 1
            while free.exists():
                number += 1
                free = self.folder / f"aside-{path.name}-{number}"
            try:
                path.rename(free)
            except OSError as error:
                raise WeightsError(
                    f"cannot rename '{path}' ({error.strerror}), which is later than step {step}: "
                    "move it elsewhere, or choose another output folder"
                ) from error
            moved[path.name] = free.name
        return moved

    def save(
        self,
        step: int,
        model: nn.Module,
        ema: nn.Module,
        optimizer: Mapping[str, Any],
        state: Mapping[str, Any],
    ) -> Path:
        """Write `step-<step>` under a temporary name, then rename it; drop the oldest.

        model, ema: what is frozen in `model` is left out of both.
        """
        target = self.folder / f"step-{step:08d}"
        part = self.folder / f".part-{os.getpid()}-{target.name}"
        try:
            part.mkdir(parents=True, exist_ok=True)
            save_weights(trained_state(model), part / "model.safetensors")
            save_weights(trained_state(ema, of=model), part / "ema.safetensors")
            torch.save(dict(optimizer), part / "optimizer.pt")
            write_text(part / "state.json", json.dumps({"step": step, **state}, indent=1))
            if target.exists():  # saved before, or left incomplete
                shutil.rmtree(target)
            os.replace(part, target)
        except (OSError, RuntimeError, SafetensorError) as error:
            raise WeightsError(
                f"cannot write the checkpoint '{target}' ({error}): free some space or choose "
                "another output folder; older checkpoints are untouched"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        for stale in self.folder.glob(".part-*"):  # what a kill left behind
            shutil.rmtree(stale, ignore_errors=True)
        return target


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def latest_checkpoint(out: str | Path) -> Path | None:
    """The newest complete checkpoint of a run's folder, or None."""
    found = CheckpointManager(out).all()
    return found[-1] if found else None


def resume_candidates(out: str | Path, resume: str | Path) -> list[Path]:
    """Checkpoints to go on from, the best first; `out` and `resume` as in `loop.train`.

    Raises WeightsError when "never" meets a checkpoint, or a path leads nowhere.
    """
    if resume == "auto":
        return CheckpointManager(out).all()[::-1]
    newest = latest_checkpoint(out)
    if resume == "never" and newest is not None:
        raise WeightsError(
            f"'{out}' already holds the checkpoint '{newest.name}': choose another "
            "output folder, or resume=auto to go on from it"
        )
    if resume == "never":
        return []
    path = Path(resume)
    if not path.exists():
        raise WeightsError(
            f"no checkpoint at '{resume}': resume takes auto, never or the path of a checkpoint, "
            f"such as {Path(out) / 'checkpoints' / 'step-00001000'}"
        )
    return [path]


def first_loadable(
    paths: Sequence[Path], read: Callable[[Path], T], say: Callable[[str], None]
) -> T | None:
    """What `read` makes of the first that is not damaged; None when there are no paths.

    say: gets a line for each that is. Raises `CorruptCheckpoint` when all are.
    """
    for path in paths:
        try:
            return read(path)
        except CorruptCheckpoint as error:
            if path == paths[-1]:
                raise
            say(f"note: {error}; trying the one before")
    return None


def read_average(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The trained weights' average and the run's state; raises CorruptCheckpoint."""
    try:
        state = _read_state(path)
        return load_file(path / "ema.safetensors"), state
    except Exception as error:  # each library has its own kind of error for a cut file
        raise CorruptCheckpoint(_damage(path, error)) from error


def _read_state(path: Path) -> dict[str, Any]:
    """A checkpoint's `state.json`; WeightsError unless its entries have the right types."""
    file = path / "state.json"
    state = {"settings": {}, "meter": {}, "config": {}, **load_json(file, dict)}
    state["base"] = state.get("base") or {}
    kinds = {"step": int, "settings": dict, "meter": dict, "config": dict, "base": dict}
    for key, kind in kinds.items():
        if type(state.get(key)) is not kind:
            raise WeightsError(f"'{file}' has no usable '{key}'")
    return state


def _damage(path: Path, error: Exception) -> str:
    return f"the checkpoint '{path}' cannot be read ({error}): delete it"


def read_checkpoint(
    path: str | Path,
    model: nn.Module,
    ema: nn.Module,
    base: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load weights into `model` and `ema`; return the optimizer's state and the run's state.

    base: where the frozen weights come from; their digest must be the checkpoint's.
    Raises WeightsError when there is none, it is damaged (`CorruptCheckpoint`) or of another model.
    """
    path = Path(path)
    if not (path / "state.json").is_file():
        raise WeightsError(
            f"no checkpoint at '{path}': expected a folder such as checkpoints/step-00001000"
        )
    try:
        state = _read_state(path)
        weights = load_file(path / "model.safetensors")
        average = load_file(path / "ema.safetensors")
        optimizer = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # each library has its own kind of error for a cut file
        raise CorruptCheckpoint(_damage(path, error)) from error
    before, now = (dict(x or {}) for x in (state.get("base"), base))
    if before.get("sha256") != now.get("sha256"):
        raise WeightsError(
            f"'{path}' was trained upon other frozen weights, those of "
            f"'{before.get('weights', 'none')}' (this run has '{now.get('weights', 'none')}'): "
            "pass the same weights= and groups, or choose another output folder"
        )
    check_weights(trained_state(model), weights, path)
    check_weights(trained_state(ema, of=model), average, path)
    model.load_state_dict(weights, strict=False)
    ema.load_state_dict(average, strict=False)
    return optimizer, state


class CorruptCheckpoint(MvdiffError):
    """A checkpoint that cannot be read, as opposed to one of another model."""
