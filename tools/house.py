"""Figures of the source's structure: rooms, imports between them, circles, sizes of functions.

python tools/house.py [ROOT]          # a table, as Markdown
python tools/house.py --arrows        # every import between rooms, and where it stands
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

PACKAGE = "mvdiff"


@dataclass(frozen=True)
class Arrow:
    """One import inside the package.

    importer, imported: module names below the package, such as "recon.hull". line: of the import.
    """

    importer: str
    imported: str
    line: int


def module_files(source: Path) -> dict[str, Path]:
    """Module name below the package → file; a package's own name stands for its `__init__.py`."""
    modules = {}
    for file in sorted(source.rglob("*.py")):
        parts = list(file.relative_to(source).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        modules[".".join(parts)] = file
    return modules


def arrows(source: Path) -> list[Arrow]:
    """All imports between the package's modules, those inside functions included."""
    modules = module_files(source)
    found = []
    for name, file in modules.items():
        is_package = file.name == "__init__.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom):
                continue
            if node.level == 0 and (node.module or "").split(".")[0] != PACKAGE:
                continue
            if node.level:
                parts = name.split(".") if name else []
                base = parts if is_package else parts[:-1]
                base = base[: len(base) - node.level + 1]
                target = [*base, *(node.module.split(".") if node.module else [])]
            else:
                target = node.module.split(".")[1:]
            for alias in node.names:
                longer = ".".join([*target, alias.name])
                imported = longer if longer in modules else ".".join(target)
                if imported in modules and imported != name:
                    found.append(Arrow(name, imported, node.lineno))
    return found


def room_of(module: str) -> str:
    """The room of a module: its first folder, or its own name at the top."""
    return module.split(".")[0] or "__init__"


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components with more than one member (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for after in sorted(edges.get(node, ())):
            if after not in index:
                visit(after)
                low[node] = min(low[node], low[after])
            elif after in stack:
                low[node] = min(low[node], index[after])
        if low[node] == index[node]:
            members = []
            while not members or members[-1] != node:
                members.append(stack.pop())
            if len(members) > 1:
                result.append(sorted(members))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return result


def room_edges(source: Path) -> dict[str, set[str]]:
    """Room → rooms it imports. The package's own `__init__` hands names on and is left out."""
    edges: dict[str, set[str]] = defaultdict(set)
    for arrow in arrows(source):
        importer, imported = room_of(arrow.importer), room_of(arrow.imported)
        if importer != imported and "__init__" not in (importer, imported):
            edges[importer].add(imported)
    return dict(edges)


def file_edges(source: Path) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = defaultdict(set)
    for arrow in arrows(source):
        edges[arrow.importer].add(arrow.imported)
    return dict(edges)


def functions(source: Path) -> list[tuple[str, int, int]]:
    """(name, lines, arguments) of every function and method."""
    found = []
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                a = node.args
                count = len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs)
                found.append((node.name, node.end_lineno - node.lineno + 1, count))
    return found


def table(root: Path) -> str:
    """The figures of a checkout, as a Markdown table."""
    source = root / "src" / PACKAGE
    files = list(source.rglob("*.py"))
    texts = [file.read_text(encoding="utf-8") for file in files]
    sizes = [text.count("\n") for text in texts]
    lines = sum(sizes)
    tests = sum(f.read_text(encoding="utf-8").count("\n") for f in (root / "tests").rglob("*.py"))
    all_functions = functions(source)
    private = [f for f in all_functions if f[0].startswith("_") and not f[0].startswith("__")]
    comments = sum(len(re.findall(r"^\s*#|  # ", text, re.MULTILINE)) for text in texts)
    edges = room_edges(source)
    rows = [
        ("files", len(files)),
        ("mean / largest file, lines", f"{mean(sizes):.0f} / {max(sizes)}"),
        ("rooms (folders and single modules)", len({room_of(m) for m in module_files(source)})),
        ("imports between rooms", sum(len(targets) for targets in edges.values())),
        ("circles between rooms", len(circles(edges))),
        ("circles between files", len(circles(file_edges(source)))),
        ("functions over 60 lines", sum(size > 60 for _, size, _ in all_functions)),
        ("longest function, lines", max(size for _, size, _ in all_functions)),
        ("most arguments", max(count for *_, count in all_functions)),
        ("private functions", f"{100 * len(private) / len(all_functions):.0f} %"),
        ("comments per 100 lines", f"{100 * comments / lines:.1f}"),
        ("`config: Any` in signatures", sum(text.count("config: Any") for text in texts)),
        ("lines of source / tests", f"{lines} / {tests}"),
    ]
    return "\n".join(["| figure | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows)])


def main(args: list[str]) -> None:
    roots = [Path(word) for word in args if not word.startswith("-")]
    root = roots[0] if roots else Path(__file__).parents[1]
    source = root / "src" / PACKAGE
    if "--arrows" in args:
        for arrow in arrows(source):
            if room_of(arrow.importer) != room_of(arrow.imported):
                print(f"{arrow.importer} → {arrow.imported} (line {arrow.line})")
        for circle in circles(room_edges(source)):
            print("circle:", " ".join(circle))
    else:
        print(table(root))


if __name__ == "__main__":
    main(sys.argv[1:])
