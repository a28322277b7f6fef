"""The lab of virtual boards: what it needs, what it leaves out with which sentence, and that all of it ends."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from workspace import until

from melt.device import open_device
from melt.errors import DeviceError, UsageError
from melt.files import load_profile
from melt.places import cache_dir, shipped
from melt.readings import text_of
from melt.transport.ssh_config import Own, find_place
from melt.virtual import adbd, sshd
from melt.virtual.kinds import KINDS, PHONE, Kind
from melt.virtual.lab import profiles, virtual_lab
from melt.virtual.scenario import Scenario

if TYPE_CHECKING:
    from pathlib import Path


def left(folder: Path) -> list[str]:
    """The command lines of processes that have to do with `folder`, or work there."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        words = [*(process.info["cmdline"] or ()), process.info["cwd"] or ""]
        if any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_board_has_a_profile_that_says_it_is_software(kind: object) -> None:
    assert isinstance(kind, Kind)
    profile = load_profile(kind.profile, (profiles(), shipped("device_profiles")))
    assert "software" in profile.about
    for name in profile.total.sum if profile.total else ():
        response = profile.sensors[name].response
        assert response is not None, f"{name} of {kind.profile} has no response of its own"
        assert response.calibrated


def test_a_board_that_is_not_known_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="jetson"), virtual_lab(tmp_path, only=["jetsno"]):
        pass


def test_a_dry_run_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    suite = str(shipped("workloads") / "demo.yaml")
    argv = [sys.executable, "-m", "melt", "run", suite, "phone", "pi4", "--lab", "virtual", "--dry-run", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert {slot["device"] for slot in json.loads(done.stdout)["order"]} == {"phone", "pi4"}
    assert not (tmp_path / "melt" / "virtual").exists()


def test_what_this_computer_lacks_is_said_and_the_others_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sshd.shutil, "which", lambda *_, **__: None)
    with pytest.raises(DeviceError, match="apt install openssh-server"), virtual_lab(tmp_path, only=["pi"]):
        pass
    monkeypatch.setattr(adbd.platform, "machine", lambda: "riscv64")
    with (
        pytest.raises(DeviceError, match=r"phone is left out: its adb daemon cannot be had: .*riscv64"),
        virtual_lab(tmp_path, only=["phone"]),
    ):
        pass
    assert left(tmp_path) == []


def test_an_address_names_its_own_configuration_and_the_persons_is_not_read(tmp_path: Path) -> None:
    config = tmp_path / "a folder" / "config"
    config.parent.mkdir()
    config.write_text(f'Host *\n  IdentityFile "{tmp_path}/key"\n  IdentitiesOnly yes\n')
    place = find_place(sshd.address(config.parent, 2222), Own())
    assert place.identities == (tmp_path / "key",)
    assert not place.asks_agent
    assert place.port == 2222
    for bad in ("?config=relative", "?key=/x", "?"):
        with pytest.raises(UsageError, match="config"):
            find_place(f"ssh://pi@host{bad}", Own())


@pytest.mark.peer
@pytest.mark.xdist_group("virtual boards")
def test_a_board_is_reached_and_all_of_it_ends_with_the_block(tmp_path: Path) -> None:
    said: list[str] = []
    with virtual_lab(tmp_path, only=["jetson", "phone"], say=said.append) as lab:
        if said:
            pytest.skip(f"the virtual boards are NOT tested: {said}")
        assert set(lab.devices) == {"local", "jetson", "phone"}
        for name in ("jetson", "phone"):
            spec = lab.device(name)
            assert spec.simulated
            with open_device(name, spec, lab.profile(spec)) as device:
                assert device.simulated
                assert device.total is not None
                # what is started there and goes on by itself is ended with the board
                device.run(["sh", "-c", 'cd "$1" && (sleep 600 >/dev/null 2>&1 &)', "sh", spec.workdir or ""])
        with pytest.raises(UsageError, match="in use by another"), virtual_lab(tmp_path, only=["pi"]):
            pass
        assert any("sleep 600" in words for words in left(tmp_path))
        ports = {name: lab.device(name).address for name in ("jetson", "phone")}
    assert left(tmp_path) == []
    with virtual_lab(tmp_path, only=["jetson", "phone"]) as lab:
        assert {name: lab.device(name).address for name in ports} == ports


@pytest.mark.peer
@pytest.mark.xdist_group("virtual boards")
def test_a_gauge_that_tells_milliamperes_upside_down_is_understood_once_it_is_calibrated(tmp_path: Path) -> None:
    own = tmp_path / "device_profiles"
    own.mkdir()
    battery = "{current_unit: ma, discharging: positive, calibrated: true}"
    (own / "odd.yaml").write_text(f"schema: 1\nkind: profile\nname: odd\nextends: virtual-phone\nbattery: {battery}\n")
    scenario = Scenario(current_unit="ma", discharging="positive")
    with virtual_lab(tmp_path / "boards", only=["phone"], scenarios={"phone": scenario}) as boards:
        lab = dataclasses.replace(boards, profiles=(own, *boards.profiles))
        told = {}
        for profile in ("odd", "pixel-8"):
            spec = lab.device("phone").model_copy(update={"profile": profile})
            with open_device("phone", spec, lab.profile(spec)) as device:
                told[profile] = {c.name: (s, c) for s in device.sensors for c in s.channels}
                if profile == "odd":
                    sensor, channel = told["odd"]["battery.power"]
                    watts = channel.parse(text_of(device.probe(sensor.paths), sensor))
    assert watts == pytest.approx(PHONE.idle_w, rel=0.5)
    assert told["odd"]["battery.power"][1].not_for_energy is None
    assert "melt calibrate" in (told["pixel-8"]["battery.power"][1].not_for_energy or "")


@pytest.mark.peer
@pytest.mark.xdist_group("virtual boards")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whoever_dies_takes_the_boards_along(tmp_path: Path, how: signal.Signals) -> None:
    script = (
        "import sys, time, pathlib, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from melt.virtual.lab import virtual_lab\n"
        "with virtual_lab(pathlib.Path(sys.argv[1]), only=['pi']) as lab:\n"
        "    print('up', len(lab.devices), flush=True)\n"
        "    time.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        if child.stdout.readline() != "up 2\n":
            child.wait()
            pytest.skip("the virtual boards are NOT tested: no sshd")
        assert left(tmp_path)
        child.send_signal(how)
        child.wait(30)
    until(lambda: not left(tmp_path) or None, "the boards to end")


@pytest.mark.peer
@pytest.mark.xdist_group("virtual boards")
def test_doctor_takes_the_word_virtual_for_a_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache" / "melt"
    cache.mkdir(parents=True)
    for name in ("native", "peers", "libraries", "models"):
        if (cache_dir() / name).is_dir():
            (cache / name).symlink_to(cache_dir() / name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    argv = [sys.executable, "-m", "melt", "doctor", "pi", "--lab", "virtual", "--quick", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    if "no sshd" in done.stderr:
        pytest.skip(f"the virtual boards are NOT tested: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["profile"] == "virtual-pi-5"
    until(lambda: not left(tmp_path) or None, "the boards to end")
