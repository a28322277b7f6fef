"""The command line: the only place that prints, and the only one that exits."""

from melt.cli.app import main

__all__ = ["main"]
