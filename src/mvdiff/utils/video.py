"""Short films from pictures: an endless GIF, or an MP4 by ffmpeg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import ConfigError

#: Formats of a film.
VIDEOS = ("gif", "mp4")


def write_gif(shots: list[Image.Image], path: Path, seconds: float) -> None:
    """Write an endless GIF; all frames share one palette, so that nothing flickers.

    seconds: for all frames together.
    """
    width, height = shots[0].size
    some = shots[:: max(1, len(shots) // 8)]
    sample = Image.new("RGB", (width, height * len(some)))
    for i, shot in enumerate(some):
        sample.paste(shot, (0, i * height))
    palette = sample.quantize(256, method=Image.Quantize.MEDIANCUT)
    shots = [shot.quantize(palette=palette, dither=Image.Dither.NONE) for shot in shots]
    shots[0].save(
        path,
        save_all=True,
        append_images=shots[1:],
        duration=max(20, round(1000 * seconds / len(shots))),
        loop=0,
        optimize=False,
    )


def import_ffmpeg() -> Any:
    """The package imageio_ffmpeg; ConfigError, which names the extra, where it is missing."""
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise ConfigError(
            "an MP4 needs the package imageio-ffmpeg: pip install 'mvdiff[video]', or write a GIF"
        ) from error
    return imageio_ffmpeg


def write_mp4(shots: list[Image.Image], path: Path, seconds: float, ffmpeg: Any) -> None:
    """Write an H.264 file of frames with even sides.

    seconds: for all frames together. ffmpeg: what `import_ffmpeg` returns.
    Raises ConfigError where ffmpeg cannot write.
    """
    stream = ffmpeg.write_frames(
        str(path),
        shots[0].size,
        fps=len(shots) / seconds,
        macro_block_size=2,
        quality=8,
        ffmpeg_log_level="error",
    )
    try:
        stream.send(None)
        for shot in shots:
            stream.send(shot.tobytes())
        stream.close()
    except OSError as error:
        raise ConfigError(f"ffmpeg could not write '{path.parent}': {error}") from error
    if not path.stat().st_size:
        raise ConfigError(f"ffmpeg wrote nothing to '{path.parent}': is the disk full?")
