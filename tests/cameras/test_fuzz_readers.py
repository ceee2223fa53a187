"""Camera files damaged at random: the readers return or raise MvdiffError, nothing else.

`python tests/cameras/test_fuzz_readers.py 5000` tries more inputs per reader and prints counts.
"""

from __future__ import annotations

import json
import math
import pickle
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mvdiff.cameras import ring
from mvdiff.cameras.colmap import read_colmap_frames, write_colmap
from mvdiff.cameras.frames import relative_to, scene_origin, stack_cameras
from mvdiff.cameras.rigs import to_spherical
from mvdiff.cameras.syncdreamer_pickle import read_meta_pickle
from mvdiff.cameras.transforms import read_frames, write_transforms
from mvdiff.cameras.undistortion import needed_margins
from mvdiff.errors import MvdiffError

COUNT = 60
NUMBERS = [
    0, -1, 1, 0.5, 1e-310, -1e-310, 1e308, -1e308, 1e20, 1e15, 3, 10**400, -(10**400), 2**63,
    math.nan, math.inf, -math.inf,
]  # fmt: skip
VALUES = [*NUMBERS, None, True, False, "", "x", "\0", "ü" * 300, [], {}, [[]], [1], {"a": 1}]
WORDS = ["nan", "inf", "1e400", "9" * 400, "9" * 5000, "-1", "0", "x", "", "\0", "FOV", "OPENCV"]
KEYS = [
    "camera_model", "w", "h", "fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4", "k5", "k6", "p1",
    "p2", "is_fisheye", "distortion_params", "camera_angle_x", "x_fov", "lens", "ftheta_p0",
    "mask_path", "rolling_shutter", "frames", "transform_matrix", "w2c", "file_path",
]  # fmt: skip


def use(frames) -> None:
    """What loading does with the frames before it opens pictures."""
    for frame in frames[:2]:
        needed_margins(frame.K, frame.lens, min(frame.width, 64), min(frame.height, 64))
    stack_cameras(relative_to(frames, scene_origin(frames)))


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 30])):
        at = rng.randrange(len(out)) if out else 0
        kind = rng.randrange(5)
        if kind == 0 and out:
            out[at] = rng.randrange(256)
        elif kind == 1:
            del out[at : at + rng.choice([1, 4, 50])]
        elif kind == 2:
            out[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 8])))
        elif kind == 3:
            out[at : at + 8] = rng.choice([b"\xff" * 8, b"\0" * 8, b"\x7f" * 8])
        else:
            out = out[:at]
    return bytes(out)


def damage_words(text: str, rng: random.Random) -> bytes:
    lines = text.split("\n")
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(lines))
        words = lines[at].split(" ")
        kind = rng.randrange(4)
        if kind < 2:
            words[rng.randrange(len(words))] = rng.choice([*WORDS, str(rng.uniform(-9, 9))])
            lines[at] = " ".join(words)
        elif kind == 2:
            lines.insert(at, rng.choice(["", "#", "1 2 3", lines[at]]))
        else:
            lines[at] = " ".join(words[: rng.randrange(len(words) + 1)])
    return "\n".join(lines).encode("utf-8", "replace")


def damage_json(meta: dict, rng: random.Random) -> bytes:
    meta = json.loads(json.dumps(meta))
    for _ in range(rng.choice([1, 1, 2, 4])):
        frames = meta.get("frames")
        listed = frames if isinstance(frames, list) else []
        holders = [meta, *(frame for frame in listed if isinstance(frame, dict))]
        holder = rng.choice(holders)
        key = rng.choice(KEYS)
        value = rng.choice(VALUES)
        if key in ("transform_matrix", "w2c") and rng.random() < 0.7 and frames:
            matrix = [[float(i == j) for j in range(4)] for i in range(4)]
            matrix[rng.randrange(3)][rng.randrange(4)] = value
            value = matrix
        if key == "distortion_params" and rng.random() < 0.7:
            value = [rng.choice(VALUES) for _ in range(rng.randrange(8))]
        if rng.random() < 0.15:
            holder.pop(key, None)
        elif not (key == "frames" and holder is not meta):
            holder[key] = value
    data = json.dumps(meta).encode("utf-8", "surrogatepass")
    return damage_bytes(data, rng) if rng.random() < 0.2 else data


def colmap_binary(folder: Path) -> tuple[bytes, bytes]:
    from helpers.ellipsoids import ring as poses
    from helpers.ellipsoids import write_colmap_binary

    write_colmap_binary(folder, poses(3), ["a", "b", "c"], 4, 64, 64, [70, 70, 32, 32, 0, 0, 0, 0])
    return (folder / "cameras.bin").read_bytes(), (folder / "images.bin").read_bytes()


def fuzz(folder: Path, count: int, seed: int = 0) -> dict[str, tuple[int, int, list[str]]]:
    """Inputs, inputs that were accepted, and other errors, by reader."""
    rng = random.Random(seed)
    cameras, names = ring(3, size=64), ["a.png", "b.png", "c.png"]
    write_transforms(folder / "t.json", cameras, names)
    meta = json.loads((folder / "t.json").read_text())
    write_colmap(folder / "text", cameras, names)
    texts = {n: (folder / "text" / n).read_text() for n in ("cameras.txt", "images.txt")}
    binary = dict(zip(("cameras.bin", "images.bin"), colmap_binary(folder / "binary"), strict=True))
    angles = [x.numpy() for x in to_spherical(cameras)]
    content = [cameras.K[0].numpy(), *angles, cameras.w2c.numpy()]
    pickles = [pickle.dumps(content, protocol=p) for p in (0, 2, 4, 5)]
    pickles += [pickle.dumps([rng.choice([content[0], v, np.zeros(3)]) for _ in range(5)])
                for v in VALUES]  # fmt: skip

    def transforms() -> None:
        (folder / "t.json").write_bytes(damage_json(meta, rng))
        use(read_frames(folder / "t.json").frames)

    def text() -> None:
        for name, whole in texts.items():
            data = damage_words(whole, rng) if rng.random() < 0.6 else whole.encode()
            data = damage_bytes(data, rng) if rng.random() < 0.2 else data
            (folder / "text" / name).write_bytes(data)
        use(read_colmap_frames(folder / "text"))

    def binaries() -> None:
        for name, whole in binary.items():
            data = damage_bytes(whole, rng) if rng.random() < 0.6 else whole
            (folder / "binary" / name).write_bytes(data)
        use(read_colmap_frames(folder / "binary"))

    def published() -> None:
        (folder / "meta.pkl").write_bytes(damage_bytes(rng.choice(pickles), rng))
        read_meta_pickle(folder / "meta.pkl")

    readers: dict[str, Callable[[], None]] = {
        "transforms.json": transforms,
        "COLMAP text": text,
        "COLMAP binary": binaries,
        "meta.pkl": published,
    }
    found = {}
    for name, read in readers.items():
        accepted, uncaught = 0, []
        for _ in range(count):
            try:
                read()
                accepted += 1
            except MvdiffError as error:
                if "\n" in str(error):
                    uncaught.append(f"two lines: {error}")
            except Exception as error:
                uncaught.append(f"{type(error).__name__}: {error}")
        found[name] = (count, accepted, uncaught)
    return found


@pytest.mark.filterwarnings("error")
def test_damaged_camera_files_are_read_or_refused(tmp_path):
    for name, (_, accepted, uncaught) in fuzz(tmp_path, COUNT).items():
        assert uncaught == [], name
        assert accepted < COUNT, name


def test_a_pickle_s_memo_cannot_ask_for_memory(tmp_path):
    (tmp_path / "meta.pkl").write_bytes(b"Nr\xff\xff\xff\x7f.")
    with pytest.raises(MvdiffError, match="damaged"):
        read_meta_pickle(tmp_path / "meta.pkl")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    with tempfile.TemporaryDirectory() as place:
        for reader, (inputs, fine, errors) in fuzz(Path(place), int(sys.argv[1]), 1).items():
            print(f"{reader}: {inputs} inputs, {fine} accepted, {len(errors)} uncaught")
            print("\n".join(sorted(set(errors))[:10]))
