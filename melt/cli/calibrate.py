"""`melt calibrate`: how a device's sensors of power follow a known load, written to a profile that can be shared."""

from __future__ import annotations

import dataclasses
import glob
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.table import Table as RichTable

import melt
from melt.analysis.calibration import Gauge
from melt.cli.console import out, plain, print_json, say
from melt.cli.options import AsJson, LabFile, named
from melt.device import Device, open_device
from melt.errors import DeviceError, UsageError
from melt.files import Lab, load_profile
from melt.files.reader import read_yaml
from melt.places import write_whole
from melt.readings import READINGS
from melt.records import SCHEMA
from melt.run.calibration import Asked, Calibrated
from melt.run.calibration import calibrate as measure
from melt.run.followed import Answer
from melt.run.values import capture_readings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from melt.files import Profile
    from melt.records import Channel

EXAMPLE = "Example: **melt calibrate pixel --lab lab.yaml**"
SUFFIX = "-calibrated"
_LONGEST_NAME = 64


def calibrate(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="A device of the lab, or an address.", metavar="DEVICE")],
    lab: LabFile = None,
    against_w: Annotated[
        float | None,
        typer.Option(
            "--against-w", min=0.001, max=10_000, help="The power (W) a trusted meter shows with every core busy."
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="A channel of power, or a meter of the lab, that is trusted.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--out", help="The profile to write; device_profiles/ beside the lab if not said.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a profile that is there.")] = False,
    seconds: Annotated[
        float, typer.Option("--seconds", min=10, max=3600, help="How long the fast pulses go on.")
    ] = 90.0,
    battery_seconds: Annotated[
        float,
        typer.Option("--battery-seconds", min=20, max=3600, help="How long the slow ones for a battery's gauge go on."),
    ] = 320.0,
    as_json: AsJson = False,
) -> None:
    """Load a device in pulses, find out how its sensors of power follow and what its battery's current means.

    It writes a profile that extends the present one. Nothing else may run on the device meanwhile, and no charger may
    be plugged in.
    """
    if against_w is not None and against is not None:
        raise UsageError("--against-w and --against are two ways to say the same: give one of them")
    known, name, spec = named(device, lab, context)
    before = known.profile(spec)
    path = _target(file, lab, before.name, force=force)
    meter = known.meters.get(against or "")
    asked = Asked(
        fast_s=seconds,
        slow_s=battery_seconds,
        against_w=against_w,
        against=None if meter else against,
        meter=(against, meter) if against and meter else None,
    )
    with open_device(name, spec, before, say) as opened:
        found = measure(opened, asked, say)
        whose = _readings_of(opened)
    data = content(opened, before, path, found, whose)
    nothing = "battery" not in data and "sensors" not in data
    try:
        if not nothing:
            _write(path, data, known)
    except UsageError:
        print_json(_told(opened, found, None))  # what took minutes to find out is not lost with a disk that is full
        raise
    if as_json:
        print_json(_told(opened, found, None if nothing else path))
    else:
        _print(opened, before, found, path, nothing)
    if nothing:
        why = "; ".join(f"{n}: {a.why}" for n, a in found.answers.items() if a.why)
        gauge = f"; battery: {found.gauge}" if isinstance(found.gauge, str) else ""
        raise DeviceError(f"{name}: nothing could be calibrated, and nothing was written: {why}{gauge}")


# ------------------------------------------------------------------------------------------------------- the profile


def _target(file: Path | None, lab: Path | None, profile: str, *, force: bool) -> Path:
    """Where the profile is to be. Raises UsageError, before anything is measured."""
    name = f"{profile.removesuffix(SUFFIX)[: _LONGEST_NAME - len(SUFFIX)]}{SUFFIX}"
    path = file or (lab.parent if lab else Path()) / "device_profiles" / f"{name}.yaml"
    if path.suffix != ".yaml":
        raise UsageError(f"--out {path}: a profile is found by its file's name: end it with .yaml")
    if path.exists() and not force:
        raise UsageError(f"{path} is there already: replace it with --force, or name another with --out")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{path} cannot be written: {there} is closed to you: name another with --out")
    return path


def content(
    device: Device, before: Profile, path: Path, found: Calibrated, whose: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """What the profile says beyond the one that it extends; a calibration made before is kept where this one has none.

    `whose` are the reading and the label of each channel.
    """
    own = read_yaml(path) if path.is_file() and before.name == path.stem else {}
    base = own.get("extends", before.name)
    if base == path.stem:
        raise UsageError(f"{path} would extend itself: name another file with --out")
    battery, sensors = dict(own.get("battery", {})), dict(own.get("sensors", {}))
    if isinstance(found.gauge, Gauge):
        gauge = found.gauge
        battery |= {"current_unit": gauge.unit, "discharging": gauge.discharging, "calibrated": True}
    for name, answer in found.answers.items():
        if answer.response is not None and (name in before.sensors or name in whose):
            unknown = set() if answer.agrees else {"gain_error", "offset_error"}
            response = answer.response.model_dump(mode="json", exclude_none=True, exclude=unknown)
            sensors[name] = {**_spec(name, answer.channel, before, whose), "response": response}
    simulated = " SIMULATED: of no use for a real device." if device.simulated else ""
    return {
        "schema": SCHEMA,
        "kind": "profile",
        "name": path.stem,
        "extends": base,
        "about": f"{base}, its sensors of power calibrated on one unit by melt {melt.__version__}.{simulated}",
        "verified": before.verified,
        **({"battery": battery} if battery else {}),
        **({"sensors": sensors} if sensors else {}),
    }


def _spec(name: str, channel: Channel, before: Profile, whose: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """How the profile finds a channel: nothing where the one below names it already."""
    if name in before.sensors:
        spec = before.sensors[name]
        return {"read": spec.read, "label": spec.label, "quantity": spec.quantity}
    reading, label = whose[name]
    return {"read": reading, "label": glob.escape(label), "quantity": channel.quantity}


def _readings_of(device: Device) -> dict[str, tuple[str, str]]:
    """The reading that gives each channel of power, and its label, where one label of it means one channel."""
    readings = [READINGS[name] for name in device.profile.readings if READINGS[name].sensors is not None]
    captures = capture_readings(device, readings)
    there = {c.name for sensor in device.sensors for c in sensor.channels if c.quantity in ("power", "energy")}
    out: dict[str, tuple[str, str]] = {}
    for reading in readings:
        channels = [c for s in (reading.sensors(captures) if reading.sensors else ()) for c in s.channels]
        labels = [(channel.label or channel.name, channel.quantity) for channel in channels]
        for channel, label in zip(channels, labels, strict=True):
            if channel.name in there and channel.name not in out and labels.count(label) == 1:
                out[channel.name] = (reading.name, label[0])
    return out


def _write(path: Path, data: Mapping[str, Any], known: Lab) -> None:
    """Writes the profile whole, once melt has read it back. Raises UsageError when the folder cannot be written."""
    text = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=110)
    try:
        with tempfile.TemporaryDirectory(prefix="melt-") as temporary:
            tried = Path(temporary) / path.name
            tried.write_text(text, encoding="utf-8")
            load_profile(path.stem, (Path(temporary), path.parent, *known.profiles))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}: name another with --out") from None


# ------------------------------------------------------------------------------------------------------------- told


def _told(device: Device, found: Calibrated, path: Path | None) -> dict[str, Any]:
    gauge = found.gauge
    return {
        "device": device.name,
        "profile": str(path) if path else None,
        "simulated": device.simulated,
        "battery": {
            "result": dataclasses.asdict(gauge) if isinstance(gauge, Gauge) else None,
            "reason": gauge if isinstance(gauge, str) else None if gauge else "no battery's gauge was found",
        },
        "channels": {
            name: {
                "response": answer.response.model_dump(mode="json") if answer.response else None,
                "reason": answer.why or None,
                "step_w": answer.step,
                "agreement": dataclasses.asdict(answer.agrees) if answer.agrees else None,
            }
            for name, answer in found.answers.items()
        },
        "remarks": list(found.remarks),
    }


def _print(device: Device, before: Profile, found: Calibrated, path: Path, nothing: bool) -> None:
    table = RichTable(title=f"{plain(device.name)}, calibrated{' (simulated)' if device.simulated else ''}")
    for heading in ("", "before", "now"):
        table.add_column(heading, overflow="fold")
    if isinstance(found.gauge, Gauge):
        was = before.battery
        assumed = f"{was.current_unit}, {was.discharging}" if was is not None and was.calibrated else "not calibrated"
        now = f"{found.gauge.unit}, {found.gauge.discharging} while discharging"
        drawn = f"{found.gauge.idle_a:.3g} A idle, {found.gauge.loaded_a:.3g} A under load"
        table.add_row("battery: unit and sign", assumed, f"{now} ({drawn})")
    for name, answer in found.answers.items():
        for what, was_text, now_text in _lines(answer):
            table.add_row(f"{plain(name)}: {what}", was_text, now_text)
    if table.row_count:
        out.print(table)
    if isinstance(found.gauge, str):
        out.print(f"battery: no result: {plain(found.gauge)}", soft_wrap=True)
    for name, answer in found.answers.items():
        if answer.why:
            out.print(f"{plain(name)}: no result: {plain(answer.why)}", soft_wrap=True)
    for remark in found.remarks:
        out.print(plain(remark), soft_wrap=True)
    if nothing:
        return
    out.print(f"profile: {plain(path)}", soft_wrap=True)
    if device.simulated:
        out.print("It tells of a simulated sensor, and is of no use for a real device.", soft_wrap=True)
        return
    out.print(
        f"Use it: in the lab file, {plain(device.name)}: {{profile: {plain(path.stem)}, …}}, with the file in "
        "device_profiles/ beside it.",
        soft_wrap=True,
    )
    out.print(
        "Share it: unit, sign, refresh and lag are the same on every unit of this model, so the file belongs into "
        "melt's device_profiles/; a gain is this unit's own.",
        soft_wrap=True,
    )


def _lines(answer: Answer) -> list[tuple[str, str, str]]:
    """What changed of a channel, as words."""
    now, was = answer.response, answer.channel.response
    if now is None:
        return []
    ways = {True: "mean since the one before", False: "momentary", None: "not known"}
    lines = [
        ("new every", _seconds(was.refresh_s if was else None), _seconds(now.refresh_s)),
        ("a value is", ways[was.averages if was else None], ways[now.averages]),
        (
            "late by",
            f"{was.lag_s:.3g} s" if was and was.calibrated else "not known",
            f"{now.lag_s:.3g} ± {_seconds(now.lag_error_s)}",
        ),
    ]
    if answer.agrees is not None:
        a = answer.agrees
        lines.append(("gain", "not known", f"{a.gain:.4g} ± {2 * a.gain_error:.2g}"))
        lines.append(("offset", "not known", f"{a.offset:.3g} ± {2 * a.offset_error:.2g} W"))
    return lines


def _seconds(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3g} s"
