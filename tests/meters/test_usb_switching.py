"""USB power is off while it is measured and on again, whatever ends a run; the programs are stubs that note words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from melt.errors import DeviceError, Interrupted
from melt.files.instruments import UsbSwitch
from melt.meters import put_back, unplugged

if TYPE_CHECKING:
    from pathlib import Path

HUB = UsbSwitch(type="uhubctl", hub="1-1.4", port=2, settle_s=0.0)
YKUSH = UsbSwitch(type="ykush", port=3, serial="YK12345", settle_s=0.0)
OWN = UsbSwitch(type="command", off=("relay", "off", "two words"), on=("relay", "on"), settle_s=0.0)

STUB = """#!/bin/sh
printf '%s' "${0##*/}" >> "$NOTED"; for word; do printf ' [%s]' "$word" >> "$NOTED"; done; echo >> "$NOTED"
for word; do [ -f "$NOTED.fails.$word" ] && { echo "No compatible devices detected!" >&2; exit 1; }; done
case "$*" in
  *"-a off"*) state='0000 off'; [ -f "$NOTED.stuck" ] && state='0103 power enable connect [18d1:4ee7]';;
  *"-a on"*) state='0101 power connect [18d1:4ee7]';;
esac
echo 'Current status for hub 1-1.4 [0bda:5411 Generic USB2.1 Hub, USB 2.10, 4 ports, ppps]'
echo '  Port 2: 0103 power enable connect [18d1:4ee7]'
echo 'Sent power request'
echo 'New status for hub 1-1.4 [0bda:5411 Generic USB2.1 Hub, USB 2.10, 4 ports, ppps]'
echo "  Port 2: $state"
"""
"""The answers have the form that uhubctl's own page shows."""


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the stubs note their words in."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("uhubctl", "ykushcmd", "relay"):
        (programs / name).write_text(STUB)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NOTED", str(tmp_path / "noted"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "noted").touch()
    return tmp_path / "noted"


def notes(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cache" / "melt" / "unplugged").glob("*.json"))


@pytest.mark.parametrize(
    ("switch", "off", "on"),
    [
        (HUB, "uhubctl [-l] [1-1.4] [-p] [2] [-a] [off]", "uhubctl [-l] [1-1.4] [-p] [2] [-a] [on]"),
        (YKUSH, "ykushcmd [-s] [YK12345] [-d] [3]", "ykushcmd [-s] [YK12345] [-u] [3]"),
        (OWN, "relay [off] [two words]", "relay [on]"),
    ],
    ids=["uhubctl", "ykush", "command"],
)
def test_it_is_off_inside_and_on_afterwards(noted: Path, tmp_path: Path, switch: UsbSwitch, off: str, on: str) -> None:
    with unplugged("hub1", switch):
        assert noted.read_text().splitlines() == [off]
        assert notes(tmp_path) == ["hub1.json"]
    assert noted.read_text().splitlines() == [off, on]
    assert notes(tmp_path) == []


def test_an_error_inside_passes_and_it_is_on_again(noted: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), unplugged("hub1", OWN):
        raise KeyboardInterrupt
    assert noted.read_text().splitlines() == ["relay [off] [two words]", "relay [on]"]
    assert notes(tmp_path) == []


def test_one_that_cannot_be_switched_off_is_told_and_put_on(noted: Path, tmp_path: Path) -> None:
    noted.with_name("noted.fails.off").touch()
    words = "'hub1' could not be put off: uhubctl: No compatible devices detected"
    with pytest.raises(DeviceError, match=words), unplugged("hub1", HUB):
        pytest.fail("measured while it is plugged in")
    assert noted.read_text().splitlines()[-1].endswith("[on]")
    assert notes(tmp_path) == []


def test_a_hub_that_takes_the_request_and_does_nothing_is_seen_through(noted: Path) -> None:
    noted.with_name("noted.stuck").touch()
    words = r"did not go off: port 2 of hub 1-1\.4 is still on: this hub cannot switch"
    with pytest.raises(DeviceError, match=words), unplugged("hub1", HUB):
        pytest.fail("measured while it is plugged in")


def test_a_program_that_is_missing_is_told(noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match=r"uhubctl: .*is it installed"), unplugged("hub1", HUB):
        pytest.fail("measured while it is plugged in")


def test_the_first_error_is_told_and_no_note_stays_where_nothing_was_switched(noted: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program")
    for program, words in (("no-such-relay", "No such file"), (str(plain), "Permission denied")):
        missing = UsbSwitch(type="command", off=(program, "off"), on=(program, "on"), settle_s=0.0)
        with pytest.raises(DeviceError, match=f"could not be put off: .*{words}"), unplugged("hub1", missing):
            pytest.fail("measured while it is plugged in")
        assert notes(tmp_path) == []


def test_what_ended_the_inside_is_told_along_with_a_switch_that_stays_off(noted: Path, tmp_path: Path) -> None:
    note = tmp_path / "cache/melt/unplugged/hub1.json"
    noted.with_name("noted.fails.on").touch()
    with pytest.raises(DeviceError) as caught, unplugged("hub1", OWN):
        raise DeviceError("the disk is full", "storage")
    assert str(caught.value).startswith("the disk is full; and switch 'hub1' could not be put on")
    assert f"{note} says: remove that file once the power is on" in str(caught.value)
    assert notes(tmp_path) == ["hub1.json"]
    for ending in (KeyboardInterrupt, Interrupted):
        with pytest.raises(ending), unplugged("hub1", OWN):
            raise ending
    said: list[str] = []
    put_back(said.append)
    assert f"{note} says: remove that file" in said[0]


COMPANIONS = """Current status for hub 1-1 [2109:3431]
  Port 2: 0103 power enable connect
Sent power request
New status for hub 1-1 [2109:3431]
  Port 2: {}
Current status for hub 2-1 [2109:0813]
  Port 2: {}
Sent power request
New status for hub 2-1 [2109:0813]
  Port 2: {}
"""


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (("0103 power enable connect", "02a0 power 5gbps Rx.Detect", "0000 off"), "on"),
        (("0000 off", "02a0 power 5gbps Rx.Detect", "02a0 power 5gbps Rx.Detect"), "on"),
        (("0000 off", "02a0 power 5gbps Rx.Detect", "0080 off"), "off"),
    ],
)
def test_a_hub_of_two_companions_is_off_only_when_both_are(
    noted: Path, tmp_path: Path, said: tuple[str, ...], state: str
) -> None:
    on = COMPANIONS.format("0103 power enable connect", "0080 off", "02a0 power 5gbps Rx.Detect")
    for name, text in (("off", COMPANIONS.format(*said)), ("on", on)):
        (tmp_path / name).write_text(text)
    program = tmp_path / "bin" / "uhubctl"
    program.write_text(f'#!/bin/sh\nfor to; do :; done\nexec cat "{tmp_path}/$to"\n')
    if state == "on":
        with pytest.raises(DeviceError, match="is still on: this hub cannot"), unplugged("hub1", HUB):
            pytest.fail("measured while it is plugged in")
    else:
        with unplugged("hub1", HUB):
            assert notes(tmp_path) == ["hub1.json"]
    assert notes(tmp_path) == []


def test_one_that_cannot_be_put_on_is_told_and_tried_again_by_the_next(noted: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(DeviceError, match="'hub1' could not be put on"), unplugged("hub1", HUB):
        noted.with_name("noted.fails.on").touch()
    assert notes(tmp_path) == ["hub1.json"]
    put_back(said.append)
    assert "left 'hub1' off: switch 'hub1' could not be put on" in said[-1]
    assert notes(tmp_path) == ["hub1.json"]
    noted.with_name("noted.fails.on").unlink()
    put_back(said.append)
    assert said[-1] == "a melt that ended had left the USB power of 'hub1' off: it is on again"
    assert notes(tmp_path) == []
    count = len(said)
    put_back(said.append)
    assert len(said) == count


def test_what_a_killed_melt_left_off_the_next_one_puts_on(noted: Path, tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import time
        from melt.files.instruments import UsbSwitch
        from melt.meters import unplugged
        with unplugged("hub1", UsbSwitch(type="uhubctl", hub="1-1.4", port=2, settle_s=0.0)):
            print("off", flush=True)
            time.sleep(600)
        """
    )
    said: list[str] = []
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "off\n"
        put_back(said.append)  # while it lives, it is its own
        assert said == []
        with pytest.raises(DeviceError, match="'hub1' is used by another melt"), unplugged("hub1", HUB):
            pytest.fail("two at once")
        assert [line.split()[-1] for line in noted.read_text().splitlines()] == ["[off]"]
        child.send_signal(signal.SIGKILL)
    assert notes(tmp_path) == ["hub1.json"]
    put_back(said.append)
    assert said == ["a melt that ended had left the USB power of 'hub1' off: it is on again"]
    assert [line.split()[-1] for line in noted.read_text().splitlines()] == ["[off]", "[on]"]


def test_the_note_is_there_before_the_deed(noted: Path, tmp_path: Path) -> None:
    """A melt that dies while it switches is as one that dies afterwards."""
    looking = UsbSwitch(
        type="command",
        off=("sh", "-c", f"ls {tmp_path}/cache/melt/unplugged > {tmp_path}/seen"),
        on=("true",),
        settle_s=0.0,
    )
    with unplugged("hub1", looking):
        pass
    assert "hub1.json" in (tmp_path / "seen").read_text().split()


def test_a_note_that_cannot_be_read_is_told_and_left(noted: Path, tmp_path: Path) -> None:
    said: list[str] = []
    put_back(said.append)
    (tmp_path / "cache/melt/unplugged/hub1.json").write_text("{")
    put_back(said.append)
    assert "switch the USB power of 'hub1' on yourself" in said[0]
    assert notes(tmp_path) == ["hub1.json"]
