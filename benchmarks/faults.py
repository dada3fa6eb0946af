"""What a fault costs: each fault of tests/faults, whether it landed and was survived, steps made twice, and seconds until it was noticed.

Runs the fault tests, some minutes each, and collects what they measured; fails if one fails. A fault that did not land is shown as such.
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

ROOT = Path(__file__).parents[1]
BASELINE = Path(__file__).parent / "baselines" / "faults.json"


def rows(report: Path, measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each test that measured something (tests/faults/record.py) or was skipped, from pytest's report."""
    by_test = {row["test"]: {name: value for name, value in row.items() if name != "test"} for row in measured}
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        name, outcomes = case.attrib["name"], {child.tag for child in case}
        if "skipped" in outcomes:
            found.append({"fault": name, "landed": False})
        elif name in by_test:
            found.append({**by_test[name], "landed": True, "survived": not outcomes & {"failure", "error"}})
    return found


def main() -> None:
    """Print, and with --store keep, the table."""
    with tempfile.TemporaryDirectory() as folder:
        table, report = Path(folder) / "table.jsonl", Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "long or not long", f"--junitxml={report}", str(ROOT / "tests/faults")]
        done = subprocess.run(command, env=os.environ | {"THINKREC_FAULT_TABLE": str(table)}, stdout=sys.stderr, cwd=ROOT, check=False)
        measured = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()] if table.exists() else []
        text = json.dumps({"question": "what each fault costs", "rows": rows(report, measured)}, indent=1)
    print(text)
    assert done.returncode == 0, "a fault was not survived"
    if "--store" in sys.argv[1:]:
        BASELINE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
