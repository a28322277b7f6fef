"""Where the command line prints: results on stdout, everything told on the way on stderr."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def plain(text: object) -> str:
    """Text from files and devices for rich: no markup, no control characters."""
    return "".join(c if c.isprintable() else "�" for c in str(text)).replace("[", r"\[")


def say(sentence: str) -> None:
    """Tells a person something while they wait."""
    err.print(plain(sentence), soft_wrap=True)


def print_json(data: Any) -> None:
    """Data for a program, on stdout."""
    print(json.dumps(data, indent=1, default=str, allow_nan=False))
