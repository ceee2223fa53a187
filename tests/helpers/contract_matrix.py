"""Contract tests as a table: one row per check, one column per variant.

python tests/helpers/contract_matrix.py [attention | volume | …]
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import pytest

ORDER = ["ok", "–", "FAIL"]


class Matrix:
    """Collects outcomes by check and variant; a check's worst case counts."""

    def __init__(self) -> None:
        self.cells: dict[str, dict[str, str]] = defaultdict(dict)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = (yield).get_result()
        variant = getattr(item, "callspec", None) and item.callspec.params.get("variant")
        if variant and (report.when == "call" or not report.passed):
            now = "FAIL" if report.failed else "–" if report.skipped else "ok"
            row = self.cells[item.originalname.removeprefix("test_").replace("_", " ")]
            row[variant] = max(now, row.get(variant, "ok"), key=ORDER.index)

    def __str__(self) -> str:
        variants = sorted({v for row in self.cells.values() for v in row})
        lines = [["check", *variants], ["---"] * (len(variants) + 1)]
        lines += [[c, *(row.get(v, "") for v in variants)] for c, row in self.cells.items()]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    slot = sys.argv[1] if len(sys.argv) > 1 else "attention"
    matrix = Matrix()
    tests = Path(__file__).parents[1] / "contracts" / f"test_{slot}.py"
    code = pytest.main(["-q", "--no-header", str(tests), *sys.argv[2:]], plugins=[matrix])
    print(f"\n{matrix}")
    sys.exit(code)
