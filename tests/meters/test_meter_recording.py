"""A recording from its beginning to channels of the trace, whatever ends it; on a device with this computer's clock.

So every stamp can be checked: the simulated instruments draw a ramp, and a value tells when it was taken.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from simulated import InaBus, JoulescopeDriver, MonsoonUsb

from melt.analysis.total import total
from melt.analysis.trace import by_channel
from melt.device import Device, open_device
from melt.errors import DeviceError, TransportError, UsageError
from melt.files import LabDevice, load_profile
from melt.files.instruments import MeterSpec
from melt.job.trace import COLUMNS
from melt.meters import Block, channels, keep, mapped, recording, recover
from melt.meters import folder as kept
from melt.meters.base import library
from melt.meters.clock import RoundTrip
from melt.meters.text import CsvMeter
from melt.records import EnergyBasis, ReasonCode, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RAMP_W_PER_S = 0.05


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder = tmp_path_factory.mktemp("device")
    spec = LabDevice(profile="linux", address="local:", workdir=str(folder))
    with open_device("here", spec, load_profile("linux")) as opened:
        yield opened


def ramp() -> tuple[Callable[[float], float], float]:
    began_s = time.monotonic()
    return (lambda t: 1.0 + RAMP_W_PER_S * (t - began_s)), began_s


def csv_at(path: Path) -> MeterSpec:
    return MeterSpec(type="csv", boundary="wall", path=str(path), column="P", gain_error=0.01)


def instrument(
    patch: pytest.MonkeyPatch, kind: str, power: Callable[[float], float]
) -> tuple[MeterSpec, Any, Callable[[], None]]:
    """A meter's entry in the lab file, what is below it, and how its cable is pulled."""
    if kind == "monsoon":
        usb = pytest.importorskip("usb.core")
        library("Monsoon.HVPM", "monsoon")
        found = MonsoonUsb(power, lambda n: n > 10 and n % 97 == 0)
        patch.setattr(usb, "find", lambda custom_match: found if custom_match(found) else None)
        return MeterSpec(type="monsoon", boundary="battery"), found, lambda: setattr(found, "gone", True)
    if kind == "ina219":
        bus = InaBus("ina219", power)
        patch.setattr(pytest.importorskip("smbus2"), "SMBus", bus)
        spec = MeterSpec(
            type="ina2xx", boundary="board_input", chip="ina219", shunt_ohm=0.015, max_current_a=5.0, rate_hz=100.0
        )
        return spec, bus, lambda: setattr(bus, "fails", True)
    driver = JoulescopeDriver(power, drop=lambda n: n % 53 == 52)
    patch.setattr(pytest.importorskip("pyjoulescope_driver"), "Driver", driver)
    return MeterSpec(type="joulescope", boundary="battery", rate_hz=200.0), driver, driver._over.set


@pytest.mark.parametrize("kind", ["joulescope", "monsoon", "ina219"])
def test_every_value_stands_at_the_moment_it_was_taken_within_the_stated_bound(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device, kind: str
) -> None:
    power, began_s = ramp()
    spec, _, _ = instrument(monkeypatch, kind, power)
    with recording("bench", spec, device, tmp_path / "meter") as rec:
        first_ns = time.monotonic_ns()
        time.sleep(1.5)
        last_ns = time.monotonic_ns()
        rec.stop()
    (tmp_path / "run").mkdir()
    keep(tmp_path / "meter", tmp_path / "run")
    found = channels(tmp_path / "run")
    assert found.reasons == ()
    assert tuple(found.rows.columns) == COLUMNS == mapped.COLUMNS
    note = found.notes["meter.bench"]
    assert (note.quantity, note.boundary, note.provenance) == ("power", spec.boundary, "measured")
    assert note.response is not None
    assert note.response.refresh_s == pytest.approx(note.period_s)
    assert note.clock_bound_s > 0
    rows = found.rows[found.rows["error"].isna()]
    t_s, value = rows["t_ns"].to_numpy() * 1e-9, rows["value"].to_numpy()
    taken_s = began_s + (value - 1.0) / RAMP_W_PER_S
    middle_s = t_s - (note.period_s / 2 if kind != "ina219" else 0)
    step_s = {"joulescope": 0.0, "monsoon": 0.02, "ina219": 0.1}[kind]  # a step of the converter, as time on the ramp
    off_s = middle_s - taken_s
    assert abs(float(np.median(off_s))) <= note.clock_bound_s + step_s
    assert t_s[0] * 1e9 <= first_ns
    assert t_s[-1] * 1e9 >= last_ns - 0.4e9
    told = json.loads((tmp_path / "run" / "meter.json").read_text())
    assert len(told["before"]) >= 16
    assert len(told["after"]) >= 16
    assert found.note is not None
    assert found.note.clock_bound_s == note.clock_bound_s
    if kind != "ina219":
        assert (found.rows["error"] == "lost").any()
        assert (found.note.lost or 0) > 0
        assert np.isnan(found.rows.loc[found.rows["error"] == "lost", "value"]).all()


def test_the_rows_join_a_trace_of_the_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device) -> None:
    spec, _, _ = instrument(monkeypatch, "joulescope", lambda _: 2.0)
    with recording("bench", spec, device, tmp_path):
        time.sleep(0.3)
    found = channels(tmp_path)
    own = pd.DataFrame([(1, 1, 0, "load", "load.1m", 0.5, None)], columns=list(COLUMNS))
    trace = pd.concat([own, found.rows]).sort_values("t_ns", kind="stable", ignore_index=True)
    trace.to_parquet(tmp_path / "trace.parquet", index=False)
    series = by_channel(pd.read_parquet(tmp_path / "trace.parquet"), found.notes)["meter.bench"]
    assert len(series) > 20
    assert np.all(series.v == 2.0)
    assert np.all(np.diff(series.t) > 0)


@pytest.mark.parametrize("kind", ["monsoon", "ina219"])
def test_a_meter_that_dies_leaves_what_it_gave_and_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device, kind: str
) -> None:
    spec, _, cut = instrument(monkeypatch, kind, lambda _: 2.0)
    with recording("bench", spec, device, tmp_path):
        time.sleep(0.3)
        cut()
        time.sleep(0.3)
    found = channels(tmp_path)
    assert len(found.rows) > 10
    (reason,) = found.reasons
    assert reason.code == ReasonCode.SENSOR_GAP
    assert reason.detail.startswith("meter 'bench': ")
    assert "\n" not in reason.detail


def test_a_meter_that_goes_silent_is_told_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device) -> None:
    monkeypatch.setattr("melt.meters.recorder._QUIET_S", 0.3)
    spec, _, cut = instrument(monkeypatch, "joulescope", lambda _: 2.0)
    with recording("bench", spec, device, tmp_path):
        time.sleep(0.1)
        cut()
        time.sleep(1.0)
    (reason,) = channels(tmp_path).reasons
    assert "it has given nothing for" in reason.detail


def test_a_meter_that_is_not_there_stops_the_run_before_it_begins(tmp_path: Path, device: Device) -> None:
    for spec, words in (
        (csv_at(tmp_path / "no.csv"), "no.csv cannot be read"),
        (MeterSpec(type="command", boundary="wall", argv=("no-such-meter",), gain_error=0.01), "ended with code 127"),
    ):
        with (
            pytest.raises(DeviceError, match=f"meter 'bench': .*{words}"),
            recording("bench", spec, device, tmp_path / "meter"),
        ):
            pass
        assert not (tmp_path / "meter").exists()


def test_a_missing_library_is_the_persons_to_mend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device
) -> None:
    monkeypatch.setitem(sys.modules, "pyjoulescope_driver", None)
    spec = MeterSpec(type="joulescope", boundary="battery")
    with pytest.raises(UsageError, match="pip install"), recording("bench", spec, device, tmp_path / "meter"):
        pass


def test_a_meter_that_says_nothing_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device
) -> None:
    monkeypatch.setattr("melt.meters.recorder._FIRST_S", 0.3)
    (tmp_path / "m.csv").write_text("P\n1\n")
    spec = csv_at(tmp_path / "m.csv")
    with pytest.raises(DeviceError, match="gave nothing within"), recording("bench", spec, device, tmp_path / "meter"):
        pass


def test_a_link_that_is_lost_at_the_end_costs_precision_and_no_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device
) -> None:
    class Cut:
        """The device's line, which can be cut."""

        address = "local:"
        lost = False

        def start(self, argv: Any, *, has_stdin: bool = False) -> Any:
            if self.lost:
                raise TransportError("the link is away")
            return device.transport.start(argv, has_stdin=has_stdin)

    line: Any = Cut()
    spec, _, _ = instrument(monkeypatch, "joulescope", lambda _: 2.0)
    with recording("bench", spec, dataclasses.replace(device, transport=line), tmp_path):
        time.sleep(0.3)
        line.lost = True
    found = channels(tmp_path)
    assert found.reasons == ()
    assert len(found.rows) > 20
    assert kept.load(tmp_path).after == ()  # type: ignore[union-attr]


def test_a_device_that_rebooted_meanwhile_has_no_channel_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device
) -> None:
    spec, _, _ = instrument(monkeypatch, "joulescope", lambda _: 2.0)
    with recording("bench", spec, device, tmp_path):
        time.sleep(0.2)
    told = json.loads((tmp_path / "meter.json").read_text())
    for trip in told["after"]:
        trip["device_ns"] -= 3600 * 10**9
    (tmp_path / "meter.json").write_text(json.dumps(told))
    found = channels(tmp_path)
    assert len(found.rows) == 0
    assert found.notes == {}
    assert [reason.code for reason in found.reasons] == [ReasonCode.CLOCK_BOUND]
    assert found.note is not None
    assert found.note.clock_bound_s is None


def test_a_run_without_a_meter_has_nothing_of_one(tmp_path: Path) -> None:
    found = channels(tmp_path)
    assert (len(found.rows), found.notes, found.note, found.reasons) == (0, {}, None, ())
    assert tuple(found.rows.columns) == COLUMNS


def test_a_recording_that_is_damaged_costs_the_channel_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device
) -> None:
    spec, _, _ = instrument(monkeypatch, "joulescope", lambda _: 2.0)
    with recording("bench", spec, device, tmp_path):
        time.sleep(0.1)
    for name in ("meter.parquet", "meter.json"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:100])
        found = channels(tmp_path)
        assert (len(found.rows), found.notes) == (0, {})
        (reason,) = found.reasons
        assert f"{name} cannot be read" in reason.detail
        assert "\n" not in reason.detail


def a_recording(folder: Path, own_s: Any, power_w: Any = 5.0, **told: Any) -> None:
    """What a command's recording leaves, a line every 20 ms on this computer's clock."""
    own_s = np.asarray(own_s, dtype=np.float64)
    with kept.Writer(folder) as out:
        for number, moment in enumerate(own_s.tolist()):
            out.write(Block(number, 1000.0, np.array([power_w]), 10**9 + number * 20_000_000, own_s=np.array([moment])))
    trips = tuple(RoundTrip(sent_ns=at, device_ns=at + 50, received_ns=at + 100) for at in (0, 10**9))
    whole: dict[str, Any] = {
        "name": "bench",
        "type": "command",
        "serial": None,
        "boundary": "wall",
        "about": {},
        "rate_hz": 1000.0,
        "kept_hz": 1000.0,
        "clock": "own",
        "latency_s": 0.02,
        "response": Response(gain_error=0.01),
        "host_boot_id": "",
        "before": trips[:1],
        "after": (),
        "lost": 0,
        **told,
    }
    kept.save(folder, kept.MeterFile(**whole))
    kept.settle(folder)


@pytest.mark.parametrize(("scale", "share"), [(1000.0, "1e+03"), (1e-3, "0.001"), (1.2, "1.2")])
def test_stamps_of_another_unit_leave_no_channel_and_a_question(tmp_path: Path, scale: float, share: str) -> None:
    a_recording(tmp_path, np.arange(400) * 0.02 * scale)
    found = channels(tmp_path)
    assert (len(found.rows), found.notes) == (0, {})
    (reason,) = found.reasons
    assert reason.code == ReasonCode.CLOCK_BOUND
    words = f"its stamps run at {share} of this computer's clock: are they seconds, or ns?"
    assert reason.detail == f"meter 'bench': {words}"
    assert found.note is not None


def test_stamps_that_are_seconds_are_taken(tmp_path: Path) -> None:
    a_recording(tmp_path, 1_790_000_000 + np.arange(400) * 0.0201)
    found = channels(tmp_path)
    assert (found.reasons, len(found.rows)) == ((), 400)


def changed(folder: Path, name: str, values: list[Any], kind: pa.DataType) -> None:
    table = pq.read_table(folder / kept.PARQUET)
    at = table.schema.get_field_index(name)
    pq.write_table(table.set_column(at, name, pa.array(values, kind)), folder / kept.PARQUET)


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("host_ns", [None, *range(9)], pa.int64()),
        ("index", [None, *range(9)], pa.int64()),
        ("power_w", [None] * 10, pa.float64()),
        ("index", ["x"] * 10, pa.string()),
        ("power_w", ["2.5"] * 10, pa.string()),
        ("own_s", [float("inf")] * 10, pa.float64()),
        ("own_s", [1e300] * 9 + [0.0], pa.float64()),
        ("own_s", list(range(10, 0, -1)), pa.float64()),
    ],
)
def test_a_recording_of_odd_values_costs_the_channel_and_says_so(
    tmp_path: Path, name: str, values: list[Any], kind: pa.DataType
) -> None:
    a_recording(tmp_path, np.arange(10) * 0.02)
    assert len(channels(tmp_path).rows) == 10
    changed(tmp_path, name, values, kind)
    found = channels(tmp_path)
    assert (len(found.rows), found.notes) == (0, {})
    (reason,) = found.reasons
    assert (reason.code, "meter.parquet cannot be read: " in reason.detail) == (ReasonCode.SENSOR_GAP, True)
    assert "\n" not in reason.detail


@pytest.mark.parametrize("key", ["rate_hz", "kept_hz"])
def test_a_recording_without_a_rate_costs_the_channel_and_says_so(tmp_path: Path, key: str) -> None:
    a_recording(tmp_path, np.arange(10) * 0.02)
    told = json.loads((tmp_path / kept.JSON).read_text())
    (tmp_path / kept.JSON).write_text(json.dumps({**told, key: 0.0}))
    found = channels(tmp_path)
    assert (len(found.rows), found.notes) == (0, {})
    (reason,) = found.reasons
    assert "meter.json cannot be read" in reason.detail


def test_a_meters_refresh_is_not_said_to_be_a_data_sheets(tmp_path: Path) -> None:
    """melt counted it; nobody has promised it."""
    a_recording(tmp_path, np.arange(400) * 0.02)
    found = channels(tmp_path)
    chosen = total(by_channel(found.rows, found.notes), EnergyBasis())
    assert not isinstance(chosen, str)
    assert "refresh 0.02 s, lag not calibrated" in chosen.about
    assert chosen.curves[0].response.gain_error == 0.01


def test_what_a_meter_raises_of_the_system_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device
) -> None:
    def fails(_: object) -> None:
        raise OSError(29, "Illegal seek")

    (tmp_path / "m.csv").write_text("P\n1\n")
    monkeypatch.setattr(CsvMeter, "start", fails)
    with (
        pytest.raises(DeviceError, match=r"^meter 'bench' cannot be used: Illegal seek$"),
        recording("bench", csv_at(tmp_path / "m.csv"), device, tmp_path / "meter"),
    ):
        pass
    assert not (tmp_path / "meter").exists()


def test_a_long_recording_comes_into_the_trace_as_longer_means(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device
) -> None:
    power, _ = ramp()
    spec, _, _ = instrument(monkeypatch, "monsoon", power)
    with recording("bench", spec, device, tmp_path):
        time.sleep(0.8)
    whole = channels(tmp_path)
    monkeypatch.setattr(mapped, "MOST_ROWS", 100)
    short = channels(tmp_path)
    assert len(whole.rows) > 400
    assert 20 <= len(short.rows) <= 210
    assert short.notes["meter.bench"].period_s > whole.notes["meter.bench"].period_s
    assert short.note is not None
    assert short.note.kept_hz == pytest.approx(1 / short.notes["meter.bench"].period_s)
    assert short.rows["value"].mean() == pytest.approx(whole.rows["value"].mean(), rel=0.02)


def test_pulses_of_the_device_check_the_mapping(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: Device
) -> None:
    """The real agent draws them; the simulated instrument sees what it notes."""

    def power(_: float) -> float:
        for path in Path(device.root).glob("pulses-*"):
            try:
                lines = path.read_text().splitlines()
            except OSError:
                continue
            if lines and "step.begin" in lines[-1]:
                return 3.0
        return 1.0

    spec, _, _ = instrument(monkeypatch, "joulescope", power)
    with recording("bench", spec.model_copy(update={"pulses": True}), device, tmp_path):
        pass
    found = channels(tmp_path)
    assert found.note is not None
    assert found.note.pulse_lag_s is not None, found.note.about
    assert abs(found.note.pulse_lag_s) < 0.05
    assert not list(Path(device.root).glob("pulses-*"))


# --------------------------------------------------------------------------------- this computer is killed


def test_what_a_killed_melt_recorded_is_kept_and_mapped(tmp_path: Path, device: Device) -> None:
    script = textwrap.dedent(
        f"""
        import sys, time
        from pathlib import Path
        from melt.device import open_device
        from melt.files import LabDevice, load_profile
        from melt.files.instruments import MeterSpec
        from melt.meters import recording
        spec = LabDevice(profile="linux", address="local:", workdir={str(tmp_path / "w")!r})
        program = "import time\\nwhile True: print(time.monotonic_ns(), 2.5, flush=True); time.sleep(0.005)"
        meter = MeterSpec(type="command", boundary="wall", argv=(sys.executable, "-c", program), gain_error=0.01)
        with open_device("here", spec, load_profile("linux")) as device:
            with recording("bench", meter, device, Path({str(tmp_path / "meter")!r})):
                time.sleep(0.5)
                print("recording", flush=True)
                time.sleep(600)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "recording\n"
        child.send_signal(signal.SIGKILL)
    recover(tmp_path / "meter", device)
    recover(tmp_path / "meter", device)
    found = channels(tmp_path / "meter")
    assert len(found.rows) > 20
    assert set(found.rows["value"]) == {2.5}
    assert found.notes["meter.bench"].clock_bound_s < 0.1
    (reason,) = found.reasons
    assert "ended during the run" in reason.detail


def test_a_stream_that_was_cut_anywhere_gives_every_whole_batch(tmp_path: Path) -> None:
    with kept.Writer(tmp_path) as out:
        sizes = []
        for number in range(20):
            out.write(Block(10 * number, 100.0, np.full(10, 1.0 * number), number))
            out.flush()
            sizes.append((tmp_path / kept.STREAM).stat().st_size)
    data = (tmp_path / kept.STREAM).read_bytes()
    for cut in [0, 1, 100, *range(sizes[3], sizes[4], 7), sizes[-1], len(data)]:
        (tmp_path / kept.STREAM).write_bytes(data[:cut])
        kept.settle(tmp_path)
        whole = sum(size <= cut for size in sizes)
        assert kept.rows_in(tmp_path) == 10 * whole, cut
        blocks = list(kept.blocks_in(tmp_path, 100.0))
        assert [len(block) for block, _ in blocks] == ([10 * whole] if whole else [])
        assert all(block.current_a is None for block, _ in blocks)
        assert [host_ns.tolist() for _, host_ns in blocks] == [[n for n in range(whole) for _ in range(10)]][
            : len(blocks)
        ]
        assert not (tmp_path / kept.STREAM).exists()
