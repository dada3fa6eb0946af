"""What a fault costs: each fault of tests/faults, whether it landed and was survived, steps made twice, and seconds until it was noticed.

Runs the fault tests and collects what they measured; fails if one fails. A fault that did not land is shown as such and not as survived.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
BASELINE = Path(__file__).parent / "baselines" / "faults.json"


def main() -> None:
    """Print, and with --store keep, the table."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.jsonl"
        command = [sys.executable, "-m", "pytest", "-m", "long or not long", "-rs", str(ROOT / "tests/faults")]
        done = subprocess.run(command, env=os.environ | {"THINKREC_FAULT_TABLE": str(table)}, stdout=sys.stderr, cwd=ROOT, check=False)
        rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()] if table.exists() else []
    text = json.dumps({"question": "what each fault costs", "rows": rows}, indent=1)
    print(text)
    assert done.returncode == 0, "a fault was not survived"
    if "--store" in sys.argv[1:]:
        BASELINE.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
