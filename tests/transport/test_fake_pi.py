"""A device with another processor: Arm programs under an emulator, reached over SSH, with a whole session on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from fakepi import FakePi, start_fake_pi
from workspace import until

from melt.device import open_device
from melt.engines.wheels import onnxruntime_library
from melt.errors import UsageError
from melt.files import LabDevice, load_lab
from melt.places import cache_dir
from melt.transport import Completed, Deadline

if TYPE_CHECKING:
    from workspace import Workspace

    from melt.transport import Transport

pytestmark = pytest.mark.peer

LIMIT_S = 60.0


@pytest.fixture
def knows_the_pi(pi: FakePi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home whose ~/.ssh/config has the Pi as `pi`, and the cache that is there already."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_dir().parent))
    config = tmp_path / "home" / ".ssh" / "config"
    config.parent.mkdir(parents=True, mode=0o700)
    config.write_bytes(pi.config.read_bytes())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def run(transport: Transport, *argv: str) -> Completed:
    return transport.run(argv, deadline=Deadline.after(LIMIT_S))


def test_its_programs_are_those_of_another_processor(pi: FakePi) -> None:
    with closing(pi.connect()) as transport:
        assert run(transport, "uname", "-m").stdout == b"aarch64\n"
        assert run(transport, "id", "-un").stdout == b"pi\n"
        assert b"CPU part\t: 0xd08" in run(transport, "cat", "/proc/cpuinfo").stdout
        elf = run(transport, "head", "-c", "20", "/bin/sh").stdout
        assert (elf[:4], int.from_bytes(elf[18:20], "little")) == (b"\x7fELF", 183)
        done = run(transport, "sh", "-c", "echo out; echo err >&2; exit 7")
        assert (done.stdout, done.stderr, done.code) == (b"out\n", b"err\n", 7)


def test_files_come_to_it_and_back_whole(pi: FakePi, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "sent").write_bytes(data)
    with closing(pi.connect()) as transport:
        transport.push(tmp_path / "sent", "/tmp/sent", deadline=Deadline.after(LIMIT_S), executable=False)
        transport.pull("/tmp/sent", tmp_path / "back", deadline=Deadline.after(LIMIT_S), limit_bytes=1 << 30)
    assert (tmp_path / "back").read_bytes() == data


def test_what_outlives_its_command_is_collected_by_init(pi: FakePi) -> None:
    with closing(pi.connect()) as transport:
        done = run(transport, "sh", "-c", "setsid sleep 0.2 </dev/null >/dev/null 2>&1 & echo $!")
        gone = f"/proc/{int(done.stdout)}"
        until(lambda: not run(transport, "test", "-e", gone).ok, "a process without a parent to vanish")


@pytest.mark.usefixtures("knows_the_pi")
def test_a_device_with_another_processor_is_understood(pi: FakePi) -> None:
    spec = LabDevice(profile="linux", address="ssh://pi")
    with open_device("board", spec, load_lab(None).profile(spec)) as device:
        assert (device.machine, device.here) == ("aarch64", False)
        assert device.root == "/home/pi/.melt/melt"
        head = device.run(["head", "-c", "20", device.agent]).stdout
        assert int.from_bytes(head[18:20], "little") == 183
        assert device.fact("machine") == "aarch64"
        assert device.fact("soc") == "Raspberry Pi 4 Model B Rev 1.4"
        assert str(device.fact("os")).startswith("Debian GNU/Linux 13")
        assert device.fact("core_clusters") == "0-3:1800000000"
        assert {"zone.cpu-thermal", "cpu.policy0.clock", "load"} <= {sensor.name for sensor in device.sensors}
        assert "rapl" in device.absent
        zone = "/sys/class/thermal/thermal_zone0/temp"
        assert device.probe([zone])[zone].data == b"48686\n"
        with (pi.sys / zone.removeprefix("/sys/")).open("r+") as moving:
            moving.write("51234\n")
        assert device.probe([zone])[zone].data == b"51234\n"


@pytest.fixture
def board(pi: FakePi, knows_the_pi: None, workspace: Workspace) -> Workspace:
    """The workspace with the Pi as its device `here`, and an ONNX Runtime for it."""
    try:
        onnxruntime_library("aarch64")
    except UsageError as error:
        pytest.skip(f"a session on another processor is NOT tested: {error}")
    device = {"profile": "bare", "address": "ssh://pi", "workdir": "/home/pi/work"}
    workspace.write("lab.yaml", {"kind": "lab", "devices": {"here": device}})
    workspace.profile(readings=["load", "memory", "thermal"])
    return workspace


def test_a_suite_runs_on_a_device_with_another_processor(pi: FakePi, board: Workspace) -> None:
    with (pi.sys / "class/thermal/thermal_zone0/temp").open("r+") as zone:
        zone.write("52500\n")
    protocol = {"preset": "quick", "runs": 2, "min_s": 1.5, "warmup_s": 0.0, "warmup_n": 1, "seed": 3}
    board.suite(protocol=protocol)
    said = board.run()
    assert said.code == 0, said
    records = [run.record for run in board.runs()]
    assert [record.usable for record in records] == [True, True]
    for record in records:
        assert record.engine["output"]["agrees"] is True, record.engine["output"]
        assert record.metrics["latency_p50_s"].value is not None
        assert record.metrics["temperature_max_c"].value == 52.5
        assert record.facts["soc"] == "Raspberry Pi 4 Model B Rev 1.4"
        assert record.fingerprint.hard["machine"] == "aarch64"
    with closing(pi.connect()) as transport:
        jobs = run(transport, "ls", "-A", "/home/pi/work/melt/jobs")
        assert (jobs.code, jobs.stdout) == (0, b"")
        blobs = run(transport, "sh", "-c", "ls -d /home/pi/work/melt/blobs/*").stdout.decode().split()
        heads = [run(transport, "head", "-c", "20", blob).stdout for blob in blobs]
        # this kernel would run an x86 program as well: that they ran is no proof of what they are
        assert [head[18] for head in heads if head.startswith(b"\x7fELF")] == [183] * 3, "agent, runner, library"


def test_a_pi_that_is_switched_off_leaves_nothing(tmp_path: Path) -> None:
    mounted = Path("/proc/mounts").read_text()
    pi = start_fake_pi(tmp_path / "own")
    with closing(pi.connect()) as transport:
        run(transport, "sh", "-c", "setsid sleep 600 </dev/null >/dev/null 2>&1 &")
        everything = [one.pid for one in pi.processes()]
        assert len(everything) > 3
        assert Path("/proc/mounts").read_text() == mounted, "its mounts, and its emulator, are its own"
        pi.close()
    until(lambda: not any(map(psutil.pid_exists, everything)), "the Pi's processes to end")
    assert pi.process.poll() is not None


def test_a_pi_ends_with_the_test_that_started_it_however_that_ends(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from fakepi import start_fake_pi; pi = start_fake_pi(pathlib.Path(sys.argv[1]))\n"
        "print(*(p.pid for p in pi.processes()), flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    argv = [sys.executable, "-c", code, tmp_path / "own"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        try:
            started = list(map(int, child.stdout.readline().split()))
        finally:
            child.send_signal(signal.SIGKILL)
    assert len(started) > 1
    until(lambda: not any(map(psutil.pid_exists, started)), "the Pi's processes to end")
