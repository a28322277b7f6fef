"""A suite's nights as melt would have left them: session.json and run.json of each run, and no raw data.

Every value is the cell's level × what the test says × a little noise from the seed; each night is 24 h after the last.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

FIRST = dt.datetime(2026, 10, 1, 3, tzinfo=dt.UTC)
LEVELS = {"latency_p50_s": 0.0101, "load_s": 0.18, "peak_memory_bytes": 6.2e7}
HARD: Mapping[str, Any] = {
    "engine": "onnxruntime",
    "engine_version": "1.31.0",
    "machine": "aarch64",
    "profile": "raspberry-pi-5",
    "threads": 2,
    "simulated": False,
    "metric_version": 2,
    "energy_total": None,
}
SOFT: Mapping[str, Any] = {"melt": "0.1.0", "kernel": "6.6.51", "soc": "Raspberry Pi 5 Model B Rev 1.0"}


@dataclass
class Nights:
    """A suite's folder that grows by a session at a time. `begin` is when the next night is, by the true time."""

    suite: Path
    devices: tuple[str, ...] = ("pi5",)
    cells: tuple[str, ...] = ("net",)
    blocks: int = 5
    canary: tuple[str, ...] = ()
    seed: int = 7
    day: float = 0.003
    spread: float = 0.005
    begin: dt.datetime = FIRST
    boots: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def night(self, **about: Any) -> str:
        """The next night's session; gives its name."""
        name = self.session(self.begin, **about)
        self.begin += dt.timedelta(days=1)
        return name

    def nights(self, count: int, **about: Any) -> list[str]:
        return [self.night(**about) for _ in range(count)]

    def rerun(self, hours: float = 2.0, **about: Any) -> str:
        """Another session in the night that was last."""
        return self.session(self.begin - dt.timedelta(days=1) + dt.timedelta(hours=hours), **about)

    def session(
        self,
        at: dt.datetime,
        *,
        factor: float | Callable[[str, str, str], float] = 1.0,
        devices: Sequence[str] | None = None,
        planned: Sequence[str] | None = None,
        clock_off: dt.timedelta = dt.timedelta(),
        later: dt.timedelta = dt.timedelta(),
        hard: Mapping[str, Any] = HARD,
        soft: Mapping[str, Any] = SOFT,
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> str:
        """A session begun `at`, of `devices`; `planned` are the devices of its plan.

        `factor` is on the values, or gives one for a device, a cell and a metric. The host's clock is off by
        `clock_off`; the second half of the blocks is run `later`. `change` may do anything to a record.
        """
        told = at + clock_off
        name = f"{told:%Y%m%dT%H%M%SZ}"
        here = tuple(self.devices if devices is None else devices)
        random = np.random.default_rng([self.seed, int(at.timestamp())])
        noise = {device: float(np.exp(random.normal(0, self.day))) for device in self.devices}
        plan = self._plan(name, planned if planned is not None else here)
        folder = self.suite / name
        folder.mkdir(parents=True)
        (folder / "session.json").write_text(json.dumps(plan))
        for number, slot in enumerate(plan["order"]):
            if slot["device"] not in here:
                continue
            moment = at + dt.timedelta(minutes=number) + (later if slot["block"] * 2 >= self.blocks else dt.timedelta())
            device, cell = slot["device"], slot["cell"]
            levels = {
                metric: level
                * noise[device]
                * float(np.exp(random.normal(0, self.spread)))
                * (factor(device, cell, metric) if callable(factor) else factor)
                for metric, level in LEVELS.items()
            }
            record = self._record(plan, slot, moment, moment + clock_off, levels, hard, soft)
            if change is not None:
                change(record)
            run = folder / record["run_id"]
            run.mkdir()
            (run / "run.json").write_text(json.dumps(record))
        return name

    def reboot(self, device: str = "pi5") -> None:
        self.boots[device] += 1

    def _plan(self, name: str, devices: Sequence[str]) -> dict[str, Any]:
        slots = [(d, b, c) for d in devices for b in range(self.blocks) for c in self.cells]
        resolved = {"protocol.runs": {"value": self.blocks, "from": "command line"}}
        return {
            "schema": 1,
            "session": name,
            "suite": {"name": self.suite.name, "sha256": "5e" * 32},
            "melt": "0.1.0",
            "cells": [
                {"id": c, "workload": c.partition("[")[0], "device": d, "resolved": resolved}
                for d in devices
                for c in self.cells
            ],
            "order": [{"device": d, "block": b, "cell": c} for d, b, c in slots],
            "sources": {f"{self.suite.name}.yaml": "schema: 1\n"},
            "canary": list(self.canary),
        }

    def _record(
        self,
        plan: Mapping[str, Any],
        slot: Mapping[str, Any],
        at: dt.datetime,
        told: dt.datetime,
        levels: Mapping[str, float],
        hard: Mapping[str, Any],
        soft: Mapping[str, Any],
    ) -> dict[str, Any]:
        workload, device = slot["cell"].partition("[")[0], slot["device"]
        number = sum(map(ord, f"{device}{slot['cell']}")) * 100 + slot["block"]
        return {
            "schema": 1,
            "metric_version": 2,
            "melt": "0.1.0",
            "run_id": f"{told:%Y%m%dT%H%M%SZ}-{number:08x}",
            "session": plan["session"],
            "suite": plan["suite"],
            "workload": workload,
            "profile": "raspberry-pi-5",
            "profile_verified": True,
            "simulated": False,
            "synthetic_model": True,
            "started_utc": f"{told:%Y-%m-%dT%H:%M:%S}Z",
            **slot,
            "resolved": {},
            "fingerprint": {"hard": {**HARD, "workload": workload, **hard}, "soft": {**SOFT, **soft}},
            "facts": {},
            "boot_id": f"{device}-{self.boots[device]}",
            # as if every start of a device had been on the first night
            "clock": {"suspend_s": 0.0, "boottime_s": (at - FIRST).total_seconds() + 100},
            "status": "ok",
            "verdict": "valid",
            "reasons": [],
            "metrics": {metric: {"value": value} for metric, value in levels.items()},
            "engine": {},
            "sensors": {},
            "harness": {},
            "undo": {"complete": True},
            "files": {},
        }


def spoilt(record: dict[str, Any]) -> None:
    """The run was throttled: it does not count."""
    record["verdict"] = "invalid"
    record["reasons"] = [{"code": "throttled", "detail": "the cap fell"}]


def skipped(record: dict[str, Any]) -> None:
    """The run did not take place."""
    record |= {"status": "skipped", "verdict": "invalid", "metrics": {}}
    record["reasons"] = [{"code": "precheck", "detail": "zone.cpu stayed at 61 °C"}]
