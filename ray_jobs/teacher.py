"""Ray job: make the "teacher" artefact and what it needs. `python ray_jobs/teacher.py run.toml [--set a.b=value ...]`"""

import sys

from thinkrec.cli.main import main

main(["run", *sys.argv[1:], "--until", "teacher"])
