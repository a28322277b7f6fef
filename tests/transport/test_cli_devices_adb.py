"""What `melt devices` and `melt doctor` tell of devices that adb knows, against real adb servers and daemons."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from adbd import answers, free_port, until
from fake_adbd import FakeAdbd, Manner
from test_adb_server import YES, a_server
from workspace import Said

from melt.errors import TransportError
from melt.files import load_lab
from melt.places import cache_dir
from melt.transport.adb import Server
from melt.transport.adb_devices import Listed, advice, read_list

if TYPE_CHECKING:
    from pathlib import Path

    from adbd import AdbPeers, Daemon

LIMIT_S = 120.0

LISTED = """\
28161FDH2000QT         device usb:1-4 product:bluejay model:Pixel_6a device:bluejay transport_id:7
R58M12ABCDE            unauthorized usb:1-2 transport_id:3
R58M12ABCDF            authorizing usb:1-2 transport_id:3
0123456789ABCDEF       no permissions (user pi is not in the plugdev group); see [http://developer.android.com/tools/device.html] usb:3-1 transport_id:2
0123456789ABCDEG       no permissions (missing udev rules? user is in the plugdev group); see [http://developer.android.com/tools/device.html] usb:3-2 transport_id:9
(no serial number)     no permissions; see [http://developer.android.com/tools/device.html] usb:3-3 transport_id:1
192.168.1.20:5555      offline transport_id:4
aa11                   recovery usb:1-1 product:bluejay model:Pixel_6a device:bluejay transport_id:5
aa12                   sideload usb:1-1 product:bluejay model:Pixel_6a device:bluejay transport_id:6
aa13                   bootloader usb:1-1 transport_id:8
aa14                   dreaming usb:1-1 transport_id:10
"""  # noqa: E501 - as adb 36 writes it
TOLD = {
    "R58M12ABCDE": "unlock it and accept",
    "R58M12ABCDF": "unlock it and accept",
    "0123456789ABCDEF": "usermod -aG plugdev",
    "0123456789ABCDEG": "udev rules",
    "(no serial number)": "udev rules",
    "192.168.1.20:5555": "'adb reconnect offline'",
    "aa11": "Reboot system now",
    "aa12": "Reboot system now",
    "aa13": "fastboot reboot",
    "aa14": "adb says only 'dreaming'",
}
"""What a person is told about each of them that cannot be used."""


def call(folder: Path, port: int, *argv: str) -> Said:
    """Melt, to its end, with the adb server at this port as this computer's."""
    ours = {"HOME": str(folder), "XDG_CACHE_HOME": str(cache_dir().parent), "ANDROID_ADB_SERVER_PORT": str(port)}
    quiet = {"ADB_LOCAL_TRANSPORT_MAX_PORT": "5553", "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "melt", *argv],
        cwd=folder,
        env={**os.environ, **ours, **quiet},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def from_adb(said: Said) -> dict[str, dict[str, Any]]:
    """The rows that adb alone knows, by their serials."""
    assert said.code == 0, said
    rows = json.loads(said.stdout)
    assert len({tuple(row) for row in rows}) == 1, "every row has the same keys"
    return {row["adb"]["serial"]: row for row in rows if row["known_from"] == "adb"}


def write_lab(folder: Path, *lines: str) -> Path:
    path = folder / "lab.yaml"
    path.write_text("\n".join(("schema: 1", "kind: lab", "devices:", *(f"  {line}" for line in lines), "")))
    return path


# ------------------------------------------------------------------------------------------------- the server's words


def test_a_list_is_read_whatever_state_its_devices_are_in() -> None:
    found = {one.serial: one for one in read_list(LISTED)}
    assert len(found) == len(LISTED.splitlines())
    pixel = Listed("28161FDH2000QT", "device", "bluejay", "Pixel_6a")
    assert found.pop(pixel.serial) == pixel
    assert pixel.usable
    assert not any(one.usable for one in found.values())
    assert found["(no serial number)"].address is None
    assert found["192.168.1.20:5555"] == Listed("192.168.1.20:5555", "offline")
    assert found["0123456789ABCDEF"].state.startswith("no permissions (user pi is not in the plugdev group); see [http")
    assert found["0123456789ABCDEF"].state.endswith("html]")
    assert {serial for serial, one in found.items() if advice(one.state) is None} == {"aa14"}


@pytest.mark.parametrize("text", ["", "\n\n", "nonsense", "   ", "a\tb\tc\n"])
def test_a_list_that_is_no_list_gives_no_nonsense(text: str) -> None:
    assert all(one.serial and one.state for one in read_list(text))


@pytest.mark.peer
def test_each_device_that_cannot_be_used_is_told_with_what_to_do(tmp_path: Path) -> None:
    yes = {"host:transport:28161FDH2000QT": None, "host-serial:28161FDH2000QT:features": "shell_v2,stat_v2"}
    with a_server({**YES, **yes, "host:devices-l": LISTED}) as server:
        rows = from_adb(call(tmp_path, server.port, "devices", "--json"))
        said = call(tmp_path, server.port, "devices")
    pixel = rows.pop("28161FDH2000QT")
    assert (pixel["ready"], pixel["problem"], pixel["address"]) == (True, None, "adb://28161FDH2000QT")
    assert {serial: row["ready"] for serial, row in rows.items()} == dict.fromkeys(TOLD, False)
    for serial, told in TOLD.items():
        assert told in rows[serial]["problem"]
        assert f"device {serial} " in said.stdout
    assert rows["(no serial number)"]["lab_line"] is None
    lines = [pixel["lab_line"], *(row["lab_line"] for row in rows.values() if row["lab_line"])]
    assert all(f"  {line}\n" in said.stdout for line in lines)
    lab = load_lab(write_lab(tmp_path, *lines))
    assert lab.devices["pixel-6a"].address == "adb://28161FDH2000QT"
    assert lab.devices["pixel-6a-2"].address == "adb://aa11"
    assert {spec.address for spec in lab.devices.values()} >= {f"adb://{s}" for s in TOLD if s[0] != "("}


# ---------------------------------------------------------------------------------------------------- no server, dead


@pytest.mark.peer
def test_no_server_is_started_to_list_devices_and_it_is_said_how_to(tmp_path: Path) -> None:
    port = free_port()
    said = call(tmp_path, port, "devices", "--json")
    assert from_adb(said) == {}
    assert "no adb server runs" in said.stderr
    assert "melt doctor adb://" in said.stderr
    assert not answers(port)


@pytest.mark.peer
def test_a_server_is_started_where_the_lab_needs_one(tmp_path: Path) -> None:
    port = free_port()
    write_lab(tmp_path, 'one: {profile: linux, address: "adb://none"}', 'two: {profile: linux, address: "adb://such"}')
    try:
        rows = json.loads(call(tmp_path, port, "devices", "--lab", "lab.yaml", "--json").stdout)
        assert answers(port)
    finally:
        if answers(port):
            with pytest.raises(TransportError):  # it ends without an answer that is one
                Server(port=port).ask("host:kill")
            until("the end of the adb server", lambda: not answers(port))
    problems = {row["device"]: row["problem"] for row in rows}
    assert "unknown to the adb server" in problems["one"]
    assert "unknown to the adb server" in problems["two"]


@pytest.mark.peer
def test_what_is_no_adb_server_is_told_and_the_lab_is_listed(tmp_path: Path) -> None:
    with a_server({"host:devices-l": "!unknown host service"}) as server:
        said = call(tmp_path, server.port, "devices", "--json")
    assert from_adb(said) == {}
    assert "what adb knows is not listed" in said.sentence
    assert [row["device"] for row in json.loads(said.stdout)] == ["local"]


# ------------------------------------------------------------------------------------------------------- real daemons


@pytest.mark.peer
def test_a_device_that_no_lab_names_is_listed_with_the_line_that_names_it(
    adb_peers: AdbPeers, own_daemon: Daemon, tmp_path: Path
) -> None:
    adb_peers.server.adb("connect", own_daemon.serial)
    port = adb_peers.server.place.port
    row = from_adb(call(tmp_path, port, "devices", "--json"))[own_daemon.serial]
    assert (row["ready"], row["device"], row["address"]) == (True, None, f"adb://{own_daemon.serial}")
    write_lab(tmp_path, row["lab_line"])
    said = call(tmp_path, port, "devices", "--lab", "lab.yaml", "--json")
    assert own_daemon.serial not in from_adb(said)
    (named,) = [r for r in json.loads(said.stdout) if r["address"] == row["address"]]
    assert (named["known_from"], named["ready"], named["problem"]) == ("lab", True, None)
    assert named["device"] == row["lab_line"].partition(":")[0]


@pytest.mark.peer
def test_a_device_that_the_lab_reaches_past_the_server_is_not_listed_twice(
    adb_peers: AdbPeers, own_daemon: Daemon, tmp_path: Path
) -> None:
    adb_peers.server.adb("connect", own_daemon.serial)
    write_lab(tmp_path, f'direct: {{profile: linux, address: "adb+tcp://{own_daemon.serial}"}}')
    said = call(tmp_path, adb_peers.server.place.port, "devices", "--lab", "lab.yaml", "--json")
    assert own_daemon.serial not in from_adb(said)


@pytest.mark.peer
def test_a_device_that_adb_calls_offline_is_told_so(adb_peers: AdbPeers, own_daemon: Daemon, tmp_path: Path) -> None:
    own_daemon.freeze()
    server = adb_peers.server
    connecting = threading.Thread(target=server.adb, args=("connect", own_daemon.serial))
    connecting.start()
    try:
        until("the device in the list", lambda: own_daemon.serial in server.place.devices())
        row = from_adb(call(tmp_path, server.place.port, "devices", "--json"))[own_daemon.serial]
    finally:
        connecting.join()
        own_daemon.thaw()
    assert row["adb"]["state"] == "offline"
    assert not row["ready"]
    assert "'adb reconnect offline'" in row["problem"]


@pytest.mark.peer
def test_a_device_that_trusts_nobody_yet_is_told_so(adb_peers: AdbPeers, tmp_path: Path) -> None:
    server = adb_peers.server
    with FakeAdbd(tmp_path, Manner(untrusting=True)) as phone:
        connecting = threading.Thread(target=server.adb, args=("connect", phone.serial))
        connecting.start()
        try:
            until("the question", lambda: server.place.devices().get(phone.serial) == "unauthorized")
            row = from_adb(call(tmp_path, server.place.port, "devices", "--json"))[phone.serial]
        finally:
            connecting.join()
            server.adb("disconnect", phone.serial)
    assert row["adb"]["state"] == "unauthorized"
    assert not row["ready"]
    assert "unlock it and accept" in row["problem"]


@pytest.mark.peer
def test_a_device_that_has_frozen_unseen_by_adb_is_not_called_ready(
    adb_peers: AdbPeers, own_daemon: Daemon, tmp_path: Path
) -> None:
    adb_peers.server.adb("connect", own_daemon.serial)
    own_daemon.freeze()
    try:
        row = from_adb(call(tmp_path, adb_peers.server.place.port, "devices", "--json"))[own_daemon.serial]
    finally:
        own_daemon.thaw()
    assert row["adb"]["state"] == "device"
    assert not row["ready"]
    assert "does not answer" in row["problem"]


@pytest.mark.peer
@pytest.mark.parametrize("address", ["adb://{serial}", "adb+tcp://{serial}", "local:"])
def test_doctor_takes_an_address_without_a_lab_file(
    adb_peers: AdbPeers, own_daemon: Daemon, tmp_path: Path, address: str
) -> None:
    adb_peers.server.adb("connect", own_daemon.serial)
    where = address.format(serial=own_daemon.serial)
    told = json.loads(call(tmp_path, adb_peers.server.place.port, "doctor", where, "--json").stdout)
    assert told["facts"]["machine"]["value"]
    assert told["profile_chosen_by"] == "address"
    shipped = load_lab(None).profiles[0] / "android.yaml"
    assert told["profile"] == ("android" if shipped.is_file() and where.startswith("adb") else "linux")


@pytest.mark.peer
def test_doctor_of_the_only_device_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    with a_server({**YES, "host:devices": "R58M12ABCDE\tunauthorized\n"}) as server:
        said = call(tmp_path, server.port, "doctor", "adb://")
    assert said.code == 4
    assert "device R58M12ABCDE does not trust this computer: unlock it and accept" in said.sentence


@pytest.mark.peer
def test_over_adb_an_android_profile_is_taken_where_there_is_one(
    adb_peers: AdbPeers, own_daemon: Daemon, tmp_path: Path
) -> None:
    adb_peers.server.adb("connect", own_daemon.serial)
    write_lab(tmp_path, 'here: {profile: linux, address: "local:"}')
    profile = tmp_path / "device_profiles" / "android.yaml"
    profile.parent.mkdir()
    profile.write_text("schema: 1\nkind: profile\nname: android\nreadings: [memory]\n")
    said = call(tmp_path, adb_peers.server.place.port, "doctor", f"adb://{own_daemon.serial}", "--lab", "lab.yaml")
    assert said.code == 0, said
    assert "profile android, chosen by the address" in said.stdout


@pytest.mark.peer
@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("raspberrypi.lan", "such as ssh://raspberrypi.lan"),
        ("pi@raspberrypi.lan:22", "such as ssh://pi@raspberrypi.lan:22"),
        ("her", "did you mean 'here'?"),
        ("shh://pi", "did you mean 'ssh'?"),
        ("ssh:pi@raspberrypi.lan", "write ssh://user@host:port"),
        ("", "an address begins with ssh://"),
    ],
)
def test_a_word_that_is_neither_a_device_nor_an_address_is_told(tmp_path: Path, device: str, told: str) -> None:
    write_lab(tmp_path, 'here: {profile: linux, address: "local:"}')
    said = call(tmp_path, free_port(), "doctor", device, "--lab", "lab.yaml")
    assert said.code == 2
    assert told in said.sentence
