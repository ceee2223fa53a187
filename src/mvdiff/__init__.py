"""mvdiff: one picture of an object in, consistent views from many cameras and a mesh out.

>>> import mvdiff
>>> model = mvdiff.load(recipe="tiny")
>>> views = model.generate("x.png", elevation=20, seed=0)
>>> mesh = mvdiff.reconstruct(views)
>>> mesh.export("x.glb")
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

#: public name → module; imported on first use, so that `import mvdiff` stays light
_LAZY = {
    "Cameras": "mvdiff.cameras",
    "ring": "mvdiff.cameras",
    "look_at": "mvdiff.cameras",
    "Views": "mvdiff.views.views",
    "Mesh": "mvdiff.mesh.mesh",
    "MultiViewPipeline": "mvdiff.pipeline",
    "MvdiffError": "mvdiff.errors",
    "load": "mvdiff.api",
    "reconstruct": "mvdiff.api",
}

#: sub-packages that `import mvdiff` alone makes available
_SUBPACKAGES = ("attention", "cameras", "metrics", "radiance", "recon", "rendering", "volumes")

__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    import importlib

    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"mvdiff.{name}")
    raise AttributeError(f"module 'mvdiff' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBPACKAGES})
