"""Ray job: make the "instances" artefact and what it needs. `python ray_jobs/instances.py run.toml [--set a.b=value ...]`"""

import sys

from thinkrec.cli.main import main

main(["run", *sys.argv[1:], "--until", "instances"])
