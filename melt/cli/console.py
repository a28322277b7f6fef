"""Where the command line prints: results on stdout, everything told on the way on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape


class _Console(Console):
    """A console that nobody has to listen to: `melt run … | head -1` measures to the end."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())


out = _Console(highlight=False)
err = _Console(stderr=True, highlight=False)


def survive_any_encoding() -> None:
    """A terminal that knows no µ or – gets a question mark in its place, and not the end of the program."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def plain(text: object) -> str:
    """Text from files and devices for rich: no markup, no control characters."""
    return escape("".join(c if c.isprintable() else "\ufffd" for c in str(text)))


def say(sentence: str) -> None:
    """Tells a person something while they wait."""
    err.print(plain(sentence), soft_wrap=True)


def print_json(data: Any) -> None:
    """Data for a program, on stdout."""
    try:
        print(json.dumps(data, indent=1, default=str, allow_nan=False), flush=True)
    except BrokenPipeError:
        out.on_broken_pipe()
