"""The command line: the only place that prints, and the only one that exits."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs `melt` and exits with its code; Ctrl-C is heard even while the libraries are being loaded."""
    try:
        from melt.cli.app import main as run  # noqa: PLC0415 - takes a second, in which Ctrl-C should be kind

        code = run()
    except KeyboardInterrupt:
        print("melt: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)
