"""Whose idle power is taken off whose energy."""

from __future__ import annotations

from typing import Any

import pytest
from store_example import run_record

from melt.lab.idle import IdleOfBlocks
from melt.records import EnergyBasis, IdlePower, Reason, ReasonCode, RunRecord

IDLE = IdlePower(power_w=2.0, error_w=0.1, length_s=60.0, run_id="20260131T120000Z-00000001", channels=("board",))


def run(block: int = 0, *codes: ReasonCode, **changes: Any) -> RunRecord:
    reasons = tuple(Reason(code=code, detail="so it is") for code in codes)
    return run_record(IDLE.run_id, block, **{"energy": EnergyBasis(idle=IDLE), "reasons": reasons, **changes})


def noted(*records: RunRecord) -> IdleOfBlocks:
    idle = IdleOfBlocks("local")
    for record in records:
        idle.note(record)
    return idle


def test_it_serves_its_own_block_and_no_other() -> None:
    idle = noted(run(1))
    assert idle.of(1) == IDLE
    assert idle.of(0) is None
    assert not idle.is_open(1)
    assert idle.is_open(0)


@pytest.mark.parametrize("code", [ReasonCode.PIN, ReasonCode.CHARGER, ReasonCode.SUSPENDED, ReasonCode.UNDER_VOLTAGE])
def test_that_of_a_run_in_another_state_serves_nobody(code: ReasonCode) -> None:
    idle = noted(run(0, code))
    assert idle.of(0) is None
    assert not idle.is_open(0)


def test_that_of_a_run_which_other_programs_disturbed_still_serves() -> None:
    assert noted(run(0, ReasonCode.FOREIGN_LOAD)).of(0) == IDLE


def test_a_run_that_was_skipped_leaves_the_window_to_the_next() -> None:
    idle = noted(run(0, ReasonCode.PRECHECK, status="skipped", verdict="invalid", energy=EnergyBasis()))
    assert idle.is_open(0)


def test_one_that_was_taken_over_is_not_measured_again() -> None:
    later = run_record("20260131T120500Z-00000002", 0, energy=EnergyBasis(idle=IDLE))
    assert noted(later).of(0) is None


def test_another_devices_runs_say_nothing() -> None:
    idle = noted(run(0, device="other"))
    assert idle.of(0) is None
    assert idle.is_open(0)
