"""What the fault tests measured, for benchmarks/faults.py, which names a file to collect it in. Not a test itself."""

from __future__ import annotations

import json
import os

VARIABLE = "THINKREC_FAULT_TABLE"


def record(fault: str, repeated_steps: int | None, noticed_s: float | None) -> None:
    """One row: a fault that landed and was survived, what was done twice, and how soon it was noticed."""
    if VARIABLE in os.environ:
        test = os.environ["PYTEST_CURRENT_TEST"].partition("::")[2].rpartition(" ")[0]
        seconds = None if noticed_s is None else round(noticed_s, 1)
        row = {"test": test, "fault": fault, "repeated_steps": repeated_steps, "noticed_s": seconds}
        with open(os.environ[VARIABLE], "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
