"""Ray job: the whole line, ingest to report. `python ray_jobs/pipeline.py run.toml [--set a.b=value ...]`"""

import sys

from thinkrec.cli.main import main

main(["run", *sys.argv[1:]])
