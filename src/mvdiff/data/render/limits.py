"""Ranges of the settings of rendering, of `mvdiff render` and of `render_objects` alike."""

from __future__ import annotations

from ...utils.limits import SEED, SHARE, Range, whole_numbers

#: Most objects of one call, and pixels of a side.
MAX_OBJECTS, MAX_SIZE = 1_000_000, 8192
#: Most pixels of all views of an object together, as 16 views of 4096², and rays of one view.
MAX_VIEW_PIXELS, MAX_VIEW_RAYS = 2**28, 2**28

#: Setting → what it may be, whatever the other settings are.
RANGES: dict[str, Range] = {
    "num_shapes": whole_numbers(0, MAX_OBJECTS),
    "first_shape_seed": SEED,
    "num_stretched_copies": whole_numbers(0, 10_000),
    "val_fraction": SHARE,
    "size": whole_numbers(1, MAX_SIZE),
    "num_inputs": whole_numbers(0, 10_000),
    "input_elevation": Range(-90, 90),
    "supersample": whole_numbers(1, 64),
    "seed": SEED,
    "workers": whole_numbers(1, 1024),
}
