"""`melt devices`: what the lab file knows, and whether it can be reached."""

from __future__ import annotations

from typing import Any

from rich.table import Table as RichTable

from melt.cli.console import out, plain, print_json, say
from melt.cli.options import AsJson, LabFile
from melt.device import open_device
from melt.errors import MeltError
from melt.files import Lab, LabDevice, load_lab

EXAMPLE = "Example: **melt devices --lab lab.yaml**"


def devices(lab: LabFile = None, as_json: AsJson = False) -> None:
    """List the devices of the lab, with what each is, or why it cannot be used and what to do."""
    known = load_lab(lab)
    rows = [_look(name, spec, known) for name, spec in known.devices.items()]
    if as_json:
        print_json(rows)
        return
    table = RichTable()
    for heading in ("device", "profile", "address", "state", "what it is"):
        table.add_column(heading)
    for row in rows:
        what = row["problem"] or f"{row['soc'] or row['machine']}, {row['os'] or 'unknown system'}"
        state = "ready" if row["ready"] else "not ready"
        table.add_row(*map(plain, (row["device"], row["profile"], row["address"], state, what)))
    out.print(table)


def _look(name: str, spec: LabDevice, lab: Lab) -> dict[str, Any]:
    row: dict[str, Any] = {"device": name, "profile": spec.profile, "address": spec.address, "ready": False}
    row |= {"problem": None, "machine": None, "soc": None, "os": None}
    try:
        with open_device(name, spec, lab.profile(spec), say) as device:
            row |= {"ready": True, "machine": device.machine, "soc": device.fact("soc"), "os": device.fact("os")}
    except MeltError as error:
        row["problem"] = str(error)
    return row
