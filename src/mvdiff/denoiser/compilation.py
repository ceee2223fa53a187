"""The UNet by torch.compile: pays on CUDA after many steps, if at all."""

from __future__ import annotations

from ..errors import ConfigError
from .multiview_denoiser import MultiViewDenoiser

#: torch.compile's modes; "reduce-overhead" records CUDA graphs.
MODES = ("default", "reduce-overhead", "max-autotune")


def check_mode(mode: str | None) -> None:
    """Raise ConfigError for an unknown mode."""
    if mode is not None and mode not in MODES:
        raise ConfigError(f"compile must be one of {', '.join(MODES)}, or null; got '{mode}'")


def compile_unet(model: MultiViewDenoiser, mode: str | None, backend: str = "inductor") -> None:
    """Compile a model's UNet when it is first called; in place, its weights keep their names.

    mode: see `MODES`; None leaves it as it is. A model without a UNet stays as it is.
    Each number of views a call is compiled for itself, which takes minutes.
    """
    check_mode(mode)
    if mode is not None and model.unet is not None:
        model.unet.compile(mode=mode, backend=backend)
