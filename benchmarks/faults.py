"""What a fault costs: each fault of tests/faults, whether it landed and was survived, steps made twice, and seconds until it was noticed.

Runs the fault tests, some minutes each, and collects what they measured; fails if one fails. A fault that did not land is shown as such.

    python benchmarks/faults.py                                   print the table as JSON
    python benchmarks/faults.py --store                           and keep it in benchmarks/baselines/faults.json
    python benchmarks/faults.py --store test_nodes_struck.py ...  only these files; the other rows of the kept table stay
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from _baseline import path_of, show

ROOT = Path(__file__).parents[1]


def rows(report: Path, measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each test that measured something (tests/shared/record.py) or was skipped, from pytest's report."""
    by_test = {row["test"]: row for row in measured}
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        name, outcomes = case.attrib["name"], {child.tag for child in case}
        if "skipped" in outcomes:
            found.append({"test": name, "fault": name, "landed": False})
        elif name in by_test:
            found.append({**by_test[name], "landed": True, "survived": not outcomes & {"failure", "error"}})
    return found


def kept(measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the kept table that were not measured now."""
    table = path_of(__file__)
    known = json.loads(table.read_text(encoding="utf-8"))["rows"] if table.exists() else []
    return [row for row in known if row["test"] not in {one["test"] for one in measured}]


def main() -> None:
    """Print, and with --store keep, the table."""
    files = [f"tests/faults/{word}" for word in sys.argv[1:] if word != "--store"]
    with tempfile.TemporaryDirectory() as folder:
        table, report = Path(folder) / "table.jsonl", Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "long or not long", f"--junitxml={report}", *(files or ["tests/faults"])]
        done = subprocess.run(command, env=os.environ | {"THINKREC_FAULT_TABLE": str(table)}, stdout=sys.stderr, cwd=ROOT, check=False)
        measured = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()] if table.exists() else []
        found = rows(report, measured)
    assert done.returncode == 0, f"a fault was not survived: {found}"
    show(__file__, {"question": "what each fault costs", "rows": (kept(found) if files else []) + found})


if __name__ == "__main__":
    main()
