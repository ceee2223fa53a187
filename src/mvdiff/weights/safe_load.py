"""Reading weight files without executing anything from them, memory-mapped."""

from __future__ import annotations

import contextlib
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import WeightsError
from ..utils.sniff import describe_impostor
from .renamed_keys import rename_keys
from .torchscript import is_torchscript, read_torchscript

#: what torch, pickle and zipfile raise on a file that is not whole
_READ_ERRORS = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,
    RecursionError,
    OverflowError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    EOFError,
    OSError,
)


class _StubClass:
    """What becomes of a class that a file names and that tensors do not need.

    Training frameworks store callbacks and settings beside the weights. A stand-in takes
    whatever the file does with the class, and does nothing.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> _StubClass:
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
    Raises WeightsError for files that are missing, damaged or hold no tensors.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise WeightsError(f"expected a weight file, but '{path}' is a folder: name a file in it")
    if not path.is_file():
        raise WeightsError(f"no weights at '{path}': check the path")
    if impostor := describe_impostor(path):
        raise WeightsError(f"'{path}' holds no weights: {impostor}")
    if path.suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path)
    else:
        tensors, metadata = _state_dict(path, _read_pickle(path)), {}
    tensors = rename_keys(_without_wrappers(path, tensors))
    _check_finite(path, tensors)
    return tensors, metadata


#: Larger files are not searched for NaN when they are loaded: that would take seconds.
_SEARCHED_BYTES = 2**30


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise WeightsError that names the first tensor with NaN or infinite numbers."""
    if path.stat().st_size > _SEARCHED_BYTES:
        return
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(
                f"'{path}' holds NaN or infinite numbers in '{name}': the training diverged or the "
                "file is damaged; use an earlier checkpoint"
            )


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors of a pickle's content, alone or under one of the usual keys."""
    for key in ("state_dict", "model", "module"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor) and isinstance(k, str)}
    if not tensors:
        raise WeightsError(
            f"'{path}' holds no weights: expected a state dict, alone or under 'state_dict'"
        )
    _check_memory(path, tensors)
    return tensors


def _check_memory(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise WeightsError where tensors would take far more memory than the file has bytes.

    A few bytes can describe a tensor of any size: with a stride of 0, or by one storage that
    many tensors share.
    """
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    limit = 4 * path.stat().st_size + 2**26
    if total > limit:
        raise WeightsError(
            f"'{path}' describes tensors of {total / 1e9:.1f} GB in a file of "
            f"{path.stat().st_size / 1e6:.1f} MB: it is damaged or made to exhaust the memory"
        )


#: what DistributedDataParallel and torch.compile put before every name
_WRAPPERS = ("module.", "_orig_mod.")


def _without_wrappers(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes that wrapped models are saved with; a warning says so."""
    removed = ""
    while prefix := next((p for p in _WRAPPERS if all(n.startswith(p) for n in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        removed += prefix
    if removed:
        warnings.warn(
            f"'{path}': the prefix '{removed}' of a wrapped model was taken off all names",
            stacklevel=3,
        )
    return tensors


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"'{path}' is not a readable safetensors file ({error}): it may be cut short, fetch "
            "it again"
        ) from error


def _read_pickle(path: Path) -> Any:
    _check_archive(path)
    try:
        if is_torchscript(path):
            return read_torchscript(path)
        with _inert_classes(path):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _READ_ERRORS as error:
        raise WeightsError(_describe_failure(path, str(error))) from error
    return checkpoint if isinstance(checkpoint, Mapping) else {}


def _check_archive(path: Path) -> None:
    """Raise WeightsError for an archive whose members unpack to far more than its size.

    torch.save does not compress, so an honest checkpoint never does that.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (*_READ_ERRORS, NotImplementedError):
        return  # no archive: torch says what is wrong
    if unpacked > 4 * path.stat().st_size + 2**26:
        raise WeightsError(
            f"'{path}' unpacks to {unpacked / 1e9:.1f} GB, far more than the file's size: it was "
            "compressed; save it again with torch.save, or as .safetensors"
        )


@contextlib.contextmanager
def _inert_classes(path: Path) -> Any:
    """Within it, every class the file names and torch does not know is a stand-in."""
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    stands = []
    for name in names:
        module, _, short = name.rpartition(".")
        if module.split(".")[0] in ("builtins", "__builtin__"):
            continue  # `eval`, `exec`, …: torch's reader refuses them
        stands.append((type(short, (_StubClass,), {"__module__": module}), name))
    with torch.serialization.safe_globals(stands):
        yield


def _describe_failure(path: Path, text: str) -> str:
    if "nsupported" in text or "blocked" in text or "Weights only" in text:
        return (
            f"'{path}' asks for code to be run while it is read, which mvdiff never does: get the "
            "weights from their authors, or as .safetensors"
        )
    if _is_legacy(path):
        return (
            f"'{path}' has torch's format from before version 1.6, which cannot be read without "
            "risk: load it with torch where it was made, and save it again"
        )
    return f"'{path}' is not a readable checkpoint: it may be truncated; fetch it again"


def _is_legacy(path: Path) -> bool:
    """Whether a file begins as torch.save's files did before version 1.6."""
    with path.open("rb") as file:
        return file.read(13)[2:].startswith(b"\x8a\nl\xfc\x9cF\xf9 j\xa8P")
