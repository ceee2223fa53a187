"""`mvdiff export`: a training run's averaged weights → one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import MvdiffError


def run(config: Any) -> int:
    """Write the newest checkpoint's EMA weights with what made them in the header."""
    from safetensors.torch import load_file

    from ..training.state import latest_checkpoint, save_weights

    out = Path(config.out)
    if out.suffix != ".safetensors":
        raise MvdiffError(f"weights are written as .safetensors, got out='{out}'")
    checkpoint = latest_checkpoint(config.run)
    if checkpoint is None:
        raise MvdiffError(f"no checkpoint in '{config.run}': train there first, mvdiff train")
    state = json.loads((checkpoint / "state.json").read_text())
    metadata = {
        "mvdiff": __version__,
        "step": str(state["step"]),
        "config": json.dumps(state.get("config", {})),
    }
    weights = load_file(checkpoint / "ema.safetensors")
    save_weights(weights, out, metadata, precision=config.precision)
    print(f"step {state['step']} of '{config.run}' → {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return 0
