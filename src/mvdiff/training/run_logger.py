"""What a run leaves to look at: a plain log, TensorBoard, validation pictures, progress."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import ConfigError
from ..utils.files import atomic, write_text
from ..utils.progress import ProgressDisplay
from ..utils.timing import Stopwatch


class RunLogger:
    """Writes figures and pictures of a run.

    out: the run's folder; gets `log.jsonl`, `tensorboard/` and `validation/`.
    start: the step the run starts or resumes at; later lines of an earlier run that was
        killed are dropped, since those steps are done again.
    tensorboard: True needs it (MvdiffError names the extra), None uses it when installed.
    """

    def __init__(self, out: str | Path, start: int, tensorboard: bool | None) -> None:
        self.out = Path(out)
        self._path = self.out / "log.jsonl"
        self._board = _board(self.out, start, tensorboard)
        if self._path.is_file():
            write_text(self._path, "".join(line + "\n" for line in _lines_up_to(self._path, start)))

    def figures(self, step: int, values: Mapping[str, Any], group: str = "train") -> None:
        """One line of `log.jsonl` and one point a curve. NaN is written as null."""
        line: dict[str, Any] = {"step": step}
        if group != "train":
            line["kind"] = group
        line.update({k: v if _finite(v) else None for k, v in values.items()})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{group}/{name}", value, step)

    def pictures(self, step: int, images: Mapping[str, Image.Image]) -> None:
        """`validation/<step>-<name>.png` each, and TensorBoard."""
        for name, image in images.items():
            safe = re.sub(r"[^\w.-]+", "_", name)
            with atomic(self.out / "validation" / f"{step:08d}-{safe}.png") as part:
                image.save(part)
            if self._board is not None:
                import numpy as np

                pixels = np.asarray(image.convert("RGB"))
                self._board.add_image(f"validation/{name}", pixels, step, dataformats="HWC")

    def close(self) -> None:
        if self._board is not None:
            self._board.close()


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _lines_up_to(path: Path, step: int) -> list[str]:
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue  # a line cut by a kill, or damaged
    return kept


def _board(out: Path, start: int, wanted: bool | None) -> Any:
    if wanted is False:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        if wanted:
            raise ConfigError(
                "TensorBoard is not installed: pip install 'mvdiff[train]', or train without it"
            ) from error
        print("note: no TensorBoard curves (pip install 'mvdiff[train]'); see log.jsonl")
        return None
    return SummaryWriter(str(out / "tensorboard"), purge_step=start + 1 if start else None)


class TrainingProgress:
    """Steps, rate, loss and time left: a bar on a terminal, else a line every `every` seconds."""

    def __init__(self, *, show: bool = True, every: float = 15.0) -> None:
        self.show, self.every = show, every
        self._display: ProgressDisplay | None = None
        self._loss = ""

    def start(self, step: int, total: int) -> None:
        """Begin at `step` of `total`."""
        self._from, self._total, self._watch = step, total, Stopwatch()
        self._display = ProgressDisplay("step", show=self.show, lines_every=self.every)
        self._display.start("step", total, done=step)
        self._display.open()

    def update(self, step: int, loss: float | None) -> None:
        """loss: None while it is not known (reading it from a GPU each step would slow it)."""
        rate = max((step - self._from) / max(self._watch.elapsed(), 1e-9), 1e-9)
        if loss is not None:
            self._loss = f"  loss {loss:.4f}"
        text = f"{rate:.2f} steps/s" if rate >= 1 else f"{1 / rate:.2f} s/step"
        self._display.advance(step, self._total, text + self._loss)

    def say(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._display is not None:
            self._display.say(text)
        elif self.show:
            print(text, flush=True)

    def close(self) -> None:
        """End the bar; `say` prints plainly from here on."""
        if self._display is not None:
            self._display.close()
            self._display = None
