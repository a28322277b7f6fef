"""What every meter promises, tried on each: the real library where there is one, a simulated instrument below it."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from simulated import InaBus, JoulescopeDriver, MonsoonUsb, Ppk2Port

from melt.errors import DeviceError
from melt.files.instruments import MeterSpec
from melt.meters import Block, Instrument, Meter, meter_of
from melt.meters.base import library
from melt.meters.mapped import end_s
from melt.transport import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WATTS = 1.2
LIMIT_S = 30.0


@dataclass
class Bench:
    """A meter of a type, and what is below it."""

    meter: Meter
    below: Any
    cut: Callable[[], None]
    """Pulls its cable."""
    loses: bool = True
    """Whether the simulated instrument loses samples."""
    blocks: list[Block] = field(default_factory=list)

    def began(self) -> Instrument:
        said = self.meter.open()
        self.meter.start()
        return said

    def read_for(self, samples: int) -> list[Block]:
        """Blocks until there are so many samples."""
        end, got = Deadline.after(LIMIT_S), 0
        while got < samples:
            assert end.left_s, f"only {got} samples came"
            for block in self.meter.read(Deadline.after(0.25)):
                self.blocks.append(block)
                got += len(block)
        return self.blocks


def spec(**parts: Any) -> MeterSpec:
    own = {"gain_error": 0.01} if parts.get("type") in ("csv", "command") else {}
    return MeterSpec(boundary="battery", **own, **parts)


def every_ninth(number: int) -> bool:
    return number % 9 == 8


@contextlib.contextmanager
def monsoon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    usb = pytest.importorskip("usb.core", reason="the Monsoon is NOT tested: pip install 'melt[monsoon]'")
    library("Monsoon.HVPM", "monsoon")
    device = MonsoonUsb(lambda _: WATTS, lambda n: n > 10 and every_ninth(n))
    monkeypatch.setattr(usb, "find", lambda custom_match: device if custom_match(device) else None)
    yield Bench(meter_of(spec(type="monsoon")), device, lambda: setattr(device, "gone", True))


@contextlib.contextmanager
def ppk2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    pytest.importorskip("ppk2_api.ppk2_api", reason="the PPK2 is NOT tested: pip install 'melt[ppk2]'")
    port = Ppk2Port(lambda _: WATTS, lambda n: 5000 <= n % 20_000 < 5011)
    try:
        yield Bench(meter_of(spec(type="ppk2", port=port.port, voltage_v=port.VOLTS)), port, port.close)
    finally:
        with contextlib.suppress(OSError):
            port.close()


@contextlib.contextmanager
def ina(chip: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    smbus2 = pytest.importorskip("smbus2", reason=f"the {chip} is NOT tested: pip install 'melt[ina]'")
    bus = InaBus(chip, lambda _: WATTS)
    monkeypatch.setattr(smbus2, "SMBus", bus)
    made = spec(type="ina2xx", chip=chip, shunt_ohm=bus.SHUNT_OHM, max_current_a=bus.MAX_A, rate_hz=200.0)
    yield Bench(meter_of(made), bus, lambda: setattr(bus, "fails", True), loses=False)


@contextlib.contextmanager
def joulescope(model: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    module = pytest.importorskip(
        "pyjoulescope_driver", reason="the Joulescope is NOT tested: pip install 'melt[joulescope]'"
    )
    driver = JoulescopeDriver(lambda _: WATTS, (f"u/{model}/000415",), every_ninth)
    monkeypatch.setattr(module, "Driver", driver)
    yield Bench(meter_of(spec(type="joulescope", rate_hz=500.0)), driver, driver._over.set)


@contextlib.contextmanager
def csv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    path, over = tmp_path / "log.csv", threading.Event()
    path.write_text("time;state;P (mW)\n0,000;on;99999\n0,001;on;999")

    def work() -> None:
        began_s, number = time.monotonic(), 1
        with path.open("a") as out:
            out.write("99\n")
            while not over.wait(0.005):
                text = "garbage" if every_ninth(number) else f"{1000 * WATTS:.1f}".replace(".", ",")
                out.write(f"{time.monotonic() - began_s:.6f};on;{text}\n".replace(".", ","))
                out.flush()
                number += 1

    thread = threading.Thread(target=work, daemon=True)
    meter = meter_of(spec(type="csv", path=str(path), column="P (mW)", time_column="time", unit="mw"))
    begun = meter.start

    def start() -> None:
        begun()
        thread.start()

    monkeypatch.setattr(meter, "start", start)

    def cut() -> None:
        over.set()
        thread.join()
        path.unlink()

    try:
        yield Bench(meter, path, cut)
    finally:
        over.set()


@contextlib.contextmanager
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    script = (
        "import sys, time\n"
        "for i in range(10**9):\n"
        f"    print(time.monotonic_ns(), 'none' if i % 9 == 8 else {WATTS}, flush=True)\n"
        "    if len(sys.argv) > 1 and __import__('os').path.exists(sys.argv[1]): sys.exit('unplugged')\n"
        "    time.sleep(0.005)\n"
    )
    sign = tmp_path / "cut"
    yield Bench(meter_of(spec(type="command", argv=[sys.executable, "-c", script, str(sign)])), None, sign.touch)


MADE: dict[str, Callable[[pytest.MonkeyPatch, Path], Any]] = {
    "monsoon": monsoon,
    "ppk2": ppk2,
    "ina219": lambda patch, _: ina("ina219", patch),
    "ina226": lambda patch, _: ina("ina226", patch),
    "ina228": lambda patch, _: ina("ina228", patch),
    "js110": lambda patch, _: joulescope("js110", patch),
    "js220": lambda patch, _: joulescope("js220", patch),
    "csv": csv,
    "command": command,
}


@pytest.fixture(params=MADE)
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bench]:
    with MADE[request.param](monkeypatch, tmp_path) as made:
        yield made
        made.meter.close()


def test_the_power_that_flows_is_the_power_that_is_told(bench: Bench) -> None:
    bench.began()
    power = np.concatenate([block.power_w for block in bench.read_for(100)])
    assert power.mean() == pytest.approx(WATTS, rel=0.01)
    assert np.median(power) == pytest.approx(WATTS, rel=0.05)  # an INA228's energy grows in steps
    three = [(b.power_w, b.current_a, b.voltage_v) for b in bench.blocks if b.voltage_v is not None]
    if three and bench.blocks[0].current_a is not None:
        watts, amps, volts = (np.concatenate(column) for column in zip(*three, strict=True))
        assert (amps * volts).mean() == pytest.approx(watts.mean(), rel=0.02)


def test_samples_are_numbered_and_stamped_in_order_and_what_was_lost_is_a_gap(bench: Bench) -> None:
    said = bench.began()
    blocks = bench.read_for(6000 if said.rate_hz > 50_000 else 100)
    index = np.concatenate([block.index for block in blocks])
    assert np.all(np.diff(index) > 0)
    assert bool(np.any(np.diff(index) > 1)) or not bench.loses
    own = np.concatenate([end_s(block) for block in blocks])
    assert np.all(np.diff(own) > 0)
    arrived = np.array([block.host_ns for block in blocks])
    assert np.all(np.diff(arrived) >= 0)
    assert time.monotonic_ns() >= arrived[-1]


def test_a_second_of_its_clock_is_a_second_here(bench: Bench) -> None:
    bench.began()
    bench.read_for(20)
    first = bench.blocks[-1]
    end = Deadline.after(LIMIT_S)
    while bench.blocks[-1].host_ns < first.host_ns + 400_000_000:
        assert end.left_s
        bench.read_for(1)
    last = bench.blocks[-1]
    own_s = float(end_s(last)[-1] - end_s(first)[-1])
    assert own_s == pytest.approx((last.host_ns - first.host_ns) * 1e-9, abs=0.25)


def test_it_says_what_it_is_and_how_far_it_may_be_off(bench: Bench) -> None:
    said = bench.meter.open()
    assert said.type
    assert said.rate_hz > 0
    assert said.clock in ("host", "own")
    assert 0 <= said.latency_s < 0.1
    assert all(isinstance(value, str) for value in said.about.values())


def test_reading_ends_at_its_deadline(bench: Bench) -> None:
    bench.began()
    begun_s = time.monotonic()
    bench.meter.read(Deadline.after(0.05))
    assert time.monotonic() - begun_s < LIMIT_S / 2
    assert bench.meter.read(Deadline.after(0)) is not None


def test_a_meter_that_is_pulled_out_is_an_error_or_silence_and_can_be_let_go(bench: Bench) -> None:
    bench.began()
    bench.read_for(5)
    bench.cut()
    end = Deadline.after(LIMIT_S)
    quiet = 0
    with contextlib.suppress(DeviceError):
        while quiet < 3:
            assert end.left_s, "it goes on giving values"
            quiet = 0 if bench.meter.read(Deadline.after(0.1)) else quiet + 1
    bench.meter.close()
    bench.meter.close()


def test_it_is_stopped_closed_and_closed_again(bench: Bench) -> None:
    bench.began()
    bench.read_for(1)
    bench.meter.stop()
    bench.meter.close()
    bench.meter.close()
