"""A device that is not ready is not made hotter or emptier: its run is skipped with the reason, and stays open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pinned_board import one_run

from melt.records import Channel, Quantity, Sensor

if TYPE_CHECKING:
    from pathlib import Path

    from workspace import Workspace

pytestmark = pytest.mark.peer


def told(name: str, quantity: Quantity, path: Path, text: str) -> Sensor:
    path.write_text(text)
    return Sensor(name, (Channel(name, quantity, float),), 1.0, argv=("/bin/cat", str(path)))


@pytest.mark.parametrize(
    ("name", "quantity", "text", "why"),
    [
        ("battery.level", "level", "0.1", "the battery is at 10%, and no run starts under 30%"),
        ("zone.skin", "temperature", "99", "zone.skin is at 99.0 °C, wanted below 85 °C"),
        ("throttle.throttled", "throttle", "1", "throttle.throttled is 1: the device is slowed now"),
    ],
)
def test_a_run_that_may_not_start_is_skipped_with_the_reason(
    workspace: Workspace, tmp_path: Path, name: str, quantity: Quantity, text: str, why: str
) -> None:
    workspace.profile(battery={"floor": 0.3}, precheck={"max_wait_s": 0.0})
    stored = one_run(workspace, ["-c", "echo ran"], told(name, quantity, tmp_path / "said", text))
    assert (stored.record.status, stored.record.verdict) == ("skipped", "invalid")
    (reason,) = stored.record.reasons
    assert reason.code == "precheck"
    assert why in reason.detail
    assert workspace.jobs() == []


def test_the_same_device_made_ready_runs(workspace: Workspace, tmp_path: Path) -> None:
    workspace.profile(battery={"floor": 0.3})
    sensors = [
        told("battery.level", "level", tmp_path / "level", "0.9"),
        told("zone.skin", "temperature", tmp_path / "zone", "30"),
        told("throttle.throttled", "throttle", tmp_path / "bit", "0"),
    ]
    stored = one_run(workspace, ["-c", "echo ran"], *sensors)
    assert stored.record.status == "ok"
    assert (stored.path / "stdout.log").read_text() == "ran\n"
