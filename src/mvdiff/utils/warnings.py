"""What our own warnings say of a picture, kept apart by the thread that works on it."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_here = threading.local()
#: the package's own folder, with a separator at its end
_PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep


def is_ours(filename: str) -> bool:
    """Whether a warning came from this package."""
    return os.path.realpath(filename).startswith(_PACKAGE)


@contextlib.contextmanager
def route_warnings_by_thread() -> Iterator[None]:
    """Within it, `capture_warnings` works in every thread; to be entered while no other one runs.

    Python's own way to catch warnings changes what all threads do.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)  # of every picture, not of the first one
        before = warnings.showwarning

        def show(message, category, filename, lineno, file=None, line=None) -> None:
            kept = getattr(_here, "kept", None)
            if kept is None:
                before(message, category, filename, lineno, file, line)
            elif is_ours(filename):
                kept.append(str(message))

        warnings.showwarning = show
        yield


@contextlib.contextmanager
def capture_warnings() -> Iterator[list[str]]:
    """Within it, this thread's warnings of ours go into the list, and others nowhere."""
    _here.kept = []
    try:
        yield _here.kept
    finally:
        _here.kept = None


class NoteBook:
    """What is to be said of many pictures: the same words once, with the pictures they are about.

    order: the pictures' names in the order in which they are named.
    """

    def __init__(self, order: Sequence[str], most: int = 6) -> None:
        self.rank = {name: i for i, name in enumerate(order)}
        self.most = most
        self.names: dict[str, dict[str, str]] = {}

    def add(self, name: str, text: str, detail: str = "") -> None:
        """Note `text` about the picture `name`; `detail` is what is said of this one alone."""
        self.names.setdefault(text, {})[name] = detail

    def take(self) -> list[str]:
        """All notes, those of the first pictures first; the book is empty then."""
        lines = []
        for text, details in sorted(self.names.items(), key=lambda item: self._first(item[1])):
            ordered = sorted(details, key=lambda name: self.rank.get(name, len(self.rank)))
            if len(ordered) == 1:
                name = ordered[0]
                lines.append(f"{name}: {text}{details[name] and f' ({details[name]})'}")
                continue
            shown = [f"{Path(n).name}{details[n] and f' {details[n]}'}" for n in ordered]
            more = f" and {len(shown) - self.most} more" if len(shown) > self.most else ""
            named = ", ".join(shown[: self.most])
            lines.append(f"{len(ordered)} pictures: {text}: {named}{more}")
        self.names.clear()
        return lines

    def _first(self, details: Mapping[str, str]) -> int:
        return min(self.rank.get(name, len(self.rank)) for name in details)
