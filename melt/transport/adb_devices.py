"""The devices that an adb server lists: which they are, in what state, and what a person can do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass

USABLE = "device"
"""The state of a device that can be used."""
_LINE = re.compile(r"(?P<serial>\(no serial number\)|\S+)\s+(?P<state>\S.*?)(?P<about>(\s+[a-z_]+:\S*)*)\s*")
_NO_SERIAL = re.compile(r"\(.*|\?+")
_ADVICE = {
    "unauthorized": "does not trust this computer: unlock it and accept the question on its screen",
    "authorizing": "does not trust this computer yet: unlock it and accept the question on its screen",
    "offline": "is offline: unplug it and plug it in again, or 'adb reconnect offline'",
    "connecting": "is being connected: look again in a few seconds, and unplug it and plug it in again if it stays so",
    "not in the plugdev group": "may not be used by this account: 'sudo usermod -aG plugdev $USER' and log in again",
    "plugdev group membership": "may not be used by this account: 'sudo usermod -aG plugdev $USER' and log in again",
    "permission": "may not be used by this account: install the udev rules "
    "(Debian: apt install android-sdk-platform-tools-common)",
    "recovery": "is in its recovery system: choose 'Reboot system now' on its screen",
    "sideload": "waits for an update in its recovery system: choose 'Reboot system now' on its screen",
    "rescue": "is in its rescue mode: choose 'Reboot system now' on its screen",
    "bootloader": "is in its bootloader: boot it with 'fastboot reboot'",
    "detached": "has been let go of by its adb server: 'adb attach' takes it back",
}
"""What is wrong and what to do, by a word of what the server says."""


@dataclass(frozen=True)
class Listed:
    """A device as the server lists it; `state` in the server's own words."""

    serial: str
    state: str
    product: str | None = None
    model: str | None = None

    @property
    def usable(self) -> bool:
        return self.state == USABLE

    @property
    def address(self) -> str | None:
        """How melt reaches it; None for one that tells no serial number."""
        return None if _NO_SERIAL.fullmatch(self.serial) else f"adb://{self.serial}"


def read_list(text: str) -> tuple[Listed, ...]:
    """The devices of an answer to `host:devices-l`, in its order."""
    found = []
    for line in filter(None, map(_LINE.fullmatch, text.splitlines())):
        about = dict(word.split(":", 1) for word in line["about"].split())
        found.append(Listed(line["serial"], line["state"], about.get("product") or None, about.get("model") or None))
    return tuple(found)


def advice(said: str) -> str | None:
    """The rest of a sentence that begins with the device's name; None when the server's words are not known."""
    return next((sentence for word, sentence in _ADVICE.items() if word in said), None)
