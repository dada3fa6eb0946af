"""Ray job: make the "traces" artefact and what it needs. `python ray_jobs/traces.py run.toml [--set a.b=value ...]`"""

import sys

from thinkrec.cli.main import main

main(["run", *sys.argv[1:], "--until", "traces"])
