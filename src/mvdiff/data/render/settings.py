"""What to render and how: the settings of `render_objects`, checked when they are made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from ...cameras import Cameras, ring, to_spherical
from ...errors import ConfigError
from .limits import MAX_SIZE, MAX_VIEW_PIXELS, MAX_VIEW_RAYS, RANGES

#: Part of the recorded settings: raise it when the same call would give other images.
RENDERER = 2


@dataclass(frozen=True, kw_only=True)
class ObjectSelection:
    """Which objects to render, and which of them belong to the validation split.

    meshes: a folder of GLB, glTF, OBJ, PLY, STL and OFF files.
    num_shapes: procedural objects, of the seeds `first_shape_seed`, `first_shape_seed + 1`, …
    num_stretched_copies: further copies of each training mesh, `NAME~1`, `NAME~2`, …, each of
        its axes stretched by 0.7 to 1.4.
    held_out: mesh names of the validation split: a text file (one name or glob pattern per line,
        # comments) or a list; shapes then all train. Without it `val_fraction` of all objects,
        chosen by name.
    Raises ConfigError for numbers out of range.
    """

    meshes: str | Path | None = None
    num_shapes: int = 0
    first_shape_seed: int = 0
    num_stretched_copies: int = 0
    held_out: str | Path | Sequence[str] | None = None
    val_fraction: float = 0.02

    def __post_init__(self) -> None:
        for name in ("num_shapes", "num_stretched_copies", "first_shape_seed", "val_fraction"):
            check_range(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class RenderSettings:
    """How every object is rendered.

    rig: the target cameras; the size of the images is theirs.
    normalization, up: as in `mvdiff.data.meshes.normalize_to_rig` and `load_mesh`.
    num_inputs: input images per object, at the azimuths of the first target views.
    input_elevation: lowest and highest of the input images, degrees in [-90, 90].
    depth, normals: also write `000-depth.png` (16 bit, scale in the index) and
        `000-normal.png` (`(n + 1) / 2`, world axes; both 0 where nothing is hit).
    supersample: rays along each side of a pixel.
    seed: of lights, input elevations and copies, which also depend on the object's name alone.
    Raises ConfigError for values out of range.
    """

    rig: Cameras = field(default_factory=lambda: ring(size=64))
    normalization: str = "diagonal"
    up: str = "auto"
    num_inputs: int = 16
    input_elevation: Sequence[float] = (-10.0, 40.0)
    depth: bool = False
    normals: bool = False
    supersample: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        rig = self.rig.to("cpu", torch.float32)
        object.__setattr__(self, "rig", rig)
        for name in ("num_inputs", "supersample", "seed"):
            check_range(name, getattr(self, name))
        if self.num_inputs > len(rig):
            raise ConfigError(
                f"num_inputs must be at most {len(rig)}, the rig's number of views; got "
                f"{self.num_inputs}"
            )
        # elevations
        for degrees in self.input_elevation:
            check_range("input_elevation", degrees)
        if len(self.input_elevation) != 2 or self.input_elevation[0] > self.input_elevation[1]:
            shown = ", ".join(map(str, self.input_elevation))
            raise ConfigError(f"input_elevation must be two degrees, lowest first; got {shown}")
        object.__setattr__(self, "input_elevation", tuple(map(float, self.input_elevation)))
        # choices
        for name, choices in (
            ("normalization", ("diagonal", "extent")),
            ("up", ("auto", "y", "z")),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(f"unknown {name} '{value}'; choose from {', '.join(choices)}")
        # size
        side = max(rig.width, rig.height)
        if side > MAX_SIZE or len(rig) * rig.width * rig.height > MAX_VIEW_PIXELS:
            raise ConfigError(
                f"{len(rig)} views of {rig.width}×{rig.height} are too large: at most {MAX_SIZE} "
                f"pixels per side and {MAX_VIEW_PIXELS // 2**20} million for all views of an object"
            )
        if rig.width * rig.height * self.supersample**2 > MAX_VIEW_RAYS:
            raise ConfigError(
                f"size={side} with supersample={self.supersample} traces "
                f"{side * self.supersample}² rays per view: at most 16384², lower one of them"
            )
        # one range for all depth maps
        distance = to_spherical(rig)[2]
        if self.depth and float(distance.max() - distance.min()) > 1e-3:
            raise ConfigError(
                "depth maps share one range, so all cameras must stand equally far: got distances "
                f"from {float(distance.min()):.3g} to {float(distance.max()):.3g}, use depth=false"
            )

    def record(self) -> dict[str, Any]:
        """As written to the index; equal records mean equal images."""
        digest = hashlib.sha256(self.rig.K.numpy().tobytes() + self.rig.w2c.numpy().tobytes())
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rig"}
        return {
            **plain,
            "input_elevation": list(self.input_elevation),
            "views": len(self.rig),
            "rig": digest.hexdigest()[:16],
            "renderer": RENDERER,
        }


def check_range(name: str, value: Any) -> None:
    """Raise ConfigError unless a setting's value lies in its range in `RANGES`."""
    limit = RANGES[name]
    kind = int if limit.whole else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or value not in limit:
        raise ConfigError(f"{name} must be {limit}, got {value!s:.40}")
