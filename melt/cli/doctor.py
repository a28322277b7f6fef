"""`melt doctor`: what a device is, what can be measured on it and how often that is new, what not, and what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table as RichTable

from melt.analysis.refresh import Refresh, refresh
from melt.analysis.total import Total
from melt.cli.advice import advice
from melt.cli.console import out, plain, print_json, say
from melt.cli.measurable import Kind, Looked, kinds
from melt.cli.options import AsJson, LabFile, named
from melt.device import Device, open_device
from melt.errors import DeviceError
from melt.places import shipped
from melt.records import Channel, Sensor
from melt.run.survey import Pulses, fast, survey
from melt.run.values import capture, values

EXAMPLE = "Example: **melt doctor local**, **melt doctor pi5 --lab lab.yaml**"
_LONGEST = 100
_FACTS, _CHANNELS = 12, 24
"""So many are shown without --all."""
_NARROW = 56
_FIRST = (
    *("device_model", "soc", "soc_model", "gpu_model", "machine", "core_clusters", "cpus_online", "memory_total_bytes"),
    *("os", "android_version", "jetson_linux", "kernel", "power_mode", "governor", "virtual_machine"),
)
"""The facts that a person looks for, in this order."""
_ORDER = ("power", "energy", "temperature", "clock", "throttle", "cooling", "level", "charger", "current", "voltage")
_PULSES = Pulses(length_s=5.0, on_s=0.43, off_s=0.4)

All = Annotated[bool, typer.Option("--all", help="Every fact and every channel, and not the ones most asked for.")]
Quick = Annotated[bool, typer.Option("--quick", help="Do not watch the sensors for five seconds.")]


def doctor(
    context: typer.Context,
    device: Annotated[
        str,
        typer.Argument(help="A device of the lab, or an address: ssh://, adb://, adb+tcp://, local:", metavar="DEVICE"),
    ],
    lab: LabFile = None,
    quick: Quick = False,
    everything: All = False,
    as_json: AsJson = False,
) -> None:
    """Say what a device is, what can be measured there and how often it is new, what cannot and why, and what to do."""
    known, name, spec = named(device, lab, context)
    chosen_by = "lab" if known.devices.get(name) is spec else "address"
    with open_device(name, spec, known.profile(spec), say) as opened:
        jobs = sorted(path.split("/")[-2] for path in opened.probe([f"{opened.root}/jobs/*/status"]))
        found, why_not = ({}, "not asked for (--quick)") if quick else _watched(opened)
        looked = Looked(
            opened, values(opened.sensors, capture(opened, opened.sensors)), found, _PULSES.total_s if found else 0.0
        )
    call = device if lab is None else f"{device} --lab {lab}"
    known_profiles = sorted(path.stem for path in shipped("device_profiles").glob("*.yaml"))
    sentences = advice(looked, known_profiles, call, jobs)
    if as_json:
        print_json({**_data(looked, chosen_by, why_not), "what_to_do": sentences, "jobs": jobs})
        return
    _print_device(opened, chosen_by, everything)
    _print_kinds(looked, why_not)
    _print_channels(looked, everything)
    absent = [(plain(kind), plain(reason)) for kind, reason in opened.absent.items()]
    _table("What cannot, and why", ("kind", "reason"), absent)
    out.print("[bold]What to do[/]" if sentences else "Nothing is left to do here.")
    for sentence in sentences:
        out.print(f"- {plain(sentence)}", soft_wrap=True)


def _watched(device: Device) -> tuple[dict[str, Refresh], str]:
    """How often each channel was new over a survey; or why there was none."""
    if not device.sensors:
        return {}, "there is no sensor to watch"
    say(f"{device.name}: watching its sensors for {_PULSES.total_s:.0f} s (--quick leaves that out)")
    try:
        told = survey(device, fast(device.sensors), _PULSES)
    except DeviceError as error:
        return {}, str(error)
    return {name: refresh(series, told.load) for name, series in told.trace.series.items()}, ""


# ------------------------------------------------------------------------------------------------------- for programs


def _data(looked: Looked, chosen_by: str, why_not: str) -> dict[str, Any]:
    device, chosen = looked.device, looked.total()
    facts = {n: {"value": f.value, "reason": f.reason, "source": f.source} for n, f in device.facts.items()}
    whole = chosen if isinstance(chosen, Total) else None
    return {
        "device": device.name,
        "profile": device.profile.name,
        "profile_chosen_by": chosen_by,
        "profile_verified": device.profile.verified,
        "simulated": device.simulated,
        "work_folder": device.root,
        "facts": facts,
        "can_be_measured": [dataclasses.asdict(kind) for kind in kinds(looked)],
        "total": {
            "channels": list(whole.channels) if whole else None,
            "boundary": whole.boundary if whole else None,
            "excludes": list(whole.excludes) if whole else None,
            "reason": None if whole else chosen,
        },
        "watched_s": looked.over_s,
        "not_watched": why_not or None,
        "sensors": [_row(looked, sensor, channel) for sensor in device.sensors for channel in sensor.channels],
        "absent": dict(device.absent),
    }


def _row(looked: Looked, sensor: Sensor, channel: Channel) -> dict[str, Any]:
    value, found = looked.values[channel.name], looked.refreshed.get(channel.name)
    return {
        "channel": channel.name,
        "label": channel.label,
        "quantity": channel.quantity,
        "value": value if isinstance(value, float) else None,
        "reason": value if isinstance(value, str) else None,
        "unit": channel.unit,
        "boundary": channel.boundary,
        "provenance": channel.provenance,
        "not_for_energy": channel.not_for_energy,
        "response": channel.response.model_dump(mode="json") if channel.response else None,
        "period_s": sensor.period_s,
        "refresh": dataclasses.asdict(found) if found else None,
        "source": sensor.source,
    }


# --------------------------------------------------------------------------------------------------------- for people


def _print_device(device: Device, chosen_by: str, everything: bool) -> None:
    profile = device.profile
    why = ", chosen by the address: a lab file can name another" if chosen_by == "address" else ""
    out.print(f"profile {plain(profile.name)}{why}", soft_wrap=True)
    if not profile.verified:
        out.print("  verified: false: nobody has run it on this hardware yet", soft_wrap=True)
    if device.simulated:
        out.print(
            "  simulated: its sensors are a program's, and so is everything that is measured here", soft_wrap=True
        )
    known = sorted(
        device.facts.values(),
        key=lambda fact: (fact.value is None, _FIRST.index(fact.name) if fact.name in _FIRST else len(_FIRST)),
    )
    shown = known if everything else [fact for fact in known if fact.value is not None][:_FACTS]
    rows = []
    for fact in shown:
        value = str(fact.value)
        short = value if everything or len(value) <= _LONGEST else f"{value[:_LONGEST]} … (whole with --all)"
        rows.append((plain(fact.name), plain(short) if fact.value is not None else f"[dim]{plain(fact.reason)}[/]"))
    _table(f"{plain(device.name)} is", ("fact", "value"), rows)
    _more(len(known) - len(shown), "facts")


def _print_kinds(looked: Looked, why_not: str) -> None:
    rows = [(f"[bold]{k.name}[/]", _coloured(k), plain(_by(k)), plain(k.refresh)) for k in kinds(looked)]
    _table("What can be measured", ("", "here", "by", "new value every"), rows)
    if why_not:
        out.print(f"How often sensors are new was not measured: {plain(why_not)}", soft_wrap=True)


def _coloured(kind: Kind) -> str:
    return {"yes": "[green]yes[/]", "no": "[red]no[/]"}.get(kind.can, f"[yellow]{kind.can}[/]")


def _by(kind: Kind) -> str:
    boundary = f" [{kind.boundary}]" if kind.boundary else ""
    return "; ".join(filter(None, (f"{kind.by}{boundary}", kind.remark)))


def _print_channels(looked: Looked, everything: bool) -> None:
    rows = [(sensor, channel) for sensor in looked.device.sensors for channel in sensor.channels]
    rows.sort(key=lambda row: _ORDER.index(row[1].quantity) if row[1].quantity in _ORDER else len(_ORDER))
    shown = rows if everything else rows[:_CHANNELS]
    lines = []
    for sensor, channel in shown:
        value = looked.values[channel.name]
        now = f"{value:.6g}" if isinstance(value, float) else f"[dim]{plain(value)}[/]"
        asked = (f"{sensor.period_s:g} s", f"[dim]{plain(sensor.source)}[/]") if everything else ()
        every = _every(looked.refreshed.get(channel.name))
        lines.append((plain(channel.name), now, channel.unit, every, *asked))
    more = ("read every", "from") if everything else ()
    _table("Its sensors", ("channel", "now", "unit", "new every", *more), lines)
    _more(len(rows) - len(shown), "channels")


def _every(found: Refresh | None) -> str:
    if found is None:
        return "–"
    if found.refresh_s is not None:
        return f"{'≤ ' if found.at_most else ''}{found.refresh_s:.2g} s"
    times = {0: "stood still", 1: "changed once"}.get(found.changes, f"changed {found.changes} times")
    return f"[dim]{times}[/]"


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of texts that are markup already; line by line where a terminal is too narrow for it."""
    if not rows:
        return
    if out.width < _NARROW:
        out.print(f"[italic]{title}[/]", soft_wrap=True)
        for row in rows:
            out.print(f"{row[0]}: {', '.join(filter(None, row[1:]))}", soft_wrap=True)
        return
    table = RichTable(title=title)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _more(count: int, what: str) -> None:
    if count > 0:
        out.print(f"[dim]{count} more {what} with --all[/]")
