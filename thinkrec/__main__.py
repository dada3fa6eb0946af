"""`python -m thinkrec` is the `thinkrec` command."""

from thinkrec.cli.main import main

main()
