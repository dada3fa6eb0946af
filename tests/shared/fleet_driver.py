"""`thinkrec` with the workers of the expert stage under a plan of faults: `python fleet_driver.py PLAN WORDS...`. Not a test itself."""

from __future__ import annotations

import sys
from pathlib import Path

import schedule

from thinkrec.cli.main import main
from thinkrec.train.fleet import stage as experts

if __name__ == "__main__":
    experts.train_group = schedule.under(Path(sys.argv[1]), experts.train_group)
    main(sys.argv[2:])
