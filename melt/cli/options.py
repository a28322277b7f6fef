"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LabFile = Annotated[Path | None, typer.Option("--lab", help="Your lab file: the devices that are here.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program instead of a table.")]
