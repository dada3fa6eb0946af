"""Ray job: make the "references" artefact and what it needs. `python ray_jobs/references.py run.toml [--set a.b=value ...]`"""

import sys

from thinkrec.cli.main import main

main(["run", *sys.argv[1:], "--until", "references"])
