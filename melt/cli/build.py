"""`melt build`: the native programs for a device, compiled ahead."""

from __future__ import annotations

from typing import Annotated

import typer

from melt import native
from melt.cli.console import out, plain, print_json, say
from melt.cli.options import AsJson, LabFile
from melt.device import machine_of
from melt.errors import UsageError
from melt.files import load_lab

EXAMPLE = "Example: **melt build --for local** or **melt build --machine aarch64**"


def build(
    device: Annotated[str | None, typer.Option("--for", help="The device to build for.", metavar="DEVICE")] = None,
    machine: Annotated[str | None, typer.Option("--machine", help="Or its processor: x86_64 or aarch64.")] = None,
    lab: LabFile = None,
    as_json: AsJson = False,
) -> None:
    """Compile what runs on a device: it happens by itself when first needed, and is kept."""
    if (device is None) == (machine is None):
        raise UsageError("say either --for DEVICE or --machine x86_64 or aarch64")
    here = False
    if device is not None:
        spec = load_lab(lab).device(device)
        machine, here = machine_of(device, spec), spec.address.startswith("local:")
    rows = []
    for program in native.PROGRAMS.values():
        path = native.build(program.name, machine or "", here=here, say=say)
        rows.append({"program": program.name, "machine": machine, "path": str(path), "bytes": path.stat().st_size})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        out.print(f"{row['program']} for {row['machine']}: {plain(row['path'])}, {row['bytes']} bytes", soft_wrap=True)
