"""`python -m melt` is the same as `melt`."""

from melt.cli import main

main()
