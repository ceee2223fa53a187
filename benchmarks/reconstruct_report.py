"""Cases of benchmarks/reconstruct.py as a table, a plot, JSON, and a sheet of the meshes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from mvdiff.utils.files import atomic, write_text
from mvdiff.visualization import contact_sheet

#: Figure → title, number format.
FIGURES = {
    "chamfer": ("Chamfer", "{:.4f}"),
    "chamfer_floor": ("floor", "{:.4f}"),
    "iou": ("IoU", "{:.3f}"),
    "psnr": ("PSNR unseen", "{:.2f}"),
    "psnr_object": ("on object", "{:.2f}"),
    "seconds": ("wall s", "{:.1f}"),
    "cpu_seconds": ("CPU s", "{:.1f}"),
    "peak_mb": ("peak MB", "{:.0f}"),
}
ORDER = ("clean", "drift", "edges", "generated", "wrong")


def report(rows: list[dict], name: str, record: dict, results: Path, pictures: Path) -> None:
    """Print the table, write JSON, plot and sheet, and say where they are."""
    if not rows:
        print("no finished cases: nothing to report")
        return
    groups = summarise(rows)
    console = Console(width=150)
    console.print(table(groups, "all finished objects"))
    fair = summarise(common(rows))
    if fair and {g: v["objects"] for g, v in fair.items()} != {
        g: v["objects"] for g, v in groups.items()
    }:
        console.print(table(fair, "only the objects that every reconstructor finished"))
    states: dict[str, set] = defaultdict(set)
    for row in rows:
        states[_label(row)].add(row.get("code", ""))
    for label, codes in states.items():
        if len(codes - {""}) > 1:
            print(f"note: cases of {label} ran with {len(codes - {''})} states of the package")
    for label, (named, count, false) in detection(rows).items():
        print(f"{label}: the wrong view was named in {named} of {count} cases; of the right views")
        print(f"    of all cases {false:.1%} were named")
    errors = [row for row in rows if "error" in row]
    for row in errors:
        print(f"no mesh: {row['object']} {row['views']} {row['defects']} {_label(row)}: ", end="")
        print(row["error"])
    out = {
        **record,
        "objects": sorted({row["object"] for row in rows}),
        "summary": _plain(groups),
        "summary_common": _plain(fair),
        "failed": len(errors),
        "wrong_views_named": detection(rows),
    }
    write_text(results / f"reconstruct_{name}.json", json.dumps(out, indent=1))
    plot(fair or groups, results / f"reconstruct_{name}.png")
    sheet(rows, pictures)
    print(f"wrote {results}/reconstruct_{name}.json, its .png and {pictures}/sheet.png")


def summarise(rows: list[dict]) -> dict[tuple, dict]:
    """(views, defects, reconstructor) → median and quartiles over objects of every figure."""
    groups: dict[tuple, list[dict]] = defaultdict(list)
    for row in rows:
        groups[(row["views"], row["defects"], _label(row))].append(row)
    out = {}
    for group, cases in sorted(groups.items(), key=lambda g: (-g[0][0], _rank(g[0][1]), g[0][2])):
        whole = [row for row in cases if "error" not in row]
        entry: dict = {"objects": len(whole), "failed": len(cases) - len(whole)}
        for key in FIGURES:
            values = [row[key] for row in whole if key in row]
            if values:
                low, middle, high = np.percentile(values, [25, 50, 75])
                entry[key] = {"median": middle, "q1": low, "q3": high, "objects": len(values)}
        out[group] = entry
    return out


def common(rows: list[dict]) -> list[dict]:
    """Cases that every reconstructor finished which was run on these views and defects."""
    asked: dict[tuple, set] = defaultdict(set)
    finished: dict[tuple, set] = defaultdict(set)
    for row in rows:
        group = row["views"], row["defects"]
        asked[group].add(_label(row))
        if "error" not in row:
            finished[(row["object"], *group)].add(_label(row))

    def shared(row: dict) -> bool:
        group = row["views"], row["defects"]
        return finished[(row["object"], *group)] == asked[group]

    return [row for row in rows if shared(row)]


def detection(rows: list[dict]) -> dict[str, tuple[int, int, float]]:
    """How well the agreement of views finds a wrong one.

    By reconstructor: cases whose wrong view was named, cases with one, and the share of right
    views that were named.
    """
    out = {}
    for label in sorted({_label(row) for row in rows}):
        mine = [row for row in rows if _label(row) == label and "error" not in row]
        wrong = [row for row in mine if "wrong_view" in row]
        false = sum(len(set(row["worst"]) - {row.get("wrong_view")}) for row in mine)
        right = sum(row["views"] for row in mine) - len(wrong)
        if wrong:
            named = sum(row["wrong_view"] in row["worst"] for row in wrong)
            out[label] = (named, len(wrong), false / right)
    return out


def table(groups: dict[tuple, dict], title: str) -> Table:
    """Medians; the quartiles of Chamfer beside it."""
    out = Table(title=f"medians over {title}", box=None, title_justify="left")
    for column in ("views", "defects", "reconstructor", "n"):
        out.add_column(column, justify="right" if column in ("views", "n") else "left")
    for heading, _ in FIGURES.values():
        out.add_column(heading, justify="right")
    for (views, defects, name), entry in groups.items():
        cells = []
        for key, (_, form) in FIGURES.items():
            value = entry.get(key)
            text = "-" if value is None else form.format(value["median"])
            if key == "chamfer" and value is not None:
                text += f" [{form.format(value['q1'])}–{form.format(value['q3'])}]"
            cells.append(text)
        count = str(entry["objects"]) + (f" (−{entry['failed']})" if entry["failed"] else "")
        out.add_row(str(views), defects, name, count, *cells)
    return out


def plot(groups: dict[tuple, dict], path: Path) -> None:
    """Chamfer, IoU and PSNR against the number of views, a panel a kind of defect."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    kinds = sorted({group[1] for group in groups}, key=_rank)
    names = sorted({group[2] for group in groups})
    shown = ("chamfer", "iou", "psnr")
    figure, axes = pyplot.subplots(
        len(shown), len(kinds), figsize=(3.6 * len(kinds) + 1, 7.5), squeeze=False, sharey="row",
        sharex=True,
    )  # fmt: skip
    for i, key in enumerate(shown):
        for j, kind in enumerate(kinds):
            axis = axes[i, j]
            for k, name in enumerate(names):
                points = [
                    (g[0], entry[key]["median"], entry[key]["q1"], entry[key]["q3"])
                    for g, entry in groups.items()
                    if g[1:] == (kind, name) and key in entry
                ]
                if points:
                    x, y, low, high = np.array(sorted(points)).T
                    # Beside each other, so that no bar hides another.
                    x = x * 1.04 ** (k - (len(names) - 1) / 2)
                    axis.errorbar(
                        x,
                        y,
                        [y - low, high - y],
                        marker="o",
                        capsize=3,
                        label=name,
                        lw=1.4,
                        color=f"C{k}",
                    )
            axis.set_xscale("log", base=2)
            ticks = sorted({g[0] for g in groups})
            axis.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.4)
            axis.set_xticks(ticks, [str(t) for t in ticks])
            axis.grid(alpha=0.3)
            if i == 0:
                axis.set_title(kind)
            if j == 0:
                axis.set_ylabel(FIGURES[key][0] + (" (dB)" if key == "psnr" else ""))
            if i == len(shown) - 1:
                axis.set_xlabel("views")
    axes[0, 0].legend(frameon=False)
    figure.suptitle("median and quartiles over objects")
    figure.tight_layout()
    with atomic(path) as part:
        figure.savefig(part, dpi=110, format="png")
    pyplot.close(figure)


def sheet(rows: list[dict], pictures: Path, most: int = 21) -> None:
    """Meshes of the most views: a row an object, two renders a reconstructor and defect."""
    whole = [row for row in rows if "error" not in row]
    if not whole:
        return
    views = max(row["views"] for row in whole)
    size = max(row["size"] for row in whole if row["views"] == views)
    whole = [row for row in whole if row["views"] == views and row["size"] == size]
    columns = sorted(
        {(row["defects"], _label(row)) for row in whole}, key=lambda c: (_rank(c[0]), c[1])
    )
    names = sorted({row["object"] for row in whole})[:most]
    stems = {(row["object"], row["defects"], _label(row)): stem(row) for row in whole}
    blank = Image.new("RGB", (224, 224), (255, 255, 255))

    def shots(name: str, column: tuple[str, str]) -> list[Image.Image]:
        files = [pictures / f"{stems.get((name, *column))}-{i}.png" for i in range(2)]
        return [Image.open(f).convert("RGB") if f.is_file() else blank for f in files]

    contact_sheet(
        [[shot for column in columns for shot in shots(name, column)] for name in names],
        pictures / "sheet.png",
        row_labels=names,
        column_labels=[text for d, label in columns for text in (label, d)],
        cell=150,
    )


def stem(case: dict) -> str:
    """The file name, less number and suffix, of a case's pictures."""
    parts = [case[key] for key in ("object", "views", "defects", "reconstructor", "size")]
    parts += [case["settings"]] if case["settings"] else []
    return re.sub(r"[^\w.=-]+", "_", "-".join(str(part) for part in parts))


def _label(row: dict) -> str:
    """The reconstructor, with what differs from its defaults and from 256²."""
    more = [row["settings"]] if row["settings"] else []
    more += [f"{row['size']}²"] if row["size"] != 256 else []
    return row["reconstructor"] + (f" ({', '.join(more)})" if more else "")


def _rank(defects: str) -> int:
    return ORDER.index(defects)


def _plain(groups: dict[tuple, dict]) -> list[dict]:
    names = ("views", "defects", "reconstructor")
    return [{**dict(zip(names, group, strict=True)), **entry} for group, entry in groups.items()]
