"""A run whose pins did not hold is invalid; what could not be put back after it is no fault of its figures."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from raw_run import event, events_of, note, told, trace_of

from melt.analysis.events import Asked
from melt.analysis.verdict import judge, verdict
from melt.records import Reason, ReasonCode

Mode = Literal["burst", "sustained"]
CEILING = "/sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq"
STEADY = np.full(20, 0.02)


def reasons(ev: str, path: str, asked: str, got: str, mode: Mode = "burst", error: str = "") -> list[Reason]:
    events = events_of(STEADY)
    late = event(events[-1].t - 1, ev, path=path, asked=asked, got=got, ok=asked == got, error=error)
    trace = trace_of(events, {"cpu.busy_s": lambda t: t})
    found = judge(told([*events, late]), trace, {"cpu.busy_s": note("count")}, Asked(mode=mode))
    return [reason for reason in found if reason.code is ReasonCode.PIN]


@pytest.mark.parametrize("mode", ["burst", "sustained"])
@pytest.mark.parametrize("ev", ["agent.set", "agent.held"])
def test_a_value_that_did_not_hold_makes_the_run_invalid(ev: str, mode: Mode) -> None:
    (reason,) = reasons(ev, "power_mode", "0", "2", mode)
    assert "power_mode was to be held at '0'" in reason.detail
    assert reason.detail.endswith(": it is '2'")
    assert verdict("ok", [reason]) == "invalid"
    assert reasons(ev, "power_mode", "0", "0", mode) == []


def test_why_it_could_not_be_tried_is_in_the_reason() -> None:
    (reason,) = reasons("agent.set", "power_mode", "0", "", error="no root: nobody may")
    assert reason.detail == "power_mode was to be held at '0': no root: nobody may"


def test_what_could_not_be_put_back_is_no_reason() -> None:
    assert reasons("agent.restore", CEILING, "1800000", "900000") == []


@pytest.mark.parametrize(
    ("mode", "path", "got", "is_one"),
    [
        ("sustained", CEILING, "900000", False),
        ("burst", CEILING, "900000", True),
        ("sustained", CEILING, "2400000", True),
        ("sustained", CEILING.replace("max", "min"), "900000", True),
        ("sustained", CEILING, "", True),
    ],
)
def test_only_a_ceiling_that_heat_lowered_in_a_sustained_run_is_its_result(
    mode: Mode, path: str, got: str, is_one: bool
) -> None:
    assert bool(reasons("agent.held", path, "1800000", got, mode)) is is_one
    assert reasons("agent.set", path, "1800000", got, mode) != []
