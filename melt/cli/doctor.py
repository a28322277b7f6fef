"""`melt doctor`: what can be measured on a device, what not, and why."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table as RichTable

from melt.cli.console import out, plain, print_json, say
from melt.cli.options import AsJson, LabFile, named
from melt.device import Device, open_device
from melt.errors import ParseError
from melt.records import Captured, Channel, Sensor

EXAMPLE = "Example: **melt doctor local**"
_LONGEST = 100


def doctor(
    device: Annotated[
        str,
        typer.Argument(help="A device of the lab, or an address: ssh://, adb://, adb+tcp://, local:", metavar="DEVICE"),
    ],
    lab: LabFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what a device is, which sensors it has with a value of each now, and what is missing and why."""
    known, name, spec = named(device, lab)
    chosen_by = "lab" if known.devices.get(name) is spec else "address"
    with open_device(name, spec, known.profile(spec), say) as opened:
        sensors = _read(opened)
        jobs = sorted(path.split("/")[-2] for path in opened.probe([f"{opened.root}/jobs/*/status"]))
        data = {
            "device": name,
            "profile": opened.profile.name,
            "profile_chosen_by": chosen_by,
            "work_folder": opened.root,
            "facts": {n: {"value": f.value, "reason": f.reason, "source": f.source} for n, f in opened.facts.items()},
            "sensors": sensors,
            "absent": dict(opened.absent),
            "jobs": jobs,
        }
    if as_json:
        print_json(data)
        return
    why = ", chosen by the address: a lab file can name another" if chosen_by == "address" else ""
    out.print(f"profile {plain(opened.profile.name)}{why}", soft_wrap=True)
    facts = RichTable(title=f"{plain(name)} is")
    facts.add_column("fact")
    facts.add_column("value", overflow="fold")
    for fact in opened.facts.values():
        value = str(fact.value)
        short = value if len(value) <= _LONGEST else f"{value[:_LONGEST]} … (whole with --json)"
        facts.add_row(plain(fact.name), plain(short) if fact.value is not None else f"[dim]{plain(fact.reason)}[/]")
    out.print(facts)
    table = RichTable(title="What can be measured")
    for heading in ("channel", "now", "unit", "every", "from"):
        table.add_column(heading)
    for row in sensors:
        now = f"{row['value']:.6g}" if row["value"] is not None else f"[dim]{plain(row['reason'])}[/]"
        table.add_row(plain(row["channel"]), now, row["unit"], f"{row['period_s']:g} s", plain(row["source"]))
    out.print(table)
    missing = RichTable(title="What cannot, and why")
    missing.add_column("kind")
    missing.add_column("reason")
    for kind, reason in opened.absent.items():
        missing.add_row(plain(kind), plain(reason))
    if opened.absent:
        out.print(missing)
    if jobs:
        told = f"{len(jobs)} jobs lie in {opened.root}/jobs, under way or not yet collected: {', '.join(jobs[:5])}"
        out.print(f"{plain(told)}; resume their session, or remove the folders", soft_wrap=True)


def _read(device: Device) -> list[dict[str, Any]]:
    """Every channel with its value now."""
    captures = device.probe([sensor.path for sensor in device.sensors if sensor.path])
    return [
        _row(sensor, channel, captures.get(sensor.path or ""))
        for sensor in device.sensors
        for channel in sensor.channels
    ]


def _row(sensor: Sensor, channel: Channel, captured: Captured | None) -> dict[str, Any]:
    value: float | None = None
    reason: str | None = "missing" if captured is None else captured.error
    if captured is not None and captured.error is None:
        try:
            value = channel.parse(captured.data)
        except ParseError as error:
            reason = str(error)
    return {
        "channel": channel.name,
        "value": value,
        "reason": reason,
        "unit": channel.unit,
        "period_s": sensor.period_s,
        "source": sensor.source,
    }
