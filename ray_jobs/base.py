"""Ray job: make the "base" artefact and what it needs. `python ray_jobs/base.py run.toml [--set a.b=value ...]`"""

import sys

from thinkrec.cli.main import main

main(["run", *sys.argv[1:], "--until", "base"])
