"""What a person can do so that more can be measured on a device, or relied upon: one sentence each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from melt.analysis.total import Total
from melt.run.survey import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from melt.cli.measurable import Looked
    from melt.device import Device

_SAYS_WHAT_IT_IS = ("device_model", "soc")
_JOBS = 5
_VARIANTS = {"pro", "plus", "ultra", "fe", "mini", "max", "xl", "lite", "zero"}
"""Words that make another device of a name."""
_MODULES = {
    "rapl": ("x86_64", "the processor's energy counter", "intel_rapl_msr"),
    "hwmon-temperature": ("x86_64", "temperatures", "coretemp (AMD: k10temp)"),
    "ina3221": ("aarch64", "the rails of this Jetson", "ina3221"),
}
"""By the reading that found nothing: on which processors, what is missed, and the kernel module that brings it."""


def advice(looked: Looked, profiles: Sequence[str], call: str, jobs: Sequence[str]) -> list[str]:
    """Sentences, the most useful first. `profiles` are the names there are, `call` how a person names this device."""
    return list(_sentences(looked, profiles, call, jobs))


def _sentences(looked: Looked, profiles: Sequence[str], call: str, jobs: Sequence[str]) -> Iterator[str]:
    device, chosen = looked.device, looked.total()
    better = better_profile(device, profiles)
    if better:
        yield (
            f"Another profile fits better: this device calls itself '{better[1]}'. Name it in the lab file: "
            f"profile: {better[0]}."
        )
    uncalibrated = any(c.not_for_energy for s in device.sensors for c in s.channels)
    if uncalibrated:
        yield f"Calibrate the battery's gauge, with no charger plugged in: melt calibrate {call}."
    elif isinstance(chosen, Total) and not all(one.response.calibrated for one in chosen.curves):
        yield (
            f"Find out how late the sensor of power answers, so that short phases get their own energy: melt calibrate "
            f"{call}."
        )
    if isinstance(chosen, str) and not uncalibrated:
        yield (
            "Add an external meter for energy: a Joulescope, Monsoon, PPK2 or INA2xx board under 'meters' in the lab "
            "file, or anything that writes a CSV."
        )
    closed = [what for what, why in device.absent.items() if "root" in why]
    if closed:
        more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
        yield f"Only root may read {closed[0]}{more}: {_as_root(device)}."
    if device.simulated:
        yield "This board is software, and so is what it measures: a real one goes into a lab file of yours."
    elif device.fact("virtual_machine") == "yes":
        yield "This is a virtual machine: what is missing its host has; measure on the hardware itself."
    else:
        yield from _modules(device)
    if not device.profile.verified:
        yield (
            f"Hold one figure against what you know: profile {device.profile.name} was written from public data, and "
            "nobody has run it on this hardware (verified: false, printed in every report)."
        )
    if jobs:
        cut = all(job.startswith(NAME) for job in jobs)
        what = "surveys that were cut lie" if cut else "jobs, under way or not yet collected, lie"
        then = "remove the folders" if cut else "resume their session, or remove the folders"
        names = ", ".join((*jobs[:_JOBS], *("…" for _ in jobs[_JOBS : _JOBS + 1])))
        yield f"These {what} in {device.root}/jobs: {names}; {then}."


def _as_root(device: Device) -> str:
    if device.profile.platform == "android":
        return "on a rooted phone allow the shell 'su', which melt asks once"
    asks = "" if device.profile.as_root else ", and a profile of yours say 'as_root: true'"
    return f"log in as root, or let this account use sudo without a password{asks}"


def _modules(device: Device) -> Iterator[str]:
    for reading, (machine, what, module) in _MODULES.items():
        if "no file matches" in device.absent.get(reading, "") and device.machine == machine:
            yield f"For {what}, try the kernel's module: sudo modprobe {module}."


def better_profile(device: Device, profiles: Sequence[str]) -> tuple[str, str] | None:
    """A shipped profile whose name's words are all in what the device calls itself, and that; None without a better.

    A profile of somebody's own is never called worse.
    """
    mine = device.profile.name
    if mine not in profiles:
        return None
    for fact in _SAYS_WHAT_IT_IS:
        said = str(device.fact(fact) or "")
        words = set(re.findall(r"[a-z0-9]+", said.lower()))
        words |= {"jetson"} if "nvidia" in words else set()
        split = {name: set(name.split("-")) for name in profiles}
        fitting = [
            name for name, own in split.items() if len(own) > 1 and own <= words and not _VARIANTS & (words - own)
        ]
        best = max(fitting, key=lambda name: len(split[name]), default=mine)
        if best != mine and not split[best] <= split[mine]:
            return best, said
    return None
