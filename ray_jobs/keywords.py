"""Ray job: make the "keywords" artefact and what it needs. `python ray_jobs/keywords.py run.toml [--set a.b=value ...]`"""

import sys

from thinkrec.cli.main import main

main(["run", *sys.argv[1:], "--until", "keywords"])
