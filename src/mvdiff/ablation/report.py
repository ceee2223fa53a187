"""Finished runs side by side: results.json and table.md, means ± spread over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..utils.files import read_json, write_json, write_text
from .runs import Run, all_runs


@dataclass(frozen=True)
class Column:
    """One figure: its title, factor and decimals, and which way is better ("" for neither)."""

    title: str
    decimals: int
    better: str = ""
    factor: float = 1.0


#: figures of quality, in the order of the table; others that runs have come behind
QUALITY = {
    "psnr": Column("PSNR (dB)", 2, "↑"),
    "ssim": Column("SSIM", 3, "↑"),
    "lpips": Column("LPIPS", 3, "↓"),
    "hull_iou": Column("hull IoU", 3, "↑"),
    "photometric": Column("photometric ×100", 2, "↓", 100.0),
    "self_chamfer": Column("self-Chamfer ×100", 2, "↓", 100.0),
    "self_psnr": Column("self-PSNR (dB)", 2, "↑"),
    "diversity": Column("diversity ×100", 2, "", 100.0),
}
COST = {
    "training.steps": Column("steps", 0),
    "training.seconds": Column("training (min)", 1, "", 1 / 60),
    "training.cpu_seconds": Column("training (CPU min)", 1, "", 1 / 60),
    "step.parameters": Column("parameters (M)", 2, "", 1e-6),
    "step.flops": Column("GFLOP a step", 1, "", 1e-9),
    "sample.flops": Column("GFLOP a sample", 1, "", 1e-9),
    "step.seconds": Column("s a step", 3),
    "step.cpu_seconds": Column("CPU s a step", 3),
    "sample.seconds": Column("s a sample", 3),
    "sample.cpu_seconds": Column("CPU s a sample", 3),
    "step.memory": Column("memory, training (MB)", 0, "", 1e-6),
    "sample.memory": Column("memory, sampling (MB)", 0, "", 1e-6),
}


@dataclass
class Row:
    """One variant: its finished runs by seed, and the runs that failed or are not done."""

    name: str
    overrides: tuple[str, ...] = ()
    results: dict[int, dict[str, Any]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    folders: dict[int, Path] = field(default_factory=dict)

    def values(self, path: str) -> list[float]:
        """A figure of each finished run, such as "figures.psnr"; without those that lack it."""
        found = [get_nested(result, path) for _, result in sorted(self.results.items())]
        return [float(v) for v in found if isinstance(v, int | float)]


def collect(out: Path, plan: Mapping[str, Any]) -> list[Row]:
    """The variants of a sweep's folder that can be compared with the plan's, the plan's first.

    plan: the folder's `sweep.json`.
    """
    planned = [Run.load(out / "runs" / name) for name in plan["runs"]]
    known = {(run.variant, run.seed) for run in planned}
    rest = [
        run
        for run in all_runs(out)
        if run.comparison_key == plan["comparison_key"]
        and (run.variant, run.seed) not in known
        and run.result is not None
    ]
    rest.sort(key=lambda run: (run.folder / "result.json").stat().st_mtime)
    rows: dict[str, Row] = {}
    for run in [*planned, *rest]:
        row = rows.setdefault(run.variant, Row(run.variant, run.overrides))
        result = run.result
        if result is not None:
            row.results[run.seed] = result
            row.folders[run.seed] = run.folder
        else:
            row.failed[run.seed] = run.failure or "not done yet"
    return list(rows.values())


def read_controls(out: Path, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Floor and controls by name, of all held-out sets that the runs were scored on."""
    names = dict.fromkeys(r["controls"] for row in rows for r in row.results.values())
    found = {name: read_json(out / "controls" / name / "result.json", dict) for name in names}
    return {name: content for name, content in found.items() if content is not None}


def summary(row: Row) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation (n − 1) over seeds of every figure."""
    figures = dict.fromkeys(k for r in row.results.values() for k in r["figures"])
    paths = [*(f"figures.{key}" for key in figures), *COST]
    out = {}
    for path in paths:
        values = row.values(path)
        if values:
            spread = statistics.stdev(values) if len(values) > 1 else None
            out[path] = {"mean": statistics.fmean(values), "sd": spread, "n": len(values)}
    return out


def write_results(out: Path, plan: Mapping[str, Any], rows: Sequence[Row], commit: str) -> None:
    """Everything, as `results.json`. commit: of the source, or empty."""
    write_json(
        out / "results.json",
        {
            "settings": {k: plan[k] for k in ("words", "budget", "evaluation", "seeds", "data")},
            "commit": commit,
            "variants": [
                {
                    "name": row.name,
                    "overrides": list(row.overrides),
                    "summary": summary(row),
                    "runs": [r for _, r in sorted(row.results.items())],
                    "failed": {str(seed): why for seed, why in sorted(row.failed.items())},
                }
                for row in rows
            ],
            "controls": read_controls(out, rows),
        },
    )


def write_table(out: Path, plan: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """`table.md`: quality with floor and controls, cost, failed runs; returns its text."""
    controls = read_controls(out, rows)
    done = [row for row in rows if row.results]
    keys = list(QUALITY) + sorted(
        {k for row in done for r in row.results.values() for k in r["figures"]} - set(QUALITY)
    )
    keys = [k for k in keys if any(row.values(f"figures.{k}") for row in done)]
    ((kind, amount),) = plan["budget"].items()
    counts = {len(r["objects"]) for row in done for r in row.results.values()}
    held_out = max(counts, default=plan["evaluation"]["objects"])
    lines = [
        f"# {len(rows)} variant{'s' * (len(rows) > 1)}, {amount:g} {kind.replace('cpu_', 'CPU ')} "
        "of training each",
        "",
        f"Means over {held_out} held-out objects, ± sample standard deviation over seeds; n is the "
        "number of seeds. Every run has the same data, objects and sampling noise.",
        "",
        "## Quality",
        "",
        *_quality(done, controls, keys),
        "",
        *_missing_metrics(done, keys),
        "## Cost",
        "",
        *_cost(done),
        "",
        *_legend(done),
    ]
    failed = [(row, seed, why) for row in rows for seed, why in sorted(row.failed.items())]
    if failed:
        lines += ["", "## Failed or not done", ""]
        lines += [f"- {row.name}, seed {seed}: {why}" for row, seed, why in failed]
    text = "\n".join(lines) + "\n"
    write_text(out / "table.md", text)
    return text


def _quality(
    rows: Sequence[Row], controls: Mapping[str, Mapping[str, Any]], keys: Sequence[str]
) -> list[str]:
    columns = [QUALITY.get(key, Column(key, 3)) for key in keys]
    titles = [f"{c.title} {c.better}".strip() for c in columns]
    lines = [_line(["", "n", *titles]), _line(["---", *["---:"] * (len(keys) + 1)])]
    for row in rows:
        cells = [
            format_mean_std(row.values(f"figures.{k}"), c)
            for k, c in zip(keys, columns, strict=True)
        ]
        lines.append(_line([row.name, str(len(row.results)), *cells]))
    for content in controls.values():
        which = f" ({content['views']} views of {content['size']}²)" if len(controls) > 1 else ""
        for name, figures in content["figures"].items():
            values = [[figures[k]] if k in figures else [] for k in keys]
            cells = [format_mean_std(v, c) for v, c in zip(values, columns, strict=True)]
            lines.append(_line([f"*{name}{which}*", "", *cells]))
    return lines


def _missing_metrics(rows: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """Where a mean is over fewer objects: a figure that cannot be had is no zero."""
    out = []
    for row in rows:
        for key in keys:
            of = [[o.get(key) for o in r["objects"].values()] for r in row.results.values()]
            there = [sum(value is not None for value in values) for values in of]
            if key in QUALITY and key != "diversity" and min(there) < len(of[0]):
                low = f"{min(there)} of {len(of[0])} objects"
                out.append(f"- {row.name}: {QUALITY[key].title} could be measured on {low}.")
    return [*out, ""] if out else []


def _cost(rows: Sequence[Row]) -> list[str]:
    columns = {k: c for k, c in COST.items() if any(row.values(k) for row in rows)}
    lines = [_line(["", *(c.title for c in columns.values())])]
    lines.append(_line(["---", *["---:"] * len(columns)]))
    for row in rows:
        cells = [format_mean_std(row.values(key), column) for key, column in columns.items()]
        lines.append(_line([row.name, *cells]))
    return lines


def _legend(rows: Sequence[Row]) -> list[str]:
    """What the figures are, and on what they were measured."""
    results = [r for row in rows for r in row.results.values()]
    if not results:
        return []
    places = sorted({f"{r['device']}, {r['threads']} thread(s)" for r in results})
    torches = sorted({f"torch {r['versions']['torch']}" for r in results})
    return [
        "Operations are those of matrix products, convolutions and attention (a multiplication "
        "and an addition count as two); a step is one optimizer step, forward and backward, a "
        "sample all views of one object. Seconds are medians, CPU seconds those of all of the "
        "process's threads. Memory is the peak above what was in use before: in training before "
        "the model was built, in sampling with the model there.",
        "",
        f"Measured on {'; '.join(places)}; {', '.join(torches)}.",
    ]


def format_mean_std(values: Sequence[float], column: Column) -> str:
    """`18.92 ± 0.11`, or one value as it is."""
    scaled = [value * column.factor for value in values]
    if not scaled:
        return "–"
    text = f"{statistics.fmean(scaled):.{column.decimals}f}"
    spread = statistics.stdev(scaled) if len(scaled) > 1 else 0.0
    # what does not vary (parameters, steps) needs no spread
    varies = not math.isclose(spread, 0.0, abs_tol=1e-12)
    return f"{text} ± {spread:.{column.decimals}f}" if varies else text


def get_nested(content: Mapping[str, Any], path: str) -> Any:
    """`content["a"]["b"]` for "a.b"; None when it is not there."""
    node: Any = content
    for key in path.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
