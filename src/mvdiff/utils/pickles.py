"""A check of pickles before Python's unpickler sees them."""

from __future__ import annotations

import pickle
import pickletools


def check_pickle(data: bytes) -> None:
    """Raise pickle.UnpicklingError where a pickle would take far more memory than its size.

    Python's unpickler keeps what it has read in a table, and makes that table as long as the
    largest index in the file: seven bytes can ask for 17 GB. An honest pickle has no more entries
    than bytes.
    """
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data):
                raise pickle.UnpicklingError(f"the table index {argument} is out of range")
    except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise pickle.UnpicklingError(f"not a valid pickle: {error}") from error
