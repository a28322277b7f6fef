"""The gate over the nights of a suite's folder: what it says of tonight, and of what is not there."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from nightly.made_nights import Nights, skipped, spoilt

from melt.errors import UsageError
from melt.nightly import Judged, NightResult, judge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SLOWER = 1.15


@pytest.fixture
def made(tmp_path: Path) -> Nights:
    return Nights(tmp_path / "results" / "nightly")


def slow(
    device: str = "pi5", cell: str = "net", metric: str = "latency_p50_s", by: float = SLOWER
) -> Callable[..., float]:
    """The factor of one series, 1 for any other."""
    return lambda *key: by if key == (device, cell, metric) else 1.0


def one(result: NightResult, metric: str = "latency_p50_s", device: str = "pi5", cell: str = "net") -> Judged:
    (found,) = [
        judged
        for judged in result.judged
        if (judged.series.device, judged.series.cell, judged.series.metric) == (device, cell, metric)
    ]
    return found


# ------------------------------------------------------------------------------------------------- a slow-down


def test_a_clean_history_passes(made: Nights) -> None:
    made.nights(15)
    result = judge(made.suite)
    assert (result.overall, result.exit_code(strict=True)) == ("pass", 0)
    assert {found.state for found in result.judged} == {"ok"}
    assert len(result.judged) == 3
    assert (result.warnings, result.missing, result.confirm) == ((), (), None)


def test_a_planted_slow_down_is_suspect_on_the_first_night_and_names_it(made: Nights) -> None:
    made.nights(14)
    tonight = made.night(factor=slow())
    result = judge(made.suite)
    assert (result.overall, result.exit_code(strict=True)) == ("suspect", 0)
    found = one(result)
    assert (found.state, found.direction, found.finding.since) == ("suspect", "worse", tonight)
    assert found.finding.change == pytest.approx(SLOWER - 1, abs=0.02)
    assert one(result, "load_s").state == "ok"
    assert result.confirm == "melt run nightly.yaml pi5 --lab lab.yaml --set protocol.runs=5"


def test_a_rerun_of_the_same_night_confirms_it_and_is_labelled_weaker(made: Nights) -> None:
    made.nights(14)
    tonight = made.night(factor=slow())
    again = made.rerun(factor=slow())
    result = judge(made.suite)
    assert (result.overall, result.exit_code(strict=False)) == ("fail", 1)
    found = one(result)
    assert (found.state, found.finding.since, found.confirmed_by) == ("confirmed", tonight, again)
    assert found.finding.weaker
    assert result.sessions == (tonight, again)


def test_a_rerun_after_a_reboot_confirms_it_in_full(made: Nights) -> None:
    made.nights(14)
    made.night(factor=slow())
    made.reboot()
    again = made.rerun(factor=slow())
    found = one(judge(made.suite))
    assert (found.state, found.confirmed_by, found.finding.weaker) == ("confirmed", again, False)


def test_a_rerun_that_does_not_see_it_leaves_it_suspect(made: Nights) -> None:
    made.nights(14)
    made.night(factor=slow())
    made.rerun()
    result = judge(made.suite)
    assert (one(result).state, result.exit_code(strict=False)) == ("suspect", 0)


def test_the_next_night_confirms_it_and_names_the_first(made: Nights) -> None:
    made.nights(14)
    first = made.night(factor=slow())
    second = made.night(factor=slow())
    result = judge(made.suite)
    assert (result.overall, result.exit_code(strict=False)) == ("fail", 1)
    found = one(result)
    assert (found.state, found.finding.since, found.confirmed_by) == ("confirmed", first, second)
    assert not found.finding.weaker
    assert [other.state for other in result.judged if other is not found] == ["ok", "ok"]


def test_the_steps_of_its_history_name_the_night(made: Nights) -> None:
    made.nights(14)
    first = made.night(factor=slow())
    made.nights(3, factor=slow())
    found = one(judge(made.suite))
    assert [step.night for step in found.steps] == [first]
    assert found.steps[0].change == pytest.approx(SLOWER - 1, abs=0.02)


def test_an_improvement_that_nobody_announced_fails_too_and_is_told_as_one(made: Nights) -> None:
    made.nights(14)
    made.nights(2, factor=slow(by=0.85))
    result = judge(made.suite)
    assert (result.overall, result.exit_code(strict=False)) == ("fail", 1)
    assert (one(result).state, one(result).direction) == ("confirmed", "better")


@pytest.mark.parametrize(
    ("before", "state", "overall"),
    [
        (0, "no_verdict", "no verdict yet"),
        (1, "no_verdict", "no verdict yet"),
        (4, "no_verdict", "no verdict yet"),
        (5, "provisional", "suspect"),
        (13, "provisional", "suspect"),
        (14, "suspect", "suspect"),
    ],
)
def test_how_much_is_said_depends_on_the_nights_before(made: Nights, before: int, state: str, overall: str) -> None:
    made.nights(before)
    made.night(factor=slow())
    result = judge(made.suite)
    assert one(result).state == state
    assert (result.overall, result.exit_code(strict=True)) == (overall, 0)
    assert any("no verdict yet" in warning for warning in result.warnings) == (before < 5)


def test_a_shorter_history_forgets_what_lies_before(made: Nights) -> None:
    made.nights(8, factor=slow())
    made.nights(14)
    made.nights(2, factor=slow())
    assert one(judge(made.suite)).state == "confirmed"
    assert one(judge(made.suite, history=5)).finding.nights == 5


# ------------------------------------------------------------------------------------------------ what is alike


def test_another_engine_version_begins_anew_unless_it_is_the_axis(made: Nights) -> None:
    made.nights(14)
    made.nights(2, factor=slow(), hard={"engine_version": "1.32.0"})
    fresh = judge(made.suite)
    assert (fresh.overall, one(fresh).state) == ("incomplete", "no_verdict")
    assert (len(fresh.anew), fresh.exit_code(strict=True)) == (3, 1)
    (warning,) = [text for text in fresh.warnings if "engine_version" in text]
    assert warning.startswith("pi5: the series begins in night")
    along = judge(made.suite, axis="engine_version")
    assert (along.overall, one(along).state) == ("fail", "confirmed")


def test_a_device_that_began_anew_leaves_the_night_incomplete(made: Nights) -> None:
    made.devices = ("pi5", "orin")
    made.nights(14)

    def change(record: dict[str, Any]) -> None:
        if record["device"] == "pi5":
            record["fingerprint"]["hard"]["threads"] = 4

    made.night(change=change)
    result = judge(made.suite)
    assert {found.state for found in result.judged if found.series.device == "pi5"} == {"no_verdict"}
    assert (result.overall, len(result.anew), result.missing) == ("incomplete", 3, ())


def test_what_is_no_hardware_is_told(made: Nights) -> None:
    made.nights(15, change=lambda record: record.update(simulated=True))
    result = judge(made.suite)
    assert (result.overall, result.warnings) == ("pass", ("pi5 is simulated: it is no hardware",))


def test_an_axis_that_there_is_not_is_refused(made: Nights) -> None:
    made.night()
    with pytest.raises(UsageError, match="engine_version"):
        judge(made.suite, axis="engine_versoin")


def test_a_changed_device_begins_anew_with_a_warning(made: Nights) -> None:
    made.nights(14)
    made.nights(2, factor=slow(), soft={"soc": "Raspberry Pi 4"})
    result = judge(made.suite)
    assert one(result).state == "no_verdict"
    assert any("became another one" in warning for warning in result.warnings)


def test_gaps_and_a_clock_that_went_back_are_told_and_change_nothing(made: Nights) -> None:
    made.devices = ("pi5", "orin")
    made.nights(8)
    lacking = made.night(devices=["orin"])
    made.nights(6)
    made.nights(2, clock_off=dt.timedelta(days=-60), factor=slow())
    result = judge(made.suite)
    assert (result.overall, one(result).state) == ("fail", "confirmed")
    assert any(f"no usable value in night {lacking}" in warning for warning in result.warnings)
    assert any("clock went back" in warning for warning in result.warnings)


def test_a_session_resumed_after_midnight_is_still_tonight(made: Nights) -> None:
    made.begin = made.begin.replace(hour=22)
    made.nights(14)
    tonight = made.night(factor=slow(), later=dt.timedelta(hours=7))
    result = judge(made.suite)
    assert result.sessions == (tonight,)
    assert (one(result).state, one(result).finding.since) == ("suspect", tonight)
    assert len(one(result).series.nights[-1].sessions[0].values) == 5


# ------------------------------------------------------------------------------------------------- what is missing


def test_a_device_that_was_not_reached_is_missing_and_the_night_incomplete(made: Nights) -> None:
    made.devices = ("pi5", "orin")
    made.nights(14)
    tonight = made.night(devices=["orin"], planned=["pi5", "orin"])
    result = judge(made.suite)
    assert (result.overall, result.exit_code(strict=False), result.exit_code(strict=True)) == ("incomplete", 0, 1)
    (lost,) = result.missing
    assert (lost.device, lost.cell) == ("pi5", None)
    assert f"--resume {tonight}" in lost.why


def test_a_device_that_nobody_planned_any_more_is_missing(made: Nights) -> None:
    made.devices = ("pi5", "orin")
    *_, last = made.nights(14)
    made.night(devices=["orin"])
    result = judge(made.suite)
    assert [(lost.device, lost.why) for lost in result.missing] == [
        ("pi5", f"not planned; it was last there in night {last}")
    ]
    made.nights(14, devices=["orin"])
    assert judge(made.suite).missing == ()


def test_a_cell_whose_runs_do_not_count_is_missing_with_the_reasons(made: Nights) -> None:
    made.cells = ("net", "small")
    made.nights(14)

    def change(record: dict[str, Any]) -> None:
        if record["cell"] == "net":
            (skipped if record["block"] < 2 else spoilt)(record)

    made.night(change=change)
    result = judge(made.suite)
    (lost,) = result.missing
    assert (lost.device, lost.cell, lost.metric) == ("pi5", "net", None)
    assert lost.why == "invalid: throttled (3 of 5 runs); skipped: precheck (2 of 5 runs)"
    assert result.overall == "incomplete"


def test_a_metric_that_became_a_gap_is_missing_with_its_reason(made: Nights) -> None:
    *_, last = made.nights(14)
    gap = {"value": None, "reason": "no_sensor: the meter is unplugged"}
    made.night(change=lambda record: record["metrics"].update(load_s=gap))
    result = judge(made.suite)
    told = f"no_sensor: the meter is unplugged; it was last there in night {last}"
    assert [(lost.metric, lost.why) for lost in result.missing] == [("load_s", told)]
    assert result.overall == "incomplete"


def test_a_metric_that_came_and_went_is_not_missed(made: Nights) -> None:
    def sometimes(record: dict[str, Any]) -> None:
        if int(record["session"][6:8]) % 2:
            record["metrics"]["load_s"] = {"value": None, "reason": "too_few_samples"}

    made.nights(15, change=sometimes)  # the fifteenth is an odd day
    assert judge(made.suite).missing == ()


def test_a_failure_beside_what_is_missing_stays_a_failure(made: Nights) -> None:
    made.devices = ("pi5", "orin")
    made.nights(14)
    made.nights(2, factor=slow(), devices=["pi5"], planned=["pi5", "orin"])
    result = judge(made.suite)
    assert (result.overall, len(result.missing)) == ("fail", 1)


def test_a_night_of_which_nothing_can_be_judged_fails(made: Nights) -> None:
    made.nights(14)
    made.night(change=skipped)
    result = judge(made.suite)
    assert (result.overall, result.exit_code(strict=False)) == ("nothing judged", 1)
    assert [lost.why for lost in result.missing] == ["skipped: precheck (5 of 5 runs)"]


def test_a_planned_night_without_any_run_is_the_one_that_is_judged(made: Nights) -> None:
    made.nights(14)
    silent = made.night(devices=[], planned=["pi5"])
    result = judge(made.suite)
    assert (result.night, result.overall) == (silent, "nothing judged")


def test_a_corrupt_run_is_named_and_the_rest_is_judged(made: Nights) -> None:
    made.nights(14)
    tonight = made.night()
    broken = min((made.suite / tonight).glob("*/run.json"))
    broken.write_text("{")
    result = judge(made.suite)
    assert result.overall == "pass"
    assert any(str(broken.parent) in warning for warning in result.warnings)
    assert len(one(result).series.nights[-1].sessions[0].values) == 4


def test_a_damaged_plan_is_told(made: Nights) -> None:
    made.nights(14)
    tonight = made.night()
    (made.suite / tonight / "session.json").write_text("[]")
    result = judge(made.suite)
    (told,) = result.unplanned
    assert "what it planned is not known" in told
    assert (result.overall, result.exit_code(strict=True)) == ("incomplete", 1)


# ---------------------------------------------------------------------------------------------------- canaries


@pytest.fixture
def watched(made: Nights) -> Nights:
    made.cells, made.canary, made.devices = ("net", "frozen"), ("frozen",), ("pi5", "orin")
    return made


def test_a_canary_that_drifts_quarantines_its_device_alone(watched: Nights) -> None:
    watched.nights(14)
    hot: Callable[..., float] = lambda device, _cell, metric: (  # noqa: E731
        SLOWER if device == "pi5" and metric == "latency_p50_s" else 1.0
    )
    watched.nights(2, factor=hot)
    result = judge(watched.suite)
    assert (result.overall, result.exit_code(strict=False)) == ("incomplete", 0)
    assert one(result).state == "quarantined"
    assert one(result, cell="frozen").finding.found == "confirmed"
    assert not one(result, cell="frozen").trips
    assert one(result, device="orin").state == "ok"
    (quarantine,) = result.quarantined
    assert quarantine.device == "pi5"
    assert "canary frozen changed in latency_p50_s" in quarantine.why


def test_a_canary_that_is_only_suspect_quarantines_too(watched: Nights) -> None:
    watched.nights(14)
    watched.night(factor=lambda device, *_: SLOWER if device == "pi5" else 1.0)
    result = judge(watched.suite)
    assert (one(result, cell="frozen").state, one(result).state) == ("suspect", "quarantined")
    assert (result.overall, result.confirm) == ("incomplete", None)


def test_a_canary_that_stands_still_lets_a_change_through(watched: Nights) -> None:
    watched.nights(14)
    watched.nights(2, factor=slow())
    result = judge(watched.suite)
    assert (result.overall, one(result).state, result.quarantined) == ("fail", "confirmed", ())


def test_a_canary_on_another_device_says_nothing_of_this_one(watched: Nights) -> None:
    watched.nights(14)
    both: Callable[..., float] = lambda device, cell, _metric: (  # noqa: E731
        SLOWER if (device, cell) in (("pi5", "net"), ("orin", "frozen")) else 1.0
    )
    watched.nights(2, factor=both)
    result = judge(watched.suite)
    assert result.overall == "fail"
    assert [found.device for found in result.quarantined] == ["orin"]


def test_a_canary_whose_fingerprint_changed_is_none_not_even_along_the_axis(watched: Nights) -> None:
    watched.nights(14)
    watched.nights(2, factor=slow(), hard={"engine_version": "1.32.0"})
    result = judge(watched.suite, axis="engine_version")
    assert one(result).state == "confirmed"
    assert one(result, cell="frozen").state == "no_verdict"
    told = [warning for warning in result.warnings if "is no canary tonight" in warning]
    assert [text.partition(":")[0] for text in told] == ["orin", "pi5"]
    assert all("engine_version changed" in text for text in told)


def test_a_device_whose_canary_did_not_run_is_told(watched: Nights) -> None:
    watched.nights(14)
    watched.night(change=lambda record: spoilt(record) if record["cell"] == "frozen" else None)
    result = judge(watched.suite)
    assert any(warning.startswith("pi5: no value of its canary (frozen)") for warning in result.warnings)
    assert result.overall == "incomplete"


# ------------------------------------------------------------------------------------------------------ what is asked


def test_only_the_metrics_that_are_asked_for_are_judged(made: Nights) -> None:
    made.nights(15, change=lambda record: record["metrics"].update({"clock_hz.cpu0": {"value": 2.4e9}}))
    assert {found.series.metric for found in judge(made.suite, metrics=["load_s"]).judged} == {"load_s"}
    assert "clock_hz.cpu0" not in {found.series.metric for found in judge(made.suite).judged}
    assert "clock_hz.cpu0" in {found.series.metric for found in judge(made.suite, metrics=["all"]).judged}
    with pytest.raises(UsageError, match="did you mean 'load_s'"):
        judge(made.suite, metrics=["load"])


def test_a_folder_that_is_no_suites_is_refused_with_what_to_name(made: Nights) -> None:
    made.nights(2)
    with pytest.raises(UsageError, match=r"is no suite's folder: name one, such as .*results/nightly"):
        judge(made.suite.parent)
    with pytest.raises(UsageError, match="is no suite's folder"):
        judge(next(made.suite.glob("2*Z")))
    with pytest.raises(UsageError):
        judge(made.suite.parent.parent)


def test_what_is_confirmed_among_few_series_may_be_chance_among_many(made: Nights) -> None:
    made.cells, made.blocks = tuple(f"net{number}" for number in range(40)), 3
    wobble = [0.97, 1.03, 0.98, 1.02, 1.0, 0.96, 1.04, 1.01, 0.99, 1.02, 0.98, 1.03, 0.97, 1.0]
    for factor in (*wobble, 1.125):
        made.night(factor=slow(cell="net0", by=factor))
    made.rerun(factor=slow(cell="net0", by=1.125))
    few, many = judge(made.suite, metrics=["latency_p50_s"]), judge(made.suite)
    assert (len(few.judged), few.overall, one(few, cell="net0").state) == (40, "fail", "confirmed")
    assert (len(many.judged), many.overall, one(many, cell="net0").state) == (120, "suspect", "suspect")
    assert "by chance" in one(many, cell="net0").finding.rule
