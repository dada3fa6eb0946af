"""Ray job: make the "projector" artefact and what it needs. `python ray_jobs/train_projector.py run.toml [--set a.b=value ...]`"""

import sys

from thinkrec.cli.main import main

main(["run", *sys.argv[1:], "--until", "projector"])
