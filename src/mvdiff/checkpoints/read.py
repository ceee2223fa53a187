"""Reading weight files without executing anything from them, memory-mapped."""

from __future__ import annotations

import contextlib
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import MvdiffError
from .torchscript import is_torchscript, read_torchscript

#: what torch, pickle and zipfile raise on a file that is not whole
_DAMAGED = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    EOFError,
    OSError,
)


class _StandIn:
    """What becomes of a class that a file names and that tensors do not need.

    Training frameworks store callbacks and settings beside the weights. A stand-in takes
    whatever the file does with the class, and does nothing.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> _StandIn:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a .safetensors, .ckpt or .pt file, and a safetensors header's metadata.

    A .pt file may be a TorchScript archive, as OpenAI's CLIP is.

    Tensors are mapped, not read: memory is used when they are. Nothing in the file is
    executed; classes it names become inert stand-ins, and Python's own are refused.
    Raises MvdiffError for files that are missing, damaged or hold no tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise MvdiffError(f"no weights at '{path}': check the path")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    found = _read_pickle(path)
    for key in ("state_dict", "model", "module"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    tensors = {k: v for k, v in found.items() if isinstance(v, Tensor)} if found else {}
    if not tensors:
        raise MvdiffError(
            f"'{path}' holds no weights: expected a state dict, alone or under 'state_dict'"
        )
    return tensors, {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise MvdiffError(
            f"'{path}' is not a readable safetensors file ({error}): it may be cut short, fetch "
            "it again"
        ) from error


def _read_pickle(path: Path) -> Any:
    try:
        if is_torchscript(path):
            return read_torchscript(path)
        with _inert_classes(path):
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _DAMAGED as error:
        raise MvdiffError(_why(path, str(error))) from error
    return found if isinstance(found, Mapping) else {}


@contextlib.contextmanager
def _inert_classes(path: Path) -> Any:
    """Within it, every class the file names and torch does not know is a stand-in."""
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    stands = []
    for name in names:
        module, _, short = name.rpartition(".")
        if module.split(".")[0] in ("builtins", "__builtin__"):
            continue  # `eval`, `exec`, …: torch's reader refuses them
        stands.append((type(short, (_StandIn,), {"__module__": module}), name))
    with torch.serialization.safe_globals(stands):
        yield


def _why(path: Path, text: str) -> str:
    if "nsupported" in text or "blocked" in text or "Weights only" in text:
        return (
            f"'{path}' asks for code to be run while it is read, which mvdiff never does: get the "
            "weights from their authors, or as .safetensors"
        )
    return (
        f"'{path}' is not a readable checkpoint: it may be cut short, or older than torch 1.6's "
        "format; fetch it again or save it anew"
    )
