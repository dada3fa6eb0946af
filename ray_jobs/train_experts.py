"""Ray job: make the "experts" artefact and what it needs. `python ray_jobs/train_experts.py run.toml [--set a.b=value ...]`"""

import sys

from thinkrec.cli.main import main

main(["run", *sys.argv[1:], "--until", "experts"])
