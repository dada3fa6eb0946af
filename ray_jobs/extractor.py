"""Ray job: make the "extractor" artefact and what it needs. `python ray_jobs/extractor.py run.toml [--set a.b=value ...]`"""

import sys

from thinkrec.cli.main import main

main(["run", *sys.argv[1:], "--until", "extractor"])
