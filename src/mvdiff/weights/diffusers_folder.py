"""A (Stable-)Zero123 in diffusers' layout: a folder with a folder for each of its networks."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from ..errors import WeightsError
from .safe_load import read_weights

#: files of a network, the first that is there is read; half-precision variants are not looked for
_FILES = (
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
)
#: parts: the folders they may lie in
_FOLDERS = {
    "unet": ("unet",),
    "vae": ("vae",),
    "image_encoder": ("image_encoder",),
    "clip_camera_projection": ("clip_camera_projection", "cc_projection"),
}
#: names of an autoencoder's attention in files from before diffusers 0.17
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def read_diffusers_folder(path: Path) -> dict[str, Tensor]:
    """The tensors of all four networks: "unet.…", "vae.…", "image_encoder.…" and
    "clip_camera_projection.proj.…", whatever the folder calls the last one.

    Raises WeightsError for a folder without one of them, and as `read_weights` does.
    """
    tensors = {}
    for part, folders in _FOLDERS.items():
        files = [path / folder / name for folder in folders for name in _FILES]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            named = " or ".join(f"'{folder}/'" for folder in folders)
            raise WeightsError(
                f"'{path}' has no weights in {named}: expected a diffusers folder of Zero123 with "
                f"{', '.join(_FOLDERS)}, each with {_FILES[0]}, model.safetensors or a .bin file"
            )
        for name, tensor in read_weights(file)[0].items():
            tensors[f"{part}.{_renamed(part, name)}"] = tensor
    return tensors


def _renamed(part: str, name: str) -> str:
    if part == "clip_camera_projection":
        return "proj." + name.rpartition(".")[2]
    if part == "vae":
        pattern = r"(attentions\.0\.)(query|key|value|proj_attn)\."
        return re.sub(pattern, lambda m: f"{m[1]}{_OLD_ATTENTION[m[2]]}.", name)
    return name
