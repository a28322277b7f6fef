"""One virtual board in real time: `python -m melt.virtual.board FOLDER`, until its stdin ends.

FOLDER holds `board.json` (a `BoardFile`). The board makes `sysroot/`, `bin/` and `kept/` there, starts the real server
through which melt reaches it, and writes `ready` once that answers. From then on it looks, 25 times a second, at how
many cores the jobs of the board's work folder keep busy, goes on by that much, and rewrites the files. What is true is
in `truth.csv`: the monotonic clock in ns, and the joules since the start, in all and by rail.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np

from melt.errors import DeviceError, Interrupted, MeltError
from melt.records import Strict
from melt.virtual import adbd, process, sshd
from melt.virtual.answers import Android, Firmware, Jetson
from melt.virtual.kinds import KINDS, Kind
from melt.virtual.leaves import Leaves
from melt.virtual.physics import Board, State
from melt.virtual.rails import Gauge, Ina3221, Odpm, Pmic
from melt.virtual.scenario import Scenario, Span
from melt.virtual.stubs import write_stubs
from melt.virtual.tree import Gpu, Processors, View, Zones
from melt.virtual.usage import Usage

STEP_S = 0.04
SLOW_S = 0.2
"""How often what changes slowly is written: temperatures, and most of what stubs print."""
_START_S = 20.0
_WORKING_CORES = 0.3
"""So busy that it can be only an engine, and not the agent."""
_FLUSH_S = 1.0
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


class BoardFile(Strict):
    """What a board process is to be."""

    kind: str
    port: int
    scenario: Scenario = Scenario()


class Truth:
    """The energies of the last seconds, so that a sensor can be late and can average."""

    def __init__(self, keep_s: float) -> None:
        self._states: deque[State] = deque(maxlen=max(8, round(2 * keep_s / STEP_S)))

    def add(self, state: State) -> None:
        self._states.append(state)

    def columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Times (n,) and energies (n, rails)."""
        return np.array([s.time_s for s in self._states]), np.array([s.rails_j for s in self._states])


class Sensors:
    """What each sensor of power shows; a value is made anew when it is due, and only then."""

    def __init__(self, kind: Kind, scenario: Scenario) -> None:
        names = [rail.name for rail in kind.rails]
        self._of = {
            name: (
                sensed.model.__class__(**{**vars(sensed.model), **scenario.sensors.get(name, {})}),
                [names.index(rail) for rail in sensed.rails],
            )
            for name, sensed in kind.sensed.items()
        }
        self._number: dict[str, int] = {}
        self.shown = {
            name: 0.0 if model.counts else sum(kind.rails[rail].idle_w for rail in rails)
            for name, (model, rails) in self._of.items()
        }
        self._truth = Truth(max((m.refresh_s + m.lag_s for m, _ in self._of.values()), default=1.0) + 1.0)

    def update(self, state: State) -> frozenset[str]:
        """Those that show a new value from now on."""
        self._truth.add(state)
        due = []
        for name, (model, _) in self._of.items():
            number = int((state.time_s - model.phase_s) / model.refresh_s + 1e-9)
            if number != self._number.get(name):
                self._number[name] = number
                due.append(name)
        if not due or state.time_s < 2 * STEP_S:
            return frozenset()
        times, energies = self._truth.columns()
        for name in due:
            model, rails = self._of[name]
            self.shown[name] = float(model.sample(state.time_s, times, energies[:, rails].sum(axis=1)))
        return frozenset(due)


class Running:
    """A board with its files, from its start to its end.

    `jobs` is where this computer sees the folders of its jobs, when that is not below `folder`: a board whose programs
    run in a file system of their own.
    """

    def __init__(self, folder: Path, told: BoardFile, jobs: Path | None = None) -> None:
        self.kind, self.scenario = KINDS[told.kind], told.scenario
        for name in ("sysroot", "kept", "bin"):
            shutil.rmtree(folder / name, ignore_errors=True)
        self.leaves, self.answers = Leaves(folder / "sysroot"), Leaves(folder / "kept")
        write_stubs(self.kind, folder / "bin", folder / "kept")
        cpus = sorted(os.sched_getaffinity(0))
        self.board = Board(
            self.kind.model(len(cpus), self.scenario.ambient_c),
            self.scenario.seed,
            level=self.scenario.level,
            settled_w=self.kind.idle_w,
        )
        self.processors = Processors(self.leaves, self.kind, cpus)
        self._zones = Zones(self.leaves, self.kind)
        Gpu(self.leaves, self.kind)
        self.leaves.put("/proc/device-tree/model", self.kind.title)
        self._sensors = Sensors(self.kind, self.scenario)
        self._usage = Usage(str(jobs or folder / "work" / "melt" / "jobs"))
        self._ina = Ina3221(self.leaves, self.kind, self.scenario) if self.kind.name == "jetson" else None
        self._odpm = Odpm(self.leaves, self.kind) if self.kind.name == "phone" else None
        self._gauge = Gauge(self.leaves, self.kind, self.scenario) if self.kind.battery else None
        self._pmic = Pmic(self.answers, self.kind) if self.kind.name == "pi" else None
        self._android = Android(self.answers, self.kind) if self.kind.name == "phone" else None
        self._jetson = Jetson(self.answers) if self.kind.name == "jetson" else None
        self._firmware = Firmware(self.answers) if self.kind.name.startswith("pi") else None
        self._engine_s: float | None = None
        self._slow_s = 0.0
        self._broken: set[str] = set()

    def step(self, dt_s: float) -> State:
        """Goes on by `dt_s` of real time."""
        now_s = self.board.state.time_s + dt_s
        busy = self._usage.spent_ns(now_s) / (dt_s * 1e9) + self.scenario.background_cores
        if self._engine_s is None and busy >= _WORKING_CORES:
            self._engine_s = now_s
        self.board.charger = self._holds(self.scenario.charger, now_s)
        weak = self._holds(self.scenario.under_voltage, now_s)
        most = len(self.kind.throttle.trips)
        self.board.held_back = min(2, most) if weak or self._holds(self.scenario.throttled, now_s) else 0
        state = self.board.step(dt_s, busy)
        fresh = self._sensors.update(state)
        self._break(now_s)
        view = View(state, busy, self._sensors.shown, fresh, under_voltage=weak)
        cap = self.board.model.throttle.cap(state.throttle)
        self.board.allowed = self.processors.update(view, cap)
        if self._ina is not None:
            self._ina.update(view)
        if self._odpm is not None:
            self._odpm.update(view)
        if self._gauge is not None:
            self._gauge.update(view)
        if self._pmic is not None:
            self._pmic.update(view)
        if now_s >= self._slow_s:
            self._slow_s = now_s + SLOW_S
            self._slowly(view)
        return state

    def _slowly(self, view: View) -> None:
        self._zones.update(view)
        if self._android is not None:
            self._android.update(view)
        if self._jetson is not None:
            self._jetson.update(self.processors)
        if self._firmware is not None:
            self._firmware.update(view, self.processors)

    def _holds(self, spans: tuple[Span, ...], now_s: float) -> bool:
        return any(span.holds(now_s, self._engine_s) for span in spans)

    def _break(self, now_s: float) -> None:
        """Lets the scenario's files fail, and mends those whose time is over."""
        wanted = {
            path: fault.trouble
            for fault in self.scenario.faults
            if fault.holds(now_s, self._engine_s)
            for path in self.leaves.matching(fault.path)
        }
        for path in self._broken - wanted.keys():
            self.leaves.mend(path)
        for path, trouble in wanted.items():
            self.leaves.break_(path, trouble)
        self._broken = set(wanted)


def serve(folder: Path, told: BoardFile) -> process.Program:
    """Starts the real server of a board, and waits until it answers. Raises DeviceError."""
    kind, path = KINDS[told.kind], f"{folder / 'bin'}:{_PATH}"
    place, home = folder / "server", folder / "home"
    for needed in (place, home):
        needed.mkdir(exist_ok=True)
    log = place / "log"
    log.write_bytes(b"")
    if kind.link == "adb":
        environment = adbd.daemon_environment(home, told.port, path)
        server = process.start(adbd.daemon_argv(place), cwd=home, log=log, env=environment)
    else:
        environment = {"PATH": path, "HOME": str(home)}
        server = process.start(sshd.server_argv(place, told.port, environment), cwd=home, log=log)
    end = time.monotonic() + _START_S
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", told.port), timeout=1):
            return server
        time.sleep(0.02)
    process.end(server)
    said = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise DeviceError(f"its server did not start: {' '.join(said) or 'it says nothing'}")


def live(folder: Path, running: Running) -> None:
    """Steps in real time until stdin ends; only then does it return."""
    names = ",".join(f"{rail.name}_j" for rail in running.kind.rails)
    with (folder / "truth.csv").open("w", encoding="ascii") as truth:
        truth.write(f"t_ns,total_j,{names}\n")
        before_ns = time.monotonic_ns()
        due_s, flush_s = before_ns / 1e9, 0.0
        while True:
            due_s = max(due_s + STEP_S, time.monotonic())
            if select.select([sys.stdin], [], [], max(0.0, due_s - time.monotonic()))[0] and not os.read(0, 1024):
                return
            now_ns = time.monotonic_ns()
            state = running.step((now_ns - before_ns) / 1e9)
            before_ns = now_ns
            truth.write(f"{now_ns},{state.total_j:.6f},{','.join(f'{j:.6f}' for j in state.rails_j)}\n")
            if state.time_s >= flush_s:
                flush_s = state.time_s + _FLUSH_S
                truth.flush()


def main(folder: Path) -> None:
    """The whole life of a board process; `failed` says why it did not come to be."""
    signal.signal(signal.SIGTERM, _stop)
    server = None
    try:
        told = BoardFile.model_validate_json((folder / "board.json").read_bytes())
        process.end_all_below(folder)  # what a board that was killed has left
        running = Running(folder, told)
        for _ in range(2):  # every file is there, and those fail that do so from the start
            running.step(1e-3)
        server = serve(folder, told)
        (folder / "ready").touch()
        live(folder, running)
    except Interrupted:
        return
    except MeltError as error:
        (folder / "failed").write_text(str(error))
    finally:
        if server is not None:
            process.end(server)
        process.end_all_below(folder)


def _stop(*_: object) -> None:
    raise Interrupted("the board was asked to end")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
