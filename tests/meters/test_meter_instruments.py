"""What each instrument needs beyond the contract: settings only if asked, what its library makes of the same bytes."""

from __future__ import annotations

import contextlib
import os
import pty
import sys
import threading
import time
import tty
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import PPK2_META, InaBus, JoulescopeDriver, MonsoonUsb, Ppk2Port, joulescope_message

from melt.errors import DeviceError, UsageError
from melt.files.instruments import MeterSpec
from melt.meters import Block, meter_of
from melt.meters.base import library
from melt.meters.joulescope import Means
from melt.meters.monsoon import Packets
from melt.meters.ppk2 import Samples
from melt.meters.text import Lines
from melt.transport import Deadline

MONSOON_SCALES = ("mainCoarseScale", "mainFineScale", "mainCoarseZeroOffset", "mainFineZeroOffset")


def spec(**parts: Any) -> MeterSpec:
    own = {"gain_error": 0.01} if parts.get("type") in ("csv", "command") else {}
    return MeterSpec(boundary="battery", **own, **parts)


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("Monsoon.pmapi", "monsoon"),
        ("pyjoulescope_driver", "joulescope"),
        ("ppk2_api.ppk2_api", "ppk2"),
        ("smbus2", "ina"),
    ],
)
def test_a_library_that_is_missing_is_told_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"pip install 'melt\[{extra}\]'"):
        library(module, extra)
    kinds: dict[str, dict[str, Any]] = {
        "monsoon": {"type": "monsoon"},
        "joulescope": {"type": "joulescope"},
        "ppk2": {"type": "ppk2", "voltage_v": 3.7, "port": "/dev/null"},
        "ina": {"type": "ina2xx", "chip": "ina228", "shunt_ohm": 0.01, "max_current_a": 3.0},
    }
    meter = meter_of(spec(**kinds[extra]))
    with pytest.raises(UsageError, match=extra):
        meter.open()
    meter.close()


# -------------------------------------------------------------------------------------------- monsoon


@pytest.fixture
def monsoon(monkeypatch: pytest.MonkeyPatch) -> MonsoonUsb:
    usb = pytest.importorskip("usb.core")
    library("Monsoon.HVPM", "monsoon")
    device = MonsoonUsb(lambda _: 1.0)
    monkeypatch.setattr(usb, "find", lambda custom_match: device if custom_match(device) else None)
    return device


def test_a_monsoons_output_is_touched_only_if_the_lab_file_asks(
    monsoon: MonsoonUsb, capsys: pytest.CaptureFixture[str]
) -> None:
    for supply_v, written in ((None, []), (4.2, [(0x41, round(4.2 * 1048576))])):
        monsoon.written.clear()
        meter = meter_of(spec(type="monsoon", supply_v=supply_v))
        said = meter.open()
        meter.start()
        meter.read(Deadline.after(0.1))
        meter.close()
        assert [(op, value) for op, value in monsoon.written if op >= 0] == [
            (op, pytest.approx(value, abs=1)) for op, value in written
        ]
        assert said.serial == "26589"
        assert said.about["supply"] == ("left as it was" if supply_v is None else "4.2 V")
        assert not monsoon.sampling
    assert capsys.readouterr().out == ""


def test_the_named_monsoon_is_taken_and_another_is_not(monsoon: MonsoonUsb) -> None:
    meter = meter_of(spec(type="monsoon", serial="26589"))
    assert meter.open().serial == "26589"
    meter.close()
    with pytest.raises(DeviceError, match="no Monsoon with the serial number 1 is plugged in"):
        meter_of(spec(type="monsoon", serial="1")).open()


def test_a_low_voltage_monsoon_is_told_apart(monsoon: MonsoonUsb) -> None:
    monsoon.values[0x45] = 1
    with pytest.raises(DeviceError, match="no HVPM"):
        meter_of(spec(type="monsoon")).open()


def test_the_same_packets_give_what_the_monsoons_own_library_makes_of_them(monsoon: MonsoonUsb) -> None:
    hvpm, engines = library("Monsoon.HVPM", "monsoon"), library("Monsoon.sampleEngine", "monsoon")
    rng = np.random.default_rng(5)
    monsoon.power = lambda _: float(rng.choice([0.0001, 0.02, 0.2, 3.0]))
    packets = [monsoon.bytes(number) for number in range(400)]
    lib = hvpm.Monsoon()
    lib.statusPacket.mainCoarseScale, lib.statusPacket.mainFineScale = 6400.0, 36500.0
    lib.statusPacket.mainCoarseZeroOffset = lib.statusPacket.mainFineZeroOffset = 15.0
    engine = engines.SampleEngine(lib)
    engine.ConsoleOutput(False)
    samples = engine._SampleEngine__processPacket([[*lib.swizzlePacket(np.frombuffer(p, "B")), 0.0] for p in packets])
    engine._SampleEngine__granularity = 1
    engine._SampleEngine__startTriggerSet = True
    engine._SampleEngine__vectorProcess(samples)
    _, milliamps, _, _, volts, _ = engine.getSamples()
    ours = Packets()
    ours.scale(lib.statusPacket)
    (block,) = ours.take(packets, 0)
    assert block.first_index == 10  # the first ten calibrated it
    np.testing.assert_allclose(block.current_a, np.array(milliamps) / 1000, rtol=1e-12)
    np.testing.assert_allclose(block.voltage_v, volts, rtol=1e-12)


def test_dropped_packets_of_a_monsoon_move_the_number_on_also_when_the_count_wraps() -> None:
    device, ours = MonsoonUsb(lambda _: 1.0), Packets()
    for number in range(4):
        ours.take([device.bytes(number)], 0)
    device.dropped = 2
    (block,) = ours.take([device.bytes(6)], 0)
    assert block.first_index == 18
    device.dropped = 65535
    ours.take([device.bytes(7)], 0)
    device.dropped = 1
    (block,) = ours.take([device.bytes(8)], 0)
    assert block.first_index == 18 + 3 + 65533 * 3 + 3 + 6


@given(st.lists(st.binary(max_size=70), max_size=6))
@settings(max_examples=200, deadline=None)
def test_no_packet_of_a_monsoon_is_too_odd(packets: list[bytes]) -> None:
    with contextlib.suppress(DeviceError):  # such as a calibration of nothing but the same value
        Packets().take(packets, 0)


def test_a_calibration_of_a_monsoon_that_tells_no_current_is_no_zero() -> None:
    device = MonsoonUsb(lambda _: 1.0)
    packets = [bytearray(device.bytes(number)) for number in range(5)]
    for packet in packets[:4]:
        for at in range(4, 4 + 3 * 18, 18):
            packet[at : at + 4] = b"\x01\x00\x01\x00"  # zero and reference read alike
    ours = Packets()
    ours.scale(type("Told", (), dict.fromkeys(MONSOON_SCALES, 0)))
    with pytest.raises(DeviceError, match="calibration that tells no current"):
        ours.take([bytes(packet) for packet in packets], 0)


# ----------------------------------------------------------------------------------------------- ppk2


def test_a_ppk2_is_told_its_mode_and_supplies_only_if_asked() -> None:
    pytest.importorskip("ppk2_api.ppk2_api")
    for parts, mode in (({"voltage_v": 3.7}, b"\x11\x01"), ({"supply_v": 3.7}, b"\x11\x02")):
        port = Ppk2Port(lambda _: 1.0)
        meter = meter_of(spec(type="ppk2", port=port.port, **parts))
        said = meter.open()
        end = Deadline.after(10)
        while mode not in b"".join(port.commands) and end.left_s:
            time.sleep(0.01)
        sent = b"".join(port.commands)
        meter.close()
        port.close()
        assert mode in sent
        assert said.about["hardware"] == "9173"
        assert said.about["mode"] == ("ammeter in 3.7 V" if "voltage_v" in parts else "supplies 3.7 V")


def test_what_is_no_ppk2_is_told(tmp_path: Path) -> None:
    pytest.importorskip("ppk2_api.ppk2_api")
    with pytest.raises(DeviceError, match="PPK2"):
        meter_of(spec(type="ppk2", port="/dev/null", voltage_v=3.7)).open()
    with pytest.raises(DeviceError, match="no PPK2 with the serial number NOSUCH is plugged in"):
        meter_of(spec(type="ppk2", serial="NOSUCH", voltage_v=3.7)).open()


def test_what_never_stops_sending_is_no_ppk2(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ppk2_api.ppk2_api")
    monkeypatch.setattr("melt.meters.ppk2._EMPTY_S", 0.3)
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    over = threading.Event()

    def chat() -> None:
        while not over.wait(0.0005):
            with contextlib.suppress(BlockingIOError):
                os.write(master, b"temp=22.1 hum=40\r\n")

    thread = threading.Thread(target=chat, daemon=True)
    thread.start()
    meter = meter_of(spec(type="ppk2", port=os.ttyname(slave), voltage_v=5.0))
    try:
        with pytest.raises(DeviceError, match=r"what is at /dev/pts/\d+ never stops sending: it is no PPK2"):
            meter.open()
        meter.close()
    finally:
        over.set()
        thread.join()
        os.close(master)
        os.close(slave)


def test_the_same_bytes_give_what_the_ppk2s_own_library_makes_of_them() -> None:
    ppk2_api = pytest.importorskip("ppk2_api.ppk2_api")
    port = Ppk2Port(lambda _: 1.0)
    lib = ppk2_api.PPK2_API(port.port)
    lib._parse_metadata(PPK2_META)
    lib.current_vdd = 3700
    rng = np.random.default_rng(5)
    for at in range(5):  # one range at a time: its filter works where the range changes
        lib.prev_range, lib.after_spike = None, 0
        words = rng.integers(0, 0x4000, 500) | at << 14 | (np.arange(500) % 64) << 18
        data = words.astype("<u4").tobytes()
        microamps, _ = lib.get_samples(data)
        (block,) = Samples(lib.modifiers, 3.7).take(data, 0)
        np.testing.assert_allclose(block.current_a, np.array(microamps) * 1e-6, rtol=1e-9)
        np.testing.assert_allclose(block.power_w, block.current_a * 3.7)
    lib.ser.close()
    lib.ser = None
    port.close()


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 63)), max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_the_counter_of_a_ppk2_tells_what_was_lost_however_the_bytes_are_cut(
    sizes: list[int], lost: list[tuple[int, int]]
) -> None:
    gone = {i for begin, n in lost for i in range(begin, begin + n)}
    runs = np.diff([-1, *sorted(set(range(1000)) - gone), 1000])
    if runs.max() > 63:
        return  # more at once than the counter can tell
    kept = np.array(sorted(set(range(1000)) - gone))
    data = (5000 | 3 << 14 | (kept % 64) << 18).astype("<u4").tobytes()
    modifiers = {key: {str(n): 1.0 for n in range(5)} for key in ("R", "GS", "GI", "O", "S", "I", "UG")}
    samples, blocks, at = Samples(modifiers, 1.0), [], 0
    while at < len(data):
        for size in sizes:
            blocks += samples.take(data[at : at + size], 0)
            at += size
    index = np.concatenate([block.index for block in blocks])
    np.testing.assert_array_equal(index, kept - kept[0])


# ------------------------------------------------------------------------------------------------ ina


@pytest.mark.parametrize(
    ("chip", "parts", "registers"),
    [
        # 32 V, gain ÷2 (75 mV), means of 1 (200 Hz: 5 ms for the two): 0x2000 | 1<<11 | 0xA<<7 | 0xA<<3 | 7
        ("ina219", {}, {0x00: 0x2D57}),
        ("ina226", {}, {0x00: 0x4000 | 0 << 9 | 4 << 6 | 4 << 3 | 7}),
        ("ina226", {"rate_hz": 20.0}, {0x00: 0x4000 | 2 << 9 | 4 << 6 | 4 << 3 | 7}),
        # SHUNT_CAL = 13107.2e6 × 5 A ÷ 2^19 × 15 mΩ
        ("ina228", {}, {0x00: 0x4000, 0x02: 1875, 0x01: 0xB921}),
        ("ina228", {"max_current_a": 2.0}, {0x00: 0x4010, 0x02: 3000}),
    ],
)
def test_a_chip_is_set_up_as_its_data_sheet_says(
    monkeypatch: pytest.MonkeyPatch, chip: str, parts: dict[str, Any], registers: dict[int, int]
) -> None:
    smbus2 = pytest.importorskip("smbus2")
    bus = InaBus(chip, lambda _: 1.0)
    monkeypatch.setattr(smbus2, "SMBus", bus)
    whole = {"shunt_ohm": bus.SHUNT_OHM, "max_current_a": bus.MAX_A, "rate_hz": 200.0, **parts}
    meter = meter_of(spec(type="ina2xx", chip=chip, **whole))
    meter.open()
    meter.close()
    assert {register: bus.written[register] for register in registers} == registers
    assert bus.closed


def test_a_chip_that_is_not_there_or_another_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    smbus2 = pytest.importorskip("smbus2")
    monkeypatch.setattr(smbus2, "SMBus", InaBus("ina226", lambda _: 1.0))
    whole: dict[str, Any] = {"type": "ina2xx", "shunt_ohm": 0.01, "max_current_a": 3.0}
    other = InaBus("ina226", lambda _: 1.0)
    other._value = lambda register, _: {0x3E: 0, 0x3F: 0}[register]  # type: ignore[method-assign]
    monkeypatch.setattr(smbus2, "SMBus", other)
    with pytest.raises(DeviceError, match=r"at 0x40 of I²C bus 1 is no INA228"):
        meter_of(spec(chip="ina228", **whole)).open()
    monkeypatch.setattr(smbus2, "SMBus", InaBus("ina226", lambda _: 1.0))
    with pytest.raises(DeviceError, match="INA226 at 0x41 of I²C bus 1 does not answer"):
        meter_of(spec(chip="ina226", address="0x41", **whole)).open()
    with pytest.raises(DeviceError, match="is I²C switched on"):
        meter_of(spec(chip="ina226", bus=9, **whole)).open()
    with pytest.raises(UsageError, match=r"more than the 81\.92 mV"):
        meter_of(spec(type="ina2xx", chip="ina226", shunt_ohm=0.1, max_current_a=3.0)).open()


def test_the_accumulated_energy_misses_nothing_between_the_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pulses of 1 ms, read every 50 ms: polled power would be all or nothing."""
    smbus2 = pytest.importorskip("smbus2")
    bus = InaBus("ina228", lambda _: 0.0)
    monkeypatch.setattr(smbus2, "SMBus", bus)
    meter = meter_of(spec(type="ina2xx", chip="ina228", shunt_ohm=0.015, max_current_a=5.0, rate_hz=20.0))
    meter.open()
    meter.start()
    blocks: list[Any] = []
    end = Deadline.after(30)
    while len(blocks) < 10:
        assert end.left_s
        blocks += meter.read(Deadline.after(0.2))
        bus.joules += 0.1  # a pulse that no reading of power sees
    meter.close()
    assert sum(b.power_w[0] for b in blocks[1:]) > 0
    grown = sum(b.power_w[0] * (b.own_s[0] - a.own_s[0]) for a, b in pairwise(blocks))
    assert grown == pytest.approx(0.1 * (len(blocks) - 1), rel=0.02)


def ina_at(monkeypatch: pytest.MonkeyPatch, chip: str, bus: InaBus, **parts: Any) -> Any:
    monkeypatch.setattr(pytest.importorskip("smbus2"), "SMBus", bus)
    whole = {"shunt_ohm": bus.SHUNT_OHM, "max_current_a": bus.MAX_A, "rate_hz": 200.0, **parts}
    return meter_of(spec(type="ina2xx", chip=chip, **whole))


def some(meter: Any, samples: int) -> list[Block]:
    blocks: list[Block] = []
    end = Deadline.after(30)
    while len(blocks) < samples:
        assert end.left_s
        blocks += meter.read(Deadline.after(0.2))
    return blocks


@pytest.mark.parametrize("over", ["full", "minus", "flag"])
@pytest.mark.parametrize("chip", ["ina219", "ina226", "ina228"])
def test_more_current_than_a_chip_can_tell_is_a_gap_and_no_figure(
    monkeypatch: pytest.MonkeyPatch, chip: str, over: str
) -> None:
    bus = InaBus(chip, lambda _: 1.0)
    meter = ina_at(monkeypatch, chip, bus)
    meter.open()
    meter.start()
    before = some(meter, 3)
    bus.over = over
    end = Deadline.after(0.1)
    while end.left_s:
        assert meter.read(Deadline.after(0.02)) == ()
    bus.over = None
    after = some(meter, 3)
    meter.close()
    assert after[0].first_index > before[-1].first_index + 1


def test_an_ina228_that_was_reset_is_a_gap_and_set_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = InaBus("ina228", lambda _: 1.0)
    meter = ina_at(monkeypatch, "ina228", bus)
    meter.open()
    bus.joules = 100.0
    meter.start()
    before = some(meter, 3)
    bus.joules = 0.0
    bus.written[0x02] = 0x1000  # what it has after a reset
    after = some(meter, 10)
    meter.close()
    assert bus.written[0x02] == 1875
    assert after[0].first_index > before[-1].first_index + 1
    assert max(float(block.power_w[0]) for block in after) < 100.0


def test_the_energy_of_an_ina228_that_wraps_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = InaBus("ina228", lambda _: 0.0)
    meter = ina_at(monkeypatch, "ina228", bus)
    meter.open()
    # half a joule before its end of 2^40 steps
    bus.joules = (1 << 40) * 16 * 3.2 * bus.written[2] / (13107.2e6 * bus.SHUNT_OHM) - 0.5
    meter.start()
    before = some(meter, 3)
    bus.joules += 1.0
    after = some(meter, 3)
    meter.close()
    assert after[-1].first_index - before[-1].first_index >= 3
    grown = after[0].power_w[0] * (after[0].own_s[0] - before[-1].own_s[0])
    assert grown == pytest.approx(1.0, rel=0.02)


def test_an_ina_without_a_gain_error_says_that_its_shunt_is_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = ina_at(monkeypatch, "ina228", InaBus("ina228", lambda _: 1.0)).open()
    whole = ina_at(monkeypatch, "ina228", InaBus("ina228", lambda _: 1.0), gain_error=0.02).open()
    assert "without its shunt's" in alone.about["error"]
    assert "error" not in whole.about


# ----------------------------------------------------------------------------------------- joulescope


def test_the_real_driver_is_opened_and_finds_nothing_here() -> None:
    pytest.importorskip("pyjoulescope_driver")
    meter = meter_of(spec(type="joulescope", serial="000000"))
    with pytest.raises(DeviceError, match=r"no Joulescope with the serial number 000000|the Joulescope"):
        meter.open()
    meter.close()


def test_of_several_joulescopes_one_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("pyjoulescope_driver")
    driver = JoulescopeDriver(lambda _: 1.0, ("u/js110/002559", "u/js220/000415", "u/js320/8w2a"))
    monkeypatch.setattr(module, "Driver", driver)
    with pytest.raises(DeviceError, match="name one by 'serial', 002559, 000415"):
        meter_of(spec(type="joulescope")).open()
    with pytest.raises(DeviceError, match="there are 002559, 000415"):
        meter_of(spec(type="joulescope", serial="1")).open()
    meter = meter_of(spec(type="joulescope", serial="000415", rate_hz=50.0))
    assert meter.open().rate_hz == 50.0
    meter.start()
    meter.stop()
    meter.close()
    assert driver.opened == []
    assert ("u/js220/000415/s/stats/scnt", 20_000) in driver.published
    assert driver.published[-1] == ("u/js220/000415/s/stats/ctrl", 0)


def test_a_joulescopes_means_are_numbered_by_their_samples() -> None:
    means = Means()
    message = lambda n, watts=1.0: joulescope_message(123_456 + n * 10_000, 10_000, 1_000_000, watts)  # noqa: E731
    first, third = means.take(message(0), 1), means.take(message(2), 2)
    assert first is not None
    assert third is not None
    assert (first.first_index, third.first_index, first.rate_hz) == (0, 2, 100.0)
    assert means.take(message(3, float("nan")), 3) is None
    assert means.take({"time": {}}, 3) is None


# ----------------------------------------------------------------------------------------------- text


def csv_meter(path: Path, **parts: Any) -> Any:
    return meter_of(spec(type="csv", path=str(path), **parts))


@pytest.mark.parametrize(
    ("head", "line", "parts", "watts"),
    [
        ("t,P,U", "1.5,2.5,5\n", {"column": "P"}, 2.5),
        ('"t","P"', '"1.5","2.5"\n', {"column": "P"}, 2.5),
        ("t;P", "1,5;2,5\n", {"column": "P", "unit": "mw"}, 0.0025),
        ("t\tP", "1\t2500\n", {"column": "2", "unit": "uw"}, 0.0025),
        ("P", "2.5\n", {"column": "P"}, 2.5),
        ("t P", "1.5  2.5\n", {"column": "P", "time_column": "t"}, 2.5),
    ],
)
def test_a_csv_in_any_dress_is_read(tmp_path: Path, head: str, line: str, parts: dict[str, Any], watts: float) -> None:
    path = tmp_path / "m.csv"
    path.write_text(f"{head}\n")
    meter = csv_meter(path, **parts)
    meter.open()
    meter.start()
    with path.open("a") as out:
        out.write(line + line[:2])
    (block,) = meter.read(Deadline.after(10))
    assert block.power_w.tolist() == [pytest.approx(watts)]
    assert block.own_s.tolist() == ([1.5] if "time_column" in parts else [pytest.approx(block.host_ns * 1e-9)])
    meter.close()


def test_a_csv_that_is_cut_replaced_or_gone_ends_and_a_missing_column_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    for change in (lambda: path.write_text("P\n"), lambda: path.rename(tmp_path / "other"), path.unlink):
        path.write_text("P\n1\n2\n")
        meter = csv_meter(path, column="P")
        meter.open()
        meter.start()
        change()
        with pytest.raises(DeviceError, match=r"m\.csv"):
            meter.read(Deadline.after(10))
        meter.close()
    path.write_text("P,U\n")
    meter = csv_meter(path, column="I")
    with pytest.raises(DeviceError, match="has no column 'I': its first line has P, U"):
        meter.open()
    meter.close()
    with pytest.raises(DeviceError, match="cannot be read: No such file or directory"):
        csv_meter(tmp_path / "absent.csv", column="P").open()


def open_files(path: Path) -> int:
    """How many descriptors this process has of a file."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += link.readlink() == path
    return found


def test_what_cannot_grow_is_told_and_nothing_is_left_open(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    master, slave = pty.openpty()
    for path in (fifo, tmp_path, Path(os.ttyname(slave))):
        meter, held = csv_meter(path, column="1"), open_files(path)
        with pytest.raises(DeviceError) as caught:
            meter.open()
        assert str(caught.value) == f"{path} is no regular file: use type command, argv [cat, {path}]"
        meter.close()
        assert open_files(path) == held
    os.close(master)
    os.close(slave)


def test_lines_are_late_by_what_the_lab_file_says(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("P\n")
    for parts, late_s in (({}, 0.02), ({"latency_s": 1.5}, 1.5), ({"latency_s": 0.0}, 0.0)):
        csv = csv_meter(tmp_path / "m.csv", column="P", **parts)
        assert csv.open().latency_s == late_s
        csv.close()
        assert meter_of(spec(type="command", argv=["x"], **parts)).open().latency_s == late_s


def lines_of(texts: list[str]) -> tuple[Block, ...]:
    class Said:
        """The lines at once."""

        def bytes(self, _deadline: Deadline) -> bytes:
            return "".join(f"{text}\n" for text in texts).encode()

    reader: Any = meter_of(spec(type="command", argv=["x"]))
    return Lines(Said(), "it").blocks(Deadline.after(1), reader)


def test_one_absurd_stamp_costs_its_line_alone() -> None:
    blocks = lines_of(["1.0 5", "2.0 5", "1e300 5", "3.0 5", "2.5 5", "3603.1 5", "4.0 5", "3604.0 5"])
    assert [block.own_s.tolist() for block in blocks if block.own_s is not None] == [[1.0, 2.0], [3.0], [4.0, 3604.0]]
    assert [block.first_index for block in blocks] == [0, 3, 6]


def test_stamps_that_all_leap_are_no_seconds() -> None:
    with pytest.raises(
        DeviceError, match="it gives stamps more than an hour after each other: are they seconds, or ns"
    ):
        lines_of([f"{number * 20_000}.0 5" for number in range(40)])


def test_an_endless_line_is_no_meters(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("P\n")
    meter = csv_meter(path, column="P")
    meter.open()
    meter.start()
    with path.open("a") as out:
        out.write("x" * 200_000)
    with pytest.raises(DeviceError, match="a line of more than"):
        meter.read(Deadline.after(10))
    meter.close()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["no-such-meter"], "ended with code 127"),
        (["sh", "-c", "echo nothing is plugged in >&2; exit 3"], "ended with code 3: nothing is plugged in"),
        (["true"], "ended with code 0$"),
    ],
)
def test_a_command_that_ends_is_told_with_its_last_words(argv: list[str], words: str) -> None:
    meter = meter_of(spec(type="command", argv=argv))
    meter.open()
    meter.start()
    with pytest.raises(DeviceError, match=words):
        meter.read(Deadline.after(10))
    meter.close()


def test_seconds_and_nanoseconds_are_told_apart() -> None:
    meter: Any = meter_of(spec(type="command", argv=["x"], unit="mw"))
    assert meter.sample("1.5 250", 0) == (1.5, 0.25)
    assert meter.sample("1790000000.25, 250", 0) == (1790000000.25, 0.25)
    assert meter.sample("1790000000250000000\t250", 0) == (pytest.approx(1790000000.25), 0.25)
    assert meter.sample("time power", 0) is None
    assert meter.sample("1.5", 0) is None


@given(st.lists(st.text(max_size=60) | st.sampled_from(["1e999 1", "9" * 400 + " 1", "nan 1", "1 inf", "2 -3"])))
@settings(max_examples=200, deadline=None)
def test_no_line_is_too_odd(lines: list[str]) -> None:
    class Said:
        """The lines at once."""

        def bytes(self, _deadline: Deadline) -> bytes:
            return "".join(f"{line}\n" for line in lines).encode()

    command: Any = meter_of(spec(type="command", argv=["x"]))
    for meter in (command, csv_meter(Path("m.csv"), column="P", time_column="t")):
        for block in Lines(Said(), "it").blocks(Deadline.after(1), meter):
            assert np.isfinite(block.power_w).all()
            assert np.all(np.diff(block.own_s) > 0)
