"""What only a Jetson tells: its release, its power mode, and whether its clocks are held.

Source: /etc/nv_tegra_release, `nvpmodel -q` and `jetson_clocks --show`, as NVIDIA's Jetson Linux prints them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from melt.errors import ParseError
from melt.readings.base import Captures, Reading, fact
from melt.readings.text import clean, line

if TYPE_CHECKING:
    from melt.records import Fact

_RELEASE = "/etc/nv_tegra_release"
_MODE = ("nvpmodel", "-q")
_CLOCKS = ("jetson_clocks", "--show")
_LONGEST = 65536

_LIMITS = re.compile(
    r"^(?P<what>cpu[0-9]{1,3}:|GPU|EMC|gpu[\w.-]{0,30}|GPC[\w.-]{0,30}):?[ \t].{0,80}?"
    r"MinFreq=(?P<low>[0-9]{1,12}) MaxFreq=(?P<high>[0-9]{1,12})(?P<rest>.{0,200})$",
    re.MULTILINE,
)


def _text(data: bytes) -> str:
    return data[:_LONGEST].decode("utf-8", "replace").replace("\r\n", "\n")


def release(data: bytes) -> str:
    """The release of Jetson Linux, such as `36.4.3`. Raises ParseError."""
    found = re.search(r"R([0-9]{1,3}) \(release\), REVISION: ([0-9]{1,3}(?:\.[0-9]{1,3}){0,2})", _text(data))
    if not found:
        raise ParseError(f"'{clean(data, 40)}' names no release of Jetson Linux", data[:4096])
    return f"{found[1]}.{found[2]}"


def _mode(data: bytes) -> re.Match[str]:
    # a verbose query has words before it; warnings may stand above; the number is a line of its own
    found = re.search(r"NV Power Mode:[ \t]*(\S[^\n]{0,63})(?:\n[ \t]*([0-9]{1,3})[ \t]*$)?", _text(data), re.MULTILINE)
    if not found:
        raise ParseError(f"'{clean(data, 40)}' has no line 'NV Power Mode'", data[:4096])
    return found


def power_mode(data: bytes) -> str:
    """The name of the power mode, such as `MAXN` or `MODE_15W`. Raises ParseError."""
    return line(_mode(data)[1].encode())


def power_mode_id(data: bytes) -> int:
    """The number that `nvpmodel -m` takes for the mode. Raises ParseError."""
    number = _mode(data)[2]
    if number is None:
        raise ParseError("no line after the power mode holds its number", data[:4096])
    return int(number)


def clocks_held(data: bytes) -> str:
    """`held` when no clock of CPU, GPU and memory can move, `free` when each can, else `partly held`.

    A processor that is off does not count, and a mode whose lowest clock is its highest holds it as well.

    Raises:
        ParseError: no clocks are shown, as when it was not run by root.
    """
    text = _text(data)
    held = []
    for found in _LIMITS.finditer(text):
        if "Online=0" in found[0]:
            continue
        override = re.search(r"FreqOverride=([01])", found["rest"])
        held.append(override[1] == "1" if override else found["low"] == found["high"])
    if not held:
        raise ParseError(f"'{clean(data, 60)}' shows no clocks (it needs root)", data[:4096])
    return "held" if all(held) else "partly held" if any(held) else "free"


def memory_cap_hz(data: bytes) -> int:
    """The highest clock that the memory may have, in Hz. Raises ParseError."""
    for found in _LIMITS.finditer(_text(data)):
        if found["what"] == "EMC":
            return int(found["high"])
    raise ParseError("there is no line 'EMC'", data[:4096])


def _release_facts(captures: Captures) -> tuple[Fact, ...]:
    return (fact("jetson_linux", captures, _RELEASE, release),)


def _mode_facts(captures: Captures) -> tuple[Fact, ...]:
    source = " ".join(_MODE)
    return (fact("power_mode", captures, source, power_mode), fact("power_mode_id", captures, source, power_mode_id))


def _clock_facts(captures: Captures) -> tuple[Fact, ...]:
    source = " ".join(_CLOCKS)
    return (
        fact("jetson_clocks", captures, source, clocks_held),
        fact("memory_cap_hz", captures, source, memory_cap_hz),
    )


RELEASE = Reading("jetson-linux", "a Jetson's release", paths=(_RELEASE,), facts=_release_facts, asked_always=False)
POWER_MODE = Reading("nvpmodel", "a Jetson's power mode", argv=_MODE, facts=_mode_facts, asked_always=False)
HELD_CLOCKS = Reading(
    "jetson-clocks", "whether a Jetson's clocks are held", argv=_CLOCKS, facts=_clock_facts, asked_always=False
)
