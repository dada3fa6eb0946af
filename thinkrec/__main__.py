"""`python -m thinkrec` is the `thinkrec` command."""

from thinkrec.cli import main

main()
