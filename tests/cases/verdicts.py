"""The expected result of each case from public bug reports, as assertions on a run's output.

The cases are folders with a script and small inputs; they are reference data and not part of the
repository. `test_cases.py` runs them. Every verdict gets a `Run` and raises AssertionError.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

VERDICTS: dict[str, Callable[[Run], None]] = {}


@dataclass(frozen=True)
class Run:
    """One case that was run.

    folder: of the case. out: what it wrote. text: what it printed.
    """

    folder: Path
    out: Path
    text: str

    def refused(self, *facts: str) -> None:
        """One sentence with these facts, and no traceback."""
        assert "mvdiff: " in self.text
        self.says(*facts)

    def says(self, *facts: str) -> None:
        assert "Traceback" not in self.text, self.text[-2000:]
        for fact in facts:
            assert re.search(fact, self.text), f"{fact!r} not in: {self.text[-2000:]}"

    def mesh(
        self,
        scale: float = 1.0,
        center: tuple[float, float, float] = (0.0, 0.0, 0.0),
        *,
        distance: float = 0.01,
        volume: tuple[float, float] = (0.9, 1.15),
        file: str = "mesh.glb",
    ) -> None:
        """The mesh is the analytic scene, by the cases' own independent check."""
        record = json.loads((self.out / "mesh-run.json").read_text())
        offset = record.get("origin") or [0.0, 0.0, 0.0]
        placed = [c - o for c, o in zip(center, offset, strict=True)]
        words = [str(self.out / file), str(scale), *map(str, placed)]
        done = subprocess.run(
            [sys.executable, self.folder.parent / "check.py", *words],
            capture_output=True,
            text=True,
            check=True,
            cwd=self.folder.parent,
        )
        figures = json.loads(done.stdout)
        assert figures["best_flip"] == [1, 1, 1], figures
        assert max(figures["mesh->truth"], figures["truth->mesh"]) < distance, figures
        assert volume[0] < figures["volume/truth"] < volume[1], figures

    def index(self, data: str = "data") -> dict[str, Any]:
        return json.loads((self.out / data / "index.json").read_text())

    def notes(self, data: str = "data") -> str:
        return json.dumps([o.get("notes", []) for o in self.index(data)["objects"]])

    def pictures(self, name: str | None = None, data: str = "data") -> list[np.ndarray]:
        """The target views of an object (the only one if no name is given), straight RGBA."""
        names = [o["name"] for o in self.index(data)["objects"]]
        assert name is not None or len(names) == 1, names
        folder = self.out / data / (name or names[0]) / "target"
        files = sorted(p for p in folder.glob("0*.png") if "-" not in p.stem)
        assert len(files) == 16
        return [np.asarray(Image.open(file).convert("RGBA"), dtype=float) for file in files]

    def color(self, name: str | None = None, data: str = "data") -> np.ndarray:
        """The mean color of an object's opaque pixels."""
        opaque = [p[p[..., 3] > 250][:, :3] for p in self.pictures(name, data)]
        return np.concatenate(opaque).mean(0)

    def cover(self, name: str | None = None) -> float:
        """The share of opaque pixels."""
        return float(np.mean([(p[..., 3] > 127).mean() for p in self.pictures(name)]))

    def hues(self, name: str | None = None) -> set[str]:
        """Which of red, green and blue dominate more than 5 % of the opaque pixels."""
        pixels = np.concatenate([p[p[..., 3] > 250][:, :3] for p in self.pictures(name)])
        ordered = np.sort(pixels, axis=1)
        colored = pixels[ordered[:, 2] > 1.4 * ordered[:, 1]]
        shares = np.bincount(colored.argmax(1), minlength=3) / len(pixels)
        hues = ("red", "green", "blue")
        return {hue for hue, share in zip(hues, shares, strict=True) if share > 0.05}


def case(name: str) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    def add(verdict: Callable[[Run], None]) -> Callable[[Run], None]:
        VERDICTS[name] = verdict
        return verdict

    return add


# Views with cameras → a mesh


for _name in (
    "01-control-pinhole",
    "02-per-frame-intrinsics",
    "09-nerf-synthetic-blender",
    "11-views-with-exif-orientation",
    "13-portrait-and-landscape",
    "14-json-with-bom",
):
    case(_name)(lambda run: run.mesh())


@case("03-distortion-params-list")
@case("03b-distortion-k1-keys")
@case("04-is-fisheye-flag")
def _lens(run: Run) -> None:
    run.says("distortion was removed")
    run.mesh()


@case("05b-mask-hides-turntable")
def _mask(run: Run) -> None:
    run.says("mask")
    run.mesh()


@case("06-utm-coordinates")
def _utm(run: Run) -> None:
    run.says("note: .*origin|note: .*relative")
    run.mesh(1.0, (443210.25, 4712345.5, 187.75))


@case("06b-site-grid-98km")
def _grid_98(run: Run) -> None:
    run.mesh(1.0, (98000.0, -45000.0, 120.0))


@case("06c-site-grid-9km")
def _grid_9(run: Run) -> None:
    run.mesh(1.0, (9000.0, -4500.0, 120.0))


@case("06d-easting-443km")
def _easting(run: Run) -> None:
    record = json.loads((run.out / "mesh-run.json").read_text())
    assert np.abs(record["origin"]).max() > 400_000
    poses = json.loads((run.folder / "v" / "transforms.json").read_text())["frames"]
    eyes = np.array([np.array(f["transform_matrix"])[:3, 3] for f in poses])
    center = tuple(np.round(eyes.mean(0) - (0, 0, eyes.mean(0)[2] % 1), 2))
    assert max(abs(c - o) for c, o in zip(center, record["origin"], strict=True)) < 5


@case("07-millimetres-off-origin")
def _millimeters(run: Run) -> None:
    run.mesh(1000.0, (1500.0, -800.0, 300.0))


@case("08-cropped-size-mismatch")
def _cropped(run: Run) -> None:
    assert run.text.count("mvdiff: ") == 2
    run.refused("100×96", "160×96")
    assert not (run.out / "mesh.glb").exists()


@case("08c-cropped-real-size")
def _cropped_large(run: Run) -> None:
    assert "MvdiffError" in run.text
    assert "1100×960" in run.text


@case("12-six-orthographic-views")
def _orthographic(run: Run) -> None:
    run.mesh(distance=0.03, volume=(0.9, 1.4))


@case("17-missing-frames")
def _missing(run: Run) -> None:
    run.refused("003.png", "missing|not there|no image")


@case("18-opencv-world-c2w")
def _axes(run: Run) -> None:
    run.refused("OpenCV")
    assert not (run.out / "mesh.glb").exists()


@case("19-grey-background-views")
def _gray(run: Run) -> None:
    run.mesh(distance=0.04, volume=(0.9, 1.6))
    run.refused("grid.png", "rig=")


# Meshes → pictures


@case("20b-glb-draco-beside-plain")
def _draco(run: Run) -> None:
    if not (run.out / "data" / "index.json").exists() or not run.index()["objects"]:
        run.refused("KHR_draco_mesh_compression|Draco")
    else:  # decoded: both boxes are there, the plain one alone would be of another shape
        assert "draco" not in run.notes().lower()


@case("22-glb-vertex-colours-with-material")
def _vertex_colors(run: Run) -> None:
    colors = [run.color(name) for name in ("floats", "ushort", "ubyte")]
    assert np.ptp(colors, axis=0).max() < 6
    red, green, blue = colors[0]
    assert red > 100
    assert 0.05 < green / red < 0.45
    assert 0.0 <= blue / red < 0.2


@case("22c-glb-alpha-mask-cards")
def _alpha_mask(run: Run) -> None:
    if "alpha" not in run.notes().lower():
        red, green, blue = run.color()
        assert green > 2 * max(red, blue)
        assert run.cover() < 0.3  # a whole box covers 0.42


@case("23-own-vertex-coloured-glb")
def _own_vertex_colors(run: Run) -> None:
    assert run.hues() == {"red", "green", "blue"}


@case("24-glb-normalised-uv")
def _uv(run: Run) -> None:
    for name in ("float-uv", "ubyte-uv", "ushort-uv"):
        assert run.hues(name) == {"blue"}


@case("24b-glb-texture-transform")
def _texture_transform(run: Run) -> None:
    assert run.hues() == {"blue"}


@case("24d-glb-quantised-positions")
def _quantized(run: Run) -> None:
    assert "skipped" in run.text or run.cover() < 0.35  # one box alone fills 0.42


@case("25-glb-two-scenes")
@case("27-glb-lines-points")
def _box(run: Run) -> None:
    assert abs(run.cover() - 0.42) < 0.02


@case("26-glb-negative-scale")
def _mirrored(run: Run) -> None:
    assert abs(run.cover() - 0.256) < 0.02
    folder = next(run.out.glob("data/*/target"))
    normal = np.asarray(Image.open(folder / "000-normal.png").convert("RGB"), float) / 127.5 - 1
    seen = np.asarray(Image.open(folder / "000.png").convert("RGBA"))[..., 3] > 250
    outward = normal[seen].mean(0)  # view 0 looks from +x, above
    assert outward[0] > 0.2
    assert outward[2] > 0.1


@case("28-gltf-missing-texture")
def _missing_texture(run: Run) -> None:
    assert re.search("texture|picture|image", run.text + run.notes()), run.text


@case("29-obj-missing-mtl")
def _missing_materials(run: Run) -> None:
    assert re.search("mtl|material", run.notes().lower()), run.notes()


@case("29b-obj-latin1-two-materials")
def _latin1(run: Run) -> None:
    assert run.hues() == {"red", "green"}


@case("29c-obj-negative-indices-ngon")
def _relative_indices(run: Run) -> None:
    assert abs(run.cover() - 0.29) < 0.06


@case("30-stl-folder")
def _stl(run: Run) -> None:
    names = {o["name"] for o in run.index()["objects"]}
    assert len(names) >= 2 or "stl" in run.text.lower()


@case("31-ply-quads-float-colours")
def _float_colors(run: Run) -> None:
    red, green, blue = run.color()
    assert red > 100
    assert abs(green / red - 0.3125) < 0.05
    assert abs(blue / red - 0.125) < 0.05


@case("31b-ply-point-cloud")
def _points(run: Run) -> None:
    run.refused("no .*faces|faces")


@case("32-mesh-replaced-same-name")
def _replaced(run: Run) -> None:
    assert run.hues() == {"blue"}


@case("33-uppercase-unicode-names")
def _names(run: Run) -> None:
    assert len(run.index()["objects"]) == 2


@case("34-mesh-out-names-and-formats")
def _formats(run: Run) -> None:
    import trimesh

    folder = next(p for p in run.out.iterdir() if p.is_dir())
    sizes = {}
    for suffix in ("glb", "obj", "ply", "stl"):
        scene = trimesh.load(folder / f"mesh.{suffix}", force="scene", process=False)
        mesh = scene.to_geometry()
        extent = mesh.extents if suffix != "glb" else mesh.extents[[0, 2, 1]]
        sizes[suffix] = extent
        merged = trimesh.Trimesh(mesh.vertices, mesh.faces)
        merged.merge_vertices(merge_tex=True, merge_norm=True)
        assert merged.is_watertight, suffix
    for extent in sizes.values():
        assert np.allclose(extent, sizes["ply"], atol=1e-3)
    material = (folder / "mesh.mtl").read_text()
    texture = re.search(r"map_Kd (\S+)", material)
    assert texture
    assert (folder / texture[1]).is_file()


# Pictures


def _input(run: Run, name: str) -> np.ndarray:
    path = run.out / "g" / name / "sample-0" / "input.png"
    rgba = np.asarray(Image.open(path).convert("RGBA"), dtype=float)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


@case("40-picture-forms")
def _forms(run: Run) -> None:
    names = {p.stem for p in (run.folder / "p").iterdir()}
    reference = _input(run, "00-reference")
    for name in names:
        picture = _input(run, name)
        if "grey" in name:
            assert np.ptp(picture, axis=-1).max() < 3
        else:
            difference = np.abs(picture - reference).mean()
            assert difference < 12, (name, difference)


@case("41-unreadable-pictures")
def _unreadable(run: Run) -> None:
    assert run.text.count("exit 2") == 5
    assert run.text.count("mvdiff: ") == 5
    run.says("HEIC", "SVG", "LFS", "truncated|broken|cut", "pixels")


@case("43-stray-transparency")
def _stray(run: Run) -> None:
    plain = _input(run, "plain")
    for name in ("one-pixel", "screenshot"):
        # a pixel more or less around the object moves its outline a little
        assert np.abs(_input(run, name) - plain).mean() < 8, name


# Weights


@case("46-broken-weight-files")
def _broken_weights(run: Run) -> None:
    answers = dict(re.findall(r"-- (\S+)\n((?:(?!-- ).+\n?)+)", run.text))
    facts = {
        "lfs.safetensors": "LFS",
        "lfs.ckpt": "LFS",
        "login.ckpt": "web page",
        "empty.ckpt": "empty",
        "cut.ckpt": "truncated",
        "ddp.ckpt": "prefix 'module.'",
        "compiled.ckpt": "prefix '_orig_mod.'",
        "numpy.ckpt": "shape",
        "evil.ckpt": "never",
        "legacy.pt": "1.6",
        "model.safetensors.index.json": "several parts",
    }
    for file, fact in facts.items():
        assert fact in answers[file], (file, answers[file])
    assert "OWNED" not in run.text


@case("47-own-weights-variants")
def _own_weights(run: Run) -> None:
    strips = {
        name: np.asarray(Image.open(run.out / f"g-{name}/00-reference/sample-0/strip.png"), float)
        for name in ("own.safetensors", "half.safetensors", "model.pt", "ddp.pt")
    }
    for name, strip in strips.items():
        assert np.abs(strip - strips["own.safetensors"]).mean() < 1, name
    answer = run.text.partition("-- nan.safetensors")[2]
    assert "NaN" in answer
    assert "embedder.net.0.weight" in answer, answer


# Training and ablations


@case("50-train-diverges")
def _diverges(run: Run) -> None:
    run.refused("diverged", r"step \d", "lower lr")
    assert not list((run.out / "run" / "checkpoints").glob("step-*"))


def _log(run: Run) -> list[dict[str, Any]]:
    return [json.loads(x) for x in (run.out / "run" / "log.jsonl").read_text().splitlines()]


@case("51-resume-with-more-steps")
def _more_steps(run: Run) -> None:
    run.says(r"steps=8 from here on \(was 4\)")
    rates = [line["lr"] for line in _log(run) if "lr" in line]
    assert [line["step"] for line in _log(run)] == list(range(1, 9))
    assert rates[4] > rates[3]
    assert rates[4] > rates[5] > rates[6] > rates[7]


@case("53-newest-checkpoint-cut")
def _cut_checkpoint(run: Run) -> None:
    run.says("step-00000006.*cannot be read", "step 4", "finished: 8 steps")


@case("56-ablate-mistakes")
def _ablate_mistakes(run: Run) -> None:
    answers = run.text.split("-- ")[1:]
    assert len(answers) == 13
    for answer in answers:
        assert "mvdiff: " in answer, answer
        assert "Traceback" not in answer


# The command line


@case("60-paths-on-the-command-line")
def _paths(run: Run) -> None:
    wrong = [
        x for x in run.text.splitlines() if not re.match(r"list \['(x,y.png| lead.png)'\]|\d+ n", x)
    ]
    assert wrong == ["exit 0"] or wrong == []


@case("61-typos-and-types")
def _typos(run: Run) -> None:
    answers = run.text.split("-- ")[1:]
    assert len(answers) == 19
    for answer in answers:
        assert "mvdiff: " in answer, answer
        assert "Traceback" not in answer
        assert len(answer.splitlines()[-1]) < 400


@case("70-evaluate-figures-checked")
def _figures(run: Run) -> None:
    figures = json.loads((run.out / "fig.json").read_text())
    means = figures.get("mean") or figures.get("means") or figures["objects"][0]
    independent = re.search(r"psnr ([\d.]+) ssim\(gauss\) ([\d.]+)", run.text)
    assert independent
    text = json.dumps(means)
    psnr = float(re.search(r'"psnr": ([\d.]+)', text)[1])
    ssim = float(re.search(r'"ssim": ([\d.]+)', text)[1])
    assert abs(psnr - float(independent[1])) < 1e-3
    assert abs(ssim - float(independent[2])) < 1e-3


@case("71-evaluate-meshes-checked")
def _mesh_figures(run: Run) -> None:
    rows = [
        tuple(map(float, m)) for m in re.findall(r"pred\s+([\d.]+)\s+[\d.]+\s+([\d.]+)", run.text)
    ]
    assert len(rows) == 3  # the row in millimeters has no IoU
    assert "normalize_reference=true" in run.text
    ply, glb, normalized = rows
    assert ply == glb
    assert abs(ply[1] - 0.9) < 0.01
    assert abs(normalized[1] - ply[1]) < 0.02
