"""Ray job: make the "encode" artefact and what it needs. `python ray_jobs/encode.py run.toml [--set a.b=value ...]`"""

import sys

from thinkrec.cli.main import main

main(["run", *sys.argv[1:], "--until", "encode"])
