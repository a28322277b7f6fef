"""The files and stub programs that stand for a board: rewritten in place, listened to, and failing when they should."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melt.virtual.answers import Android, Firmware, Jetson
from melt.virtual.kinds import JETSON, KINDS, PHONE, PI, PI4
from melt.virtual.leaves import Leaves
from melt.virtual.physics import Board
from melt.virtual.scenario import Scenario, Span
from melt.virtual.stubs import write_stubs
from melt.virtual.tree import Processors, View, Zones
from melt.virtual.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from melt.virtual.kinds import Kind

FILE = "/sys/x/value"
POLICY = "/sys/devices/system/cpu/cpufreq/policy0"


@pytest.fixture
def leaves(tmp_path: Path) -> Iterator[Leaves]:
    made = Leaves(tmp_path / "sysroot")
    yield made
    made.close()


def view(kind: Kind, busy: float = 0.0, settled_w: float | None = None) -> View:
    board = Board(kind.model(2, 24.0), settled_w=settled_w or kind.idle_w)
    return View(board.step(0.04, busy), busy, dict.fromkeys(kind.sensed, 1.0))


# ------------------------------------------------------------------------------------------------------- files


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=20))
def test_a_file_that_is_held_open_shows_the_newest_value_whole(
    tmp_path_factory: pytest.TempPathFactory, texts: list[int]
) -> None:
    root = tmp_path_factory.mktemp("leaves")
    leaves = Leaves(root)
    leaves.put(FILE, "first")
    with (root / FILE[1:]).open("rb") as held:
        for text in texts:
            leaves.put(FILE, text)
            held.seek(0)
            assert held.read() == f"{text}\n".encode()
    leaves.close()


def test_a_shorter_value_is_whole_at_every_moment(leaves: Leaves, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    cut = os.ftruncate

    def look_then_cut(descriptor: int, length: int) -> None:
        seen.append((leaves.root / FILE[1:]).read_text())
        cut(descriptor, length)

    monkeypatch.setattr("melt.virtual.leaves.os.ftruncate", look_then_cut)
    leaves.put(FILE, 123456)
    leaves.put(FILE, 7)
    assert [text.strip() for text in seen] == ["7"]
    assert (leaves.root / FILE[1:]).read_text() == "7\n"


def test_what_somebody_writes_is_heard_once(leaves: Leaves) -> None:
    leaves.put(FILE, "schedutil")
    place = leaves.root / FILE[1:]
    assert leaves.asked(FILE) is None
    place.write_text("performance\n")
    assert leaves.asked(FILE) == "performance"
    assert leaves.asked(FILE) is None
    leaves.put(FILE, "performance")
    assert place.read_text() == "performance\n"
    place.write_text("")
    assert leaves.asked(FILE) is None


@pytest.mark.parametrize(
    ("trouble", "held"), [("gone", b""), ("empty", b""), ("garbage", b"?!\n"), ("negative", b"-12345\n")]
)
def test_a_file_breaks_for_whoever_holds_it_and_is_mended(leaves: Leaves, trouble: str, held: bytes) -> None:
    leaves.put(FILE, 12345)
    place = leaves.root / FILE[1:]
    with place.open("rb") as file:
        leaves.break_(FILE, trouble)  # type: ignore[arg-type]
        assert file.read() == held
    assert place.exists() == (trouble != "gone")
    leaves.put(FILE, 7)
    leaves.mend(FILE)
    leaves.put(FILE, 99)
    assert place.read_text() == "99\n"


def test_a_file_that_hangs_does_so_for_the_next_one_who_opens_it(leaves: Leaves) -> None:
    leaves.put(FILE, 1)
    leaves.break_(FILE, "hangs")
    place = leaves.root / FILE[1:]
    assert stat.S_ISFIFO(place.stat().st_mode)
    leaves.mend(FILE)
    assert place.read_text() == "1\n"


def test_a_span_counts_from_the_start_or_from_the_first_engine() -> None:
    assert Span(begin_s=1, end_s=2).holds(1.0, None)
    assert not Span(begin_s=1, end_s=2).holds(2.0, None)
    engine = Span(since="engine", begin_s=1, end_s=2)
    assert not engine.holds(99.0, None)
    assert engine.holds(11.5, 10.0)
    assert not engine.holds(12.0, 10.0)


# -------------------------------------------------------------------------------------------------- what is obeyed


def test_governor_and_limits_that_are_written_are_obeyed_and_heat_wins(leaves: Leaves) -> None:
    processors = Processors(leaves, PI, [0, 1])

    def shown(name: str) -> str:
        return (leaves.root / POLICY[1:] / name).read_text().strip()

    assert processors.update(view(PI), 1.0) == pytest.approx(1_500_000 / 2_400_000)
    assert processors.update(view(PI, busy=1.0), 1.0) == 1.0
    (leaves.root / POLICY[1:] / "scaling_governor").write_text("performance\n")
    assert processors.update(view(PI), 1.0) == 1.0
    (leaves.root / POLICY[1:] / "scaling_max_freq").write_text("2000000\n")
    processors.update(view(PI), 1.0)
    assert shown("scaling_cur_freq") == "2000000"
    processors.update(view(PI), 0.7)
    assert (shown("scaling_cur_freq"), shown("scaling_max_freq")) == ("1600000", "1600000")
    processors.update(view(PI), 1.0)
    assert (shown("scaling_cur_freq"), shown("scaling_max_freq")) == ("2000000", "2000000")
    (leaves.root / POLICY[1:] / "scaling_governor").write_text("nonsense\n")
    processors.update(view(PI), 1.0)
    assert shown("scaling_governor") == "performance"


@pytest.mark.parametrize("cpus", [[0], [0, 1], list(range(8)), [0, 2, 3]])
def test_every_processor_of_this_computer_is_in_one_policy(leaves: Leaves, cpus: list[int]) -> None:
    Processors(leaves, PHONE, cpus)
    related = [path.read_text().split() for path in leaves.root.glob("sys/devices/system/cpu/cpufreq/*/related_cpus")]
    assert sorted(int(cpu) for words in related for cpu in words) == cpus


def test_zones_show_the_heat_and_the_one_that_hangs_hangs(leaves: Leaves) -> None:
    Zones(leaves, JETSON).update(view(JETSON))
    zones = leaves.root / "sys/class/thermal"
    assert stat.S_ISFIFO((zones / "thermal_zone2/temp").stat().st_mode)
    assert 30_000 < int((zones / "thermal_zone0/temp").read_text()) < 50_000
    assert (zones / "cooling_device0/cur_state").read_text() == "0\n"


# ------------------------------------------------------------------------------------------------------- programs


@pytest.fixture
def ask(tmp_path: Path, leaves: Leaves) -> object:
    """Runs a stub of a kind as a device's shell would, first on the PATH."""

    def run(kind: Kind, script: str) -> str:
        write_stubs(kind, tmp_path / "bin", leaves.root)
        environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)}
        return subprocess.run(
            ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=30
        ).stdout

    return run


def test_a_phones_programs_answer_as_androids_do(leaves: Leaves, ask: object) -> None:
    assert callable(ask)
    Android(leaves, PHONE).update(view(PHONE))
    assert "  level: 80\n" in ask(PHONE, "dumpsys battery")
    assert "Current temperatures from HAL:\n" in ask(PHONE, "dumpsys thermalservice")
    assert ask(PHONE, "dumpsys nothing; echo $?") == "20\n"
    assert "[ro.build.version.sdk]: [35]\n" in ask(PHONE, "getprop")
    assert ask(PHONE, "getprop ro.product.model; getprop no.such") == "Pixel 8 (virtual)\n\n"
    assert ask(PHONE, "settings get system screen_off_timeout") == "30000\n"
    assert ask(PHONE, "settings put system x 5; settings get system x; settings delete system x >/dev/null;"
               "settings get system x") == "5\nnull\n"  # fmt: skip
    assert ask(PHONE, "settings put system ../../evil 5; echo $?") == "255\n"


def test_a_jetsons_modes_are_set_and_kept(leaves: Leaves, ask: object) -> None:
    assert callable(ask)
    jetson, processors = Jetson(leaves), Processors(leaves, JETSON, [0])
    jetson.update(processors)
    assert ask(JETSON, "nvpmodel -q") == "NV Power Mode: 25W\n1\n"
    assert ask(JETSON, "nvpmodel -m 0; nvpmodel -q") == "NV Power Mode: 15W\n0\n"
    assert ask(JETSON, "nvpmodel -m 77; echo $?; nvpmodel -q") == "1\nNV Power Mode: 15W\n0\n"
    jetson.update(processors)
    assert processors.mode_cap == 0.7
    ask(JETSON, "jetson_clocks --store a; jetson_clocks")
    jetson.update(processors)
    assert processors.locked
    ask(JETSON, "jetson_clocks --restore a")
    jetson.update(processors)
    assert not processors.locked


def test_a_pis_firmware_tells_what_heat_did_also_since_boot(leaves: Leaves, ask: object) -> None:
    assert callable(ask)
    firmware, processors = Firmware(leaves), Processors(leaves, PI4, [0])
    firmware.update(view(PI4), processors)
    assert ask(PI4, "vcgencmd get_throttled") == "throttled=0x0\n"
    firmware.update(view(PI4, settled_w=16.0), processors)
    assert ask(PI4, "vcgencmd get_throttled") == "throttled=0xe000e\n"
    firmware.update(view(PI4), processors)
    assert ask(PI4, "vcgencmd get_throttled") == "throttled=0xe0000\n"
    assert "not registered" in ask(PI4, "vcgencmd pmic_read_adc")


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_every_stub_is_a_script_that_its_own_kind_has(kind: Kind, tmp_path: Path) -> None:
    write_stubs(kind, tmp_path / "bin", tmp_path / "a folder'with quotes")
    for stub in (tmp_path / "bin").iterdir():
        assert subprocess.run(["sh", "-n", stub], check=False).returncode == 0


# ------------------------------------------------------------------------------------------------------ CPU use


def test_the_time_of_the_processes_of_a_folder_is_counted_and_nobody_elses(tmp_path: Path) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    ours.mkdir()
    other.mkdir()
    usage = Usage(str(ours))
    usage.spent_ns(0.0)
    burn = "import time\nwhile time.process_time() < 0.3: pass\ntime.sleep(60)"
    burning = [subprocess.Popen([sys.executable, "-c", burn], cwd=folder) for folder in (ours, other)]
    try:
        spent, end = 0, time.monotonic() + 60
        while spent < 0.3e9 and time.monotonic() < end:
            time.sleep(0.02)
            spent += usage.spent_ns(time.monotonic())
        for _ in range(10):
            time.sleep(0.02)
            spent += usage.spent_ns(time.monotonic())
        assert 0.3e9 <= spent < 0.5e9
    finally:
        for child in burning:
            child.kill()
            child.wait()
    assert usage.spent_ns(time.monotonic()) == 0


def test_a_scenario_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError):
        Scenario.model_validate({"amibent_c": 3})
